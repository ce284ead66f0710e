"""A run without its models: the same latents, draws, prompts and units, and nobody asked; what would be sent is noted.

The run's own conductor, explainers and scorers do it, so that whatever they would ask is counted. Remembered replies
are read as a run reads them; in place of all others stands an answer of the right form, which goes no further.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from harness.clients.layer import Layer
from harness.clients.ledger import Amount
from harness.clients.metering import at_most
from harness.clients.prices import Price
from harness.clients.protocol import Client, Reply, Request
from harness.clients.purpose import Purpose, purpose
from harness.clients.vectors import Vectors
from harness.errors import Drained, MissingLogprobs
from harness.examples.draw import LatentExamples
from harness.questions.kinds import (
    Answer,
    Choice,
    Experiment,
    Explain,
    Generate,
    Intruder,
    Judgement,
    Question,
    Rises,
    Simulate,
    Simulation,
    Steered,
    Texts,
)
from harness.questions.replies import as_text
from harness.runs.conductor import Conductor
from harness.runs.intervening import Found, foreseen
from harness.runs.journal import Journal
from harness.runs.journal_rows import Unit
from harness.runs.progress import Silent
from harness.runs.stop import Stop
from harness.runs.units import Plan
from harness.store import CoderReader
from harness.subject.introspection import Asking, Introspection, Said
from harness.task import Task
from harness.values import Explanation, Failure, Latent, ReadText, Rise, TokenLogprob, Usage

if TYPE_CHECKING:
    from harness.subject.effect import Effect
    from harness.subject.texts import SubjectTexts

__all__ = ["Asked", "Book", "Unread", "Written", "rehearse", "rehearsing", "unfinished", "unread"]

# about as long as explanations are, and texts written for one; in place of an explanation where none of the task's was
# written yet
_TYPICAL = "words about one topic, among them names of people and places, most often where a sentence begins anew"
# hex digits of a request's key that the ledger keeps
_KEY = 24
# characters that tell one stand-in from any other: of equal explanations only one is scored
_MARK = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a rehearsal.

    `key` is the beginning of the request's key, as in the ledger. `size` is its body in bytes, `most` an upper bound of
    what sending it once can cost, `shortest` about how many tokens the shortest answer of the right form has. `again`
    requests ask once more because a remembered reply could not be read; of `kept` ones the reply is remembered. `free`
    ones go to a client without a language model.
    """

    key: str
    purpose: Purpose
    model: str
    size: int
    most: Amount
    max_tokens: int
    shortest: int
    again: bool
    kept: bool
    free: bool


@dataclass(frozen=True, slots=True)
class Written:
    """What is known of an arm's explanations: some of their texts, and the share of those that failed, in [0, 1]."""

    texts: tuple[str, ...] = ()
    failed: float = 0.0


@dataclass
class Book:
    """What a rehearsal notes: each request once, by its whole key.

    `replies` gives remembered replies, `written` is by the arms' digests, and `lacking` has the keys' beginnings of
    probes that were answered without what they asked for. `out` has the whole keys of requests that are out by batch:
    they are charged already, as if they were remembered.
    """

    replies: Callable[[str], Reply | None]
    written: dict[str, Written] = field(default_factory=dict)
    lacking: set[str] = field(default_factory=set)
    out: set[str] = field(default_factory=set)
    asked: dict[str, Asked] = field(default_factory=dict)
    questions: set[tuple[str, Purpose, str, int]] = field(default_factory=set)


def rehearsing(client: Client, price: Price | None, book: Book) -> Client:
    """The client with a book in place of its provider."""
    return _Rehearsing(client, price, book)


def unread(plan: Plan) -> None:
    """From now on no text is read: every one is silent to a plan's explainers and scorers."""
    if plan.subject is None:
        return
    using = [one for one in plan.explainers.values() if one.uses_subject or one.needs_subject]
    for one in (*using, *(one for one in plan.scorers.values() if one.needs_subject)):
        one.bind(_Unasked(plan.subject))


