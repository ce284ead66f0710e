"""The coder kind `sae-lens-release`: an SAE by release and id in SAELens' own table, read by SAELens itself."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.errors import CoderError, HarnessError, MissingDependency
from harness.subject.coders.options import refuse_options
from harness.subject.coders.protocol import Claims, CoderInfo, Published
from harness.subject.coders.sae import target_of
from harness.subject.coders.saelens import SAELensConfig, build_weights, read_claims, read_config
from harness.subject.hookpoints import Hookpoint
from harness.task import CoderSettings

if TYPE_CHECKING:
    from harness.subject.coders.sparse import SparseCoder

__all__ = ["ReleaseCoder"]


class ReleaseCoder:
    """`path` is `release:id`, such as `gpt2-small-res-jb:blocks.6.hook_resid_pre`; needs the package sae-lens."""

    reads: ClassVar[str] = "activations"

    @classmethod
    def describe(cls, settings: CoderSettings, base: Path) -> CoderInfo:  # noqa: ARG003 - nothing is local
        """What the table and the SAE's settings say; weights are not fetched.

        Raises:
            MissingDependency: sae-lens is not installed.
            CoderError: there is no such release or id, or what it needs is not supported.
        """
        refuse_options(settings, "k", "latents", "seed", "rate", "absolute", "width")
        entry = _Entry.of(settings)
        with _told(settings):
            from sae_lens.loading.pretrained_sae_loaders import (  # pyright: ignore[reportMissingImports] - an extra
                load_sae_config_from_huggingface,
            )

            raw = dict(load_sae_config_from_huggingface(entry.release, entry.sae, device="cpu"))
            commit = entry.commit()
        config = entry.config(raw)
        hookpoint = str(Hookpoint(settings.hookpoint or "", settings.input))
        widths = (config.d_in, config.d_out)
        return CoderInfo(
            config.d_sae,
            config.d_in,
            config.d_out,
            hookpoint,
            f"{commit}:{entry.release}:{entry.sae}",
            d_out=config.d_out,
            target=target_of(settings, transcoder=config.transcoder, widths=widths),
            claims=entry.claims(raw),
        )

    @classmethod
    def load(
        cls, settings: CoderSettings, base: Path, device: str = "cpu", info: CoderInfo | None = None
    ) -> SparseCoder:
        """The SAE, ready to encode on `device`; SAELens fetches it, and folds its normalisation where it can."""
        from harness.subject.coders.sparse import SparseCoder

        info = info or cls.describe(settings, base)
        entry = _Entry.of(settings)
        with _told(settings):
            from sae_lens import SAE  # pyright: ignore[reportMissingImports] - an extra

            found, raw, _ = SAE.from_pretrained_with_cfg_and_sparsity(entry.release, entry.sae, device="cpu")
        tensors = {name: tensor.detach().float() for name, tensor in found.state_dict().items()}
        broken = sorted(name for name, tensor in tensors.items() if not bool(tensor.isfinite().all()))
        if broken:
            raise CoderError(
                f'coder "{settings.name}": {broken[0]} of {settings.path} holds values that are not finite'
            )
        return SparseCoder(info, build_weights(entry.config(dict(raw)), tensors), device)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of SAELens' table."""

    release: str
    sae: str
    table: Any

    @classmethod
    def of(cls, settings: CoderSettings) -> _Entry:
        release, _, sae = (settings.path or "").partition(":")
        with _told(settings):
            from sae_lens.loading.pretrained_saes_directory import (  # pyright: ignore[reportMissingImports] - an extra
                get_pretrained_saes_directory,
            )

            table = get_pretrained_saes_directory()
        if release not in table:
            raise CoderError(f'coder "{settings.name}": SAELens knows no release "{release}"; {_near(release, table)}')
        if sae not in table[release].saes_map:
            near = _near(sae, table[release].saes_map)
            raise CoderError(f'coder "{settings.name}": the release "{release}" has no SAE "{sae}"; {near}')
        return cls(release, sae, table[release])

    def commit(self) -> str:
        """The commit of the release's repository, fetched or cached."""
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(self.table.repo_id, allow_patterns=["README.md"])).name

    def config(self, raw: dict[str, Any]) -> SAELensConfig:
        if (
            raw.get("normalize_activations") == "expected_average_only_in"
            and self.sae in self.table.norm_scaling_factor
        ):
            # SAELens folds the table's factor into the weights as it loads them
            raw = {**raw, "normalize_activations": "none"}
        return read_config(Path(f"{self.release}:{self.sae}"), raw)

    def claims(self, raw: dict[str, Any]) -> Claims:
        l0, explained = self.table.expected_l0.get(self.sae), self.table.expected_var_explained.get(self.sae)
        # the table's 0 and 1 stand for "not measured"
        published = Published(float(l0) if l0 else None, 1 - explained if explained and explained < 1 else None)
        return replace(read_claims(f"{self.release}:{self.sae}", raw), published=published)


def _near(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, known, 3)
    return "did you mean " + " or ".join(f'"{one}"' for one in near) + "?" if near else f"it has {len(known)} others"


@contextmanager
def _told(settings: CoderSettings) -> Iterator[None]:
    """SAELens' problems as this package's."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except HarnessError:
        raise
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f'coder "{settings.name}": the kind "{settings.kind}" needs the package "sae-lens": '
            'pip install "latent-harness[saelens]"'
        ) from error
    except Exception as error:
        line = str(error).strip().splitlines() or [type(error).__name__]
        raise CoderError(f'coder "{settings.name}": SAELens cannot load {settings.path}: {line[0]}') from error
