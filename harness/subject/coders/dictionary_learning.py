"""dictionary_learning's format: `ae.pt`, its tensors named by class, and `config.json` with the trainer's settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import CoderError
from harness.subject.coders.files import ConfigFile, TensorFile
from harness.subject.coders.formats import Format, Recognised, Tensors, has_settings, require
from harness.subject.coders.protocol import Claims, Published

if TYPE_CHECKING:
    from harness.subject.coders.sparse import SparseWeights

__all__ = ["FORMAT"]

# Class -> its tensors beside the two matrices, with their shapes; F stands for latents, D for the activation's width.
_LINEAR = {"encoder.weight": "FD", "decoder.weight": "DF"}
_PARAMETERS = {"W_enc": "DF", "W_dec": "FD", "b_enc": "F", "b_dec": "D"}
_TOP_K = {**_LINEAR, "encoder.bias": "F", "b_dec": "D", "k": "", "threshold": ""}
_CLASSES: dict[str, dict[str, str]] = {
    "AutoEncoder": {**_LINEAR, "encoder.bias": "F", "bias": "D"},
    "AutoEncoderNew": {**_LINEAR, "encoder.bias": "F", "decoder.bias": "D"},
    "GatedAutoEncoder": {**_LINEAR, "decoder_bias": "D", "r_mag": "F", "gate_bias": "F", "mag_bias": "F"},
    "JumpReluAutoEncoder": {**_PARAMETERS, "threshold": "F"},
    "AutoEncoderTopK": _TOP_K,
    "BatchTopKSAE": _TOP_K,
    "MatryoshkaBatchTopKSAE": {**_PARAMETERS, "k": "", "threshold": "", "group_sizes": "G"},
}


def _read(file: TensorFile, configs: tuple[ConfigFile, ...]) -> Recognised | None:
    config = next((one for one in configs if "dict_class" in _table(one, "trainer")), None)
    # these were saved without a threshold by older versions, which had none
    names = {*file.shapes} | ({"threshold"} if {"k", "encoder.weight", "b_dec"} <= file.shapes.keys() else set())
    fitting = [name for name, wanted in _CLASSES.items() if wanted.keys() == names]
    if config is None:
        # a vector of thresholds alone is Gemma Scope's as well, and the same formula
        fitting = [name for name in fitting if name != "JumpReluAutoEncoder"]
        if has_settings(file, configs):
            # any linear encoder and decoder have these names
            fitting = [name for name in fitting if name != "AutoEncoderNew"]
        if len(fitting) > 1:
            raise CoderError(
                f"{file.path}: {' and '.join(fitting)} have the same tensors and other formulas, and there is no "
                "config.json with trainer.dict_class to tell which this is"
            )
        kind = fitting[0] if fitting else None
    else:
        kind = _told(config, file)
    if kind is None:
        return None
    d_in, n_latents = _sizes(kind, file)
    sizes = {"D": d_in, "F": n_latents, "G": file.shapes.get("group_sizes", (0,))[0]}
    wanted = {name: tuple(sizes[one] for one in shape) for name, shape in _CLASSES[kind].items()}
    if kind == "AutoEncoderTopK" and "threshold" not in file.shapes:
        del wanted["threshold"]
    require(file, wanted)
    claims = _claims(config, configs) if config else Claims(str(file.path))
    transcoder = None if config is None else _table(config, "buffer").get("io") == "in_and_out" or None

    def build(tensors: Tensors) -> SparseWeights:
        return _weights(kind, tensors, file.path)

    return Recognised(config.path if config else None, tuple(wanted), d_in, d_in, n_latents, build, claims, transcoder)


FORMAT = Format(
    "dictionary_learning",
    "settings with trainer.dict_class, tensors such as encoder.weight, decoder.weight and bias",
    _read,
)


def _told(config: ConfigFile, file: TensorFile) -> str:
    kind = str(_table(config, "trainer")["dict_class"])
    if kind not in _CLASSES:
        raise CoderError(f'{config.path}: dict_class "{kind}" is not known; known are: {", ".join(_CLASSES)}')
    if not {"encoder.weight", "W_enc"} & file.shapes.keys():
        raise CoderError(f"{file.path}: no encoder.weight or W_enc; there are: {', '.join(file.shapes) or 'none'}")
    return kind


def _sizes(kind: str, file: TensorFile) -> tuple[int, int]:
    name = "encoder.weight" if "encoder.weight" in _CLASSES[kind] else "W_enc"
    shape = file.shapes.get(name, ())
    if len(shape) != 2:
        raise CoderError(f"{file.path}: a {kind} has the matrix {name}, and here it is {list(shape) or 'missing'}")
    return (shape[1], shape[0]) if name == "encoder.weight" else (shape[0], shape[1])


def _weights(kind: str, tensors: Tensors, path: Path) -> SparseWeights:
    """The classes' formulas as they encode after training: batch top-k by its threshold, latents not rescaled."""
    import torch

    from harness.subject.coders.sparse import Gate, SparseWeights

    linear = "encoder.weight" in tensors
    w_enc = tensors["encoder.weight"].T.contiguous() if linear else tensors["W_enc"]
    w_dec = tensors["decoder.weight"].T.contiguous() if linear else tensors["W_dec"]
    n_latents = w_enc.shape[1]
    if kind == "GatedAutoEncoder":
        gate = Gate(tensors["gate_bias"], tensors["r_mag"].exp())
        return SparseWeights(w_enc, tensors["mag_bias"], w_dec, tensors["decoder_bias"], "relu", gate=gate)
    b_enc = tensors["encoder.bias" if linear else "b_enc"]
    if kind == "AutoEncoder":
        return SparseWeights(w_enc, b_enc, w_dec, tensors["bias"], "relu")
    if kind == "AutoEncoderNew":
        return SparseWeights(w_enc, b_enc, w_dec, tensors["decoder.bias"], "relu", subtract_b_dec=False)
    b_dec = tensors["b_dec"]
    if kind == "JumpReluAutoEncoder":
        return SparseWeights(
            w_enc, b_enc, w_dec, b_dec, "jumprelu", threshold=tensors["threshold"], subtract_b_dec=False
        )
    if kind == "AutoEncoderTopK":
        return SparseWeights(w_enc, b_enc, w_dec, b_dec, "topk", min(int(tensors["k"]), n_latents))
    threshold = float(tensors["threshold"])
    if threshold < 0:
        raise CoderError(f"{path}: the threshold is {threshold:g}: this {kind} was saved before one was learned")
    return SparseWeights(w_enc, b_enc, w_dec, b_dec, "jumprelu", threshold=torch.full((n_latents,), threshold))


