"""Surprisal: information values by their definition, what is asked and how often, and failures."""

from __future__ import annotations

import json
import random
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoModelForCausalLM

import harness
from harness.clients import Client, MemoryKeeper, assemble, connect
from harness.clients.models import Models
from harness.clients.protocol import Capabilities, Reply, Request
from harness.errors import BadRequest
from harness.questions.prompts import load_variant
from harness.scorers.surprisal import SurprisalScorer
from harness.subject.threads import torch_threads
from harness.testing import FakeProvider, MockClient
from harness.values import Example, Explanation, Passage, ScoredSet, TokenLogprob, Usage

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
SUBJECT = ROOT / "fixtures" / "subject"
STORIES = ROOT.parent / "shared" / "data" / "stories260K"
REAL = pytest.param(
    STORIES,
    marks=[
        pytest.mark.real_data,
        pytest.mark.skipif(not STORIES.is_dir(), reason="the real model is not beside the checkout"),
    ],
)
WORDS = Explanation("Names of girls and boys,\nabove all where they are told first.")
OTHERS = Explanation("Weather.")
Z0 = "Various unrelated sentences."
TEXTS = (
    " there was a little girl named Lily. She loved to play",
    "ing in the park with her friends. One day,\n\nshe saw a big",
    "\nThe rain fell on 12 March",
    " naïve 猫 and \udcff",
    "He",
    ' said: "No".\n\nAbout: Names',
    ", in the end, it was Tom who had won the cup and not Mia, whom all of them had thought of first",
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    """On a busy machine torch's threads wait for one another."""
    with torch_threads(1):
        yield


def _examples(texts: Sequence[str]) -> ScoredSet:
    """Every other window is an activating one."""
    silent = np.zeros(1, np.float32)
    made = [
        Example(Passage((text,)), silent, None if at % 2 else at % 10 + 1, "random" if at % 2 else None)
        for at, text in enumerate(texts)
    ]
    return ScoredSet("random", tuple(made))


def _scorer(client: Any, **settings: Any) -> SurprisalScorer:
    options = SurprisalScorer.Settings(**{"model": "local/x", "prompt": "tiny", **settings})
    models = Models({}, lambda _: client)
    return SurprisalScorer(options, models, ROOT)


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client that a test gives is the model, whatever its name."""
    true = harness.clients.models.connect
    monkeypatch.setattr(
        "harness.clients.models.connect", lambda name, table: None if name == "local/x" else true(name, table)
    )
    identity = Models.identity
    monkeypatch.setattr(Models, "identity", lambda self, name: [name] if name == "local/x" else identity(self, name))


@pytest.fixture
async def local() -> AsyncIterator[Callable[..., Client]]:
    made: list[Client] = []

    def make(folder: Path, **settings: Any) -> Client:
        made.append(connect(f"local/{folder}", settings))
        return made[-1]

    yield make
    for client in made:
        await client.aclose()


def _prefix(prompt: str, words: str) -> str:
    """The text before every window, written from the prompt's file without the code under test."""
    file = tomllib.loads((ROOT / "prompts" / "surprisal" / f"{prompt}.toml").read_text())
    user = file["templates"]["user"].strip()
    parts = [file["templates"]["system"].strip()]
    for shot in file["shot"]:
        parts += [user.replace("{{ explanation }}", shot["explanation"]), "\n".join(shot["sentences"])]
    return "\n\n".join([*parts, user.replace("{{ explanation }}", words)]) + "\n\n"


class _Naive:
    """Sums of a window's logprobs by one plain forward pass over the whole text: no cache and no batch."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.bos = json.loads((folder / "config.json").read_text())["bos_token_id"]

    def logprobs(self, prefix: str, window: str) -> list[float]:
        """Those of all tokens that end beyond the prefix."""
        text = window.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        found = self.tokenizer.encode(prefix + text, add_special_tokens=False)
        ids = [self.bos, *found.ids]
        with torch.no_grad():
            logits = self.model(torch.tensor([ids]), use_cache=False).logits[0].double()
        logprobs = logits.log_softmax(-1)
        own = [at for at, (_, stop) in enumerate(found.offsets) if stop > len(prefix)]
        return [float(logprobs[at, found.ids[at]]) for at in own]

    def value(self, prompt: str, words: str, window: str) -> float:
        """The information value."""
        return sum(self.logprobs(_prefix(prompt, words), window)) - sum(self.logprobs(_prefix(prompt, Z0), window))


@pytest.mark.parametrize("folder", [SUBJECT, REAL])
async def test_values_equal_their_definition_at_any_batch_and_order(local: Callable[..., Client], folder: Path) -> None:
    naive = _Naive(folder)
    shown = WORDS.text.replace("\n", " ")
    expected = {text: naive.value("tiny", shown, text) for text in TEXTS}
    assert len({round(value, 2) for value in expected.values()}) == len(TEXTS)
    for seed, batch in enumerate((1, 3, 16)):
        texts = random.Random(seed).sample(TEXTS, len(TEXTS))
        scored = await _scorer(local(folder, batch=batch)).score(WORDS, _examples(texts), seed)
        assert scored.verdicts.value == pytest.approx([expected[text] for text in texts], abs=1e-4)
    again = await _scorer(local(folder), total="mean").score(WORDS, _examples(TEXTS), 0)
    counts = [len(naive.logprobs(_prefix("tiny", Z0), text)) for text in TEXTS]
    means = [expected[text] / count for text, count in zip(TEXTS, counts, strict=True)]
    assert again.verdicts.value == pytest.approx(means, abs=1e-4)


async def test_the_default_prompt_is_read_as_its_file_says(local: Callable[..., Client]) -> None:
    naive = _Naive(SUBJECT)
    scored = await _scorer(local(SUBJECT), prompt="default").score(OTHERS, _examples(TEXTS[:3]), 0)
    expected = [naive.value("default", OTHERS.text, text) for text in TEXTS[:3]]
    assert scored.verdicts.value == pytest.approx(expected, abs=1e-4)


@pytest.fixture
def joining(tmp_path: Path) -> Path:
    """The fixture subject with a tokenizer that makes one token of three line feeds."""
    for path in SUBJECT.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    data = json.loads((SUBJECT / "tokenizer.json").read_text())
    vocabulary, merges = data["model"]["vocab"], data["model"]["merges"]
    feed = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str("\n")[0][0]
    for name, pair in ((feed * 2, [feed, feed]), (feed * 3, [feed * 2, feed])):
        merges.insert(0 if name == feed * 2 else 1, pair)
        merged = "".join(merges.pop())
        vocabulary[name] = vocabulary.pop(merged)
    data["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    return tmp_path


async def test_a_token_that_begins_before_the_window_is_one_of_its_own_and_no_other(
    local: Callable[..., Client], joining: Path
) -> None:
    replies: list[Reply] = []

    class Listening(MockClient):
        async def generate(self, request: Request) -> Reply:
            replies.append(await client.generate(request))
            return replies[-1]

    client = local(joining)
    texts = ["\nThe cat", "The cat"]
    scored = await _scorer(Listening()).score(OTHERS, _examples(texts), 0)
    spelled = ["".join(item.token for item in reply.logprobs or ()) for reply in replies]
    # the blank line before the window and the window's first line feed are one token
    assert sorted(set(spelled)) == ["\n\n\nThe cat", "The cat"]
    naive = _Naive(joining)
    assert scored.verdicts.value == pytest.approx([naive.value("tiny", OTHERS.text, text) for text in texts], abs=1e-4)


def _saying(value: Callable[[Request], float]) -> Callable[[Request], Reply]:
    """Replies of two tokens whose logprobs add up to what is said of a request."""

    def answer(request: Request) -> Reply:
        text = request.continuation or ""
        whole = value(request)
        tokens = (TokenLogprob(text[:1], whole / 4), TokenLogprob(text[1:], whole * 3 / 4))
        return Reply(text, "stop", Usage(input=1, requests=1), tokens)

    return answer


CAN = Capabilities(logprobs=True, prompt_logprobs=True)


async def test_words_that_tell_nothing_are_asked_about_once_a_window_for_all_explanations() -> None:
    client = MockClient(_saying(lambda request: -float(len(request.messages[-1].content))), capabilities=CAN)
    scorer = _scorer(assemble(client, MemoryKeeper()))
    for told in (WORDS, OTHERS, Explanation(Z0)):
        await scorer.score(told, _examples(TEXTS), 0)
    about = Counter((request.messages[-1].content.strip(), request.continuation) for request in client.requests)
    assert set(about.values()) == {1}
    asked = Counter(words for words, _ in about)
    assert asked[f"About: {Z0}"] == len(TEXTS)
    assert sorted(asked.values()) == [len(TEXTS)] * 3


async def test_with_the_explanation_withheld_nothing_is_asked_and_nothing_is_told() -> None:
    client = MockClient(capabilities=CAN)
    scored = await _scorer(client).score(None, _examples(TEXTS), 0)
    assert client.requests == []
    assert scored.verdicts.value.tolist() == [0.0] * len(TEXTS)
    assert scored.metrics["auroc"] == 0.5
    assert scored.replies == ()


async def test_nothing_is_drawn_and_the_window_is_sent_as_it_is() -> None:
    client = MockClient(_saying(lambda request: -1.0), capabilities=CAN)
    await _scorer(client).score(OTHERS, _examples(TEXTS), 5)
    assert Counter(request.continuation for request in client.requests) == dict.fromkeys(TEXTS, 2)
    assert {(request.max_tokens, request.seed, request.temperature) for request in client.requests} == {(0, None, None)}


async def test_a_window_without_an_answer_is_a_failure_and_the_others_count() -> None:
    broken = {TEXTS[0]: "told", TEXTS[1]: "z0"}

    def answer(request: Request) -> Any:
        side = "z0" if Z0 in request.messages[-1].content else "told"
        text = request.continuation or ""
        if broken.get(text) == side:
            return BadRequest("too much")
        if text == TEXTS[2] and side == "told":
            return Reply(text, "stop", Usage(), (TokenLogprob(text, -1.0),))
        said = -np.inf if text == TEXTS[3] else -2.0 if side == "z0" else -1.0
        return _saying(lambda _: said)(request)

    scored = await _scorer(MockClient(answer, capabilities=CAN)).score(OTHERS, _examples(TEXTS), 0)
    assert scored.verdicts.failures() == {"provider_error": 2, "unparsable": 2}
    assert np.isnan(scored.verdicts.value[:4]).all()
    assert scored.verdicts.value[4:].tolist() == [1.0] * 3


async def test_settings_and_identity() -> None:
    client = MockClient(capabilities=CAN)
    settings = SurprisalScorer.Settings(model="x/y")
    assert (settings.total, settings.prompt) == ("sum", "default")
    identities = [_scorer(client, **more).identity for more in ({}, {"total": "mean"}, {"prompt": "default"})]
    assert len({json.dumps(identity) for identity in identities}) == 3
    assert (_scorer(client).metric, _scorer(client).wants[0].needed) == ("auroc", True)
    assert load_variant("surprisal", "default").render.__self__.temperature is None


async def test_servers_are_sent_the_text_that_local_models_read(monkeypatch: pytest.MonkeyPatch) -> None:
    values: list[list[float]] = []
    texts = [text for text in TEXTS if text.isascii()]
    async with FakeProvider() as provider:
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        monkeypatch.setenv("VLLM_BASE_URL", provider.openai_url)
        for name in ("openai-api/fake/base", "vllm/fake/base"):
            client = connect(name, {"api": "completions"})
            scored = await _scorer(client).score(OTHERS, _examples(texts), 0)
            await client.aclose()
            values.append(scored.verdicts.value.tolist())
        sent = [request.body["prompt"] for request in provider.requests]
    expected = [_prefix("tiny", words) + text for words in (OTHERS.text, Z0) for text in texts]
    assert sorted(sent) == sorted(expected * 2)
    # both tell of the same made-up logprobs
    assert values[0] == values[1]
    assert len(set(values[0])) == len(texts)
