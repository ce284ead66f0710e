"""The arithmetic of sparse autoencoders: encoding in tiles, so that `[tokens, latents]` never exists as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from harness.store.format import Rows
from harness.subject.coders.protocol import CoderInfo

__all__ = ["SparseCoder", "SparseWeights"]

# A tile of float32 pre-activations is at most 2,048 x 8,192 x 4 B = 64 MiB.
_TOKENS = 2048
_LATENTS = 8192


@dataclass(frozen=True, slots=True)
class SparseWeights:
    """A sparse autoencoder's parameters and the choices that its formula leaves open.

    `w_enc` is `[d, latents]`, `b_enc` `[latents]`, `w_dec` `[latents, d]`, `b_dec` `[d]`, all float32; `threshold`
    is `[latents]` for `jumprelu`, and `k` the number kept for `topk`.
    """

    w_enc: torch.Tensor
    b_enc: torch.Tensor
    w_dec: torch.Tensor
    b_dec: torch.Tensor
    activation: Literal["relu", "topk", "jumprelu"]
    k: int = 0
    threshold: torch.Tensor | None = None
    subtract_b_dec: bool = True
    normalize: Literal["none", "layer_norm", "constant_norm_rescale"] = "none"
    decoder_norms: bool = False
    """Whether latents are scaled by the norms of their decoder rows, and unscaled when decoding."""


class SparseCoder:
    """A sparse autoencoder on one device: ReLU, TopK or JumpReLU."""

    def __init__(self, info: CoderInfo, weights: SparseWeights, device: str = "cpu") -> None:
        self.info = info
        self.device = torch.device(device)
        self._weights = weights
        self._w_enc = weights.w_enc.to(self.device)
        self._b_enc = weights.b_enc.to(self.device)
        self._w_dec = weights.w_dec.to(self.device)
        self._b_dec = weights.b_dec.to(self.device)
        self._norms = self._w_dec.norm(dim=-1) if weights.decoder_norms else None
        self._threshold = None if weights.threshold is None else weights.threshold.to(self.device)

    @property
    def decoder(self) -> NDArray[Any]:
        """The latents' directions, float16 `[latents, d]`."""
        return self._w_dec.to(torch.float16).cpu().numpy()

    @torch.no_grad()
    def encode(self, activations: torch.Tensor) -> Rows:
        """The active latents of each activation `[n, d]`, latents ascending within a row, values above zero."""
        parts = [self._encode(chunk) for chunk in activations.split(_TOKENS)]
        counts = [np.zeros(1, np.int64), *(counts for counts, _, _ in parts)]
        return Rows(
            np.cumsum(np.concatenate(counts)),
            np.concatenate([latents for _, latents, _ in parts] or [np.empty(0, np.int32)]),
            np.concatenate([values for _, _, values in parts] or [np.empty(0, np.float32)]),
        )

    @torch.no_grad()
    def decode(self, rows: Rows, activations: torch.Tensor) -> torch.Tensor:
        """What the latents say the `activations` were, float32 `[n, d]` on this coder's device."""
        latents = torch.from_numpy(rows.latents.astype(np.int64)).to(self.device)
        values = torch.from_numpy(np.asarray(rows.values, np.float32)).to(self.device)
        if self._norms is not None:
            values = values / self._norms[latents]
        offsets = torch.from_numpy(np.asarray(rows.indptr[:-1], np.int64)).to(self.device)
        total = torch.nn.functional.embedding_bag(latents, self._w_dec, offsets, mode="sum", per_sample_weights=values)
        return self._unnormalized(total + self._b_dec, activations.to(self.device, torch.float32))

    def _encode(self, activations: torch.Tensor) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """Counts per row, latents and values of one tile of tokens."""
        inputs = self._normalized(activations.to(self.device, torch.float32))
        if self._weights.subtract_b_dec:
            inputs = inputs - self._b_dec
        if self._weights.activation == "topk":
            rows, latents, values = self._top(inputs)
        else:
            rows, latents, values = self._above(inputs)
        order = torch.argsort(rows * self.info.n_latents + latents)
        counts = torch.bincount(rows, minlength=len(inputs))
        return (
            counts.cpu().numpy(),
            latents[order].to(torch.int32).cpu().numpy(),
            values[order].cpu().numpy(),
        )

    def _tiles(self, inputs: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """Pre-activations `[n, latents of a tile]` and the tile's first latent."""
        for start in range(0, self.info.n_latents, _LATENTS):
            tile = slice(start, start + _LATENTS)
            found = torch.addmm(self._b_enc[tile], inputs, self._w_enc[:, tile])
            yield start, found if self._norms is None else found * self._norms[tile]

    def _top(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The k largest of each row, kept across tiles; then those above zero."""
        values = latents = None
        for start, tile in self._tiles(inputs):
            best, where = tile.topk(min(self._weights.k, tile.shape[1]), dim=-1, sorted=False)
            where = where + start
            if values is not None and latents is not None:
                best, where = torch.cat([values, best], -1), torch.cat([latents, where], -1)
                best, chosen = best.topk(min(self._weights.k, best.shape[1]), dim=-1, sorted=False)
                where = where.gather(-1, chosen)
            values, latents = best, where
        assert values is not None
        assert latents is not None
        kept = values > 0
        rows = torch.arange(len(inputs), device=self.device)[:, None].expand_as(values)
        return rows[kept], latents[kept], values[kept]

    def _above(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Everything above zero and, for JumpReLU, above the latent's threshold."""
        found: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        for start, tile in self._tiles(inputs):
            kept = tile > 0
            if self._threshold is not None:
                kept &= tile > self._threshold[start : start + _LATENTS]
            rows, columns = kept.nonzero(as_tuple=True)
            found.append((rows, columns + start, tile[rows, columns]))
        rows, latents, values = (torch.cat(part) for part in zip(*found, strict=True))
        return rows, latents, values

    def _normalized(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._weights.normalize == "layer_norm":
            mean, deviation = _moments(inputs)
            return (inputs - mean) / deviation
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
    """Each vector's mean and unbiased standard deviation plus 1e-5, `[n, 1]` both, as SAELens has it."""
    return inputs.mean(-1, keepdim=True), inputs.std(-1, keepdim=True) + 1e-5


def _rescale(inputs: torch.Tensor) -> torch.Tensor:
    """What brings each vector to the norm sqrt(d), `[n, 1]`."""
    return inputs.shape[-1] ** 0.5 / inputs.norm(dim=-1, keepdim=True)
