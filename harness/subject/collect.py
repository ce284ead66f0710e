"""Collection: the subject reads a corpus, coders turn what happens into sparse rows, a store keeps them."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import CoderError, StoreError
from harness.store import CoderFrame, Manifest, Rows, Store, StoreWriter, Vocabulary
from harness.store.adding import add_rows
from harness.store.files import write_json
from harness.store.format import read_manifest
from harness.store.lock import take
from harness.store.segments import continue_with
from harness.subject.background import BackgroundWriter, full_disk_told
from harness.subject.coders.protocol import TokenCoder
from harness.subject.figures import CoderFigures
from harness.subject.plan import CollectionPlan
from harness.task import CoderSettings, SubjectSettings

if TYPE_CHECKING:
    from harness.subject.memory import Halved
    from harness.subject.reading import Reading

__all__ = [
    "GC_BATCHES",
    "HalvedRecord",
    "collect",
    "finished",
    "opened",
    "packed_counts",
    "parts_folder",
    "read_figures",
    "read_on",
    "store_config",
    "take_over",
]

Progress = Callable[[int, int], None]

FIGURES = "figures.json"
HALVED = "halved.json"
# How many tokens a coder's figures are taken on.
_FIGURE_TOKENS = 10_000
# Traces leave cycles behind; a collection every so many batches keeps memory flat.
GC_BATCHES = 32


def store_config(subject: SubjectSettings, coders: Sequence[CoderSettings], base: Path = Path()) -> str:
    """The hash that a store of these settings has as `manifest.config`, found without loading model or weights.

    Raises:
        UserError: the model, the corpus or a coder cannot be had.
    """
    return CollectionPlan.of(subject, coders, base).manifest.config


def collect(
    subject: SubjectSettings,
    coders: Sequence[CoderSettings],
    out: Path,
    progress: Progress | None = None,
    base: Path = Path(),
) -> Store:
    """Collect what coders say of a corpus into the store `out`; goes on where an earlier call was cut off.

    A finished store of the same settings is opened as it is, with rows added where they are wanted. Without a coder
    that reads activations neither model nor torch is loaded. The caller's thread does all work: use a `TorchWorker`
    where a model is shared.

    Args:
        subject: the model and what it reads.
        coders: what turns activations, or text, into latents.
        out: the store's folder.
        progress: called with tokens done and tokens in all (an estimate where the corpus's size is not known; at
            the end both are equal); what it raises ends the collection, which can be resumed.
        base: what relative paths start from.

    Raises:
        UserError: something in the settings does not fit, or a coder leaves more than `subject.max_fvu` of the
            variance unexplained: nothing was collected then. Also an activation that is no number or a full disk:
            what was collected is kept.
    """
    plan = CollectionPlan.of(subject, coders, base)
    if (found := finished(out, plan.manifest)) is not None:
        return add_rows(out) if subject.rows and not all(coder.rows for coder in found.coders) else Store.open(out)
    take_over(out)
    loaded, reading = plan.load(base)
    with full_disk_told(out), opened(plan, loaded, reading, out) as writer:
        record = HalvedRecord(out, writer.next_context)
        grid = ((number * subject.batch, *batch) for number, batch in enumerate(plan.batches()))
        done = read_on(plan, loaded, reading, grid, writer, record, progress)
        if progress is not None:
            progress(done, done)
        return writer.finish(packed_counts(plan) | record.counts())


def opened(plan: CollectionPlan, loaded: Mapping[str, Any], reading: Reading | None, out: Path) -> StoreWriter:
    """The store of a plan, begun or gone on with once each coder's figures are taken.

    Raises:
        CoderError: a coder leaves too much of the variance unexplained.
        StoreError: something else is there.
    """
    figures = _figures(plan, reading) if reading else {}
    frames = [
        CoderFrame(
            coder.name,
            info.n_latents,
            info.hookpoint,
            info.revision,
            loaded[coder.name].decoder,
            rows=plan.subject.rows,
        )
        for coder, info in zip(plan.coders, plan.infos, strict=True)
    ]
    writer = StoreWriter.begin(out, plan.manifest.frame, Vocabulary.from_tokenizer(plan.tokenizer.backend), frames)
    _write_figures(out, figures)
    return writer


def read_on(
    plan: CollectionPlan,
    loaded: Mapping[str, Any],
    reading: Reading | None,
    grid: Iterable[tuple[int, NDArray[np.uint32], NDArray[np.int32]]],
    writer: StoreWriter,
    record: HalvedRecord,
    progress: Progress | None,
) -> int:
    """Read batches of the global grid, each with the number of its first context, and append what is not there yet.

    Returns the number of tokens in the batches; see `collect` for `progress`.
    """
    texts = {name: coder for name, coder in loaded.items() if isinstance(coder, TokenCoder)}
    vocabulary = Vocabulary.from_tokenizer(plan.tokenizer.backend)
    begun = writer.next_context
    done = 0
    with BackgroundWriter(writer) as background:
        for number, (first, tokens, documents) in enumerate(grid):
            skip = min(len(tokens), max(0, begun - first))
            done += tokens.size
            if skip < len(tokens):
                # whole batches of the global grid, also where a resumed collection begins within one
                rows = reading.rows(tokens, documents, first) if reading else {}
                rows |= _text_rows(texts, vocabulary, tokens, documents)
                start = skip * plan.subject.context
                background.append(
                    tokens[skip:], documents[skip:], {name: _after(part, start) for name, part in rows.items()}
                )
                record.keep(reading.halved if reading else ())
                if number % GC_BATCHES == 0:
                    gc.collect()
            if progress is not None:
                progress(done, plan.total(done))
    return done


def packed_counts(plan: CollectionPlan) -> dict[str, int]:
    """What packing came to, once all batches were drawn."""
    packed = plan.packer.packed
    return {"documents": packed.documents, "dropped_tokens": packed.dropped, "padding": packed.padding}


def parts_folder(out: Path) -> Path:
    """Where the parts of a store lie that is collected in stretches; beside it, in the same file system."""
    return out.with_name(f"{out.name}.parts")


def take_over(out: Path) -> None:
    """Take what was collected in stretches and continues the store, as if it had been collected here; the rest goes.

    Raises:
        StoreError: the store or a part of it is being written.
    """
    parts = parts_folder(out)
    if not parts.is_dir():
        return
    if (out / "manifest.json").is_file() and not read_manifest(out).finished:
        with StoreWriter.reopen(out) as writer:
            stop, record = writer.next_context, HalvedRecord(out, writer.next_context)
            for part in sorted((path for path in parts.iterdir() if path.is_dir()), key=lambda path: int(path.name)):
                lock = take(part)
                stop = continue_with(out / "segments", stop, part / "segments")
                record.take(part)
                lock.release()
    shutil.rmtree(parts)


def read_figures(store: Store) -> dict[str, CoderFigures]:
    """The figures of a store's coders, by name; empty for those that read text."""
    path = store.path / FIGURES
    if not path.is_file():
        return {}
    read = json.loads(path.read_text(encoding="utf-8"))
    return {name: CoderFigures(**{**found, "notes": tuple(found.get("notes", ()))}) for name, found in read.items()}


