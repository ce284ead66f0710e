"""EleutherAI's sparsify: `cfg.json` with k and expansion_factor, `sae.safetensors` with both matrices [latents, d]."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import CoderError
from harness.subject.coders.files import ConfigFile, TensorFile
from harness.subject.coders.formats import Format, Recognised, Tensors, require, whole
from harness.subject.coders.protocol import Claims

if TYPE_CHECKING:
    from harness.subject.coders.sparse import SparseWeights

__all__ = ["FORMAT"]

_MODULE = re.compile(r"^[a-z_]+(\.[a-z_]+)*\.\d+(\.[a-z_]+)*$")


def _read(file: TensorFile, configs: tuple[ConfigFile, ...]) -> Recognised | None:
    found = next((config for config in configs if _is_config(config)), None)
    if found is None or not {"encoder.weight", "W_dec"} & file.shapes.keys():
        return None
    path, raw = found.path, found.value
    d_in, k = whole(path, raw, "d_in"), whole(path, raw, "k")
    activation = str(raw.get("activation", "topk"))
    if activation not in ("topk", "groupmax"):
        raise CoderError(f'{path}: activation "{activation}" is not known; known are: topk, groupmax')
    if raw.get("signed"):
        raise CoderError(f"{path}: signed is not supported: latents below zero would be lost")
    # num_latents is 0 where expansion_factor counts: the shape tells in any case
    n_latents = file.shapes.get("encoder.weight", file.shapes.get("W_dec", (0,)))[0]
    if raw.get("num_latents") and raw["num_latents"] != n_latents:
        raise CoderError(f"{path}: num_latents is {raw['num_latents']}, and {file.path} has {n_latents} latents")
    if activation == "groupmax" and n_latents % k:
        raise CoderError(f"{path}: k ({k}) groups of equal size cannot be made of {n_latents} latents")
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.weight": (n_latents, d_in),
        "encoder.bias": (n_latents,),
        "W_dec": (n_latents, d_in),
        "b_dec": (d_in,),
    }
    if raw.get("skip_connection") or "W_skip" in file.shapes:
        shapes["W_skip"] = (d_in, d_in)
    require(file, shapes, f"{path.name} (d_in)")
    transcoder = bool(raw.get("transcode", False))

    def build(tensors: Tensors) -> SparseWeights:
        from harness.subject.coders.sparse import SparseWeights

        skip = tensors.get("W_skip")
        return SparseWeights(
            tensors["encoder.weight"].T.contiguous(),
            tensors["encoder.bias"],
            tensors["W_dec"],
            tensors["b_dec"],
            "groupmax" if activation == "groupmax" else "topk",
            min(k, n_latents),
            subtract_b_dec=not transcoder,
            w_skip=None if skip is None else skip.T.contiguous(),
        )

    claims = _claims(path, transcoder=transcoder)
    return Recognised(path, tuple(shapes), d_in, d_in, n_latents, build, claims, transcoder)


def _claims(path: Path, *, transcoder: bool) -> Claims:
    """The library names a coder's folder after its module ("layers.5.mlp"), and writes the name nowhere else."""
    module = path.parent.name if _MODULE.match(path.parent.name) else None
    if module is None or not transcoder:
        return Claims(str(path), hook=module)
    return Claims(str(path), hook=f"{module}.input", target=f"{module}.output")


def _is_config(config: ConfigFile) -> bool:
    raw = config.value
    return "d_in" in raw and "d_sae" not in raw and ("expansion_factor" in raw or "num_latents" in raw)


FORMAT = Format("sparsify", "settings with d_in, k and expansion_factor, tensors encoder.weight and W_dec", _read)
