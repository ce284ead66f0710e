"""Collection: the subject reads a corpus, coders turn what happens into sparse rows, a store keeps them."""

from __future__ import annotations

import gc
import importlib.metadata
import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness import registry
from harness.errors import SubjectError
from harness.store import CoderFrame, Manifest, ManifestFrame, Rows, Store, StoreWriter, Vocabulary
from harness.store.format import CoderManifest, read_manifest
from harness.subject.coders.protocol import CoderInfo, TokenCoder
from harness.subject.corpus import Corpus, open_corpus
from harness.subject.figures import CoderFigures
from harness.subject.hookpoints import Hookpoint
from harness.subject.models import ModelFiles, content_hash, find_model, load_model
from harness.subject.packing import Packer, SubjectTokenizer, load_tokenizer
from harness.task import CoderSettings, SubjectSettings

if TYPE_CHECKING:
    from harness.subject.reading import Reading

__all__ = ["collect", "read_figures", "store_config"]

Progress = Callable[[int, int], None]

FIGURES = "figures.json"
# How many tokens a coder's figures are taken on.
_FIGURE_TOKENS = 10_000
# Traces leave cycles behind; a collection every so many batches keeps memory flat.
_GC_BATCHES = 32


def store_config(subject: SubjectSettings, coders: Sequence[CoderSettings], base: Path = Path()) -> str:
    """The hash that a store of these settings has as `manifest.config`, found without loading model or weights.

    Raises:
        UserError: the model, the corpus or a coder cannot be had.
    """
    return _Plan.of(subject, coders, base).manifest.config


def collect(
    subject: SubjectSettings,
    coders: Sequence[CoderSettings],
    out: Path,
    progress: Progress | None = None,
    base: Path = Path(),
) -> Store:
    """Collect what coders say of a corpus into the store `out`; goes on where an earlier call was cut off.

    A finished store of the same settings is opened as it is. Without a coder that reads activations neither model
    nor torch is loaded. The caller's thread does all work: use a `TorchWorker` where a model is shared.

    Args:
        subject: the model and what it reads.
        coders: what turns activations, or text, into latents.
        out: the store's folder.
        progress: called with tokens done and tokens in all (an estimate where the corpus's size is not known; at
            the end both are equal); what it raises ends the collection, which can be resumed.
        base: what relative paths start from.

    Raises:
        UserError: something in the settings does not fit; nothing was collected then.
    """
    plan = _Plan.of(subject, coders, base)
    if _is_finished(out, plan.manifest):
        return Store.open(out)
    loaded, reading = plan.load(base)
    vocabulary = Vocabulary.from_tokenizer(plan.tokenizer.backend)
    figures = reading.figures(plan.batches(), _FIGURE_TOKENS) if reading else {}
    frames = [
        CoderFrame(coder.name, info.n_latents, info.hookpoint, info.revision, loaded[coder.name].decoder)
        for coder, info in zip(coders, plan.infos, strict=True)
    ]
    texts = {name: coder for name, coder in loaded.items() if isinstance(coder, TokenCoder)}
    with StoreWriter.begin(out, plan.manifest.frame, vocabulary, frames) as writer:
        _write_figures(out, figures)
        done = 0
        for number, (tokens, documents) in enumerate(plan.batches()):
            skip = min(len(tokens), max(0, writer.next_context - number * subject.batch))
            done += tokens.size
            if skip < len(tokens):
                rows = reading.rows(tokens, documents) if reading else {}
                rows |= _text_rows(texts, vocabulary, tokens, documents)
                start = skip * subject.context
                writer.append(
                    tokens[skip:], documents[skip:], {name: _after(part, start) for name, part in rows.items()}
                )
                if number % _GC_BATCHES == 0:
                    gc.collect()
            if progress is not None:
                progress(done, plan.total(done))
        if progress is not None:
            progress(done, done)
        packed = plan.packer.packed
        return writer.finish({"documents": packed.documents, "dropped_tokens": packed.dropped})


def read_figures(store: Store) -> dict[str, CoderFigures]:
    """The figures of a store's coders, by name; empty for those that read text."""
    path = store.path / FIGURES
    if not path.is_file():
        return {}
    return {name: CoderFigures(**found) for name, found in json.loads(path.read_text(encoding="utf-8")).items()}


