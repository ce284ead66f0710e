"""A live subject: its coders read anybody's texts as they read a corpus, and its latents can be changed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import numpy as np
from numpy.typing import NDArray

from harness.errors import CoderError, StoreError, SubjectError
from harness.store import Rows, Store, Vocabulary
from harness.subject.coders.protocol import LatentCoder, TokenCoder
from harness.subject.collect import GC_BATCHES
from harness.subject.effect import Change, Effect
from harness.subject.introspection import Asking, Introspection
from harness.subject.plan import CollectionPlan
from harness.subject.worker import Caller, worker
from harness.task import CoderSettings, SubjectSettings
from harness.values import Latent, ReadText, Rise

if TYPE_CHECKING:
    from harness.subject.reading import Reading
    from harness.subject.steer import Steering

__all__ = ["Loaded", "SubjectTexts"]

T = TypeVar("T")


class SubjectTexts:
    """A subject with its coders, which says where a latent is active in texts, and what its direction does.

    Nothing is loaded before it is first asked; that and all asking happens on the torch worker of the subject's device.
    Where all coders read text alone, neither model nor torch is needed.

    Raises:
        UserError: the model, the corpus or a coder cannot be had.
    """

    def __init__(self, subject: SubjectSettings, coders: Sequence[CoderSettings], base: Path = Path()) -> None:
        self._plan = CollectionPlan.of(subject, coders, base)
        self._base = base
        self._loaded: Loaded | None = None
        self._worker = worker(subject.device)

    def identity(self, coder: str) -> dict[str, Any]:
        """A JSON-able value of what decides what a coder's latents do in a text, but for rounding."""
        frame = self._plan.manifest.frame
        kept = next(found for found in self._plan.manifest.coders if found.name == coder)
        settings = next(found for found in self._plan.coders if found.name == coder)
        return {
            "model": frame.model,
            "revision": frame.model_revision,
            "tokenizer": frame.tokenizer,
            "dtype": frame.collection.get("dtype"),
            "context": frame.context,
            "bos": frame.bos,
            # some coders are calibrated on it
            "corpus": frame.corpus,
            "coder": [settings.kind, kept.hookpoint, settings.input, kept.revision],
        }

    @property
    def positions(self) -> int | None:
        """How many positions the model can read, None where its configuration does not tell."""
        config = self._plan.files.config()
        found = config.get("max_position_embeddings") or config.get("n_positions")
        return found if isinstance(found, int) else None

    def check(self, store: Store) -> None:
        """Refuse a store of another model than texts would be read with, or with coders of these names that are others.

        Raises:
            StoreError: its latents are not those of this subject's coders.
        """
        frame, read = store.manifest.frame, self._plan.manifest.frame
        if frame.model_revision is not None and frame.model_revision != read.model_revision:
            raise StoreError(
                f"the store {store.path} was collected from {frame.model} ({frame.model_revision[:12]}), and [subject] "
                f"is {read.model} ({(read.model_revision or '')[:12]}): texts would be read by another model"
            )
        there = {coder.name: coder for coder in store.manifest.coders}
        # a population of random latents has a store of its own
        for coder in (coder for coder in self._plan.manifest.coders if coder.name in there):
            kept = there[coder.name]
            same = kept.revision is None or kept.revision == coder.revision
            if kept.n_latents != coder.n_latents or not same:
                raise StoreError(
                    f"coder.{coder.name}: the store {store.path} has {kept.n_latents} latents of revision "
                    f"{kept.revision}, and this coder has {coder.n_latents} of {coder.revision}: they are not the same"
                )

    async def read(self, latent: Latent, texts: Sequence[str]) -> list[ReadText]:
        """Each text as the subject reads it by itself, cut to the context, with a latent's activations.

        Equal texts in equal order give equal numbers: batches are of these texts alone.

        Raises:
            UserError: the model or a coder cannot be loaded, or an activation is no number.
        """

        return await self.call(lambda loaded, check: loaded.read(latent, texts, check))

    async def effects(
        self,
        latent: Latent,
        prompts: Sequence[str],
        change: Change,
        *,
        nats: float = 1.0,
        tokens: int = 12,
        seed: int = 0,
    ) -> list[Effect]:
        """What adding a latent's direction, or setting the latent to 0, does after each prompt and at each new token.

        It is added as strongly as moves the next token by a mean KL of `nats` over the prompts, or as near as can be.
        Both continuations are of `tokens` tokens at most, drawn with the same noise. Of a prompt longer than the
        context the end is read. Equal arguments give equal effects.

        Raises:
            SubjectError: a prompt has no token, or the context has no room for so many new ones.
            CoderError: the coder has no directions, or no such latent.
        """

        def work(loaded: Loaded, check: Callable[[], None]) -> list[Effect]:
            from harness.subject.changing import changed

            return changed(loaded, latent, prompts, change, nats=nats, tokens=tokens, seed=seed, after=check)

        return await self.call(work) if prompts else []

    async def projected(self, latent: Latent, top: int) -> Rise:
        """The `top` tokens that a latent's direction by itself makes likelier, and less likely, by their logits.

        See `harness.subject.unembed.unembed`.

        Raises:
            CoderError: the coder has no directions, or no such latent.
            SubjectError: the model has no head for them.
        """

        def work(loaded: Loaded, check: Callable[[], None]) -> Rise:
            from harness.subject.unembed import moved_most, unembed

            steering = loaded.steering(latent.coder)
            change = unembed(steering.traced.model, steering.direction(latent.index))
            check()
            return moved_most(change, loaded.vocabulary, top)

        return await self.call(work)

    @property
    def coders(self) -> tuple[str, ...]:
        """The names of its coders."""
        return tuple(coder.name for coder in self._plan.coders)

    async def introspect(self, latent: Latent, asking: Asking, seed: int) -> Introspection:
        """What the subject says of a latent's direction in the place of a word, at each scale.

        Raises:
            CoderError: the coder has no directions, no such latent, or directions that fit no block.
            SubjectError: the prompt has no place for the direction, is too long, or the subject has too few blocks.
        """

        def work(loaded: Loaded, check: Callable[[], None]) -> Introspection:
            from harness.subject.patching import introspect

            return introspect(loaded, latent, asking, seed, check)

        return await self.call(work)

    def steers(self, coder: str) -> bool:
        """Whether a coder's latents have directions to steer the subject with; nothing is loaded to tell."""
        at = [found.name for found in self._plan.coders].index(coder)
        return self._plan.kinds[at].reads == "activations" and self._plan.infos[at].d_decoder is not None

    async def call(self, work: Callable[[Loaded, Callable[[], None]], T]) -> T:
        """What `work` makes of the loaded subject, on the torch worker.

        It is given a function to call after each forward pass, which ends it where nobody waits for it any more.

        Raises:
            UserError: the model or a coder cannot be loaded.
        """

        def job(caller: Caller) -> T:
            if self._loaded is None:
                self._loaded = Loaded.of(self._plan, self._base)
            return work(self._loaded, caller.check)

        return await self._worker.call(job)

    async def aclose(self) -> None:
        """Free what was loaded."""
        if self._loaded is not None:
            with anyio.CancelScope(shield=True):
                await self._worker.call(lambda _: self._free())

    def _free(self) -> None:
        self._loaded = None
        # traces leave cycles behind
        gc.collect()


