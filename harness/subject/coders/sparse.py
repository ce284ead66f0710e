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

__all__ = ["Gate", "SparseCoder", "SparseWeights"]

# A tile of float32 pre-activations is at most 2,048 x 8,192 x 4 B = 64 MiB.
_TOKENS = 2048
_LATENTS = 8192

Found = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Rows, latents and values of what fires."""


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


class SparseCoder:
    """A sparse autoencoder or transcoder on one device: ReLU, TopK, JumpReLU, gated or group-max."""

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
        self._w_skip = None if weights.w_skip is None else weights.w_skip.to(self.device)
        gate = weights.gate
        self._gate = None if gate is None else Gate(gate.bias.to(self.device), gate.scale.to(self.device))

    @property
    def decoder(self) -> NDArray[Any]:
        """The latents' directions, float16 `[latents, d_out]`."""
        return self._w_dec.to(torch.float16).cpu().numpy()

    @torch.no_grad()
    def encode(self, activations: torch.Tensor) -> Rows:
        """The active latents of each activation `[n, d_in]`, latents ascending within a row, values above zero.

        Where the k-th largest pre-activation is shared by several latents, `topk` keeps those of lower number.
        """
        parts = [self._encode(chunk) for chunk in activations.split(_TOKENS)]
        counts = [np.zeros(1, np.int64), *(counts for counts, _, _ in parts)]
        return Rows(
            np.cumsum(np.concatenate(counts)),
            np.concatenate([latents for _, latents, _ in parts] or [np.empty(0, np.int32)]),
            np.concatenate([values for _, _, values in parts] or [np.empty(0, np.float32)]),
        )

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
        inputs = self._read(activations)
        if self._weights.rescale_output:
            total = self._unnormalized(total, inputs)
        return total if self._w_skip is None else total + inputs @ self._w_skip

    def _read(self, activations: torch.Tensor) -> torch.Tensor:
        """The activations in float32, less their mean where the coder was trained on a centred model."""
        inputs = activations.to(self.device, torch.float32)
        return inputs - inputs.mean(-1, keepdim=True) if self.info.centred else inputs

    def _encode(self, activations: torch.Tensor) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """Counts per row, latents and values of one tile of tokens."""
        inputs = self._normalized(self._read(activations))
        if self._weights.subtract_b_dec:
            inputs = inputs - self._b_dec
        if self._weights.activation == "topk":
            rows, latents, values = self._top(inputs)
        elif self._weights.activation == "groupmax":
            rows, latents, values = self._group_max(inputs)
        else:
            rows, latents, values = self._above(inputs)
        order = torch.argsort(rows * self.info.n_latents + latents)
        counts = torch.bincount(rows, minlength=len(inputs))
        return (
            counts.cpu().numpy(),
            latents[order].to(torch.int32).cpu().numpy(),
            values[order].cpu().numpy(),
        )

    def _tile(self, inputs: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Pre-activations of the latents from `start` to `stop`, `[n, stop - start]`."""
        tile = slice(start, stop)
        if self._gate is not None:
            shared = inputs @ self._w_enc[:, tile]
            found = shared * self._gate.scale[tile] + self._b_enc[tile]
            found = found.where(shared + self._gate.bias[tile] > 0, 0)
        else:
            found = torch.addmm(self._b_enc[tile], inputs, self._w_enc[:, tile])
        return found if self._norms is None else found * self._norms[tile]

    def _tiles(self, inputs: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """All pre-activations tile by tile, with the tile's first latent."""
        for start in range(0, self.info.n_latents, _LATENTS):
            yield start, self._tile(inputs, start, min(start + _LATENTS, self.info.n_latents))

    def _top(self, inputs: torch.Tensor) -> Found:
        """The k largest of each row that are above zero; rows in which the k-th is shared are done again by order."""
        values, latents, shared = self._largest(inputs, ordered=False)
        if bool(shared.any()):
            values[shared], latents[shared], _ = self._largest(inputs[shared], ordered=True)
        return self._positive(values, latents)

    def _largest(self, inputs: torch.Tensor, *, ordered: bool) -> Found:
        """The k largest of each row merged over tiles, their latents, and whether the k-th may be shared.

        `ordered` is slower and settles what is shared: the lower number goes first.
        """
        values = inputs.new_empty(len(inputs), 0)
        latents = torch.empty(len(inputs), 0, dtype=torch.int64, device=self.device)
        shared = torch.zeros(len(inputs), dtype=torch.bool, device=self.device)
        for start, tile in self._tiles(inputs):
            found, where, tied = _best(tile, self._weights.k, ordered=ordered)
            values, latents = torch.cat([values, found], -1), torch.cat([latents, where + start], -1)
            values, chosen, again = _best(values, self._weights.k, ordered=ordered)
            latents = latents.gather(-1, chosen)
            shared |= tied | again
        return values, latents, shared

    def _group_max(self, inputs: torch.Tensor) -> Found:
        """The largest of each of k equal groups of neighbouring latents, where it is above zero."""
        size = self.info.n_latents // self._weights.k
        together = max(1, _LATENTS // size)
        values, latents = [], []
        for start in range(0, self.info.n_latents, together * size):
            tile = self._tile(inputs, start, min(start + together * size, self.info.n_latents))
            best, where = tile.unflatten(-1, (-1, size)).max(-1)
            values.append(best)
            latents.append(where + torch.arange(start, start + tile.shape[1], size, device=self.device))
        return self._positive(torch.cat(values, -1), torch.cat(latents, -1))

    def _above(self, inputs: torch.Tensor) -> Found:
        """Everything above zero and, for JumpReLU, above the latent's threshold."""
        found: list[Found] = []
        for start, tile in self._tiles(inputs):
            kept = tile > 0
            if self._threshold is not None:
                kept &= tile > self._threshold[start : start + _LATENTS]
            rows, columns = kept.nonzero(as_tuple=True)
            found.append((rows, columns + start, tile[rows, columns]))
        rows, latents, values = (torch.cat(part) for part in zip(*found, strict=True))
        return rows, latents, values

    def _positive(self, values: torch.Tensor, latents: torch.Tensor) -> Found:
        kept = values > 0
        rows = torch.arange(len(values), device=self.device)[:, None].expand_as(values)
        return rows[kept], latents[kept], values[kept]

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


def _best(values: torch.Tensor, k: int, *, ordered: bool) -> Found:
    """The k largest of each row `[n, m]`, where they are, and whether a positive k-th equals the one after it.

    With `ordered`, the first of equal values goes first.
    """
    count = min(k, values.shape[1])
    if ordered:
        where = values.argsort(dim=-1, descending=True, stable=True)[:, :count].sort(-1).values
        return values.gather(-1, where), where, torch.zeros(len(values), dtype=torch.bool, device=values.device)
    found, where = values.topk(min(count + 1, values.shape[1]), dim=-1)
    if found.shape[1] > count:
        tied = (found[:, count - 1] == found[:, count]) & (found[:, count] > 0)
    else:
        tied = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    return found[:, :count], where[:, :count], tied


def _moments(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each vector's mean and unbiased standard deviation, `[n, 1]` both, as SAELens and OpenAI's code take them."""
    return inputs.mean(-1, keepdim=True), inputs.std(-1, keepdim=True)


def _rescale(inputs: torch.Tensor) -> torch.Tensor:
    """What brings each vector to the norm sqrt(d), `[n, 1]`."""
    return inputs.shape[-1] ** 0.5 / inputs.norm(dim=-1, keepdim=True)
