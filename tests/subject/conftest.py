"""Tiny random models with a tokenizer of their own, and a corpus they can read."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from harness.subject.models import find_model, load_model
from harness.subject.tracing import Traced

NOUNS = ["cat", "dog", "bird", "tree", "river", "stone", "house", "road", "lamp", "door"]
VERBS = ["sees", "finds", "holds", "keeps", "leaves", "draws", "opens", "breaks"]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Documents of a few simple sentences."""
    draw = random.Random(seed)
    one = lambda: f"the {draw.choice(NOUNS)} {draw.choice(VERBS)} a {draw.choice(NOUNS)}."  # noqa: E731 - short for what follows
    return [" ".join(one() for _ in range(draw.randint(1, 6))) for _ in range(count)]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Sixty short documents."""
    return sentences(60)


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    """The documents as JSONL."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def make_tokenizer(texts: list[str]) -> Any:
    """Writes a byte-level BPE tokenizer into a folder, with or without a BOS token."""

    def make(folder: Path, *, bos: bool = True, eos: bool = False) -> Tokenizer:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        special = [AddedToken(name, special=True) for name in ("<s>", "</s>")]
        trainer = trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"))
        names = ({"bos_token": "<s>"} if bos else {}) | ({"eos_token": {"content": "</s>"}} if eos else {})
        (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
        return tokenizer

    return make


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory, make_tokenizer: Any) -> dict[str, Path]:
    """A random Llama, Gemma 2, GPT-2 and GPT-NeoX, each in a folder as Hugging Face saves it."""
    import torch
    from transformers import (
        Gemma2Config,
        Gemma2ForCausalLM,
        GPT2Config,
        GPT2LMHeadModel,
        GPTNeoXConfig,
        GPTNeoXForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
    )

    torch.manual_seed(0)
    made = {
        "llama": LlamaForCausalLM(
            LlamaConfig(
                vocab_size=300,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=3,
                num_attention_heads=2,
                max_position_embeddings=64,
            )
        ),
        "gemma2": Gemma2ForCausalLM(
            Gemma2Config(
                vocab_size=300,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=3,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=8,
                max_position_embeddings=64,
            )
        ),
        "gpt2": GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=16, n_layer=3, n_head=2, n_positions=64)),
        "neox": GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=300,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=3,
                num_attention_heads=2,
                max_position_embeddings=64,
            )
        ),
    }
    folders: dict[str, Path] = {}
    for name, model in made.items():
        folders[name] = tmp_path_factory.mktemp("models") / name
        make_tokenizer(folders[name])
        model.save_pretrained(folders[name])
    return folders


@pytest.fixture
def llama(model_folders: dict[str, Path]) -> Path:
    """The random Llama's folder: 3 layers, width 16, 64 positions, 300 tokens."""
    return model_folders["llama"]


@pytest.fixture(scope="module")
def movable(model_folders: dict[str, Path]) -> dict[str, Traced]:
    """The small models, whose logits an intervention can move."""
    found = {
        name: Traced(load_model(find_model(str(folder), None, Path()), "float32", "cpu"))
        for name, folder in model_folders.items()
    }
    for one in found.values():
        # random heads of this size hardly move: a wider spread of logits makes targets reachable
        one.model.get_output_embeddings().weight.data *= 30  # pyright: ignore[reportCallIssue]
    return found
