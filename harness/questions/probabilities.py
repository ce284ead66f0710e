"""P(1) at each answer position, from the logprobs of generated tokens (paper section 5)."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from harness.questions.labels import Label
from harness.values import TokenLogprob

__all__ = ["probabilities"]

# a token that says one label and nothing of the next: what may stand before and after the label in it
_SAYS = re.compile(r"[\s\[({\"'`*_,;:|]*(?:(0|false|no)|(1|true|yes))(?![\w.])[^\w]*\Z", re.IGNORECASE)


def probabilities(
    text: str, labels: Sequence[Label], logprobs: Sequence[TokenLogprob] | None
) -> tuple[float | None, ...]:
    """P(1) / (P(0) + P(1)) for each label, from the alternatives at the token that says it.

    Alternatives that say the same label in another way (`1`, ` 1`, `1,`, `true`) are added up; a label that is not
    among the alternatives has no mass. None where it cannot be told: the tokens do not spell the reply, a label's
    word is cut into several tokens, a token says more than one label or something else too, or no alternative has
    any mass.
    """
    nothing = (None,) * len(labels)
    if not logprobs or not labels:
        return nothing
    spelled = "".join(token.token for token in logprobs)
    offset = _offset(text, spelled, labels)
    if offset is None:
        return nothing
    stops = list(accumulate(len(token.token) for token in logprobs))
    holders = [_holder(label.start + offset, label.stop + offset, stops) for label in labels]
    said = Counter(holders)
    return tuple(_share(logprobs[at]) if at is not None and said[at] == 1 else None for at in holders)


def _offset(text: str, spelled: str, labels: Sequence[Label]) -> int | None:
    """How far the tokens' characters lie to the right of the reply's.

    Tokens may spell more than the reply (reasoning before, an end token after) and spell a character that is cut
    between tokens in another way; then the stretch from the first label to the last tells where they are, if it
    stands as often in both.
    """
    if text and spelled.count(text) == 1:
        return spelled.index(text)
    stretch = text[labels[0].start : labels[-1].stop]
    here, there = _places(text, stretch), _places(spelled, stretch)
    if len(here) != len(there):
        return None
    return there[here.index(labels[0].start)] - labels[0].start


def _places(text: str, part: str) -> list[int]:
    return [match.start() for match in re.finditer(f"(?={re.escape(part)})", text)]


def _holder(start: int, stop: int, stops: Sequence[int]) -> int | None:
    """The index of the token that holds all characters from `start` to `stop`; `stops` are the tokens' ends."""
    index = bisect_right(stops, start)
    return index if index < len(stops) and stop <= stops[index] else None


def _share(token: TokenLogprob) -> float | None:
    if _SAYS.match(token.token) is None:
        return None
    alternatives = list(token.top)
    if all(other != token.token for other, _ in alternatives):
        alternatives.append((token.token, token.logprob))
    mass = [0.0, 0.0]
    for other, logprob in alternatives:
        said = _SAYS.match(other)
        if said is not None:
            mass[0 if said[1] is not None else 1] += math.exp(min(logprob, 0.0))
    return mass[1] / (mass[0] + mass[1]) if mass[0] + mass[1] > 0 else None
