"""The concepts on unseen text: they agree with the generator, fire as often as they should, and are made as stated."""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
import pytest
from tokenizers import Tokenizer

from fixtures.world.definitions import DEFINITIONS
from fixtures.world.generate import documents
from fixtures.world.measure import Measured, contexts, measure, split
from harness.resources import fixture
from harness.rules import f1, load_concepts, parse, recovered

CONCEPTS = load_concepts(fixture("concepts.json")).concepts
NAMES = [concept.name for concept in CONCEPTS]
UNSEEN = 400


@lru_cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(fixture("subject", "tokenizer.json")))


@lru_cache
def measured(count: int) -> tuple[dict[str, Measured], int]:
    found, windows = measure(CONCEPTS, contexts(documents(UNSEEN, count), tokenizer()))
    return dict(zip(NAMES, found, strict=True)), windows


def test_the_registry_is_what_the_definitions_say() -> None:
    assert [definition.name for definition in DEFINITIONS] == NAMES
    for concept, definition in zip(CONCEPTS, DEFINITIONS, strict=True):
        written = json.loads(json.dumps({"rule": definition.rule, "core": definition.core, "stray": definition.stray}))
        assert {key: concept.rule[key] for key in written} == written, concept.name
        assert concept.sentences == (definition.sentence,)
        assert concept.labels == definition.labels


@pytest.mark.parametrize("name", ["true", "sibling"])
def test_the_planted_explanations_are_the_registered_sentences(name: str) -> None:
    sentences = {concept.name: concept.sentences[0] for concept in CONCEPTS}
    rows = [json.loads(line) for line in fixture("planted", f"{name}.jsonl").read_text().splitlines()]
    chosen = [concept.siblings[0] if name == "sibling" else concept.name for concept in CONCEPTS]
    assert rows == [{"latent": index, "explanation": sentences[other]} for index, other in enumerate(chosen)]


def test_rules_agree_with_what_the_generator_meant() -> None:
    found, _ = measured(150)
    told = {name: counts.agreement for name, counts in found.items() if counts.hit + counts.missed >= 30}
    assert len(told) > 70
    assert {name: value for name, value in told.items() if value < 0.88} == {}
    assert np.median(list(told.values())) > 0.99


def test_a_concept_is_recovered_by_its_sentence_and_not_by_its_sibling_s() -> None:
    pieces = [split(document, tokenizer())[0] for document in documents(UNSEEN, 120)]
    by_name = {concept.name: concept for concept in CONCEPTS}
    for name in ("months", "colours", "bank.money", "quoted", "topic.recipe", "answers", "ing"):
        concept = by_name[name]
        pure = parse(concept.rule["rule"])
        assert recovered(concept.parsed, concept.parsed, pieces)
        assert 0.9 < f1(pure, concept.parsed, pieces) <= 1
        assert not recovered(by_name[concept.siblings[0]].parsed, concept.parsed, pieces)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_firing_rates_span_four_decades_with_five_concepts_each() -> None:
    found, windows = measured(1500)
    rates = np.array([len(counts.strongest) / windows for counts in found.values()])
    assert rates.max() <= 0.3
    for low, high in ((3e-5, 1e-3), (1e-3, 1e-2), (1e-2, 0.1), (0.1, 0.3)):
        assert ((rates >= low) & (rates < high)).sum() >= 5, (low, high)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_strongest_tenth_is_core_and_the_weakest_holds_the_stated_share_of_strays() -> None:
    found, _ = measured(1500)
    enough = [counts for counts in found.values() if len(counts.strongest) >= 300]
    assert len(enough) > 60
    core = np.array([counts.core_in_top for counts in enough])
    stray = np.array([counts.stray_in_bottom for counts in enough])
    assert core.min() > 0.6
    assert core.mean() > 0.9
    assert stray.mean() == pytest.approx(0.3, abs=0.05)
    assert (stray > 0.1).all()
    assert (stray < 0.6).all()
