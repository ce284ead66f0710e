"""OpenAI's sparse autoencoders: one file of `torch.save` with pre_bias, latent_bias and the activation's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import CoderError
from harness.subject.coders.files import ConfigFile, TensorFile
from harness.subject.coders.formats import Format, Recognised, Tensors, require, whole
from harness.subject.coders.protocol import Claims

if TYPE_CHECKING:
    from harness.subject.coders.sparse import SparseWeights

__all__ = ["FORMAT"]


def _read(file: TensorFile, configs: tuple[ConfigFile, ...]) -> Recognised | None:  # noqa: ARG001 - has no settings
    if not {"pre_bias", "latent_bias"} & file.shapes.keys():
        return None
    shape = file.shapes.get("encoder.weight", ())
    if len(shape) != 2:
        raise CoderError(f"{file.path}: encoder.weight has to be a matrix, and is {list(shape) or 'missing'}")
    n_latents, d_in = shape
    shapes: dict[str, tuple[int, ...]] = {
        "pre_bias": (d_in,),
        "encoder.weight": (n_latents, d_in),
        "latent_bias": (n_latents,),
        "decoder.weight": (d_in, n_latents),
    }
    require(file, shapes)
    function = str(file.extras.get("activation", "ReLU"))
    if function not in ("TopK", "ReLU"):
        raise CoderError(f'{file.path}: activation "{function}" is not known; known are: TopK, ReLU')
    after = str(file.extras.get("activation_state_dict.postact_fn", "ReLU"))
    if after != "ReLU":
        raise CoderError(f'{file.path}: postact_fn "{after}" is not known; known is: ReLU')
    top = function == "TopK"
    k = _k(file, n_latents) if top else 0

    def build(tensors: Tensors) -> SparseWeights:
        from harness.subject.coders.sparse import SparseWeights

        return SparseWeights(
            tensors["encoder.weight"].T.contiguous(),
            tensors["latent_bias"],
            tensors["decoder.weight"].T.contiguous(),
            tensors["pre_bias"],
            "topk" if top else "relu",
            int(tensors["activation_state_dict.k"]) if top and not k else k,
            # these were trained on normalised activations, and the ReLU ones were not
            normalize="layer_norm" if top else "none",
        )

    names = (*shapes, *({"activation_state_dict.k"} & file.shapes.keys()))
    return Recognised(None, names, d_in, d_in, n_latents, build, Claims(str(file.path)), None)


FORMAT = Format("OpenAI", "a .pt file with the tensors pre_bias, latent_bias, encoder.weight and decoder.weight", _read)


def _k(file: TensorFile, n_latents: int) -> int:
    """The number kept, 0 where it is a tensor and read with the others."""
    key = "activation_state_dict.k"
    return 0 if key in file.shapes else min(whole(file.path, file.extras, key), n_latents)