@dataclass(slots=True, eq=False)
class Loaded:
    """The subject with its coders, used on the worker's thread alone; `reading` is None where all read text alone."""

    plan: CollectionPlan
    coders: dict[str, Any]
    reading: Reading | None
    vocabulary: Vocabulary
    batches: int = 0
    _steerings: dict[str, Steering] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: CollectionPlan, base: Path) -> Loaded:
        coders, reading = plan.load(base)
        if reading is not None:
            reading.calibrate(plan.batches)
        return cls(plan, coders, reading, Vocabulary.from_tokenizer(plan.tokenizer.backend))

    def steering(self, coder: str) -> Steering:
        """The subject to be steered by a coder's latents.

        Raises:
            CoderError: the coder has no decoder, or reads text alone.
            HookpointError: what its hookpoint holds cannot be written back.
        """
        from harness.subject.steer import Steering

        if self.reading is None or coder not in self.reading.coders:
            raise CoderError(f'coder "{coder}" reads text, and has no directions to steer with')
        if coder not in self._steerings:
            point, loaded = self.reading.hookpoints[coder], self.reading.coders[coder]
            self._steerings[coder] = Steering(self.reading.traced, point, loaded, coder)
        return self._steerings[coder]

    def opened(self, text: str) -> list[int]:
        """A text's token ids as the subject reads it, behind a BOS where rows have one."""
        opening = [] if self.plan.tokenizer.bos is None else [self.plan.tokenizer.bos]
        encoded = self.plan.tokenizer.encode([text])
        self._check(encoded)
        return [*opening, *encoded[0]]

    def read(self, latent: Latent, texts: Sequence[str], check: Callable[[], None]) -> list[ReadText]:
        """As `SubjectTexts.read`."""
        opening = [] if self.plan.tokenizer.bos is None else [self.plan.tokenizer.bos]
        room = self.plan.subject.context - len(opening)
        encoded = [ids[:room] for ids in self.plan.tokenizer.encode(list(texts))]
        self._check(encoded)
        pieces = [self.vocabulary.pieces(ids) for ids in encoded]
        rows = [np.array([*opening, *ids], np.uint32) for ids in encoded]
        coder, first = self.coders[latent.coder], len(opening)
        if isinstance(coder, TokenCoder):
            found = _of_text(coder, latent.index, [(*([""] * first), *each) for each in pieces])
            values = [each[first:] for each in found]
        else:
            values = list(self._of_subject(latent, rows, first, check))
        return [ReadText(own, value) for own, value in zip(pieces, values, strict=True)]

    def _of_subject(
        self, latent: Latent, rows: Sequence[NDArray[np.uint32]], first: int, check: Callable[[], None]
    ) -> Iterator[NDArray[np.float32]]:
        """The latent's activations behind the first positions of each row."""
        assert self.reading is not None
        reading = self.reading.of(latent.coder)
        size = self.plan.subject.batch
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            # a row without text has nothing to read
            width = max(max(map(len, part)), first + 1)
            tokens = np.full((len(part), width), self.plan.tokenizer.separator or 0, np.uint32)
            documents = np.full(tokens.shape, -1, np.int32)
            for row, ids in enumerate(part):
                tokens[row, : len(ids)] = ids
                documents[row, first : len(ids)] = row
            found = _of_latent(reading.rows(tokens, documents)[latent.coder], latent.index).reshape(tokens.shape)
            yield from (found[row, first : len(ids)].copy() for row, ids in enumerate(part))
            self.batches += 1
            if self.batches % GC_BATCHES == 0:
                gc.collect()
            check()

    def _check(self, encoded: Sequence[Sequence[int]]) -> None:
        known, most = self.plan.packer.vocabulary, max((max(ids, default=0) for ids in encoded), default=0)
        if known is not None and most >= known:
            raise SubjectError(
                f"subject.model: a text has the token id {most}, beyond the model's vocabulary of {known}: its "
                "tokenizer is another model's"
            )


def _of_text(coder: TokenCoder, latent: int, contexts: Sequence[Sequence[str]]) -> list[NDArray[np.float32]]:
    """A latent's activations in each context, by a coder that reads text."""
    if isinstance(coder, LatentCoder):
        return [coder.strengths(latent, pieces) for pieces in contexts]
    values = _of_latent(coder.encode_pieces(contexts), latent)
    return np.split(values, np.cumsum([len(pieces) for pieces in contexts])[:-1])


def _of_latent(rows: Rows, latent: int) -> NDArray[np.float32]:
    """`[positions]`: one latent's activations, 0 where it is silent."""
    counts = np.diff(rows.indptr)
    mine = np.asarray(rows.latents) == latent
    values = np.zeros(len(counts), np.float32)
    values[np.repeat(np.arange(len(counts)), counts)[mine]] = rows.values[mine]
    return values
