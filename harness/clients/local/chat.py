"""Chat templates: a conversation as the one text that a model was trained to read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import BadRequest, SubjectError
from harness.questions.messages import Message
from harness.subject.models import ModelFiles

__all__ = ["ChatTemplate", "has_template"]


def has_template(files: ModelFiles) -> bool:
    """Whether a model's files hold a chat template; nothing heavy is loaded."""
    if any(files.find(name) is not None for name in ("chat_template.jinja", "chat_template.json")):
        return True
    return bool(_settings(files.find("tokenizer_config.json")).get("chat_template"))


class ChatTemplate:
    """A model's chat template, rendered in transformers' sandbox."""

    def __init__(self, files: ModelFiles) -> None:
        from transformers import AutoTokenizer

        where = str(files.folder or files.name)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                where, revision=None if files.folder else files.revision, trust_remote_code=False
            )
        except Exception as error:
            raise SubjectError(f"{where}: the tokenizer cannot be loaded: {_first_line(error)}") from error
        names = sorted(filter(None, self._tokenizer.all_special_tokens), key=len, reverse=True)
        self._specials = re.compile("|".join(map(re.escape, names)) or r"(?!)")

    def render(self, messages: Sequence[Message]) -> str:
        """The conversation up to where the model's answer begins.

        The name of a special token in a message, which would end the turn it stands in, gets a space after its first
        character.

        Raises:
            BadRequest: the template does not take such a conversation.
        """
        turns = [{"role": message.role, "content": self._plain(message.content)} for message in messages]
        try:
            return self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # templates raise whatever they like
            raise BadRequest(f"the model's chat template refuses these messages: {_first_line(error)}") from error

    def _plain(self, content: str) -> str:
        return self._specials.sub(lambda found: f"{found[0][0]} {found[0][1:]}", content)


def _settings(path: Path | None) -> Mapping[str, Any]:
    if path is None:
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SubjectError(f"{path}: not valid JSON: {error}") from error
    return data if isinstance(data, dict) else {}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
