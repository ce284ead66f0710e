"""Interventions on a latent: strengths for target KLs, tokens that rise, continuations (paper, appendix A.7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from harness.examples.cuts import Cut, Cuts
from harness.store.vocabulary import Vocabulary
from harness.subject.calibrate import CalibrationSettings, calibrate
from harness.subject.intervened import Intervened
from harness.subject.steer import Edit, Generation, Steered, Steering, pad_left
from harness.subject.unembed import moved_most, unembed
from harness.task import InterventionSettings
from harness.values import Pair, Rise

__all__ = ["Intervening"]


@dataclass(frozen=True, slots=True)
class Intervening:
    """A steered subject with what turns its tokens into text; for one thread at a time.

    `after` is called after each forward pass and each generated token.
    """

    steering: Steering
    vocabulary: Vocabulary
    settings: InterventionSettings
    after: Callable[[], None] = field(default=lambda: None)

    def intervene(self, latent: int, prompts: Cuts, seed: int) -> list[Intervened]:
        """What a latent does at each target of the settings, in their order; equal arguments give equal results.

        Continuations share their noise: where clean and steered distributions are the same, so are the tokens.

        Raises:
            CoderError: there is no such latent.
            SubjectError: a prompt with its new tokens is longer than the subject's context.
        """
        found = calibrate(
            self.steering,
            pad_left([cut.tokens for cut in prompts.score]),
            [latent],
            CalibrationSettings(targets=self.settings.targets),
            self.after,
        )
        edits = [Edit(latent, one.strength) for one in found]
        rises = self._rises(prompts.explain, edits)
        changes = self._changes(prompts.anywhere, edits)
        projected = self._moved(None, unembed(self.steering.traced.model, self.steering.direction(latent)))
        select, score = (self._pairs(part, edits, seed) for part in (prompts.select, prompts.score))
        return [
            Intervened(one, rises[at], changes[at], projected, select[at], score[at]) for at, one in enumerate(found)
        ]

    def _rises(self, prompts: Sequence[Cut], edits: Sequence[Edit]) -> list[tuple[Rise, ...]]:
        """For each edit, of each prompt the tokens whose probability rose and fell most."""
        clean, steered = self._logits(prompts, edits)
        before = clean.softmax(-1)
        return [
            tuple(self._moved(cut.text, (one[row].softmax(-1) - before[row])) for row, cut in enumerate(prompts))
            for one in steered
        ]

    def _changes(self, prompts: Sequence[Cut], edits: Sequence[Edit]) -> list[Rise]:
        """For each edit, what rose and fell most in the mean logits: TokenChange of Gur-Arieh et al. 2025."""
        if not prompts:
            return [Rise(None, ()) for _ in edits]
        clean, steered = self._logits(prompts, edits)
        return [self._moved(None, (one - clean).mean(0)) for one in steered]

    def _logits(self, prompts: Sequence[Cut], edits: Sequence[Edit]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits after each prompt, `[prompts, vocabulary]`, clean and for each edit."""
        padded = pad_left([cut.tokens for cut in prompts])
        found: list[torch.Tensor] = []
        for edit in (None, *edits):
            found.append(self.steering.logits(padded, [edit] * len(prompts)).cpu())
            self.after()
        return found[0], found[1:]

    def _pairs(self, prompts: Sequence[Cut], edits: Sequence[Edit], seed: int) -> list[tuple[Pair, ...]]:
        """For each edit, each prompt's continuations."""
        if not prompts:
            return [() for _ in edits]
        padded = pad_left([cut.tokens for cut in prompts])
        how = Generation(self.settings.tokens, self.settings.temperature, seed)
        who = [f"{cut.place.context}:{cut.place.start}" for cut in prompts]

        def run(edit: Edit | None) -> list[Steered]:
            given = [edit] * len(prompts)
            return self.steering.generate(padded, given, how, identities=who, after_token=self.after)

        clean = run(None)
        return [
            tuple(
                Pair(cut.text, self._text(cut, one.tokens), self._text(cut, other.tokens), cut.place, cut.quantile)
                for cut, one, other in zip(prompts, clean, run(edit), strict=True)
            )
            for edit in edits
        ]

    def _text(self, cut: Cut, new: Sequence[int]) -> str:
        return "".join(self.vocabulary.pieces(new, cut.tokens))

    def _moved(self, text: str | None, change: torch.Tensor) -> Rise:
        """The tokens that changed most."""
        return moved_most(change, self.vocabulary, self.settings.top, text)
