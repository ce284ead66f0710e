"""SAELens' format: `cfg.json` in the layouts before and since version 6 with safetensors, read and written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import CoderError
from harness.subject.coders.files import ConfigFile, TensorFile
from harness.subject.coders.formats import Format, Recognised, Tensors, require, whole
from harness.subject.coders.protocol import Claims

if TYPE_CHECKING:
    from harness.subject.coders.sparse import SparseWeights

__all__ = [
    "CONFIG",
    "FORMAT",
    "WEIGHTS",
    "Activation",
    "Normalize",
    "SAELensConfig",
    "build_weights",
    "read_claims",
    "read_config",
    "save_saelens",
]

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"

Activation = Literal["relu", "topk", "jumprelu", "gated"]
Normalize = Literal["none", "layer_norm", "constant_norm_rescale"]
_SAES: dict[str, Activation] = {
    "standard": "relu",
    "gated": "gated",
    "topk": "topk",
    "jumprelu": "jumprelu",
    # saved while training; once trained they are saved as jumprelu
    "batchtopk": "jumprelu",
    "matryoshka_batchtopk": "jumprelu",
}
_TRANSCODERS: dict[str, Activation] = {
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
_WRITTEN: dict[str, str] = {"relu": "standard", "topk": "topk", "jumprelu": "jumprelu"}
# The first version of the layout with SAE keys at the top and the model's under "metadata".
_LAYOUT = "6.0.0"


@dataclass(frozen=True, slots=True)
class SAELensConfig:
    """What `cfg.json` says, brought from either layout (before and since version 6) to one form."""

    d_in: int
    d_out: int
    d_sae: int
    activation: Activation
    k: int
    subtract_b_dec: bool
    normalize: Normalize
    decoder_norms: bool
    transcoder: bool
    skip: bool
    scalar_threshold: bool

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The tensors that the weights have to hold, with their shapes."""
        wide = (self.d_sae,)
        shapes: dict[str, tuple[int, ...]] = {"W_enc": (self.d_in, self.d_sae)}
        if self.activation == "gated":
            shapes |= {"b_gate": wide, "b_mag": wide, "r_mag": wide}
        else:
            shapes |= {"b_enc": wide}
        shapes |= {"W_dec": (self.d_sae, self.d_out), "b_dec": (self.d_out,)}
        if self.activation == "jumprelu":
            shapes |= {"topk_threshold": ()} if self.scalar_threshold else {"threshold": wide}
        return shapes | {"W_skip": (self.d_out, self.d_in)} if self.skip else shapes


def read_config(path: Path, raw: Mapping[str, Any], *, scalar_threshold: bool = False) -> SAELensConfig:
    """What a `cfg.json` says; `scalar_threshold` where the weights have one threshold for all latents.

    Raises:
        CoderError: it asks for something that is not implemented, by name.
    """
    architecture = _architecture(path, raw)
    transcoder = architecture in _TRANSCODERS
    activation = _TRANSCODERS[architecture] if transcoder else _SAES[architecture]
    _refuse(path, raw)
    subtract = bool(raw.get("apply_b_dec_to_input", not transcoder))
    if transcoder and subtract:
        raise CoderError(
            f"{path}: apply_b_dec_to_input cannot be true for a {architecture}: b_dec belongs to its output"
        )
    d_in = whole(path, raw, "d_in")
    return SAELensConfig(
        d_in=d_in,
        d_out=whole(path, raw, "d_out") if transcoder else d_in,
        d_sae=whole(path, raw, "d_sae"),
        activation=activation,
        k=_k(path, raw) if activation == "topk" else 0,
        subtract_b_dec=subtract,
        normalize=_normalize(path, raw.get("normalize_activations")),
        decoder_norms=bool(raw.get("rescale_acts_by_decoder_norm", False)) and "topk" in architecture,
        transcoder=transcoder,
        skip="skip" in architecture,
        scalar_threshold=scalar_threshold and architecture in ("batchtopk", "matryoshka_batchtopk"),
    )


def build_weights(config: SAELensConfig, tensors: Tensors) -> SparseWeights:
    """The weights in their canonical form."""
    from harness.subject.coders.sparse import Gate, SparseWeights

    gated = config.activation == "gated"
    threshold = tensors.get("threshold")
    if config.scalar_threshold:
        threshold = tensors["topk_threshold"].expand(config.d_sae).clone()
    return SparseWeights(
        tensors["W_enc"],
        tensors["b_mag" if gated else "b_enc"],
        tensors["W_dec"],
        tensors["b_dec"],
        "relu" if config.activation == "gated" else config.activation,
        config.k,
        threshold if config.activation == "jumprelu" else None,
        config.subtract_b_dec,
        config.normalize,
        config.decoder_norms,
        w_skip=tensors["W_skip"].T.contiguous() if config.skip else None,
        gate=Gate(tensors["b_gate"], tensors["r_mag"].exp()) if gated else None,
        rescale_output=not config.transcoder,
    )


