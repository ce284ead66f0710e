"""From messages to token ids and from token ids to text that joins up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from harness.clients.local.chat import ChatTemplate
from harness.questions.messages import Message
from harness.store import Vocabulary
from harness.subject.models import ModelFiles
from harness.subject.packing import load_tokenizer
from harness.values import TokenLogprob

__all__ = ["Tokens", "encodable"]


class Tokens:
    """A language model's tokenizer.

    Plain text opens with the BOS token where there is one, and the name of a special token inside it is plain text; in
    what a chat template gives it is that token.
    """

    def __init__(self, files: ModelFiles) -> None:
        from tokenizers import Tokenizer

        found = load_tokenizer(files)
        self._files = files
        self._front = [] if found.bos is None else [found.bos]
        self._plain = found.backend
        # it adds special tokens and cuts blanks from offsets, and is no part of what a text's tokens are
        self._plain.post_processor = None  # pyright: ignore[reportAttributeAccessIssue] - settable, its stub says not
        self._marked = Tokenizer.from_str(self._plain.to_str())
        self._marked.encode_special_tokens = False
        self._vocabulary = Vocabulary.from_tokenizer(self._plain)
        self._specials = frozenset(self._vocabulary.specials)
        # a large vocabulary is gone through once for the same texts
        self._among: dict[frozenset[str], tuple[int, ...]] = {}

    @cached_property
    def _template(self) -> ChatTemplate:
        return ChatTemplate(self._files)

    def encode(self, messages: Sequence[Message], continuation: str = "", *, chat: bool) -> tuple[list[int], int]:
        """The ids of messages with a text after them, and the index of the first that belongs to this text.

        Both are tokenised as one text, the way the model would have read it; a token across the boundary between them
        belongs to the continuation. Without a chat template messages are joined by blank lines; without any messages
        the continuation stands by itself.

        Raises:
            BadRequest: the chat template does not take such messages.
        """
        if chat and messages:
            front, text, tokenizer = [], self._template.render(messages), self._marked
        else:
            front, text = self._front, "\n\n".join(message.content for message in messages)
            tokenizer = self._plain
        text, continuation = encodable(text), encodable(continuation)
        found = tokenizer.encode(text + continuation, add_special_tokens=False)
        own = next((at for at, (_, stop) in enumerate(found.offsets) if stop > len(text)), len(found.ids))
        return front + found.ids, len(front) + own

    def piece(self, token: int) -> str:
        """What a token adds to the text: bytes of a split character as surrogate escapes, a special token nothing."""
        strings = self._vocabulary.strings
        return strings[token] if token < len(strings) else ""

    def name(self, token: int) -> str:
        """A token's piece, or a special token's name."""
        return (self._plain.id_to_token(token) or "") if token in self._specials else self.piece(token)

    def among(self, texts: Sequence[str]) -> tuple[int, ...]:
        """The tokens whose piece is one of some texts, blanks around it aside."""
        wanted = frozenset(texts)
        if wanted not in self._among:
            strings = self._vocabulary.strings
            self._among[wanted] = tuple(token for token, piece in enumerate(strings) if piece.strip() in wanted)
        return self._among[wanted]

    def logprob(self, told: tuple[int, float, Sequence[tuple[int, float]]], top: int) -> TokenLogprob:
        """A token, its logprob and at most `top` alternatives, from ids to text."""
        token, value, others = told
        return TokenLogprob(self.piece(token), value, tuple((self.name(other), at) for other, at in others[:top]))


def encodable(text: str) -> str:
    """The text with U+FFFD for lone surrogates: half a surrogate pair stands for no character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
