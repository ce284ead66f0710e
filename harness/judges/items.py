"""Planted items: windows of the shipped text under explanations of which it is known where they hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from harness import resources, rules
from harness.errors import CoderError
from harness.rules.concepts import Concept
from harness.rules.rule import Rule
from harness.store import Vocabulary
from harness.values import Example, Explanation, Latent, Passage, Place, ScoredSet, digest, seed_of

__all__ = ["GROUPS", "KINDS", "Group", "Kind", "PlantedSet", "planted_sets"]

# the scorers whose judges can be qualified
Kind = Literal["detection", "fuzzing"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Group = Literal["true", "near miss", "wrong"]
Bools = NDArray[np.bool_]

# sets of each group for one scorer; of two scorers' sets of ten windows come 400 items
GROUPS: Final[dict[Group, int]] = {"true": 10, "near miss": 6, "wrong": 4}
WINDOW: Final = 32
HALF: Final = 5  # windows of a set that the concept activates, and as many in which it is silent
HOLDING: Final = 2  # of these, windows in which an untrue explanation holds none the less
_TRIES: Final = 8  # wrong explanations tried before another concept is taken


@dataclass(frozen=True, slots=True, eq=False)
class PlantedSet:
    """Ten windows under one explanation: what a scorer is asked at once.

    `concept` fires in one half of the windows, `told` is the concept whose sentence the explanation is: the same in the
    group `true`, its nearest sibling in `near miss`, an unlike one in `wrong`. `holds` says on which tokens `told`
    fires, `[examples, positions]`.
    """

    group: Group
    concept: str
    told: str
    explanation: Explanation
    examples: ScoredSet
    holds: Bools

    def right(self, passages: Sequence[Passage]) -> Bools:
        """The right verdicts by the explanation that is given, `[examples]`, on the windows as a scorer shows them.

        Where tokens are marked it has to hold on all of them, else anywhere in the window.
        """
        return np.array(
            [
                bool(holds[list(passage.marks)].all()) if passage.marks else bool(holds.any())
                for holds, passage in zip(self.holds, passages, strict=True)
            ]
        )

    def identity(self) -> list[object]:
        """A JSON-able value that tells this set from any other."""
        windows = [[e.passage.identity(), e.activating] for e in self.examples.examples]
        return [self.group, self.explanation.identity(), windows]


@lru_cache(maxsize=4)
def planted_sets(seed: int, scorer: Kind) -> tuple[PlantedSet, ...]:
    """The sets that one kind of scorer is asked about, the same for every judge: equal arguments give equal sets.

    Concepts are taken from every kind in turn. A window is only taken where the concepts in question can be told from
    its own tokens: the rule fires on the same tokens without what stands before the window, and no stray firing, of
    which the sentence says nothing, is in it.
    """
    world = _world()
    chance = _chance(seed, scorer, "order")
    slots = [group for group, count in GROUPS.items() for _ in range(count)]
    slots = [slots[at] for at in chance.permutation(len(slots))]
    found: list[PlantedSet] = []
    for concept in _in_turns(world.concepts, chance):
        made = _set(world, concept, slots[len(found)], _chance(seed, scorer, concept.name))
        if made is not None:
            found.append(made)
        if len(found) == len(slots):
            return tuple(found)
    raise CoderError(f"the shipped text has windows for {len(found)} of {len(slots)} planted sets")


class _Texts:
    """Documents as token strings: the source of passages."""

    def __init__(self, ids: Sequence[Sequence[int]], vocabulary: Vocabulary) -> None:
        self.documents = [vocabulary.pieces(document) for document in ids]
        counts = np.bincount(np.concatenate([np.asarray(document, np.int64) for document in ids]))
        self._log_counts = [np.log(counts[np.asarray(document, np.int64)]) for document in ids]

    def pieces(self, context: int, start: int, stop: int) -> tuple[str, ...]:
        return self.documents[context][start:stop]

    def log_counts(self, context: int, start: int, stop: int) -> NDArray[np.float64]:
        return self._log_counts[context][start:stop]


@dataclass(frozen=True, slots=True, eq=False)
class _Firing:
    """Where a concept fires, window by window: `strengths` and `plain` (by its sentence) `[windows, positions]`."""

    plain: Bools
    strengths: NDArray[np.float32]

    @property
    def active(self) -> Bools:
        return np.logical_or.reduce(self.plain, axis=1)


class _World:
    """The shipped text in windows, and where its concepts fire in them."""

    def __init__(self) -> None:
        from tokenizers import Tokenizer

        path = resources.fixture("text", "heldout.jsonl")
        content = path.read_bytes()
        tokenizer = Tokenizer.from_file(str(resources.fixture("subject", "tokenizer.json")))
        ids = [tokenizer.encode(json.loads(line)["text"]).ids for line in content.splitlines()]
        loaded = rules.load_concepts(resources.fixture("concepts.json"))
        self.concepts = loaded.concepts
        self.by_name = {concept.name: concept for concept in loaded.concepts}
        self.index = {concept.name: at for at, concept in enumerate(loaded.concepts)}
        self.texts = _Texts(ids, Vocabulary.from_tokenizer(tokenizer))
        self.id = digest([content.decode(), loaded.revision])[:16]
        self._firings: dict[str, _Firing] = {}

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Document and first position of each whole window, `[windows, 2]`."""
        return np.array(
            [
                (number, start)
                for number, pieces in enumerate(self.texts.documents)
                for start in range(0, len(pieces) - WINDOW + 1, WINDOW)
            ]
        )

    @cached_property
    def _prepared(self) -> list[rules.Text]:
        return [rules.Text(pieces) for pieces in self.texts.documents]

    def firing(self, concept: Concept) -> _Firing:
        """Where a concept fires."""
        if concept.name not in self._firings:
            plain = np.stack(list(self._windows(_plain(concept)))) > 0
            self._firings[concept.name] = _Firing(plain, np.stack(list(self._windows(concept.parsed))))
        return self._firings[concept.name]

    def clear(self, concept: Concept, window: int) -> bool:
        """Whether a window's own tokens tell where the concept fires in it, with no stray firing."""
        found = self.firing(concept)
        plain = found.plain[window]
        alone = _plain(concept).fires(self.passage(window).tokens)
        return bool((plain == (found.strengths[window] > 0)).all() and (plain == alone).all())

    def passage(self, window: int) -> Passage:
        """A window as a passage."""
        document, start = (int(part) for part in self.places[window])
        tokens = self.texts.pieces(document, start, start + WINDOW)
        return Passage(tokens, place=Place(self.id, document, start), source=self.texts)

    def _windows(self, rule: Rule) -> Iterator[NDArray[np.float32]]:
        for text in self._prepared:
            strengths = rule.strengths(text)
            whole = len(strengths) // WINDOW
            yield from strengths[: whole * WINDOW].reshape(whole, WINDOW)


