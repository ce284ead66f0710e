"""The arithmetic of sparse autoencoders and transcoders, in one canonical form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from harness.store.format import Rows
from harness.subject.coders.protocol import CoderInfo
from harness.subject.coders.tiles import Found, TiledEncoder

__all__ = ["Gate", "SparseCoder", "SparseWeights"]


@dataclass(frozen=True, slots=True)
class Gate:
    """What a gated encoder has beside its shared weights: a latent fires where `x @ w_enc + bias > 0`, and its
    magnitude is `x @ w_enc * scale + b_enc`; both `[latents]`."""

    bias: torch.Tensor
    scale: torch.Tensor


@dataclass(frozen=True, slots=True)
class SparseWeights:
    """A sparse autoencoder's or transcoder's parameters and the choices that its formula leaves open.

    `w_enc` is `[d_in, latents]`, `b_enc` `[latents]`, `w_dec` `[latents, d_out]`, `b_dec` `[d_out]`, all float32;
    `threshold` is `[latents]` for `jumprelu`, `k` the number kept for `topk` and of groups for `groupmax`, which
    keeps the largest of each; `w_skip` is `[d_in, d_out]`.
    """

    w_enc: torch.Tensor
    b_enc: torch.Tensor
    w_dec: torch.Tensor
    b_dec: torch.Tensor
    activation: Literal["relu", "topk", "jumprelu", "groupmax"]
    k: int = 0
    threshold: torch.Tensor | None = None
    subtract_b_dec: bool = True
    normalize: Literal["none", "layer_norm", "constant_norm_rescale"] = "none"
    decoder_norms: bool = False
    """Whether latents are scaled by the norms of their decoder rows, and unscaled when decoding."""
    w_skip: torch.Tensor | None = None
    gate: Gate | None = None
    rescale_output: bool = True
    """Whether what normalisation took from the input is put back into the output: a transcoder's is not."""


class SparseCoder(TiledEncoder):
    """A sparse autoencoder or transcoder on one device: ReLU, TopK, JumpReLU, gated or group-max."""

    def __init__(self, info: CoderInfo, weights: SparseWeights, device: str = "cpu") -> None:
        super().__init__(info, device)
        self._weights = weights
        self._w_enc = weights.w_enc.to(self.device)
        self._b_enc = weights.b_enc.to(self.device)
        self._w_dec = weights.w_dec.to(self.device)
        self._b_dec = weights.b_dec.to(self.device)
        self._norms = self._w_dec.norm(dim=-1) if weights.decoder_norms else None
        self._threshold = None if weights.threshold is None else weights.threshold.to(self.device)
        self._w_skip = None if weights.w_skip is None else weights.w_skip.to(self.device)
        gate = weights.gate
        self._gate = None if gate is None else Gate(gate.bias.to(self.device), gate.scale.to(self.device))

    @property
    def decoder(self) -> NDArray[Any]:
        """The latents' directions, float16 `[latents, d_out]`."""
        return self._w_dec.to(torch.float16).cpu().numpy()

    @torch.no_grad()
    def decode(self, rows: Rows, activations: torch.Tensor) -> torch.Tensor:
        """What the latents of the `activations` say the target was, float32 `[n, d_out]` on this coder's device."""
        latents = torch.from_numpy(rows.latents.astype(np.int64)).to(self.device)
        values = torch.from_numpy(np.asarray(rows.values, np.float32)).to(self.device)
        if self._norms is not None:
            values = values / self._norms[latents]
        offsets = torch.from_numpy(np.asarray(rows.indptr[:-1], np.int64)).to(self.device)
        total = torch.nn.functional.embedding_bag(latents, self._w_dec, offsets, mode="sum", per_sample_weights=values)
        total = total + self._b_dec
        inputs = self._read(activations.to(self.device, torch.float32))
        if self._weights.rescale_output:
            total = self._unnormalized(total, inputs)
        return total if self._w_skip is None else total + inputs @ self._w_skip

    def _read(self, activations: torch.Tensor) -> torch.Tensor:
        """The activations less their mean where the coder was trained on a centred model."""
        return activations - activations.mean(-1, keepdim=True) if self.info.centred else activations

    def _prepared(self, activations: torch.Tensor) -> torch.Tensor:
        inputs = self._normalized(self._read(activations))
        return inputs - self._b_dec if self._weights.subtract_b_dec else inputs

    def _firing(self, inputs: torch.Tensor) -> Found:
        if self._weights.activation == "topk":
            return self._top(inputs, self._weights.k)
        if self._weights.activation == "groupmax":
            return self._group_max(inputs, self._weights.k)
        return self._above(inputs, self._threshold)

    def _tile(self, inputs: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        tile = slice(start, stop)
        if self._gate is not None:
            shared = inputs @ self._w_enc[:, tile]
            found = shared * self._gate.scale[tile] + self._b_enc[tile]
            found = found.where(shared + self._gate.bias[tile] > 0, 0)
        else:
            found = torch.addmm(self._b_enc[tile], inputs, self._w_enc[:, tile])
        return found if self._norms is None else found * self._norms[tile]

    def _normalized(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._weights.normalize == "layer_norm":
            mean, deviation = _moments(inputs)
            return (inputs - mean) / (deviation + 1e-5)
        if self._weights.normalize == "constant_norm_rescale":
            return inputs * _rescale(inputs)
        return inputs

    def _unnormalized(self, outputs: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        if self._weights.normalize == "layer_norm":
            mean, deviation = _moments(inputs)
            return outputs * deviation + mean
        if self._weights.normalize == "constant_norm_rescale":
            return outputs / _rescale(inputs)
        return outputs


def _moments(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each vector's mean and unbiased standard deviation, `[n, 1]` both, as SAELens and OpenAI's code take them."""
    return inputs.mean(-1, keepdim=True), inputs.std(-1, keepdim=True)


def _rescale(inputs: torch.Tensor) -> torch.Tensor:
    """What brings each vector to the norm sqrt(d), `[n, 1]`."""
    return inputs.shape[-1] ** 0.5 / inputs.norm(dim=-1, keepdim=True)