def read_claims(source: str, raw: Mapping[str, Any]) -> Claims:
    """What the configuration says of model and hookpoint."""
    nested = raw.get("metadata")
    told = {**raw, **nested} if isinstance(nested, dict) else raw
    settings = told.get("model_from_pretrained_kwargs") or {}
    bos = told.get("prepend_bos")
    context = told.get("context_size")
    return Claims(
        source=source,
        model=_text(told.get("model_name")),
        hook=_text(told.get("hook_name") or told.get("hook_point") or told.get("hf_hook_name")),
        target=_text(told.get("hook_name_out") or told.get("hf_hook_name_out")),
        context=context if isinstance(context, int) and context > 0 else None,
        bos=bos if isinstance(bos, bool) else None,
        settings=tuple(sorted(settings.items())) if isinstance(settings, dict) else (),
    )


def save_saelens(folder: Path, weights: SparseWeights, metadata: Mapping[str, Any]) -> None:
    """Write an SAE so that this package and SAELens (6 or newer) read it; `metadata` tells of model and hookpoint."""
    import torch
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    d_in, d_sae = weights.w_enc.shape
    config: dict[str, Any] = {
        "architecture": _WRITTEN[weights.activation],
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
    whole_tensors = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}
    (folder / WEIGHTS).write_bytes(save(whole_tensors))


def _read(file: TensorFile, configs: tuple[ConfigFile, ...]) -> Recognised | None:
    found = next((config for config in configs if {"d_in", "d_sae"} <= config.value.keys()), None)
    if found is None or not {"W_enc", "W_dec"} & file.shapes.keys():
        return None
    config = read_config(found.path, found.value, scalar_threshold="threshold" not in file.shapes)
    require(file, config.tensors, f"{found.path.name} (d_in, d_sae)")
    names = [*config.tensors, *({"scaling_factor"} & file.shapes.keys())]

    def build(tensors: Tensors) -> SparseWeights:
        scaling = tensors.get("scaling_factor")
        if scaling is not None and not bool((scaling == 1).all()):
            raise CoderError(f"{file.path}: a scaling_factor other than 1 is not supported: fold it into the weights")
        return build_weights(config, tensors)

    claims = read_claims(str(found.path), found.value)
    return Recognised(
        found.path, tuple(names), config.d_in, config.d_out, config.d_sae, build, claims, config.transcoder
    )


FORMAT = Format("SAELens", "settings with d_in and d_sae, tensors W_enc and W_dec", _read)


def _architecture(path: Path, raw: Mapping[str, Any]) -> str:
    architecture = str(raw.get("architecture", "standard"))
    function = str(raw.get("activation_fn_str", raw.get("activation_fn", "relu")))
    if architecture == "standard" and function == "topk":
        architecture = "topk"
    if architecture not in _SAES and architecture not in _TRANSCODERS:
        known = ", ".join(sorted(_SAES | _TRANSCODERS))
        raise CoderError(f'{path}: architecture "{architecture}" is not known; known are: {known}')
    if architecture != "topk" and function != "relu":
        raise CoderError(f'{path}: activation function "{function}" is not known; known are: relu, topk')
    return architecture


def _refuse(path: Path, raw: Mapping[str, Any]) -> None:
    if raw.get("finetuning_scaling_factor"):
        raise CoderError(f"{path}: finetuning_scaling_factor is not supported: fold it into the weights first")
    shape = str(raw.get("reshape_activations", "none"))
    # a Hugging Face output projection's input has its heads side by side already, which is what "hook_z" makes
    if shape not in ("none", "hook_z"):
        raise CoderError(f'{path}: reshape_activations "{shape}" is not known; known are: none, hook_z')
    nested = raw.get("metadata")
    for told in (raw, nested if isinstance(nested, dict) else {}):
        for key in ("hook_head_index", "hook_point_head_index", "hook_head_index_out"):
            if told.get(key) is not None:
                raise CoderError(
                    f"{path}: {key} ({told[key]}) is not supported: a hookpoint is a whole module, no head"
                )


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


def _k(path: Path, raw: Mapping[str, Any]) -> int:
    nested = raw.get("activation_fn_kwargs")
    found = raw if "k" in raw else nested if isinstance(nested, dict) else {}
    return min(whole(path, found, "k"), whole(path, raw, "d_sae"))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
