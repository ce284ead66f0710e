"""The coder kind `sae`: sparse autoencoders and transcoders in any known format, recognised by their files' content."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from harness.errors import CoderError
from harness.subject.coders import dictionary_learning, gemma_scope, llama_scope, openai, saelens, sparsify
from harness.subject.coders.files import CoderFiles, TensorFile, find_files
from harness.subject.coders.formats import Format, Recognised
from harness.subject.coders.options import refuse_options
from harness.subject.coders.protocol import CoderInfo
from harness.subject.hookpoints import Hookpoint
from harness.task import CoderSettings

if TYPE_CHECKING:
    from harness.subject.coders.sparse import SparseCoder

__all__ = ["FORMATS", "SAECoder", "target_of"]

FORMATS: tuple[Format, ...] = (
    saelens.FORMAT,
    sparsify.FORMAT,
    llama_scope.FORMAT,
    dictionary_learning.FORMAT,
    openai.FORMAT,
    gemma_scope.FORMAT,
)


class SAECoder:
    """The coder kind `sae`; `path` is a folder, a file, or `repository:folder` on the Hugging Face Hub."""

    reads: ClassVar[str] = "activations"

    @classmethod
    def describe(cls, settings: CoderSettings, base: Path) -> CoderInfo:
        """What is known without loading weights; files on the Hub are fetched.

        Raises:
            CoderError: files are missing, broken or of a format that is not known.
        """
        refuse_options(settings, "k", "latents", "seed", "rate", "absolute", "width")
        files = find_files(settings, base)
        file, found = _recognise(settings, files)
        used = [path for path in (found.config, file.path) if path is not None]
        hookpoint = Hookpoint(settings.hookpoint or "", settings.input)
        return CoderInfo(
            found.n_latents,
            found.d_in,
            found.d_out,
            str(hookpoint),
            files.revision(used),
            d_out=found.d_out,
            target=target_of(settings, transcoder=found.transcoder, widths=(found.d_in, found.d_out)),
            claims=found.claims,
        )

    @classmethod
    def load(
        cls, settings: CoderSettings, base: Path, device: str = "cpu", info: CoderInfo | None = None
    ) -> SparseCoder:
        """The coder, ready to encode on `device`.

        Raises:
            CoderError: as `describe`, or a tensor holds values that are not finite.
        """
        from harness.subject.coders.sparse import SparseCoder

        info = info or cls.describe(settings, base)
        commit, colon, _ = info.revision.partition(":")
        files = find_files(settings, base, commit if colon else None)
        file, found = _recognise(settings, files)
        return SparseCoder(info, found.build(file.tensors(found.names)), device)


def target_of(settings: CoderSettings, *, transcoder: bool | None, widths: tuple[int, int]) -> Hookpoint | None:
    """What the coder's decoder speaks of: None for an autoencoder, which says again what it read.

    Raises:
        CoderError: a transcoder whose target the task does not tell, or an autoencoder that is given one.
    """
    if transcoder is False:
        if settings.target is not None:
            raise CoderError(f'coder "{settings.name}": target belongs to a transcoder, and this is an autoencoder')
        return None
    if settings.target is not None:
        return Hookpoint(settings.target)
    if transcoder is None and widths[0] == widths[1]:
        return None
    if not settings.input:
        raise CoderError(
            f'coder "{settings.name}" is a transcoder: it reads one place and predicts another; set input = true where '
            "it reads a module's input and predicts its output, or target to the module whose output it predicts"
        )
    return Hookpoint(settings.hookpoint or "")


def _recognise(settings: CoderSettings, files: CoderFiles) -> tuple[TensorFile, Recognised]:
    """The one file of tensors that is a coder, and what it is."""
    found: list[tuple[TensorFile, Recognised]] = []
    for file in files.tensors:
        for one in FORMATS:
            coder = one.read(file, files.configs)
            if coder is not None:
                found.append((file, coder))
                break
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(str(file.path) for file, _ in found)
        raise CoderError(
            f'coder "{settings.name}": there are several coders at {files.where}: {several}; name one file'
        )
    known = "; ".join(f"{one.name} ({one.signs})" for one in FORMATS)
    raise CoderError(
        f'coder "{settings.name}": {files.where} holds no coder of a known format; found: {files.listing()}. '
        f"Known are: {known}"
    )