async def rehearse(
    task: Task,
    plan: Plan,
    coders: Mapping[str, CoderReader],
    latents: Mapping[str, Sequence[int]],
    only: Collection[Latent],
    journal: Journal | None,
) -> None:
    """Do what a run would do for some of its latents; units that are in the journal are left as they are.

    Without a journal all is done from the start.

    Raises:
        UserError: a prompt fails on a question.
    """
    conductor = _Rehearsal(task, plan, _dry(journal), coders, latents, Silent(), Stop(), only=only)
    await conductor.run()


async def unfinished(
    task: Task,
    plan: Plan,
    coders: Mapping[str, CoderReader],
    latents: Mapping[str, Sequence[int]],
    journal: Journal | None,
) -> list[Latent]:
    """The latents that a run would still have to work on, in its order; found by their units alone."""
    conductor = _Survey(task, plan, _dry(journal), coders, latents, Silent(), Stop())
    await conductor.run()
    everyone = [Latent(coder, index) for coder, indexes in latents.items() for index in indexes]
    return [latent for latent in everyone if latent in conductor.found]


class Unread:
    """In place of a subject, which is not loaded: every text is silent."""

    async def read(self, latent: Latent, texts: Sequence[str]) -> list[ReadText]:  # noqa: ARG002 - a TextReader's shape
        return [ReadText((), np.zeros(0, np.float32)) for _ in texts]


class _Unasked(Unread):
    """In place of a subject that more is asked of than to read."""

    def __init__(self, subject: SubjectTexts) -> None:
        self.steers = subject.steers
        self.coders = subject.coders

    async def effects(self, latent: Latent, prompts: Sequence[str], change: str, **how: Any) -> list[Effect]:  # noqa: ARG002 - as a subject's
        return []

    async def projected(self, latent: Latent, top: int) -> Rise:  # noqa: ARG002 - as a subject's
        # tokens about as long as they are
        return Rise(None, ((" token", 1.0),) * top, ((" token", -1.0),) * top)

    async def introspect(self, latent: Latent, asking: Asking, seed: int) -> Introspection:  # noqa: ARG002 - as a subject's
        # no two alike: of equal explanations only one is scored
        said = Said(asking.scales[0], 0.0, 0.0, f"{latent.coder} {latent.index} {_TYPICAL}")
        return Introspection((said,), 0)


