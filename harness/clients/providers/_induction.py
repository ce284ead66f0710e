"""Induces a small rule over tokens from a latent's activating windows: the lexical baseline's explainer.

Candidates are single tokens, any or certain tokens after a given one, and endings. A rule is a few of them, added one
by one as long as its F1 on the windows' tokens rises. The precision of each candidate is shrunk towards the share of
tokens that activate, as if it had been seen at a few places more (`PRIORS`): what was seen once says little (the lookup
tables of Bills et al. 2023 and of Neuron2Graph shrink in the same way).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.questions.render import MARK_SHARE, quote
from harness.values import Example, Explanation

__all__ = ["Induced", "induce"]

MOST_ATOMS = 16  # more make no readable sentence
LEAST_GAIN = 0.003  # F1 that one more candidate has to bring
SIMPLER = 0.01  # F1 by which a richer kind of rule has to be better than a simpler one
ENDING_TYPES = 5  # distinct tokens that have to share an ending; four months are better told as tokens than as "ber"

AtomKind = Literal["token", "following", "after", "ending"]

# places; keeps what was seen once out of a rule that is good without it. More for candidates that cover tokens never
# seen, among which chance ones abound
PRIORS: dict[AtomKind, float] = {"token": 1.0, "after": 1.0, "following": 3.0, "ending": 4.0}

# the kinds of candidates that a rule may be made of; a single kind first, for a token that fires often on its own
# keeps out the pairs that say when it does
_MENUS: tuple[tuple[AtomKind, ...], ...] = (
    ("token",),
    ("ending",),
    ("following",),
    ("after",),
    ("token", "following"),
    ("token", "after"),
    ("token", "following", "after", "ending"),
)


class _Atom(NamedTuple):
    """One candidate: a token, any token after another, a certain token after another, or an ending."""

    kind: AtomKind
    text: str
    previous: str = ""


@dataclass(frozen=True, slots=True)
class Induced:
    """A rule with its sentence; `coverage` is the share of the marked tokens on which it fires."""

    rule: Mapping[str, Any]
    sentence: str
    coverage: float

    def explanation(self) -> Explanation:
        """The sentence with the rule attached."""
        return Explanation(self.sentence, self.rule)


def induce(examples: Sequence[Example]) -> Induced | None:
    """The rule that best tells where the windows activate; None where no activating token has text."""
    places = _Places.of(examples)
    if not places.active.any():
        return None
    candidates = _Candidates.of(places)
    best, best_f1 = _greedy(places, candidates, _MENUS[0])
    for menu in _MENUS[1:]:
        chosen, f1 = _greedy(places, candidates, menu)
        if f1 > best_f1 + SIMPLER:
            best, best_f1 = chosen, f1
    covered = np.zeros(len(places.tokens), bool)
    covered[candidates.where[np.isin(candidates.owner, best)]] = True
    coverage = float((covered & places.active).sum() / places.active.sum())
    parts = _Parts.of([candidates.atoms[at] for at in best])
    return Induced(parts.rule(), f"{parts.words()} ({round(100 * coverage)} % of the activations shown)", coverage)


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """All tokens of all windows, one after the other, `[tokens]`.

    `previous` is empty at a window's first token. `weight` is the activation as a share of its window's largest where
    that is above 0.3 (`active`), else 0; `silent` says where there is none. The faint rest counts neither way.
    """

    tokens: list[str]
    previous: list[str]
    weight: NDArray[np.float64]
    active: NDArray[np.bool_]
    silent: NDArray[np.bool_]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> _Places:
        tokens: list[str] = []
        previous: list[str] = []
        shares: list[NDArray[np.float64]] = []
        for example in examples:
            tokens += example.passage.tokens
            previous += ["", *example.passage.tokens][:-1]
            activations = np.asarray(example.activations, np.float64)
            top = activations.max(initial=0.0)
            shares.append(activations / top if top > 0 else np.zeros_like(activations))
        share = np.concatenate(shares) if shares else np.zeros(0)
        visible = np.array([bool(token) for token in tokens], bool)
        active = visible & (share > MARK_SHARE)
        return cls(tokens, previous, np.where(active, share, 0.0), active, visible & (share <= 0))


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """The candidates and where they fire: `atoms[owner[i]]` fires at `where[i]`, `[firings]`."""

    atoms: list[_Atom]
    owner: NDArray[np.int64]
    where: NDArray[np.int64]

    @classmethod
    def of(cls, places: _Places) -> _Candidates:
        """What is seen at active tokens, in order of appearance, longer endings before shorter ones."""
        endings = {token: _endings(token) for token in set(places.tokens)}
        index: dict[_Atom, int] = {}
        types: dict[str, set[str]] = {}
        for at in np.flatnonzero(places.active).tolist():
            token = places.tokens[at]
            for atom in _seen(token, places.previous[at]):
                index.setdefault(atom, len(index))
            for ending in endings[token]:
                types.setdefault(ending, set()).add(token)
        for ending in sorted(types, key=len, reverse=True):
            if len(types[ending]) >= ENDING_TYPES:
                index[_Atom("ending", ending)] = len(index)
        owner: list[int] = []
        where: list[int] = []
        for at, (token, previous) in enumerate(zip(places.tokens, places.previous, strict=True)):
            atoms = [*_seen(token, previous), *(_Atom("ending", ending) for ending in endings[token])]
            found = [index[atom] for atom in atoms if atom in index]
            owner += found
            where += [at] * len(found)
        return cls(list(index), np.array(owner, np.int64), np.array(where, np.int64))


def _seen(token: str, previous: str) -> list[_Atom]:
    if not previous:
        return [_Atom("token", token)]
    return [_Atom("token", token), _Atom("following", "", previous), _Atom("after", token, previous)]


def _endings(token: str) -> list[str]:
    """The endings of five to two letters of a token that has more letters before them."""
    word = token.lstrip()
    return [word[-size:] for size in range(min(5, len(word) - 1), 1, -1)] if word.isalpha() else []


def _greedy(places: _Places, candidates: _Candidates, menu: Sequence[AtomKind]) -> tuple[list[int], float]:
    """The candidates of some kinds that, added one by one, raise F1 most, and that F1."""
    atoms, owner, where = candidates.atoms, candidates.owner, candidates.where
    rate = places.active.sum() / (places.active.sum() + places.silent.sum())
    prior = np.array([PRIORS[atom.kind] for atom in atoms]) * (1 - rate)
    prior[[atom.kind not in menu for atom in atoms]] = np.inf
    weight, silent = places.weight[where], places.silent[where].astype(np.float64)
    open_ = np.ones(len(places.tokens))
    total = places.weight.sum()
    hits = misses = best = 0.0
    chosen: list[int] = []
    while len(chosen) < MOST_ATOMS:
        left = open_[where]
        gained = np.bincount(owner, weight * left, len(atoms))
        wrong = np.bincount(owner, silent * left, len(atoms)) + prior
        f1 = 2 * (hits + gained) / (total + hits + gained + misses + wrong)
        at = int(f1.argmax())
        if f1[at] < best + LEAST_GAIN:
            break
        best, hits, misses = float(f1[at]), hits + gained[at], misses + wrong[at]
        open_[where[owner == at]] = 0.0
        chosen.append(at)
    return chosen, best


@dataclass(frozen=True, slots=True)
class _Parts:
    """A rule's candidates by kind, each in the order in which they were chosen."""

    tokens: list[str]
    following: list[str]
    after: dict[str, list[str]]
    endings: list[str]

    @classmethod
    def of(cls, atoms: Sequence[_Atom]) -> _Parts:
        """Without pairs that a chosen token covers."""
        tokens = [atom.text for atom in atoms if atom.kind == "token"]
        following = [atom.previous for atom in atoms if atom.kind == "following"]
        after: dict[str, list[str]] = {}
        for atom in atoms:
            if atom.kind == "after" and atom.text not in tokens and atom.previous not in following:
                after.setdefault(atom.text, []).append(atom.previous)
        return cls(tokens, following, after, [atom.text for atom in atoms if atom.kind == "ending"])

    def rule(self) -> dict[str, Any]:
        """The rule in the language of `harness.rules`."""
        rules: list[dict[str, Any]] = [{"kind": "tokens", "tokens": self.tokens}] if self.tokens else []
        rules += [{"kind": "after", "previous": self.following}] if self.following else []
        rules += [{"kind": "after", "token": token, "previous": before} for token, before in self.after.items()]
        rules += [{"kind": "suffix", "suffixes": self.endings}] if self.endings else []
        return rules[0] if len(rules) == 1 else {"kind": "any", "rules": rules}

    def words(self) -> str:
        """The rule in words."""
        plural = "s" if len(self.tokens) > 1 else ""
        words = [f"the token{plural} {_listed(self.tokens, 'and')}"] if self.tokens else []
        words += [f"any token after {_listed(self.following, 'or')}"] if self.following else []
        words += [f"the token {quote(token)} after {_listed(before, 'or')}" for token, before in self.after.items()]
        words += [f"tokens that end in {_listed(self.endings, 'or')}"] if self.endings else []
        return "; ".join(words)


def _listed(texts: Sequence[str], last: str) -> str:
    written = [quote(text) for text in texts]
    return written[0] if len(written) == 1 else f"{', '.join(written[:-1])} {last} {written[-1]}"
