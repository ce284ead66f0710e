"""What people are asked: an explanation with one context, blind to who wrote it; or a latent's contexts without any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from harness.analysis.load import Run
from harness.errors import UserError
from harness.examples.draw import LatentExamples, draw
from harness.runs.arms import alone, constant
from harness.runs.outcomes import explanation_of
from harness.task import Task
from harness.values import Example, Explanation, Latent, digest, seed_of
from harness.visible import visible

__all__ = ["OPTIONS", "Item", "Selection", "items_of", "order"]

_Arm = tuple[str | None, str | None]
# the paper's four, from the lowest, 1
OPTIONS = (
    "not related to the text",
    "vaguely related to the text",
    "incomplete, but present in the text",
    "describes the activation of the tokens",
)
# contexts that a person who writes an explanation is shown
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to ask: rate `text` on one context, or (`kind` is "write") put a latent's contexts into words.

    `arms` are whose words they are, `(explainer, control)`; nobody who is asked is told. `contexts` are token strings
    with the share of the latent's largest activation that each has, 0 to 1.
    """

    id: str
    kind: Literal["rate", "write"]
    coder: str
    latent: int
    text: str
    arms: tuple[_Arm, ...]
    contexts: tuple[tuple[tuple[str, ...], tuple[float, ...]], ...]

    def shown(self) -> dict[str, Any]:
        """What a page is told of it: no arm, no latent, no score; every character is made visible."""
        contexts = [
            {"tokens": [visible(token) for token in tokens], "shares": list(shares)} for tokens, shares in self.contexts
        ]
        return {"id": self.id, "kind": self.kind, "text": visible(self.text, breaks=True), "contexts": contexts}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which items of a run: of the first `latents` of each coder, `contexts` of each explanation.

    `explainers` are whose, all if empty; `controls` mixes theirs in; `kind` is what is asked.
    """

    latents: int = 20
    contexts: int = 5
    explainers: tuple[str, ...] = ()
    controls: bool = True
    kind: Literal["rate", "write"] = "rate"


def items_of(run: Run, selection: Selection) -> list[Item]:
    """The items of a selection, in the run's order.

    Equal explanations of a latent are asked about once, for all their arms. Contexts are scored windows that activate
    the latent, spread over its quantiles, the same for every explanation of it.

    Raises:
        StoreError: the store is gone or broken.
        UserError: an explainer is none of the run's, or there is nothing to ask.
    """
    known = dict.fromkeys(arm.explainer for arm in run.arms if arm.explainer is not None)
    for name in selection.explainers:
        if name not in known:
            raise UserError(f"--explainer {name}: the run has no such explainer; it has: {', '.join(known)}")
    found = list(_items(run, selection))
    if not found:
        raise UserError(f"{run.path}: there is nothing to rate: no explanation of a latent that has enough examples")
    return found


def order(items: Sequence[Item], seed: int, rater: str) -> list[Item]:
    """The order in which a rater is asked: seeded, another for each, explanations and controls mixed."""
    return sorted(items, key=lambda item: seed_of(seed, rater, "rating", item.id))


def _items(run: Run, selection: Selection) -> Iterator[Item]:
    task = Task.model_validate(dict(run.record["task"]))
    store = run.store()
    told = _told(run, selection)
    for coder in (coder.name for coder in task.coder):
        for index in run.latents[coder][: selection.latents]:
            latent = Latent(coder, index)
            drawn = draw(
                store.coder(coder), index, task.examples, task.drawing_seed, min_examples=task.latents.min_examples
            )
            if not isinstance(drawn, LatentExamples):
                continue
            if selection.kind == "write":
                contexts = tuple(_context(example, drawn.maximum) for example in drawn.shown[:_SHOWN])
                yield Item(digest(["write", store.id, coder, index])[:16], "write", coder, index, "", (), contexts)
                continue
            for text, arms in told.get(latent, {}).items():
                for example in _spread(drawn, selection.contexts, run.seed):
                    place = example.passage.place
                    assert place is not None
                    known = [store.id, coder, index, text, place.context, place.start, len(example.passage.tokens)]
                    context = (_context(example, drawn.maximum),)
                    yield Item(digest(known)[:16], "rate", coder, index, text, tuple(arms), context)


def _told(run: Run, selection: Selection) -> dict[Latent, dict[str, list[_Arm]]]:
    """The explanations of each latent, equal ones once."""
    found: dict[Latent, dict[str, list[_Arm]]] = {}
    for arm, latent, unit in run.explanation_units():
        if alone(arm) or arm.coder in run.populations or (arm.control is not None and not selection.controls):
            continue
        if selection.explainers and arm.explainer is not None and arm.explainer not in selection.explainers:
            continue
        answer = constant(arm.control) if unit is None else explanation_of(unit)
        if isinstance(answer, Explanation):
            words = found.setdefault(Latent(arm.coder, latent), {}).setdefault(answer.text, [])
            words.append((arm.explainer, arm.control))
    return found


def _spread(drawn: LatentExamples, count: int, seed: int) -> list[Example]:
    """Windows that activate the latent, in turn from each part of its quantiles; the draw is seeded."""
    scored = next((scored.examples for scored in drawn.scored), ())
    active = sorted((e for e in scored if e.activating), key=lambda e: (e.quantile or 0, float(e.activations.max())))
    generator = np.random.default_rng(seed_of(seed, drawn.latent.coder, drawn.latent.index, "rating contexts"))
    parts = np.array_split(np.arange(len(active)), count)
    return [active[int(generator.choice(part))] for part in parts if len(part)]


def _context(example: Example, maximum: float) -> tuple[tuple[str, ...], tuple[float, ...]]:
    shares = example.activations / maximum if maximum > 0 else example.activations
    return example.passage.tokens, tuple(round(float(share), 3) for share in shares)
