"""Gemma Scope's `params.npz` and Gemma Scope 2's `params.safetensors`: JumpReLU with a vector of thresholds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.errors import CoderError
from harness.subject.coders.files import ConfigFile, TensorFile
from harness.subject.coders.formats import Format, Recognised, Tensors, has_settings, require
from harness.subject.coders.protocol import Claims, Published

if TYPE_CHECKING:
    from harness.subject.coders.sparse import SparseWeights

__all__ = ["FORMAT"]

_SKIP = "affine_skip_connection"


def _read(file: TensorFile, configs: tuple[ConfigFile, ...]) -> Recognised | None:
    config = next((one for one in configs if "hf_hook_point_in" in one.value), None)
    if config is None and has_settings(file, configs):
        return None
    lower = "w_enc" in file.shapes
    w_enc, w_dec = ("w_enc", "w_dec") if lower else ("W_enc", "W_dec")
    if not {w_enc, "threshold"} <= file.shapes.keys() or len(file.shapes[w_enc]) != 2:
        return None
    if len(file.shapes["threshold"]) != 1 or len(file.shapes) > 6:
        return None
    if len(file.shapes.get(w_dec, ())) == 3:
        raise CoderError(
            f"{file.path}: {w_dec} {list(file.shapes[w_dec])} is a cross-layer transcoder's: not supported"
        )
    d_in, n_latents = file.shapes[w_enc]
    d_out = file.shapes[w_dec][1] if len(file.shapes.get(w_dec, ())) == 2 else d_in
    shapes: dict[str, tuple[int, ...]] = {
        w_enc: (d_in, n_latents),
        w_dec: (n_latents, d_out),
        "b_enc": (n_latents,),
        "b_dec": (d_out,),
        "threshold": (n_latents,),
    }
    if _SKIP in file.shapes:
        shapes[_SKIP] = (d_in, d_out)
    require(file, shapes)

    def build(tensors: Tensors) -> SparseWeights:
        from harness.subject.coders.sparse import SparseWeights

        return SparseWeights(
            tensors[w_enc],
            tensors["b_enc"],
            tensors[w_dec],
            tensors["b_dec"],
            "jumprelu",
            threshold=tensors["threshold"],
            subtract_b_dec=False,
            w_skip=tensors.get(_SKIP),
        )

    claims = _claims(file, config)
    transcoder = True if claims.target or _SKIP in shapes else False if config else None
    path = config.path if config else None
    return Recognised(path, tuple(shapes), d_in, d_out, n_latents, build, claims, transcoder)


FORMAT = Format(
    "Gemma Scope", "tensors W_enc, W_dec, b_enc, b_dec and threshold, without settings or with hf_hook_point_in", _read
)


def _claims(file: TensorFile, config: ConfigFile | None) -> Claims:
    # nothing but the folder's name tells the first version's mean number of active latents
    named = re.search(r"average_l0_(\d+)", str(file.path))
    l0 = float(named[1]) if named else None
    if config is None:
        return Claims(str(file.path), published=Published(l0))
    raw = config.value
    told = raw.get("l0")
    return Claims(
        str(config.path),
        model=_text(raw.get("model_name")),
        hook=_text(raw.get("hf_hook_point_in")),
        target=_text(raw.get("hf_hook_point_out")),
        published=Published(float(told) if isinstance(told, (int, float)) else l0),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