@dataclass(frozen=True, slots=True)
class _Plan:
    """Settings with everything looked up that can be without loading a model."""

    subject: SubjectSettings
    files: ModelFiles
    corpus: Corpus
    tokenizer: SubjectTokenizer
    packer: Packer
    coders: tuple[CoderSettings, ...]
    kinds: tuple[Any, ...]
    infos: tuple[CoderInfo, ...]
    manifest: Manifest

    @classmethod
    def of(cls, subject: SubjectSettings, coders: Sequence[CoderSettings], base: Path) -> _Plan:
        kinds = tuple(registry.load("coders", coder.kind) for coder in coders)
        needs_model = any(kind.reads == "activations" for kind in kinds)
        files = find_model(subject.model, subject.revision, base, weights=needs_model)
        if needs_model:
            _check_context(files, subject.context)
        corpus = open_corpus(subject.corpus, base)
        infos = tuple(kind.describe(coder, base) for coder, kind in zip(coders, kinds, strict=True))
        tokenizer = load_tokenizer(files)
        frame = _frame(subject, files, corpus, tokenizer, needs_model=needs_model)
        manifests = tuple(_coder_manifest(coder, info) for coder, info in zip(coders, infos, strict=True))
        packer = Packer(tokenizer, subject.context, subject.corpus.tokens)
        manifest = Manifest(frame=frame, coders=manifests)
        return cls(subject, files, corpus, tokenizer, packer, tuple(coders), kinds, infos, manifest)

    def batches(self) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int32]]]:
        """Token ids and documents in the batches of the global grid, from the start."""
        return self.packer.batches(self.corpus.documents(), self.corpus.name, self.subject.batch)

    def total(self, done: int) -> int:
        """About how many tokens there will be in all: the limit, or what the share of the corpus read so far tells.

        The corpus is read ahead of what is done: the estimate is low at first.
        """
        limit, share = self.subject.corpus.tokens, self.corpus.progress()
        if limit is not None:
            return max(done, limit)
        return max(done, round(done / share)) if share else done

    @property
    def needs_model(self) -> bool:
        """Whether a coder reads activations."""
        return any(kind.reads == "activations" for kind in self.kinds)

    def load(self, base: Path) -> tuple[dict[str, Any], Reading | None]:
        """The coders, and the subject with those that read its activations where there are any."""
        model = None
        if self.needs_model:
            # first of all: a device that is not there shows here
            model = load_model(self.files, self.subject.dtype, self.subject.device)
        pairs = list(zip(self.coders, self.kinds, strict=True))
        loaded = {coder.name: kind.load(coder, base, self.subject.device) for coder, kind in pairs}
        if model is None:
            return loaded, None
        from harness.subject.reading import Reading
        from harness.subject.tracing import Traced

        readers = [coder for coder, kind in pairs if kind.reads == "activations"]
        points = {coder.name: Hookpoint(coder.hookpoint or "", coder.input) for coder in readers}
        chosen = {coder.name: loaded[coder.name] for coder in readers}
        return loaded, Reading(Traced(model), points, chosen, self.subject.threads)


def _frame(
    subject: SubjectSettings, files: ModelFiles, corpus: Corpus, tokenizer: SubjectTokenizer, *, needs_model: bool
) -> ManifestFrame:
    text = files.find("tokenizer.json")
    how = {"batch": subject.batch, "dtype": subject.dtype, "device": subject.device, "threads": subject.threads}
    return ManifestFrame(
        # a folder counts by its content: where it lies decides nothing
        model=files.folder.name if files.folder else files.name,
        model_revision=files.revision,
        tokenizer=content_hash([text]) if text else None,
        corpus={"identity": corpus.identity(), "tokens": subject.corpus.tokens},
        context=subject.context,
        bos=tokenizer.bos,
        collection=how if needs_model else {},
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    packages = ("torch", "transformers", "nnsight", "tokenizers", "numpy")
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _coder_manifest(settings: CoderSettings, info: CoderInfo) -> CoderManifest:
    return CoderManifest(
        name=settings.name,
        n_latents=info.n_latents,
        hookpoint=info.hookpoint,
        revision=info.revision,
        decoder=info.d_decoder,
    )


def _check_context(files: ModelFiles, context: int) -> None:
    path = files.find("config.json")
    assert path is not None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        config = config.get("text_config") or config
        most = config.get("max_position_embeddings") or config.get("n_positions")
    except (ValueError, AttributeError) as error:
        raise SubjectError(f"{path}: not a valid model configuration") from error
    if isinstance(most, int) and context > most:
        raise SubjectError(f"subject.context ({context}) is more than the {most} positions that {files.name} can read")


def _is_finished(out: Path, wanted: Manifest) -> bool:
    if not (out / "manifest.json").is_file():
        return False
    found = read_manifest(out)
    return found.finished and found.config == wanted.config


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
