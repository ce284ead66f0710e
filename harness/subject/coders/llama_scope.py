"""Llama Scope: `hyperparams.json` with a scalar threshold and the data set's average norm, weights as safetensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import CoderError
from harness.subject.coders.files import ConfigFile, TensorFile
from harness.subject.coders.formats import Format, Recognised, Tensors, number, require, whole
from harness.subject.coders.protocol import Claims

if TYPE_CHECKING:
    from harness.subject.coders.sparse import SparseWeights

__all__ = ["FORMAT"]


def _read(file: TensorFile, configs: tuple[ConfigFile, ...]) -> Recognised | None:
    found = next((one for one in configs if "dataset_average_activation_norm" in one.value), None)
    if found is None or not {"encoder.weight", "decoder.weight"} & file.shapes.keys():
        return None
    path, raw = found.path, found.value
    d_in, n_latents = whole(path, raw, "d_model"), whole(path, raw, "d_sae")
    _refuse(found)
    threshold = number(path, raw, "jump_relu_threshold")
    scale_in, scale_out = _scale(found, d_in, "in"), _scale(found, d_in, "out")
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.weight": (n_latents, d_in),
        "encoder.bias": (n_latents,),
        "decoder.weight": (d_in, n_latents),
    }
    if raw.get("use_decoder_bias", True):
        shapes["decoder.bias"] = (d_in,)
    require(file, shapes, f"{path.name} (d_model, d_sae)")

    def build(tensors: Tensors) -> SparseWeights:
        import torch

        from harness.subject.coders.sparse import SparseWeights

        bias = tensors.get("decoder.bias", torch.zeros(d_in))
        # Trained on activations scaled to the norm sqrt(d); the threshold was set on those of the unscaled model,
        # where a latent is its trained value over scale_in.
        return SparseWeights(
            (tensors["encoder.weight"].T * scale_in).contiguous(),
            tensors["encoder.bias"],
            (tensors["decoder.weight"].T / scale_out).contiguous(),
            bias / scale_out,
            "jumprelu",
            threshold=torch.full((n_latents,), threshold * scale_in),
            subtract_b_dec=bool(raw.get("apply_decoder_bias_to_pre_encoder", False)),
        )

    hook, target = raw.get("hook_point_in"), raw.get("hook_point_out")
    transcoder = isinstance(hook, str) and isinstance(target, str) and hook != target
    claims = Claims(
        str(path),
        hook=hook if isinstance(hook, str) else None,
        target=target if transcoder and isinstance(target, str) else None,
    )
    return Recognised(path, tuple(shapes), d_in, d_in, n_latents, build, claims, transcoder)


FORMAT = Format(
    "Llama Scope",
    "settings with d_model, d_sae and dataset_average_activation_norm, tensors encoder.weight and decoder.weight",
    _read,
)


def _scale(config: ConfigFile, d_in: int, side: str) -> float:
    """What brings the data set's average norm to sqrt(d); 1 where the weights were folded already."""
    if config.value.get("norm_activation", "dataset-wise") in (None, "inference"):
        return 1.0
    norms: Any = config.value["dataset_average_activation_norm"]
    if not isinstance(norms, dict):
        raise CoderError(f"{config.path}: dataset_average_activation_norm has to be a table with in and out")
    return d_in**0.5 / number(config.path, norms, side if side in norms else "in")


def _refuse(config: ConfigFile) -> None:
    raw = config.value
    function = str(raw.get("act_fn", "jumprelu"))
    if function != "jumprelu":
        raise CoderError(f'{config.path}: act_fn "{function}" is not known; known is: jumprelu')
    norm = raw.get("norm_activation", "dataset-wise")
    if norm not in (None, "dataset-wise", "inference"):
        raise CoderError(f'{config.path}: norm_activation "{norm}" is not known; known are: dataset-wise, inference')
    if raw.get("use_glu_encoder"):
        raise CoderError(f"{config.path}: use_glu_encoder is not supported")
