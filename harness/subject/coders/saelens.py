"""SAEs in SAELens' format: a folder with `cfg.json` and `sae_weights.safetensors`, read and written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.errors import CoderError
from harness.subject.coders.protocol import CoderInfo
from harness.subject.hookpoints import Hookpoint
from harness.subject.models import content_hash, hub_file
from harness.subject.safetensors_header import tensor_shapes
from harness.task import CoderSettings

if TYPE_CHECKING:
    from harness.subject.coders.sparse import SparseCoder, SparseWeights

__all__ = ["CONFIG", "WEIGHTS", "SAELensCoder", "SAELensConfig", "read_config", "save_saelens"]

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"

Normalize = Literal["none", "layer_norm", "constant_norm_rescale"]
_ACTIVATIONS: dict[str, Literal["relu", "topk", "jumprelu"]] = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "jumprelu",
}
# The first version of the layout with SAE keys at the top and the model's under "metadata".
_LAYOUT = "6.0.0"


@dataclass(frozen=True, slots=True)
class SAELensConfig:
    """What `cfg.json` says, brought from either layout (before and since version 6) to one form."""

    d_in: int
    d_sae: int
    activation: Literal["relu", "topk", "jumprelu"]
    k: int
    subtract_b_dec: bool
    normalize: Normalize
    decoder_norms: bool

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The tensors that the weights have to hold, with their shapes."""
        shapes: dict[str, tuple[int, ...]] = {
            "W_enc": (self.d_in, self.d_sae),
            "b_enc": (self.d_sae,),
            "W_dec": (self.d_sae, self.d_in),
            "b_dec": (self.d_in,),
        }
        return shapes | {"threshold": (self.d_sae,)} if self.activation == "jumprelu" else shapes


class SAELensCoder:
    """The coder kind `saelens`; `path` is a folder or `repository:folder` on the Hugging Face Hub."""

    reads: ClassVar[str] = "activations"

    @classmethod
    def describe(cls, settings: CoderSettings, base: Path) -> CoderInfo:
        """What is known without loading weights.

        Raises:
            CoderError: files are missing, broken or of an architecture that is not known.
        """
        files = _Files.find(settings, base)
        config = read_config(files.config)
        if files.folder is not None:
            _check(config, files.folder / WEIGHTS)
        hookpoint = str(Hookpoint(settings.hookpoint or "", settings.input))
        return CoderInfo(config.d_sae, config.d_in, config.d_in, hookpoint, files.revision())

    @classmethod
    def load(
        cls, settings: CoderSettings, base: Path, device: str = "cpu", info: CoderInfo | None = None
    ) -> SparseCoder:
        """The SAE, ready to encode on `device`."""
        from harness.subject.coders.sparse import SparseCoder

        files = _Files.find(settings, base)
        info = info or cls.describe(settings, base)
        config = read_config(files.config)
        weights = files.weights()
        _check(config, weights)
        return SparseCoder(info, _weights(config, weights), device)


@dataclass(frozen=True, slots=True)
class _Files:
    """Where an SAE's files are; `folder` is None for one on the Hub, whose weights come when they are needed."""

    config: Path
    folder: Path | None
    repository: str = ""
    subfolder: str = ""

    @classmethod
    def find(cls, settings: CoderSettings, base: Path) -> _Files:
        path = settings.path or ""
        folder = (base / Path(path).expanduser()).resolve()
        if folder.is_dir():
            for name in (CONFIG, WEIGHTS):
                if not (folder / name).is_file():
                    raise CoderError(f'coder "{settings.name}": {folder} has no {name}; a SAELens folder has both')
            return cls(folder / CONFIG, folder)
        repository, colon, subfolder = path.partition(":")
        if not colon or folder.exists() or path.startswith((".", "/", "~")):
            raise CoderError(
                f'coder "{settings.name}": no such folder: {folder}; path is a folder with {CONFIG} and {WEIGHTS}, '
                "or repository:folder on the Hugging Face Hub"
            )
        found = hub_file(repository, _inside(subfolder, CONFIG), None, CoderError)
        assert found is not None
        return cls(found, None, repository, subfolder)

    @property
    def commit(self) -> str:
        """The commit in a cached file's path, `.../snapshots/<commit>/...`."""
        parts = self.config.parts
        return parts[parts.index("snapshots") + 1]

    def revision(self) -> str:
        """What tells these files from any other: a hash of a folder's content, or the Hub's commit and folder."""
        if self.folder is not None:
            return content_hash([self.config, self.folder / WEIGHTS])
        return f"{self.commit}:{self.subfolder}"

    def weights(self) -> Path:
        """The weights' path; they are fetched if need be."""
        if self.folder is not None:
            return self.folder / WEIGHTS
        found = hub_file(self.repository, _inside(self.subfolder, WEIGHTS), self.commit, CoderError)
        assert found is not None
        return found