def _figures(plan: CollectionPlan, reading: Reading) -> dict[str, CoderFigures]:
    """Each coder's figures beside those of its own files.

    Raises:
        CoderError: a coder that is meant to reconstruct does not.
    """
    found: dict[str, CoderFigures] = {}
    known = {coder.name: (info, kind) for coder, info, kind in zip(plan.coders, plan.infos, plan.kinds, strict=True)}
    for name, figures in reading.figures(plan.batches, _FIGURE_TOKENS).items():
        info, kind = known[name]
        published = info.claims.published
        found[name] = replace(figures, published_fvu=published.fvu, published_l0=published.l0, notes=info.notes)
        # negated: not a number is no good figure either
        if getattr(kind, "reconstructs", True) and not figures.fvu <= plan.subject.max_fvu:
            raise CoderError(
                f'coder "{name}" at {info.hookpoint}: {found[name]}, and subject.max_fvu is {plan.subject.max_fvu:g}: '
                "it belongs to another hookpoint or model, or reads activations that were scaled or centred; correct "
                "the hookpoint or center_writing_weights, or set subject.max_fvu higher if this is meant"
            )
    return found


class HalvedRecord:
    """The file in a store that says which contexts were read in smaller batches than its manifest tells."""

    def __init__(self, store: Path, begun: int) -> None:
        self._path = store / HALVED
        earlier = json.loads(self._path.read_text(encoding="utf-8")) if self._path.is_file() else []
        # what lies beyond the begun context is read again now
        self._earlier = [{**one, "stop": min(one["stop"], begun)} for one in earlier if one["start"] < begun]
        self._now: Sequence[Halved] = ()

    def keep(self, halved: Sequence[Halved]) -> None:
        """Write these down, if they are more than before."""
        if halved != self._now:
            self._now = halved
            write_json(self._path, self._all())

    def take(self, other: Path) -> None:
        """Also those of another folder."""
        if (other / HALVED).is_file():
            self._earlier += json.loads((other / HALVED).read_text(encoding="utf-8"))
            write_json(self._path, self._all())

    def counts(self) -> dict[str, int]:
        """How many contexts they are, and the smallest batch; empty where there are none."""
        found = self._all()
        if not found:
            return {}
        return {
            "halved_contexts": sum(one["stop"] - one["start"] for one in found),
            "smallest_batch": min(one["batch"] for one in found),
        }

    def _all(self) -> list[dict[str, int]]:
        return [*self._earlier, *(asdict(one) for one in self._now)]


def finished(out: Path, wanted: Manifest) -> Manifest | None:
    """The manifest of the finished store that is wanted, if it is there already.

    Raises:
        StoreError: a finished store is there that holds something else.
    """
    if not (out / "manifest.json").is_file():
        return None
    found = read_manifest(out)
    if not found.finished:
        return None
    if found.config != wanted.config:
        raise StoreError(f"{out} is finished and was collected with other settings: choose another folder")
    return found


def _write_figures(out: Path, figures: Mapping[str, CoderFigures]) -> None:
    if figures:
        text = json.dumps({name: asdict(found) for name, found in figures.items()}, indent=2)
        (out / FIGURES).write_text(text + "\n", encoding="utf-8")


def _text_rows(
    coders: Mapping[str, TokenCoder], vocabulary: Vocabulary, tokens: NDArray[np.uint32], documents: NDArray[np.int32]
) -> dict[str, Rows]:
    if not coders:
        return {}
    pieces = [vocabulary.pieces(row) for row in tokens]
    kept = documents.reshape(-1) >= 0
    return {name: _only(coder.encode_pieces(pieces), kept) for name, coder in coders.items()}


def _only(rows: Rows, kept: NDArray[np.bool_]) -> Rows:
    """The rows of kept positions; the others become empty."""
    counts = np.diff(rows.indptr)
    inside = np.repeat(kept, counts)
    indptr = np.concatenate([[0], np.cumsum(np.where(kept, counts, 0))]).astype(np.int64)
    return Rows(indptr, rows.latents[inside], rows.values[inside])


def _after(rows: Rows, start: int) -> Rows:
    """The rows from a position on."""
    if start == 0:
        return rows
    first = int(rows.indptr[start])
    return Rows(rows.indptr[start:] - first, rows.latents[first:], rows.values[first:])
