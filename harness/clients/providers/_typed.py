"""What clients without a language model share: they answer the typed question that a request carries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from harness import rules
from harness.clients.protocol import Request
from harness.errors import BadRequest
from harness.questions.kinds import (
    Amplified,
    Detect,
    Experiment,
    Explain,
    Fuzz,
    Generate,
    Intruder,
    Rises,
    Simulate,
    Steered,
    Surprisal,
)
from harness.values import Usage

__all__ = ["USAGE", "Answerable", "answerable", "rule_of"]

Answerable = Explain | Detect | Fuzz | Simulate | Intruder | Generate | Rises | Steered
USAGE = Usage(requests=1, cost=0.0)


def answerable(request: Request, name: str) -> Answerable:
    """The question of a request to the client of that name.

    Raises:
        BadRequest: there is none, or only a language model has an answer to it.
    """
    question = request.question
    if question is None:
        raise BadRequest(f"{name} answers typed questions only, and this request has none", model=name)
    if isinstance(question, Experiment):
        raise BadRequest(f"{name} has no language model to experiment with", model=name)
    if isinstance(question, Surprisal | Amplified):
        raise BadRequest(f"{name} has no language model to tell how likely a text is", model=name)
    return question


def rule_of(data: Mapping[str, Any]) -> rules.Rule:
    """An explanation's rule, parsed once for all the passages that it is asked about.

    Raises:
        ValueError: it is no rule.
    """
    return _parsed(json.dumps(dict(data), sort_keys=True))


_parsed = lru_cache(maxsize=1024)(lambda data: rules.parse(json.loads(data)))
