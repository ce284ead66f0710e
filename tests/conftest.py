"""What every test gets: seeded random numbers, no keys, and a small store made by hand."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tomli_w
from hypothesis import settings
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

from harness.resources import fixture
from harness.store import CoderFrame, ManifestFrame, Rows, Store, StoreWriter, Vocabulary
from tests.running import CHROMIUM, PLANTED, conducted

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# the same examples everywhere and always; no limit on an example's time, which a busy machine would break
settings.register_profile("seeded", derandomize=True, deadline=None)
settings.load_profile("seeded")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    services = ("OPENAI", "ANTHROPIC", "OPENROUTER", "VLLM", "OLLAMA")
    for name in (*(f"{name}_{what}" for name in services for what in ("API_KEY", "BASE_URL")), "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window, for tests that are marked `browser`."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


WORDS = [f"w{number}" for number in range(40)]


@pytest.fixture(scope="session")
def make_store() -> Callable[..., Store]:
    """Makes stores of random words in which latent i of coder `words` fires on word i, in 64-token documents."""
    return _make_store


def _make_store(
    path: Path,
    *,
    contexts: int = 120,
    context: int = 64,
    latents: int = 12,
    seed: int = 0,
    decoder: NDArray[np.float16] | None = None,
    words: Sequence[str] = WORDS,
) -> Store:
    generator = np.random.default_rng(seed)
    tokens = generator.integers(1, len(words) + 1, (contexts, context)).astype(np.uint32)
    documents = np.repeat(np.arange(contexts, dtype=np.int32)[:, None], context, axis=1)
    tokens[:, 0], documents[:, 0] = 0, -1
    tokenizer = Tokenizer(models.WordLevel({"<s>": 0, **{word: n + 1 for n, word in enumerate(words)}}, "<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    tokenizer.add_special_tokens(["<s>"])
    fires = (tokens.reshape(-1) >= 1) & (tokens.reshape(-1) <= latents)
    indptr = np.concatenate([[0], np.cumsum(fires)]).astype(np.int64)
    strengths = generator.lognormal(0, 1, int(fires.sum())).astype(np.float32)
    rows = Rows(indptr, (tokens.reshape(-1)[fires] - 1).astype(np.uint32), strengths)
    frame = ManifestFrame(
        model="made", model_revision="0", tokenizer=None, corpus={"seed": seed}, context=context, bos=0
    )
    coders = [CoderFrame("words", latents, "", f"made-{seed}-{latents}", decoder)]
    with StoreWriter.begin(path, frame, Vocabulary.from_tokenizer(tokenizer), coders) as writer:
        writer.append(tokens, documents, {"words": rows})
        return writer.finish({})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A small store; see `make_store`."""
    return _make_store(tmp_path / "store")


BASE = {
    "name": "t",
    "coder": [{"name": "words", "kind": "planted"}],
    "latents": {"sample": 4, "min_examples": 50},
    "examples": {"scored": {"activating": 10, "non_activating": 10}},
    "explainer": [{"name": "a", "kind": "contexts", "model": "lexical/rules"}],
    "scorer": [{"name": "detection", "kind": "detection", "model": "lexical/rules", "batch": 10}],
}


@pytest.fixture(scope="session")
def words_store(tmp_path_factory: pytest.TempPathFactory, make_store: Callable[..., Store]) -> Path:
    """The folder of a small store that no test changes; see `make_store`."""
    return make_store(tmp_path_factory.mktemp("words") / "store").path


@pytest.fixture
def write_task(tmp_path: Path, words_store: Path) -> Callable[..., Path]:
    """Writes a task on the words store that runs in a moment; keywords replace its tables, None leaves one out."""

    def write(file: str = "task.toml", **tables: Any) -> Path:
        task = {**BASE, "store": {"path": str(words_store)}, **tables}
        path = tmp_path / file
        path.write_text(tomli_w.dumps({key: value for key, value in task.items() if value is not None}))
        return path

    return write


@pytest.fixture
def erring_task(write_task: Callable[..., Path]) -> Path:
    """Planted latents that a judge errs on, another time each time."""
    judge = "truth/noisy"
    return write_task(
        **PLANTED
        | {
            "name": "planted",
            "latents": {"sample": 6, "min_examples": 40},
            "scorer": [PLANTED["scorer"][0] | {"model": judge}],
            "model": {judge: {"false_positive": 0.2, "false_negative": 0.2}},
        }
    )


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT that knows the words of the words store, as sentence-transformers saves one: mean over tokens."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "bert"
    words = ["[PAD]", "[UNK]", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("w", "merged_with_next")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    config = BertConfig(vocab_size=len(words), max_position_embeddings=128, pad_token_id=0, **sizes)
    BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "1_Pooling").mkdir()
    kinds = {"Transformer": "", "Pooling": "1_Pooling"}
    for name, data in {
        "tokenizer_config.json": {"model_max_length": 128},
        "sentence_bert_config.json": {"max_seq_length": 128, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True},
        "modules.json": [
            {"idx": at, "path": path, "type": f"sentence_transformers.models.{kind}"}
            for at, (kind, path) in enumerate(kinds.items())
        ],
    }.items():
        (folder / name).write_text(json.dumps(data))
    return folder


CONTROLS = ["shuffled", "none", "lexical", "random-direction", "random-coder"]


@pytest.fixture(scope="session")
def random_task(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a task on the shipped subject and SAE that asks for every kind of control; keywords replace tables."""

    def write(folder: Path | None = None, **tables: Any) -> Path:
        text = {"path": str(fixture("text", "demo.jsonl")), "tokens": 40_000}
        task = {
            **BASE,
            "subject": {"model": str(fixture("subject")), "corpus": text, "context": 256, "batch": 16},
            "coder": [{"name": "sae", "hookpoint": "model.layers.1", "path": str(fixture("subject", "sae"))}],
            "latents": {"sample": 24, "min_examples": 40, "max_rate": 0.3},
            "examples": {"scored": {"activating": 10, "non_activating": 10, "minimum": 5}},
            "controls": CONTROLS,
            **tables,
        }
        path = (folder or tmp_path_factory.mktemp("random")) / "task.toml"
        path.write_text(tomli_w.dumps({key: value for key, value in task.items() if value is not None}))
        return path

    return write


@pytest.fixture(scope="session")
def random_run(tmp_path_factory: pytest.TempPathFactory, random_task: Callable[..., Path]) -> Path:
    """A working directory with `stores`, and two runs of `random_task`: `plain` has no populations, `full` has."""
    folder = tmp_path_factory.mktemp("populations")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, controls in (("plain", ["shuffled", "none"]), ("full", CONTROLS)):
            conducted(random_task(controls=controls), folder / name)
    return folder
