"""The loaded subject and the coders that read its activations: batches of tokens in, sparse rows out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from harness.errors import CoderError, HookpointError, SubjectError
from harness.store.format import Rows
from harness.subject.coders.protocol import ActivationCoder, CalibratedCoder
from harness.subject.figures import CoderFigures, FigureSums
from harness.subject.hookpoints import Hookpoint
from harness.subject.memory import Halved, Halving
from harness.subject.threads import torch_threads
from harness.subject.tracing import Traced

__all__ = ["Batch", "Reading"]

T = TypeVar("T")

Batch = tuple[NDArray[np.uint32], NDArray[np.int32]]
"""Token ids and the document of each position, -1 where there is none, `[batch, seq]` both."""


class Reading:
    """A subject with coders at its hookpoints.

    `threads` is torch's number of CPU threads; `masked` says that rows may end in padding, which the model then is
    told of. A batch that does not fit into memory is read in parts; `halved` says which were.
    """

    def __init__(
        self,
        traced: Traced,
        hookpoints: Mapping[str, Hookpoint],
        coders: Mapping[str, ActivationCoder],
        threads: int | None = None,
        *,
        masked: bool = False,
    ) -> None:
        self.traced = traced
        self.hookpoints = dict(hookpoints)
        self.coders = dict(coders)
        self._threads = threads
        self._masked = masked
        self._halving = Halving()

    @property
    def halved(self) -> Sequence[Halved]:
        """The contexts that were read in smaller batches, in the order of reading."""
        return tuple(self._halving.halved)

    def of(self, name: str) -> Reading:
        """The same subject with one of its coders, for rows that may end in padding."""
        point, coder = {name: self.hookpoints[name]}, {name: self.coders[name]}
        return Reading(self.traced, point, coder, self._threads, masked=True)

    def calibrate(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Calibrate the coders that need it on as many of the first tokens as each wants, as `figures` does."""
        chosen = {name: coder for name, coder in self.coders.items() if isinstance(coder, CalibratedCoder)}
        if not chosen:
            return
        points = {self.hookpoints[name] for name in chosen}
        left = {name: coder.calibration for name, coder in chosen.items()}
        for found in self._first(batches, max(left.values()), points, dict):
            for name, coder in chosen.items():
                part = found[self.hookpoints[name]][: left[name]]
                left[name] -= len(part)
                coder.see(part)
        for coder in chosen.values():
            coder.settle()
        # nothing of it is in the store: how it was read is not worth keeping
        self._halving.halved.clear()

    def rows(self, tokens: NDArray[np.uint32], documents: NDArray[np.int32], first: int = 0) -> dict[str, Rows]:
        """What fires at each position of `[batch, seq]`, by coder; nothing at positions of no document.

        `first` is the number of the batch's first context.

        Raises:
            HookpointError: a hookpoint does not exist.
            CoderError: a coder's width is not its hookpoint's.
            SubjectError: an activation is no finite number, or a single context does not fit into memory.
        """

        def work(part: slice) -> dict[str, Rows]:
            kept = documents[part].reshape(-1) >= 0
            found = self._activations((tokens[part], documents[part]), self.hookpoints.values(), first + part.start)
            return {
                name: _spread(coder.encode(found[self.hookpoints[name]]), kept) for name, coder in self.coders.items()
            }

        with torch_threads(self._threads):
            parts = list(self._halving.parts(work, len(tokens), first))
        return parts[0] if len(parts) == 1 else {name: _joined([part[name] for part in parts]) for name in self.coders}

    def figures(self, batches: Callable[[], Iterable[Batch]], tokens: int) -> dict[str, CoderFigures]:
        """Each coder's figures on the first `tokens` tokens of documents, or all if there are fewer.

        Coders that have to see activations before they encode are calibrated first, on as many tokens as they want.
        `batches` starts from the corpus's beginning each time.
        """
        self.calibrate(batches)
        sums = {name: FigureSums(coder.info.d_out or coder.info.d_in or 0) for name, coder in self.coders.items()}
        points = [*self.hookpoints.values(), *(self._target(name) for name in self.coders)]

        def reconstructed(found: Mapping[Hookpoint, torch.Tensor]) -> list[tuple[str, torch.Tensor, torch.Tensor, int]]:
            made: list[tuple[str, torch.Tensor, torch.Tensor, int]] = []
            for name, coder in self.coders.items():
                read = found[self.hookpoints[name]]
                rows = coder.encode(read)
                wanted = _centred(found[self._target(name)]) if coder.info.target_centred else found[self._target(name)]
                made.append((name, wanted, coder.decode(rows, read).to(wanted.device), len(rows.latents)))
            return made

        for part in self._first(batches, tokens, points, reconstructed):
            for name, wanted, decoded, active in part:
                sums[name].add(wanted, decoded, active)
        # figures are no part of the store: how they were read is not worth keeping
        self._halving.halved.clear()
        return {name: total.figures() for name, total in sums.items()}

    def _first(
        self,
        batches: Callable[[], Iterable[Batch]],
        tokens: int,
        points: Iterable[Hookpoint],
        work: Callable[[Mapping[Hookpoint, torch.Tensor]], T],
    ) -> Iterator[T]:
        """What `work` makes of the float32 activations of the first so many tokens of documents, part by part."""
        points = list(points)
        left, first = tokens, 0
        for ids, documents in batches():

            def read(part: slice, batch: Batch = (ids, documents), first: int = first) -> tuple[T, int]:
                found = self._activations((batch[0][part], batch[1][part]), points, first + part.start)
                chosen = {point: hidden[:left].float() for point, hidden in found.items()}  # noqa: B023 - what is left when called
                return work(chosen), len(next(iter(chosen.values()), ()))

            with torch_threads(self._threads):
                for made, count in self._halving.parts(read, len(ids), first):
                    yield made
                    left -= count
                    if left <= 0:
                        return
            first += len(ids)

    def _activations(self, batch: Batch, points: Iterable[Hookpoint], first: int) -> dict[Hookpoint, torch.Tensor]:
        """What each hookpoint holds at positions of documents, `[kept, d]`."""
        tokens, documents = batch
        ids = torch.from_numpy(tokens.astype(np.int64))
        mask = _mask(documents) if self._masked else None
        kept = np.flatnonzero(documents.reshape(-1) >= 0)
        where = torch.from_numpy(kept)
        found: dict[Hookpoint, torch.Tensor] = {}
        for point, hidden in self.traced.collect(ids, list(dict.fromkeys(points)), mask).items():
            self._check_width(point, hidden)
            if hidden.shape[:2] != tokens.shape:
                raise HookpointError(f'hookpoint "{point}" holds {list(hidden.shape[:2])} vectors, not one a token')
            flat = hidden.reshape(-1, hidden.shape[-1])
            found[point] = flat if len(kept) == len(flat) else flat[where.to(flat.device)]
            self._check_finite(point, found[point], kept, first, tokens.shape[1])
        return found

    def _target(self, name: str) -> Hookpoint:
        """The hookpoint whose vectors a coder decodes to."""
        return self.coders[name].info.target or self.hookpoints[name]

    def _check_width(self, point: Hookpoint, hidden: torch.Tensor) -> None:
        for name, coder in self.coders.items():
            wanted = (
                ("reads", self.hookpoints[name], coder.info.d_in),
                ("predicts", self._target(name), coder.info.d_out),
            )
            for verb, place, width in wanted:
                if place == point and width is not None and (hidden.ndim != 3 or hidden.shape[-1] != width):
                    raise CoderError(
                        f'coder "{name}" {verb} vectors of width {width}, and hookpoint "{point}" has '
                        f"{list(hidden.shape[2:]) or list(hidden.shape)}: the SAE belongs to another model or hookpoint"
                    )

    def _check_finite(
        self, point: Hookpoint, hidden: torch.Tensor, kept: NDArray[np.int64], first: int, context: int
    ) -> None:
        # a sum is finite where all is; it may overflow where all is, too, so the slow look decides
        if bool(hidden.sum(dtype=torch.float32).isfinite()):
            return
        fine = hidden.isfinite().all(-1)
        if bool(fine.all()):
            return
        row = int((~fine).nonzero()[0, 0])
        value = float(hidden[row][~hidden[row].isfinite()][0])
        place = int(kept[row])
        names = ", ".join(f'"{name}"' for name in self.coders if point in (self.hookpoints[name], self._target(name)))
        dtype = str(hidden.dtype).removeprefix("torch.")
        raise SubjectError(
            f'hookpoint "{point}" (coder {names}): the activation at context {first + place // context}, position '
            f"{place % context} is {value}: the model's weights are broken, or {dtype} is too narrow for them; try "
            "another subject.dtype"
        )


def _mask(documents: NDArray[np.int32]) -> torch.Tensor | None:
    """1 up to the last position of a document in each row, 0 behind it; None where no row ends in padding."""
    inside = np.maximum.accumulate((documents >= 0)[:, ::-1], axis=1)[:, ::-1]
    return None if inside.all() else torch.from_numpy(inside.astype(np.int64))


def _centred(vectors: torch.Tensor) -> torch.Tensor:
    return vectors - vectors.mean(-1, keepdim=True)


def _spread(rows: Rows, kept: NDArray[np.bool_]) -> Rows:
    """Rows of kept positions as rows of all positions."""
    counts = np.zeros(len(kept), np.int64)
    counts[kept] = np.diff(rows.indptr)
    return Rows(np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]), rows.latents, rows.values)


def _joined(parts: Sequence[Rows]) -> Rows:
    counts = np.concatenate([np.diff(part.indptr) for part in parts])
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    latents, values = ([getattr(part, name) for part in parts] for name in ("latents", "values"))
    return Rows(indptr, np.concatenate(latents), np.concatenate(values))
