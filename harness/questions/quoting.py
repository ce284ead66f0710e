"""Words in double quotes as a reply: an explanation that a base model is asked the probability of."""

from __future__ import annotations

from collections.abc import Sequence

from harness.questions.kinds import Answer, Question
from harness.questions.render import one_line
from harness.values import Explanation, Failure, TokenLogprob

__all__ = ["QuotedWords"]


class QuotedWords:
    """An explanation between double quotes, on one line; quotes within it stay as they are."""

    def parse(
        self,
        question: Question,  # noqa: ARG002 - every question has the same form of answer
        text: str,
        logprobs: Sequence[TokenLogprob] | None,  # noqa: ARG002 - the whole's is what counts
        *,
        rules: bool = False,  # noqa: ARG002 - quoted words have no rule
    ) -> Explanation | Failure:
        """What stands between the first and the last double quote, which are the reply's ends."""
        found = text.strip()
        words = one_line(found[1:-1])
        if len(found) < 2 or (found[0], found[-1]) != ('"', '"') or not words:
            return Failure("unparsable", "the reply is no words in double quotes")
        return Explanation(words)

    def format(self, answer: Answer, question: Question) -> str:  # noqa: ARG002 - see parse
        """The words in double quotes."""
        if not isinstance(answer, Explanation):
            raise ValueError(f"an explanation is needed, not {answer!r}")
        return f'"{one_line(answer.text)}"'

    def reminder(self, question: Question) -> str:  # noqa: ARG002 - see parse
        """One sentence that asks for this format again."""
        return "Reply with a short description in double quotes and nothing else."