class _Rehearsing(Layer):
    """Notes requests; a client without a language model answers itself."""

    def __init__(self, client: Client, price: Price | None, book: Book) -> None:
        super().__init__(client)
        self._price = price
        self._book = book

    async def generate(self, request: Request) -> Reply:
        """The remembered reply, else one of the right form.

        Raises:
            MissingLogprobs: it is a probe, and was in vain before.
        """
        wire = self.wire(request)
        key = wire.key(request.sample)
        free = self.capabilities.model_free
        kept = None if free else self._book.replies(key)
        stand_in = self._stand_in(request, key)
        if key not in self._book.asked:
            self._book.asked[key] = Asked(
                key[:_KEY],
                purpose(),
                self.name,
                len(wire.body),
                at_most(wire, request, self._price),
                request.max_tokens,
                max(1, _length(stand_in) // 4),
                self._again(request),
                kept is not None or key in self._book.out,
                free,
            )
        if key[:_KEY] in self._book.lacking and kept is None:
            raise MissingLogprobs("an earlier probe was answered without logprobs", model=self.name)
        if free:
            return await self._client.generate(request)
        # about what it would come to: agents keep within a budget
        usage = Usage(input=len(wire.body) // 4, output=max(1, _length(stand_in) // 4), requests=1)
        return kept or replace(stand_in, usage=usage)

    def _again(self, request: Request) -> bool:
        """Whether the same question was asked before: then its first reply could not be read."""
        if request.question is None:
            return False
        mark = (self.name, purpose(), request.question.digest(), request.sample)
        known = mark in self._book.questions
        self._book.questions.add(mark)
        return known

    def _stand_in(self, request: Request, key: str) -> Reply:
        if request.texts is not None:
            return Reply("", "stop", Usage(), vectors=Vectors.of([[1.0]] * len(request.texts)))
        if request.continuation is not None:
            return Reply(request.continuation, "stop", Usage(), [TokenLogprob(request.continuation, -1.0)])
        if request.question is None:
            return Reply("1", "stop", Usage(), [TokenLogprob("1", 0.0)])
        if isinstance(request.question, Explain | Rises):
            return self._explanation(request.question, key)
        if isinstance(request.question, Experiment):
            text, calls = request.question.usual(
                _words(key, self._book.written.get(purpose().arm, Written()), Random(key))
            )
            return Reply(text, "calls" if calls else "stop", Usage(), calls=calls)
        if isinstance(request.question, Simulate):
            return _said(Simulation((0.0,) * len(request.question.passage.tokens)), request.question)
        if isinstance(request.question, Intruder | Steered):
            return _said(Choice(1), request.question)
        if isinstance(request.question, Generate):
            return _said(Texts((_TYPICAL,) * request.question.count), request.question)
        labels = (0,) * len(request.question.passages)
        return _said(Judgement(labels, (None,) * len(labels)), request.question)

    def _explanation(self, question: Explain | Rises, key: str) -> Reply:
        """One as long as those that the arm's explainer wrote, or none, as often as that failed."""
        written = self._book.written.get(purpose().arm, Written())
        chance = Random(key)
        if chance.random() < written.failed:
            return Reply("", "refusal", Usage())
        return _said(Explanation(_words(key, written, chance)), question)


def _words(key: str, written: Written, chance: Random) -> str:
    """Words as long as those of an explanation that the arm's explainer wrote, and like no others."""
    text = chance.choice(written.texts or (_TYPICAL,))
    return key[:_MARK] + text[_MARK:]


def _length(reply: Reply) -> int:
    """How many characters a model writes for it."""
    return len(reply.text) + sum(len(call.name) + len(call.arguments) for call in reply.calls)


def _said(answer: Answer, question: Question) -> Reply:
    return Reply(as_text(answer, question), "stop", Usage())


class _DryUnits:
    """The units of a journal, and over them those of a rehearsal, which are written nowhere."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._made: dict[str, Unit] = {}

    def unit(self, key: str) -> Unit | None:
        made = self._made.get(key)
        return self._journal.unit(key) if made is None and self._journal is not None else made

    def scan(self, many: int, arms: Sequence[str], *, whole: bool) -> Iterator[list[Any]]:
        """Those of the journal: it is looked at before anything is rehearsed."""
        return iter(()) if self._journal is None else self._journal.scan(many, arms, whole=whole)

    async def finish(self, unit: Unit) -> None:
        self._made[unit.key] = unit

    async def forget(self, keys: Sequence[str]) -> None:
        """Nothing is forgotten."""


def _dry(journal: Journal | None) -> Journal:
    # of a journal's methods a conductor uses those four
    return cast(Journal, _DryUnits(journal))


@dataclass
class _Rehearsal(Conductor):
    """Works on some latents; those that come next in the cycle of shuffled explanations are explained, too."""

    only: Collection[Latent] = ()
    _examples: dict[Latent, LatentExamples | Failure] = field(default_factory=dict)

    async def _latent(self, latent: Latent) -> None:
        if latent in self.only:
            await super()._latent(latent)

    def _draw(self, latent: Latent) -> LatentExamples | Failure:
        if latent not in self._examples:
            self._examples[latent] = super()._draw(latent)
        return self._examples[latent]

    async def _intervene(self, latent: Latent) -> Found:
        return foreseen(self.task, self.coders, latent)


@dataclass
class _Survey(Conductor):
    """Finds the latents that need examples: all others are done."""

    found: set[Latent] = field(default_factory=set)

    async def _latent(self, latent: Latent) -> None:
        try:
            await super()._latent(latent)
        except Drained:
            self.found.add(latent)

    def _draw(self, latent: Latent) -> LatentExamples | Failure:  # noqa: ARG002 - see Conductor
        raise Drained("a survey draws no examples")

    async def _intervene(self, latent: Latent) -> Found:  # noqa: ARG002 - see Conductor
        raise Drained("a survey changes no latent")
