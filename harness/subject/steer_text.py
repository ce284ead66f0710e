"""Steering in text: a subject, prompts, a latent and a strength or a KL in; continuations and logits out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from harness import registry
from harness.errors import CoderError, SubjectError
from harness.subject.calibrate import CalibrationSettings, calibrate
from harness.subject.calibrate_search import Calibration
from harness.subject.claims import check_claims, with_widths
from harness.subject.hookpoints import Hookpoint
from harness.subject.models import find_model, load_model
from harness.subject.packing import SubjectTokenizer, load_tokenizer
from harness.subject.steer import Edit, Generation, Padded, Steering, pad_left
from harness.subject.threads import torch_threads
from harness.subject.tracing import Traced
from harness.task import CoderSettings, SubjectSettings

__all__ = ["Continuation", "Moved", "TextSteering"]


@dataclass(frozen=True, slots=True)
class Moved:
    """A token's probability after the prompt, before and after the edit."""

    token: str
    clean: float
    steered: float


@dataclass(frozen=True, slots=True)
class Continuation:
    """A prompt's clean and steered continuations, and the next token's logits in both, float32 `[vocabulary]`."""

    prompt: str
    clean: str
    steered: str
    clean_logits: torch.Tensor
    steered_logits: torch.Tensor


@dataclass(frozen=True, slots=True)
class TextSteering:
    """A subject with its tokenizer and one coder, loaded to be steered; for one thread at a time."""

    steering: Steering
    tokenizer: SubjectTokenizer
    threads: int | None = None

    @classmethod
    def of(cls, subject: SubjectSettings, coder: CoderSettings, base: Path = Path()) -> TextSteering:
        """Load the model and the coder; paths are relative to `base`. The subject's corpus is not read.

        Raises:
            SubjectError: the model or its tokenizer cannot be had.
            CoderError: the coder cannot be had, contradicts the task or has no decoder.
            HookpointError: there is no such module, or what it holds cannot be written back.
        """
        kind = registry.load("coders", coder.kind)
        if kind.reads != "activations":
            raise CoderError(f'coder "{coder.name}" has no decoder: kind "{coder.kind}" reads text; choose another')
        if coder.missing:
            raise CoderError(f'coder "{coder.name}": {coder.missing}')
        files = find_model(subject.model, subject.revision, base)
        tokenizer = load_tokenizer(files).opened_by_bos(subject.bos)
        (coder,) = with_widths([coder], files)
        (info,) = check_claims(subject, files, [coder], [kind.describe(coder, base)], bos=tokenizer.bos is not None)
        traced = Traced(load_model(files, subject.dtype, subject.device))
        loaded = kind.load(coder, base, subject.device, info)
        with torch_threads(subject.threads):
            steering = Steering(traced, Hookpoint(coder.hookpoint or "", coder.input), loaded, coder.name)
        return cls(steering, tokenizer, subject.threads)

    def calibrate(self, prompts: Sequence[str], latent: int, kl: float, sign: int = 1) -> Calibration:
        """The strength at which the mean KL over the prompts is `kl` nats, and how the search for it ended."""
        with torch_threads(self.threads):
            settings = CalibrationSettings(targets=(kl,), sign=sign)
            return calibrate(self.steering, self._padded(prompts), [latent], settings)[0]

    def steer(
        self,
        prompts: Sequence[str],
        latent: int,
        strength: float,
        kind: Literal["add", "clamp", "scale"] = "add",
        how: Generation | None = None,
    ) -> list[Continuation]:
        """Continue each prompt without and with an edit of the latent, sharing the sampling's noise.

        Raises:
            SubjectError: a prompt has no token, or is longer than the subject's context.
        """
        padded = self._padded(prompts)
        edit = Edit(latent, strength, kind)
        with torch_threads(self.threads):
            clean = self.steering.generate(padded, [None] * len(prompts), how)
            steered = self.steering.generate(padded, [edit] * len(prompts), how)
        return [
            Continuation(prompt, self._text(one.tokens), self._text(other.tokens), one.logits, other.logits)
            for prompt, one, other in zip(prompts, clean, steered, strict=True)
        ]

    def moved(self, found: Continuation, count: int) -> tuple[list[Moved], list[Moved]]:
        """The `count` tokens whose probability rose most, and those whose fell most."""
        clean, steered = found.clean_logits.softmax(-1), found.steered_logits.softmax(-1)
        change = (steered - clean).nan_to_num()
        size = min(count, len(change))
        rose, fell = change.topk(size).indices.tolist(), (-change).topk(size).indices.tolist()

        def told(ids: list[int]) -> Iterator[Moved]:
            for index in ids:
                yield Moved(self._text([index]), float(clean[index]), float(steered[index]))

        return list(told(rose)), list(told(fell))

    def _padded(self, prompts: Sequence[str]) -> Padded:
        opening = [] if self.tokenizer.bos is None else [self.tokenizer.bos]
        for prompt, ids in zip(prompts, self.tokenizer.encode(list(prompts)), strict=True):
            if not ids and not opening:
                raise SubjectError(f'the prompt "{prompt}" has no token; give some text')
        return pad_left([opening + ids for ids in self.tokenizer.encode(list(prompts))])

    def _text(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.backend.decode(list(tokens), skip_special_tokens=False)
