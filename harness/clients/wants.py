"""What explainers and scorers want of the models they ask, beyond plain text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Want"]


@dataclass(frozen=True, slots=True)
class Want:
    """`model` should be able to do `what`, the name of a capability; `by` names the explainer or scorer.

    Where it is `needed` a run without it does not start, and `cure` says what to do; else `without` says what is
    missing then.
    """

    by: str
    model: str
    what: Literal["logprobs", "prompt_logprobs", "tools", "embeddings"]
    needed: bool = False
    cure: str = ""
    without: str = ""