def read_config(path: Path) -> SAELensConfig:
    """What a `cfg.json` says.

    Raises:
        CoderError: it is not valid, or asks for something that is not implemented, by name.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CoderError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(raw, dict):
        raise CoderError(f"{path}: expected an object with d_in, d_sae and architecture")
    architecture = str(raw.get("architecture", "standard"))
    function = str(raw.get("activation_fn_str", raw.get("activation_fn", "relu")))
    if architecture == "standard" and function == "topk":
        architecture = "topk"
    if architecture not in _ACTIVATIONS:
        raise CoderError(
            f'{path}: architecture "{architecture}" is not known; known are: {", ".join(sorted(_ACTIVATIONS))}'
        )
    if architecture == "standard" and function != "relu":
        raise CoderError(f'{path}: activation function "{function}" is not known; known are: relu, topk')
    _refuse(path, raw)
    activation = _ACTIVATIONS[architecture]
    return SAELensConfig(
        d_in=_count(path, raw, "d_in"),
        d_sae=_count(path, raw, "d_sae"),
        activation=activation,
        k=_k(path, raw) if activation == "topk" else 0,
        subtract_b_dec=bool(raw.get("apply_b_dec_to_input", True)),
        normalize=_normalize(path, raw.get("normalize_activations")),
        decoder_norms=bool(raw.get("rescale_acts_by_decoder_norm", False)) and activation == "topk",
    )


def save_saelens(folder: Path, weights: SparseWeights, metadata: Mapping[str, Any]) -> None:
    """Write an SAE so that this package and SAELens (6 or newer) read it; `metadata` tells of model and hookpoint."""
    import torch
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    architecture = next(name for name, activation in _ACTIVATIONS.items() if activation == weights.activation)
    d_in, d_sae = weights.w_enc.shape
    config: dict[str, Any] = {
        "architecture": architecture,
        "d_in": d_in,
        "d_sae": d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": weights.subtract_b_dec,
        "normalize_activations": weights.normalize,
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": _LAYOUT, **metadata},
    }
    if weights.activation == "topk":
        config |= {"k": weights.k, "rescale_acts_by_decoder_norm": weights.decoder_norms}
    tensors = {"W_enc": weights.w_enc, "b_enc": weights.b_enc, "W_dec": weights.w_dec, "b_dec": weights.b_dec}
    if weights.threshold is not None:
        tensors["threshold"] = weights.threshold
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    whole = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}
    (folder / WEIGHTS).write_bytes(save(whole))


def _refuse(path: Path, raw: Mapping[str, Any]) -> None:
    if raw.get("finetuning_scaling_factor"):
        raise CoderError(f"{path}: finetuning_scaling_factor is not supported: fold it into the weights first")
    shape = str(raw.get("reshape_activations", "none"))
    # a Hugging Face output projection's input has its heads side by side already, which is what "hook_z" makes
    if shape not in ("none", "hook_z"):
        raise CoderError(f'{path}: reshape_activations "{shape}" is not known; known are: none, hook_z')


def _normalize(path: Path, value: Any) -> Normalize:
    if value is None or value is False or value == "none":
        return "none"
    if value == "layer_norm" or value == "constant_norm_rescale":
        return value
    name = "expected_average_only_in" if value is True else str(value)
    raise CoderError(
        f'{path}: normalize_activations "{name}" is not supported: fold the normalisation into the weights '
        "(SAELens: fold_activation_norm_scaling_factor) and save the SAE again"
    )


def _count(path: Path, raw: Mapping[str, Any], key: str) -> int:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CoderError(f"{path}: {key} has to be a whole number above 0, not {value!r}")
    return value


def _k(path: Path, raw: Mapping[str, Any]) -> int:
    nested = raw.get("activation_fn_kwargs")
    found = raw if "k" in raw else nested if isinstance(nested, dict) else {}
    return min(_count(path, found, "k"), _count(path, raw, "d_sae"))


def _check(config: SAELensConfig, weights: Path) -> None:
    shapes = tensor_shapes(weights)
    for name, shape in config.tensors.items():
        if name not in shapes:
            known = ", ".join(sorted(shapes)) or "none"
            raise CoderError(f'{weights}: the tensor "{name}" is missing; there are: {known}')
        if shapes[name] != shape:
            raise CoderError(
                f"{weights}: {name} has shape {list(shapes[name])}, and {CONFIG} (d_in, d_sae) wants {list(shape)}"
            )


def _weights(config: SAELensConfig, path: Path) -> SparseWeights:
    import torch
    from safetensors import safe_open

    from harness.subject.coders.sparse import SparseWeights

    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).to(torch.float32) for name in config.tensors}
        scaling = file.get_tensor("scaling_factor") if "scaling_factor" in file.keys() else None  # noqa: SIM118 - no mapping
    if scaling is not None and not torch.allclose(scaling.float(), torch.ones(())):
        raise CoderError(f"{path}: a scaling_factor other than 1 is not supported: fold it into the weights first")
    broken = sorted(name for name, tensor in tensors.items() if not bool(tensor.isfinite().all()))
    if broken:
        raise CoderError(f"{path}: {broken[0]} holds values that are not finite")
    return SparseWeights(
        tensors["W_enc"],
        tensors["b_enc"],
        tensors["W_dec"],
        tensors["b_dec"],
        config.activation,
        config.k,
        tensors.get("threshold"),
        config.subtract_b_dec,
        config.normalize,
        config.decoder_norms,
    )


def _inside(folder: str, name: str) -> str:
    return f"{folder.strip('/')}/{name}" if folder.strip("/") else name