def _claims(config: ConfigFile, configs: tuple[ConfigFile, ...]) -> Claims:
    trainer, buffer = _table(config, "trainer"), _table(config, "buffer")
    context = buffer.get("ctx_len")
    model = trainer.get("lm_name")
    return Claims(
        source=str(config.path),
        model=model if isinstance(model, str) else None,
        hook=_hook(trainer),
        context=context if isinstance(context, int) and context > 0 else None,
        published=_published(configs),
    )


def _hook(trainer: dict[str, Any]) -> str | None:
    name = trainer.get("submodule_name")
    layer = trainer.get("layer")
    if not isinstance(name, str):
        return None
    # "resid_post_layer_8", or "resid_post" with the layer beside it
    return name if any(letter.isdigit() for letter in name) else f"{name}_layer_{layer}"


def _published(configs: tuple[ConfigFile, ...]) -> Published:
    """What the library's own evaluation, written beside the weights, measured."""
    for config in configs:
        raw = config.value
        explained, l0 = raw.get("frac_variance_explained"), raw.get("l0")
        if isinstance(explained, (int, float)) and isinstance(l0, (int, float)):
            return Published(float(l0), 1 - float(explained))
    return Published()


def _table(config: ConfigFile, key: str) -> dict[str, Any]:
    found = config.value.get(key)
    return found if isinstance(found, dict) else {}
