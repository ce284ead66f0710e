"""What a collection will be, looked up before a model is loaded: files, corpus, packing, coders and the manifest."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness import registry
from harness.errors import SubjectError
from harness.store import Manifest, ManifestFrame
from harness.store.format import CoderManifest
from harness.subject.claims import check_claims, with_widths
from harness.subject.coders.protocol import CoderInfo
from harness.subject.corpus import Corpus, open_corpus
from harness.subject.hookpoints import Hookpoint
from harness.subject.models import ModelFiles, content_hash, find_model, load_model
from harness.subject.packing import Packer, SubjectTokenizer, load_tokenizer
from harness.task import CoderSettings, SubjectSettings

if TYPE_CHECKING:
    from harness.subject.reading import Reading

__all__ = ["CollectionPlan"]


@dataclass(frozen=True, slots=True)
class CollectionPlan:
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
    def of(cls, subject: SubjectSettings, coders: Sequence[CoderSettings], base: Path) -> CollectionPlan:
        kinds = tuple(registry.load("coders", coder.kind) for coder in coders)
        needs_model = any(kind.reads == "activations" for kind in kinds)
        files = find_model(subject.model, subject.revision, base, weights=needs_model)
        if needs_model:
            _check_context(files, subject.context)
        tokenizer = load_tokenizer(files).opened_by_bos(subject.bos)
        corpus = open_corpus(subject.corpus, base, tokenizer.specials)
        coders = with_widths(coders, files)
        infos = tuple(kind.describe(coder, base) for coder, kind in zip(coders, kinds, strict=True))
        infos = check_claims(subject, files, coders, infos, bos=tokenizer.bos is not None)
        frame = _frame(subject, files, corpus, tokenizer, needs_model=needs_model)
        manifests = tuple(_coder_manifest(coder, info) for coder, info in zip(coders, infos, strict=True))
        known = files.vocabulary() if needs_model else None
        packer = Packer(tokenizer, subject.context, subject.corpus.tokens, subject.corpus.packing, known)
        manifest = Manifest(frame=frame, coders=manifests)
        return cls(subject, files, corpus, tokenizer, packer, tuple(coders), kinds, infos, manifest)

    def batches(self) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int32]]]:
        """Token ids and documents in the batches of the global grid, from the start."""
        return self.packer.batches(self.corpus.documents(), self.corpus.name, self.subject.batch)

    def total(self, done: int) -> int:
        """About how many tokens there will be in all: the limit, or what the share of the corpus read so far tells.

        The corpus is read ahead of what is done: the estimate is low at first, and above what is done to the end.
        """
        limit, share = self.subject.corpus.tokens, self.corpus.progress()
        if limit is not None:
            return max(done, limit)
        return max(done + 1, round(done / share)) if share else done

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
        loaded = {
            coder.name: kind.load(coder, base, self.subject.device, info)
            for coder, kind, info in zip(self.coders, self.kinds, self.infos, strict=True)
        }
        if model is None:
            return loaded, None
        from harness.subject.reading import Reading
        from harness.subject.tracing import Traced

        readers = [coder for coder, kind in pairs if kind.reads == "activations"]
        points = {coder.name: Hookpoint(coder.hookpoint or "", coder.input) for coder in readers}
        chosen = {coder.name: loaded[coder.name] for coder in readers}
        padded = self.subject.corpus.packing == "rows"
        return loaded, Reading(Traced(model), points, chosen, self.subject.threads, masked=padded)


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
        corpus={
            "identity": corpus.identity(),
            "revision": corpus.revision,
            "tokens": subject.corpus.tokens,
            "packing": subject.corpus.packing,
            "separator": tokenizer.separator,
        },
        context=subject.context,
        bos=tokenizer.bos,
        value_dtype=subject.value_dtype,
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
    config = files.config()
    most = config.get("max_position_embeddings") or config.get("n_positions")
    if isinstance(most, int) and context > most:
        raise SubjectError(f"subject.context ({context}) is more than the {most} positions that {files.name} can read")
