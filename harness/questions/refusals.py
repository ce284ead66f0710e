"""Tells a reply in which a model declines from one that is merely no answer."""

from __future__ import annotations

import re

from harness.questions.render import one_line
from harness.values import Failure

__all__ = ["unanswered"]

_APOLOGY = re.compile(r"\W*(?:i['’]?m sorry|i am sorry|sorry\b|i apologi[sz]e|i can['’]?t|i cannot|i won['’]t|i must decline|i['’]m unable|i am unable|i['’]m not able|i am not able|as an ai\b)", re.IGNORECASE)  # fmt: skip  # noqa: E501
_REFUSAL = re.compile(
    r"(?:can['’]?t|cannot|unable to|won['’]t|not able to|not comfortable|decline to|must decline)\b[^.\n]{0,40}?"
    r"\b(?:help|assist|comply|continue|fulfil|engage|discuss|provide|generate|process|respond|with (?:this|that))",
    re.IGNORECASE,
)


def unanswered(text: str, message: str) -> Failure:
    """The failure of a reply without an answer: `refused` where it declines, else `unparsable` with a message."""
    if _APOLOGY.match(text) and _REFUSAL.search(text):
        return Failure("refused", f"the model declined: {one_line(text)[:200]}")
    return Failure("unparsable", message)
