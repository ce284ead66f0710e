"""Collection in stretches: of whole batches, by whoever takes them, joined into the store that one process makes.

    begin     packs the corpus once, and cuts it
    stretch   collects one stretch into segments of its own
    join      makes a finished store of them

Each may be done in another process, on another host that sees the same folders; what is done already is left.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from harness.errors import StoreError
from harness.store import CoderFrame, StoreWriter, Vocabulary
from harness.store.files import write_json
from harness.subject.background import full_disk_told
from harness.subject.collect import (
    HalvedRecord,
    Progress,
    finished,
    opened,
    packed_counts,
    parts_folder,
    read_on,
    take_over,
)
from harness.subject.plan import CollectionPlan
from harness.task import CoderSettings, SubjectSettings

__all__ = ["Cuts", "begin", "join", "stretch"]

_DONE = "done"


class Cuts(BaseModel):
    """Where a store is cut: contexts `[start, stop)` of each stretch, and what the packed corpus came to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: str
    context: int
    contexts: int
    counts: dict[str, int]
    stretches: tuple[tuple[int, int], ...]

    @property
    def tokens(self) -> int:
        """How many positions all stretches have."""
        return sum(stop - start for start, stop in self.stretches) * self.context


def begin(
    subject: SubjectSettings, coders: Sequence[CoderSettings], out: Path, count: int, base: Path = Path()
) -> Cuts | None:
    """Begin a store that is collected in `count` stretches, or find out how it was begun; None if it is finished.

    Raises:
        UserError: as `collect`.
    """
    plan = CollectionPlan.of(subject, coders, base)
    if finished(out, plan.manifest) is not None:
        return None
    parts = parts_folder(out)
    if (parts / "cuts.json").is_file():
        found = _cuts(out)
        if found.config == plan.manifest.config:
            return found
    shutil.rmtree(parts, ignore_errors=True)
    loaded, reading = plan.load(base)
    with full_disk_told(out), opened(plan, loaded, reading, out) as writer:
        begun = writer.next_context
        parts.mkdir()
        contexts = 0
        with (parts / "tokens").open("wb") as ids, (parts / "documents").open("wb") as places:
            for tokens, documents in plan.batches():
                ids.write(tokens.astype("<u4").tobytes())
                places.write(documents.astype("<i4").tobytes())
                contexts += len(tokens)
    found = Cuts(
        config=plan.manifest.config,
        context=subject.context,
        contexts=contexts,
        counts=packed_counts(plan),
        stretches=tuple(_cut(begun, contexts, subject.batch, count)),
    )
    write_json(parts / "cuts.json", found.model_dump(mode="json"))
    return found


def stretch(
    subject: SubjectSettings,
    coders: Sequence[CoderSettings],
    out: Path,
    number: int,
    base: Path = Path(),
    progress: Progress | None = None,
) -> None:
    """Collect one stretch of a store that was begun, or go on with it.

    Raises:
        UserError: as `collect`.
    """
    cuts, part = _cuts(out), parts_folder(out) / str(number)
    start, stop = cuts.stretches[number]
    if (part / _DONE).is_file():
        return
    plan = CollectionPlan.of(subject, coders, base)
    if plan.manifest.config != cuts.config:
        raise StoreError(f"{out} was begun with other settings or files than this host has: they have to be the same")
    loaded, reading = plan.load(base)
    if reading:
        reading.calibrate(plan.batches)
    # segments alone count: decoders and rows are those of the whole store
    frames = [
        CoderFrame(coder.name, info.n_latents, info.hookpoint, info.revision)
        for coder, info in zip(plan.coders, plan.infos, strict=True)
    ]
    vocabulary = Vocabulary.from_tokenizer(plan.tokenizer.backend)
    with (
        full_disk_told(out),
        StoreWriter.begin(part, plan.manifest.frame, vocabulary, frames, start=start) as writer,
    ):
        record = HalvedRecord(part, writer.next_context)
        grid = _stored(out, cuts, writer.next_context, stop, subject.batch)
        read_on(plan, loaded, reading, grid, writer, record, progress)
        writer.flush()
    (part / _DONE).touch()


def join(out: Path) -> bool:
    """Finish a store with what the stretches came to; whether all of it is there.

    Where it is not, what is missing can be collected by `collect`, or begun anew.

    Raises:
        StoreError: the store or a part of it is being written, or broken.
    """
    cuts = _cuts(out)
    take_over(out)
    with StoreWriter.reopen(out) as writer:
        if writer.next_context < cuts.contexts:
            return False
        writer.finish(cuts.counts | HalvedRecord(out, cuts.contexts).counts())
    return True


def _cut(begun: int, contexts: int, batch: int, count: int) -> Iterator[tuple[int, int]]:
    """Nearly equal stretches from a context on, all cut where batches of the global grid begin."""
    first, batches = begun // batch, -(-contexts // batch)
    edges = [first + (batches - first) * number // count for number in range(count + 1)]
    for low, high in pairwise(edges):
        start, stop = max(begun, low * batch), min(contexts, high * batch)
        if start < stop:
            yield start, stop


def _stored(
    out: Path, cuts: Cuts, begun: int, stop: int, batch: int
) -> Iterator[tuple[int, NDArray[np.uint32], NDArray[np.int32]]]:
    """The packed batches of the global grid from the one of a context on: its first context, ids and documents."""
    shape = (cuts.contexts, cuts.context)
    parts = parts_folder(out)
    tokens = np.memmap(parts / "tokens", dtype="<u4", mode="r", shape=shape)
    documents = np.memmap(parts / "documents", dtype="<i4", mode="r", shape=shape)
    for first in range(begun // batch * batch, stop, batch):
        last = min(first + batch, cuts.contexts)
        yield first, np.array(tokens[first:last]), np.array(documents[first:last])


def _cuts(out: Path) -> Cuts:
    path = parts_folder(out) / "cuts.json"
    try:
        return Cuts.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is missing or corrupt: delete {path.parent} and collect again") from error
