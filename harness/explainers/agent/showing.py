"""Windows, texts and effects as an agent reads them: a line each, marked and escaped, with the strengths behind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.questions.render import activating_positions, escape, lay_out, quote
from harness.subject.effect import Effect, Moved
from harness.values import Example, Passage

__all__ = ["numbered", "shown_effect", "shown_window"]

# activating tokens of a window that are listed with their strength
_LISTED = 12


def shown_window(tokens: Sequence[str], activations: NDArray[np.float32], maximum: float) -> str:
    """A window's text, its activating tokens between `<<` and `>>`, and a line of them with their strengths.

    Strengths are on the scale from 0 to 10 on which 10 is `maximum`, to one decimal; marked are tokens above 0.3 of the
    window's largest, listed the twelve strongest, in the order of the text.
    """
    marks = activating_positions(Example(Passage(tuple(tokens)), activations)).tolist()
    text = lay_out(tokens, marks).text
    firing = np.flatnonzero(activations > 0)
    if not len(firing):
        return f"{text}\n   (silent)"
    strongest = np.sort(firing[np.argsort(-activations[firing], kind="stable")[:_LISTED]])
    scale = 10 / maximum if maximum > 0 else 0.0
    listed = [f"{quote(tokens[at])} {float(activations[at]) * scale:.1f}" for at in map(int, strongest)]
    rest = len(firing) - len(strongest)
    return f"{text}\n   {', '.join(listed)}{f', and {rest} fainter' if rest else ''}"


def shown_effect(effect: Effect) -> str:
    """What a change did after a prompt: the prompt, the tokens that moved, and both continuations."""
    lines = [
        escape(effect.prompt),
        f"   next token moved by {max(effect.kl, 0.0):.3f} nats",
        f"   likelier: {_moved(effect.rose)}",
        f"   less likely: {_moved(effect.fell)}",
        f"   unchanged it goes on: {quote(effect.clean)}",
        f"   changed it goes on: {quote(effect.changed)}",
    ]
    return "\n".join(lines)


def numbered(parts: Iterable[str]) -> str:
    """Parts with their numbers, from 1."""
    return "\n".join(f"{number}. {part}" for number, part in enumerate(parts, 1))


def _moved(tokens: Sequence[Moved]) -> str:
    told = [f"{quote(one.token)} {one.clean:.3f} to {one.changed:.3f}" for one in tokens]
    return ", ".join(told) or "none"
