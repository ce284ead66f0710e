"""Steering: generations and logits of a subject while a latent is added, clamped or scaled at each new token."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch

from harness.errors import CoderError, HookpointError, SubjectError
from harness.store.format import Rows
from harness.subject.hookpoints import Hookpoint
from harness.subject.tracing import Traced, Write

__all__ = [
    "Edit",
    "Generation",
    "Padded",
    "Steered",
    "Steering",
    "choose",
    "ends",
    "gumbel",
    "noise_of",
    "pad_left",
    "shallow",
]


@dataclass(frozen=True, slots=True)
class Edit:
    """What is done with a latent at the last prompt token and at each generated one.

    `add` adds `amount` times the decoder's direction; `clamp` sets the latent to `amount` (0 ablates it) and `scale`
    multiplies it, both leaving what the coder does not explain as it was.
    """

    latent: int
    amount: float
    kind: Literal["add", "clamp", "scale"] = "add"


@dataclass(frozen=True, slots=True)
class Generation:
    """How to generate; the checkpoint's own generation settings decide nothing.

    Sampling is from the full distribution at `temperature`, 0 taking the most probable token. A row's noise depends
    on the seed and on its identity alone.
    """

    tokens: int = 16
    temperature: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Padded:
    """Prompts with padding on the left: ids and 1 for tokens, int64 `[batch, seq]` both."""

    tokens: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class Steered:
    """What a row became: the new token ids, without the token that ended it, and the first step's logits
    `[vocabulary]`, float32."""

    tokens: tuple[int, ...]
    logits: torch.Tensor


class _Coder(Protocol):
    """What steering needs of a coder; `harness.subject.coders.protocol.ActivationCoder` has it."""

    info: Any

    @property
    def decoder(self) -> Any: ...

    def encode(self, activations: torch.Tensor) -> Rows: ...

    def decode(self, rows: Rows, activations: torch.Tensor) -> torch.Tensor: ...


class Steering:
    """A subject and a coder on one of its hookpoints, for one thread at a time.

    Raises:
        CoderError: the coder has no decoder, or does not write to the model.
        HookpointError: there is no such module, or what it holds cannot be written back.
    """

    def __init__(self, traced: Traced, hookpoint: Hookpoint, coder: _Coder, name: str = "coder") -> None:
        if getattr(coder, "decoder", None) is None:
            raise CoderError(
                f'coder "{name}" has no decoder, and steering adds a decoder\'s directions; choose another'
            )
        self.traced = traced
        self.coder = coder
        self.name = name
        self.read = hookpoint
        self.write = coder.info.target or hookpoint
        self._directions = coder.decoder
        self.device = next(traced.model.parameters()).device
        self._check()

    def direction(self, latent: int) -> torch.Tensor:
        """A latent's decoder direction, float32 `[d]`, as the coder publishes it (in float16).

        Raises:
            CoderError: there is no such latent.
        """
        if not 0 <= latent < len(self._directions):
            raise CoderError(
                f'coder "{self.name}": there is no latent {latent}; they are 0 to {len(self._directions) - 1}'
            )
        return torch.from_numpy(np.asarray(self._directions[latent], np.float32)).to(self.device)

    def change(self, edits: Sequence[Edit | None]) -> Write | None:
        """The write that does one edit a row at the last position; None where no row has one."""
        if not any(edits):
            return None
        rows = [row for row, edit in enumerate(edits) if edit]
        directions = torch.stack([self.direction(edit.latent) for edit in edits if edit])

        def change(source: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
            changed = held.clone()
            more = self._more([edit for edit in edits if edit], directions, source[rows, -1])
            changed[rows, -1] = held[rows, -1] + more.to(held.dtype)
            return changed

        return Write(self.write, change, self.read)

    def logits(self, prompts: Padded, edits: Sequence[Edit | None]) -> torch.Tensor:
        """Logits after the last prompt token, `[batch, vocabulary]`, float32.

        Raises:
            SubjectError: a prompt is longer than the subject's context.
        """
        self.check_length(prompts)
        return self.traced.step(prompts.tokens, prompts.mask, write=self.change(edits)).float()

    def generate(
        self,
        prompts: Padded,
        edits: Sequence[Edit | None],
        how: Generation | None = None,
        *,
        identities: Sequence[str] | None = None,
        after_token: Callable[[], None] = lambda: None,
    ) -> list[Steered]:
        """Continue each prompt with its edit, or None for a clean continuation.

        Rows of one identity share their noise, whatever their batch mates: give a clean and an intervened run the
        same ones. They are the row's number where not given. `after_token` is called after each token.

        Raises:
            SubjectError: a prompt with its new tokens is longer than the subject's context.
        """
        from transformers import DynamicCache

        how = how or Generation()
        self.check_length(prompts, how.tokens)
        noise = [noise_of(how.seed, who) for who in identities or [str(row) for row in range(len(edits))]]
        stops = ends(self.traced.model)
        write = self.change(edits)
        cache = DynamicCache(config=self.traced.model.config)  # pyright: ignore[reportArgumentType] - a PreTrainedModel
        tokens, mask = prompts.tokens.to(self.device), prompts.mask.to(self.device)
        begun: torch.Tensor | None = None
        made: list[list[int]] = [[] for _ in edits]
        ended = [False] * len(edits)
        for _ in range(how.tokens):
            logits = self.traced.step(tokens, mask, cache, write=write).float()
            begun = logits if begun is None else begun
            chosen = choose(logits, how.temperature, noise)
            for row, token in enumerate(chosen.tolist()):
                ended[row] = ended[row] or token in stops
                if not ended[row]:
                    made[row].append(token)
            after_token()
            if all(ended):
                break
            tokens = chosen[:, None]
            mask = torch.cat([mask, mask.new_ones(len(edits), 1)], dim=1)
        if begun is None:
            begun = self.logits(prompts, edits)
        return [Steered(tuple(ids), first) for ids, first in zip(made, begun, strict=True)]

    def _more(self, edits: Sequence[Edit], directions: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
        """What is added to each row, float32 `[rows, d]`."""
        amounts = torch.tensor([edit.amount for edit in edits], device=self.device)
        added = amounts[:, None] * directions
        if all(edit.kind == "add" for edit in edits):
            return added
        latents = np.array([edit.latent for edit in edits])
        vectors = read.float()
        was = _values(self.coder.encode(vectors), latents)
        given = np.array([edit.amount for edit in edits], np.float32)
        kinds = np.array([edit.kind for edit in edits])
        wanted = np.where(kinds == "scale", was * given, given).astype(np.float32)
        # as the coder decodes it, so that its normalisation counts; what else it decodes cancels out
        decoded = self.coder.decode(_single(latents, wanted), vectors) - self.coder.decode(
            _single(latents, was), vectors
        )
        plain = torch.from_numpy(kinds == "add").to(self.device)
        return torch.where(plain[:, None], added, decoded.to(self.device))

    def _check(self) -> None:
        """Try a write of nothing on four tokens: what cannot be written back shows here."""
        points = list(dict.fromkeys([self.read, self.write]))
        order = self.traced.order(torch.zeros(1, 4, dtype=torch.int64), points)
        if order[-1] != self.write:
            raise HookpointError(f'coder "{self.name}" writes at "{self.write}", which comes before "{self.read}"')
        seen: list[int] = []

        def nothing(_: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
            seen.append(held.shape[-1] if held.dim() == 3 else 0)
            return held.clone()

        tokens = torch.zeros(1, 4, dtype=torch.int64)
        try:
            self.traced.step(tokens, torch.ones_like(tokens), write=Write(self.write, nothing, self.read))
        except Exception as problem:
            raise HookpointError(f'hookpoint "{self.write}": what it holds cannot be written back') from problem
        if seen[-1] != self._directions.shape[1]:
            raise HookpointError(
                f'hookpoint "{self.write}": what it holds cannot be written back by coder "{self.name}", whose '
                f"directions are {self._directions.shape[1]} wide"
            )

    def check_length(self, prompts: Padded, more: int = 0) -> None:
        config: Any = self.traced.model.config
        most = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        longest = int(prompts.mask.sum(-1).max())
        if isinstance(most, int) and longest + more > most:
            extra = f" and {more} new ones" if more else ""
            raise SubjectError(f"a prompt of {longest} tokens{extra} is more than the subject's {most} positions")


def pad_left(prompts: Sequence[Sequence[int]]) -> Padded:
    """Prompts of unlike lengths, padded on the left.

    Raises:
        SubjectError: there is none, or one is empty.
    """
    if not prompts or not all(prompts):
        raise SubjectError("a prompt has to have at least one token")
    width = max(map(len, prompts))
    tokens = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return Padded(tokens, mask)


def gumbel(size: int, generator: torch.Generator) -> torch.Tensor:
    """Standard Gumbel noise, float32 `[size]`: the argmax of log-probabilities plus it is a sample."""
    uniform = torch.rand(size, generator=generator, dtype=torch.float64).clamp_(1e-300, 1 - 1e-16)
    return (-(-uniform.log()).log()).float()


def shallow(cache: Any) -> Any:
    """A cache that can be added to, which leaves the one given as it is."""
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    return copied


def noise_of(seed: int, identity: str) -> torch.Generator:
    """A row's own source of noise, on the CPU, so that devices agree."""
    found = hashlib.sha256(f"{seed}\n{identity}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(found[:7], "big"))


def choose(logits: torch.Tensor, temperature: float, noise: Sequence[torch.Generator]) -> torch.Tensor:
    """The next token of each row; logits that are no numbers count as impossible, so that nothing crashes."""
    logits = logits.nan_to_num(nan=-torch.inf, posinf=torch.finfo(logits.dtype).max)
    if temperature == 0:
        return logits.argmax(-1)
    drawn = torch.stack([gumbel(logits.shape[-1], one) for one in noise]).to(logits.device)
    return (logits / temperature + drawn).argmax(-1)


def ends(model: Any) -> frozenset[int]:
    """The tokens that end a text."""
    found = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if found is None:
        found = getattr(model.config, "eos_token_id", None)
    return frozenset(found if isinstance(found, list) else [] if found is None else [found])


def _values(rows: Rows, latents: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """How active one latent of each row is, 0 where it is not, float32 `[n]`."""
    found = np.zeros(len(latents), np.float32)
    for row, latent in enumerate(latents):
        part = slice(rows.indptr[row], rows.indptr[row + 1])
        match = np.flatnonzero(np.asarray(rows.latents[part]) == latent)
        if len(match):
            found[row] = rows.values[part][match[0]]
    return found


def _single(latents: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> Rows:
    """Rows of one latent each."""
    return Rows(np.arange(len(latents) + 1), latents.astype(np.int32), values)
