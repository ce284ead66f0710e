"""P(1) at each answer position, from the logprobs of generated tokens (paper section 5)."""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from harness.questions.labels import Label
from harness.values import TokenLogprob

__all__ = ["probabilities"]

# a token that says one label and nothing of the next: what may stand before and after the label in it
_SAYS = re.compile(r"[\s\[({\"'`*_,;:|]*(?a:(0|false|no)|(1|true|yes))(?![\w.%])[^\w]*\Z", re.IGNORECASE)


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
    places = _places_of(labels, text, spelled)
    if places is None:
        return nothing
    stops = list(accumulate(len(token.token) for token in logprobs))
    holders = [_holder(start, stop, stops) for start, stop in places]
    said = Counter(holders)
    return tuple(_share(logprobs[at]) if at is not None and said[at] == 1 else None for at in holders)


def _places_of(labels: Sequence[Label], text: str, spelled: str) -> list[tuple[int, int]] | None:
    """Where the labels' characters are in what the tokens spell, None where that cannot be told.

    Tokens may spell more than the reply (reasoning before, an end token after). They may spell a character that is cut
    between tokens in another way, as parts of it or not at all; labels are ASCII, so that the reply is looked for by
    its ASCII characters alone then. Where that finds nothing, a stretch from the first label to the last may still
    stand as often in both.
    """
    if (at := _only(text, spelled)) is not None:
        return [(label.start + at, label.stop + at) for label in labels]
    ours, theirs = _ascii(text), _ascii(spelled)
    if (at := _only("".join(text[index] for index in ours), "".join(spelled[index] for index in theirs))) is not None:
        found = [(at + bisect_left(ours, label.start), at + bisect_left(ours, label.stop)) for label in labels]
        return [(theirs[start], theirs[stop - 1] + 1) for start, stop in found]
    stretch = text[labels[0].start : labels[-1].stop]
    here, there = _starts(text, stretch), _starts(spelled, stretch)
    if len(here) != len(there):
        return None
    shift = there[here.index(labels[0].start)] - labels[0].start
    return [(label.start + shift, label.stop + shift) for label in labels]


def _only(part: str, text: str) -> int | None:
    """Where a part stands in a text if it stands there once, overlaps counted."""
    first = text.find(part) if part else -1
    return first if first >= 0 and first == text.rfind(part) else None


def _ascii(text: str) -> Sequence[int]:
    """The indices of the ASCII characters."""
    return range(len(text)) if text.isascii() else [index for index, char in enumerate(text) if char < "\x80"]


def _starts(text: str, part: str) -> list[int]:
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
