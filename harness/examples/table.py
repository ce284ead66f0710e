"""A latent's examples as a table: a row for each window of each part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from harness.store import Store
from harness.values import Example, Passage, ScoredSet

if TYPE_CHECKING:
    import pandas as pd

    from harness.examples.draw import LatentExamples

__all__ = ["COLUMNS", "rows", "table"]

COLUMNS: Final = (
    "split",
    "rung",
    "quantile",
    "context",
    "start",
    "document",
    "text",
    "tokens",
    "activations",
    "marks",
    "active",
)

Marking = Callable[[ScoredSet], Sequence[Passage]]


def table(found: LatentExamples, store: Store, marking: Marking | None = None) -> pd.DataFrame:
    """All windows of a latent, a row each with the columns `COLUMNS`; see `rows`."""
    import pandas as pd

    frame = pd.DataFrame(list(rows(found, store, marking)), columns=list(COLUMNS))
    return frame.astype({"quantile": "Int64"})


def rows(found: LatentExamples, store: Store, marking: Marking | None = None) -> Iterator[dict[str, Any]]:
    """Windows as JSON-able mappings: what is shown, then what may choose, then each rung's, in the order of the draw.

    `rung` is that of the set the window is asked about in, None for what is shown or chooses; `quantile` is None where
    the latent is silent; `start` is the first position in the context; `tokens`, `activations` are lists of as many
    items as the window has positions; `active` is whether the latent fires in it.

    Args:
        found: the examples.
        store: the store that they were drawn from.
        marking: gives each rung's passages with their marks, positions in the window; without it nothing is marked.
    """
    for split, examples in (("shown", found.shown), ("select", found.select)):
        for example in examples:
            yield _row(example, example.passage, store, split, None)
    for scored in found.scored:
        passages = marking(scored) if marking is not None else [example.passage for example in scored.examples]
        for example, passage in zip(scored.examples, passages, strict=True):
            yield _row(example, passage, store, "scored", scored.rung)


def _row(example: Example, passage: Passage, store: Store, split: str, rung: str | None) -> dict[str, Any]:
    place = passage.place
    assert place is not None
    inside = slice(place.start, place.start + len(passage.tokens))
    return {
        "split": split,
        "rung": rung,
        "quantile": example.quantile,
        "context": place.context,
        "start": place.start,
        # the others of a window are of none
        "document": int(store.documents[place.context, inside].max()),
        "text": passage.text,
        "tokens": list(passage.tokens),
        "activations": example.activations.tolist(),
        "marks": list(passage.marks),
        "active": example.activating,
    }