@lru_cache(maxsize=1)
def _world() -> _World:
    return _World()


@lru_cache(maxsize=256)
def _parsed(data: str) -> Rule:
    return rules.parse(json.loads(data))


def _plain(concept: Concept) -> Rule:
    """The rule that the sentence tells: without strengths and strays."""
    return _parsed(json.dumps(concept.rule["rule"] if concept.rule["kind"] == "graded" else concept.rule))


def _chance(*parts: str | int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed_of("planted items", *parts)))


def _in_turns(concepts: Sequence[Concept], chance: np.random.Generator) -> Iterator[Concept]:
    """All concepts in a random order, one of each kind after the other."""
    kinds: dict[str, list[Concept]] = {}
    for at in chance.permutation(len(concepts)):
        kinds.setdefault(concepts[at].kind, []).append(concepts[at])
    for turn in range(max(map(len, kinds.values()))):
        yield from (members[turn] for members in kinds.values() if turn < len(members))


def _set(world: _World, concept: Concept, group: Group, chance: np.random.Generator) -> PlantedSet | None:
    """A set of a group for a concept, None where the text has too few windows for it."""
    for told in _told(world, concept, group, chance):
        fires, holds = world.firing(concept).active, world.firing(told).active
        if group == "true":
            wanted = [(fires, HALF), (~fires, HALF)]
        else:
            wanted = [(fires & ~holds, HALF), (~fires & holds, HOLDING), (~fires & ~holds, HALF - HOLDING)]
        drawn = [_draw(world, (concept, told), mask, count, chance) for mask, count in wanted]
        if all(len(windows) == count for windows, (_, count) in zip(drawn, wanted, strict=True)):
            windows = [window for some in drawn for window in some]
            order = chance.permutation(len(windows))
            return _made(world, group, concept, told, [windows[at] for at in order])
    return None


def _told(world: _World, concept: Concept, group: Group, chance: np.random.Generator) -> list[Concept]:
    """The concepts whose sentences may be the explanation."""
    if group == "true":
        return [concept]
    if group == "near miss":
        return [world.by_name[name] for name in concept.siblings[:1]]
    unlike = [
        other
        for other in world.concepts
        if other.kind != concept.kind and concept.name not in other.siblings and other.name not in concept.siblings
    ]
    return [unlike[at] for at in chance.permutation(len(unlike))[:_TRIES]]


def _draw(
    world: _World, concepts: Sequence[Concept], mask: Bools, count: int, chance: np.random.Generator
) -> list[int]:
    """Windows of a mask, each of another document, in which the concepts are clear; fewer where there are no more."""
    found: list[int] = []
    documents: set[int] = set()
    for window in chance.permutation(np.flatnonzero(mask)).tolist():
        document = int(world.places[window, 0])
        if document not in documents and all(world.clear(concept, window) for concept in concepts):
            found.append(window)
            documents.add(document)
        if len(found) == count:
            break
    return found


def _made(world: _World, group: Group, concept: Concept, told: Concept, windows: Sequence[int]) -> PlantedSet:
    found = world.firing(concept)
    examples = tuple(_example(concept, world.passage(window), found.strengths[window]) for window in windows)
    latent = Latent("planted", world.index[concept.name])
    shown = ScoredSet("random", examples, latent, float(found.strengths.max()))
    holds = world.firing(told).plain[list(windows)]
    return PlantedSet(group, concept.name, told.name, Explanation(told.sentences[0]), shown, holds)


def _example(concept: Concept, passage: Passage, strengths: NDArray[np.float32]) -> Example:
    largest = strengths.max()
    if largest <= 0:
        return Example(passage, strengths, rung="random")
    tenth = int(10 * concept.parsed.ranks(np.array([largest], np.float32))[0])
    return Example(passage, strengths, quantile=min(10, tenth + 1))
