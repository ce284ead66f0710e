"""What tests of local models share: models of several architectures, clients of them, and plain forward passes."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

from harness.clients import Client, connect
from harness.subject.threads import torch_threads

ROOT = Path(__file__).resolve().parents[3]
SUBJECT = ROOT / "fixtures" / "subject"
STORIES = ROOT.parent / "shared" / "data" / "stories260K"
REAL = pytest.param(
    "stories",
    marks=[
        pytest.mark.real_data,
        pytest.mark.skipif(not STORIES.is_dir(), reason="the real model is not beside the checkout"),
    ],
)
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turn') }}"
    "{% endif %}<{{ m.role }}> {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """On a busy machine torch's threads wait for one another."""
    with torch_threads(1):
        yield


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models: the fixture subject, with a chat template too, a real one, and random ones with its tokenizer.

    GPT-2 has learned positions, Gemma 2 attention within a sliding window of four tokens.
    """
    torch.manual_seed(0)
    small: dict[str, Any] = {"vocab_size": 4096, "bos_token_id": 0, "eos_token_id": 0}
    gpt2 = GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=256, **small)
    gemma = Gemma2Config(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=256,
        sliding_window=4,
        **small,
    )
    base = tmp_path_factory.mktemp("models")
    found = {"subject": SUBJECT, "stories": STORIES}
    for name, model in (("gpt2", GPT2LMHeadModel(gpt2)), ("gemma2", Gemma2ForCausalLM(gemma))):
        found[name] = base / name
        for parameter in model.parameters():
            parameter.data *= 8  # else every token is as likely as every other
        model.save_pretrained(found[name])
        for file in TOKENIZER:
            shutil.copy(SUBJECT / file, found[name])
    found["chat"] = base / "chat"
    shutil.copytree(SUBJECT, found["chat"], ignore=shutil.ignore_patterns("sae", "*.md"))
    settings = json.loads((SUBJECT / "tokenizer_config.json").read_text())
    (found["chat"] / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": TEMPLATE}))
    return found


@pytest.fixture
async def local(folders: dict[str, Path]) -> AsyncIterator[Callable[..., Client]]:
    """Makes clients of these models by name, and closes them in the end."""
    made: list[Client] = []

    def make(name: str, **settings: Any) -> Client:
        made.append(connect(f"local/{folders[name]}", settings))
        return made[-1]

    yield make
    for client in made:
        await client.aclose()


@pytest.fixture(scope="session")
def plain_logprobs(folders: dict[str, Path]) -> Callable[[str, Sequence[int]], torch.Tensor]:
    """Of token ids: the next token's logprobs after each, `[ids, vocabulary]`, by one forward pass over one row."""
    models: dict[str, Any] = {}

    def compute(name: str, ids: Sequence[int]) -> torch.Tensor:
        if name not in models:
            models[name] = AutoModelForCausalLM.from_pretrained(folders[name], dtype=torch.float32).eval()
        with torch.no_grad():
            logits = models[name](input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
        return logits.float().log_softmax(-1)

    return compute
