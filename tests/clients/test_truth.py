"""The judge with the truth: right without errors, wrong at the rates that are set, and blind to activations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from scipy import stats

from harness.clients import connect
from harness.clients.ask import ask
from harness.clients.protocol import Request
from harness.errors import BadRequest, CoderError, TaskError
from harness.questions.kinds import Detect, Explain, Fuzz, Judgement, Surprisal
from harness.questions.prompts import load_variant
from harness.resources import fixture
from harness.rules import Concept, load_concepts
from harness.values import Explanation, Failure, Passage, Place

WINDOW = 32
VARIANTS = {question: load_variant(question, "default") for question in ("detect", "fuzz")}
CONCEPTS = {concept.name: concept for concept in load_concepts(fixture("concepts.json")).concepts}
MONTHS = CONCEPTS["months"]


class Contexts:
    """Rows of word pieces, as a store gives them."""

    def __init__(self, rows: Sequence[tuple[str, ...]]) -> None:
        self.rows = rows

    def pieces(self, context: int, start: int, stop: int) -> tuple[str, ...]:
        return self.rows[context][start:stop]


@lru_cache
def passages() -> tuple[Passage, ...]:
    """Windows of the shipped held-out text, cut into words and marks."""
    from harness.rules import Text

    rows: list[tuple[str, ...]] = []
    for line in fixture("text", "heldout.jsonl").read_text().splitlines()[:200]:
        text = Text([json.loads(line)["text"]])
        words = ["", *(f" {text.words[entry]}" for entry in text.whole)]
        rows += [tuple(words[start : start + 256]) for start in range(0, len(words) - 255, 256)]
    source = Contexts(rows)
    return tuple(
        Passage(row[start : start + WINDOW], place=Place("store", context, start), source=source)
        for context, row in enumerate(rows)
        for start in range(0, 256, WINDOW)
    )


def fires(concept: Concept, passage: Passage) -> np.ndarray:
    return concept.parsed.fires((*passage.preceding(), *passage.tokens))[len(passage.preceding()) :]


def judge(
    explanation: Explanation | None, chosen: Sequence[Passage], name: str = "judge", **settings: Any
) -> list[Any]:
    """The answers to questions of five passages each."""
    client = connect(f"truth/{name}", settings)
    kind, variant = (Fuzz, VARIANTS["fuzz"]) if chosen[0].marks else (Detect, VARIANTS["detect"])

    async def all_of_them() -> list[Any]:
        groups = [tuple(chosen[start : start + 5]) for start in range(0, len(chosen) - 4, 5)]
        return [(await ask(client, variant, kind(explanation, group))).answer for group in groups]

    return anyio.run(all_of_them)


def labels(explanation: Explanation | None, chosen: Sequence[Passage], **settings: Any) -> np.ndarray:
    answers = judge(explanation, chosen, **settings)
    assert all(isinstance(answer, Judgement) for answer in answers)
    return np.array([label for answer in answers for label in answer.labels])


def told(concept: Concept) -> Explanation:
    return Explanation(concept.sentences[0])


def split(concept: Concept) -> tuple[list[Passage], list[Passage]]:
    """Firing and silent windows."""
    inside = [passage for passage in passages() if fires(concept, passage).any()]
    outside = [passage for passage in passages() if not fires(concept, passage).any()]
    return inside[: len(inside) // 5 * 5], outside[: len(outside) // 5 * 5]


@pytest.mark.parametrize(
    "name", ["months", "bank.river", "answers", "quoted", "topic.recipe", "negated", "towns-again"]
)
def test_without_errors_a_true_explanation_is_always_judged_right(name: str) -> None:
    inside, outside = split(CONCEPTS[name])
    assert labels(told(CONCEPTS[name]), inside[:100]).all()
    assert not labels(told(CONCEPTS[name]), outside[:100]).any()


def test_fuzzing_wants_every_marked_token_to_fire() -> None:
    marked: list[Passage] = []
    for passage in split(MONTHS)[0]:
        held = tuple(np.flatnonzero(fires(MONTHS, passage)).tolist())
        silent = next(index for index in range(WINDOW) if index not in held)
        marked.append(Passage(passage.tokens, held, passage.place, passage.source))
        marked.append(Passage(passage.tokens, tuple(sorted((*held, silent))), passage.place, passage.source))
    found = labels(told(MONTHS), marked[:100])
    assert found.tolist() == [1, 0] * 50


def test_what_stands_before_the_window_counts() -> None:
    source = Contexts([(" Where", "?", "\n", " Here", " it", " is", ".")])
    alone = Passage((" it", " is", "."))
    within = Passage((" it", " is", "."), place=Place("s", 0, 4), source=source)
    assert labels(told(CONCEPTS["answers"]), [alone, within] * 5).tolist() == [0, 1] * 5


def test_an_attached_rule_is_judged_before_the_sentence() -> None:
    rule = {"kind": "tokens", "tokens": [" b"]}
    chosen = [Passage((" a",)), Passage((" b",)), Passage((" March",))] * 5
    assert labels(Explanation("The name of a month.", rule), chosen).tolist() == [0, 1, 0] * 5


@pytest.mark.parametrize("explanation", [Explanation("Months, mostly."), Explanation("Months.", {"kind": "none"})])
def test_any_other_explanation_is_unparsable(explanation: Explanation) -> None:
    (answer,) = judge(explanation, passages()[:5])
    assert isinstance(answer, Failure)
    assert answer.status == "unparsable"


def test_error_rates_are_what_is_set_either_way() -> None:
    inside, outside = split(MONTHS)
    outside = outside[:500]
    missed = labels(told(MONTHS), inside, false_negative=0.2, false_positive=0.05) == 0
    wrong = labels(told(MONTHS), outside, false_negative=0.2, false_positive=0.05) == 1
    assert stats.binomtest(int(missed.sum()), len(missed), 0.2).pvalue > 0.01
    assert stats.binomtest(int(wrong.sum()), len(wrong), 0.05).pvalue > 0.01


def test_an_error_depends_on_the_passage_alone_and_not_on_its_batch() -> None:
    chosen = list(passages()[:200])
    found = dict(zip(chosen, labels(told(MONTHS), chosen, false_negative=0.3, false_positive=0.3), strict=True))
    order = np.random.default_rng(0).permutation(200)
    mixed = [chosen[index] for index in order]
    again = dict(zip(mixed, labels(told(MONTHS), mixed, false_negative=0.3, false_positive=0.3), strict=True))
    assert found == again


def test_another_name_or_seed_errs_elsewhere() -> None:
    chosen = passages()[:200]
    rates = {"false_negative": 0.4, "false_positive": 0.4}
    first = labels(told(MONTHS), chosen, **rates)
    assert np.array_equal(first, labels(told(MONTHS), chosen, **rates))
    assert not np.array_equal(first, labels(told(MONTHS), chosen, seed=1, **rates))
    assert not np.array_equal(first, labels(told(MONTHS), chosen, name="other", **rates))


def test_errors_of_a_batch_are_correlated_as_set_and_as_frequent() -> None:
    chosen = split(MONTHS)[1][:600]
    correlation, rate = 0.5, 0.3
    wrong = labels(told(MONTHS), chosen, false_positive=rate, batch_correlation=correlation).reshape(-1, 5)
    point = stats.norm.ppf(rate)
    both = stats.multivariate_normal(cov=np.array([[1, correlation], [correlation, 1]])).cdf([point, point])  # type: ignore[arg-type]  # the stubs take numbers alone
    expected = (both - rate**2) / (rate * (1 - rate))
    matrix = np.corrcoef(wrong.T)
    assert matrix[np.triu_indices(5, 1)].mean() == pytest.approx(expected, abs=0.1)
    assert wrong.mean() == pytest.approx(rate, abs=0.06)
    apart = labels(told(MONTHS), chosen, false_positive=rate).reshape(-1, 5)
    assert abs(np.corrcoef(apart.T)[np.triu_indices(5, 1)].mean()) < 0.1


def test_latents_differ_in_their_rates_by_the_effect_that_is_set() -> None:
    settings = {"false_negative": 0.2, "false_positive": 0.2, "latent_effect": 1.0}
    chosen, logits = passages()[:150], []
    for name in list(CONCEPTS)[:30]:
        right = np.array([fires(CONCEPTS[name], passage).any() for passage in chosen])
        wrong = (labels(told(CONCEPTS[name]), chosen, **settings) != right).mean()
        logits.append(np.log((wrong + 1e-3) / (1 - wrong + 1e-3)))
    assert np.mean(logits) == pytest.approx(np.log(0.25), abs=0.5)
    assert 0.7 < np.std(logits) < 1.4


def test_misses_rise_where_the_rule_fires_weakly() -> None:
    concept = CONCEPTS["colours"]
    inside = split(concept)[0]
    missed = labels(told(concept), inside, decile_misses=0.9) == 0
    strengths = [
        concept.parsed.strengths((*passage.preceding(), *passage.tokens))[len(passage.preceding()) :].max()
        for passage in inside
    ]
    deciles = np.minimum(9, (10 * concept.parsed.ranks(np.array(strengths))).astype(int))
    expected = 0.9 * (9 - deciles) / 9
    assert missed[deciles == 9].sum() == 0
    assert missed.sum() == pytest.approx(expected.sum(), abs=3 * np.sqrt((expected * (1 - expected)).sum()))
    assert missed[deciles < 3].mean() > missed[deciles > 6].mean() + 0.3


def test_shares_of_replies_are_malformed_and_refused() -> None:
    answers = judge(told(MONTHS), passages()[:1500], malformed=0.2, refused=0.1)
    status = [answer.status if isinstance(answer, Failure) else "ok" for answer in answers]
    assert stats.binomtest(status.count("unparsable"), len(status), 0.2).pvalue > 0.01
    assert stats.binomtest(status.count("refused"), len(status), 0.1).pvalue > 0.01
    assert set(status) == {"ok", "unparsable", "refused"}


def test_a_withheld_explanation_is_judged_by_a_coin() -> None:
    inside, outside = split(MONTHS)
    for chosen in (inside, outside):
        found = labels(None, chosen)
        assert stats.binomtest(int(found.sum()), len(found), 0.5).pvalue > 0.01


@pytest.mark.parametrize(("name", "other"), [("months", "weekdays"), ("quoted", "colours"), ("women", "men")])
def test_another_concept_s_explanation_scores_what_their_co_occurrence_gives(name: str, other: str) -> None:
    inside, outside = split(CONCEPTS[name])
    hit = np.mean([fires(CONCEPTS[other], passage).any() for passage in inside])
    spared = 1 - np.mean([fires(CONCEPTS[other], passage).any() for passage in outside])
    expected = (hit + spared) / 2
    chosen, generator = 60, np.random.default_rng(0)
    asked = [[group[index] for index in generator.permutation(len(group))[:chosen]] for group in (inside, outside)]
    found = (labels(told(CONCEPTS[other]), asked[0]).mean() + 1 - labels(told(CONCEPTS[other]), asked[1]).mean()) / 2
    error = np.sqrt((hit * (1 - hit) + spared * (1 - spared)) / chosen) / 2
    assert found == pytest.approx(expected, abs=3 * error)


def request(question: Any) -> Request:
    return Request((), max_tokens=10, question=question)


def test_the_wire_tells_all_that_decides_and_no_path(tmp_path: Path) -> None:
    question = Detect(told(MONTHS), passages()[:5])
    wire = connect("truth/a", {"false_positive": 0.1}).wire(request(question))
    body = wire.data()["body"]
    assert body["question"] == question.digest()
    assert body["provider"] == "truth"
    copy = tmp_path / "copy.json"
    copy.write_bytes(fixture("concepts.json").read_bytes())
    assert connect("truth/a", {"false_positive": 0.1, "concepts": str(copy)}).wire(request(question)) == wire
    for name, settings in (("b", {"false_positive": 0.1}), ("a", {"false_positive": 0.2}), ("a", {})):
        assert connect(f"truth/{name}", settings).wire(request(question)) != wire


def test_it_writes_no_explanations_and_wants_a_typed_question() -> None:
    client = connect("truth/a")
    wrong = ((Explain((), 1.0), "writes none"), (Surprisal(None), "likely a text is"), (None, "typed questions only"))
    for question, sentence in wrong:
        with pytest.raises(BadRequest, match=sentence):
            anyio.run(client.generate, request(question))


@pytest.mark.parametrize(
    "settings", [{"false_positive": 1.0}, {"misses": 0.1}, {"malformed": 0.6, "refused": 0.6}, {"latent_effect": -1}]
)
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(TaskError):
        connect("truth/a", settings)


def test_a_missing_concepts_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CoderError, match="cannot be read"):
        connect("truth/a", {"concepts": str(tmp_path / "none.json")})
