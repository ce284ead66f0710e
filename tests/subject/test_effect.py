"""What a change of a latent does after anybody's prompt: as plain hooks on the model have it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.errors import CoderError, SubjectError
from harness.resources import fixture
from harness.subject.texts import SubjectTexts
from harness.task import CoderSettings, CorpusSettings, SubjectSettings
from harness.values import Latent

pytestmark = pytest.mark.anyio

SUBJECT = SubjectSettings(
    model=str(fixture("subject")),
    corpus=CorpusSettings(path=fixture("text", "demo.jsonl"), tokens=4096),
    context=64,
)
SAE = CoderSettings(name="sae", hookpoint="model.layers.1", path=str(fixture("subject", "sae")))
PLANTED = CoderSettings(name="planted", kind="planted")
PROMPTS = ("Log of the Petrel, April", "The ferry to Falbury leaves on")


def by_hand(prompt: str, change: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The next token's log-probabilities, clean and with `change` of the last position's hidden state."""
    tokenizer = AutoTokenizer.from_pretrained(fixture("subject"))
    model = AutoModelForCausalLM.from_pretrained(fixture("subject"), dtype=torch.float32).eval()
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]])

    def hook(_: Any, __: Any, output: Any) -> Any:
        whole = output if isinstance(output, torch.Tensor) else output[0]
        held = whole.clone()
        held[:, -1] = change(held[:, -1])
        return held if isinstance(output, torch.Tensor) else (held, *output[1:])

    with torch.no_grad():
        clean = model(ids).logits[0, -1].log_softmax(-1)
        handle = model.get_submodule("model.layers.1").register_forward_hook(hook)
        steered = model(ids).logits[0, -1].log_softmax(-1)
        handle.remove()
    return clean, steered


def weights() -> dict[str, torch.Tensor]:
    return load_file(fixture("subject", "sae") / "sae_weights.safetensors")


def kl(clean: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.nn.functional.kl_div(other, clean, log_target=True, reduction="sum"))


async def test_ablating_takes_a_latent_out_where_it_fires_and_does_nothing_where_it_is_silent() -> None:
    sae = weights()
    fired: list[int] = []

    def ablated(latent: int) -> Any:
        def change(held: torch.Tensor) -> torch.Tensor:
            before = (held - sae["b_dec"]) @ sae["W_enc"] + sae["b_enc"]
            top = before.topk(4, dim=-1)
            active = torch.zeros_like(before).scatter(-1, top.indices, top.values.relu())
            fired[:] = active[0].nonzero().flatten().tolist()
            return held - active[:, latent, None] * sae["W_dec"][latent]

        return change

    by_hand(PROMPTS[0], ablated(0))
    active, silent = fired[0], next(index for index in range(100) if index not in fired)
    subject = SubjectTexts(SUBJECT, [SAE])
    (found,) = await subject.effects(Latent("sae", active), PROMPTS[:1], "ablate")
    clean, other = by_hand(PROMPTS[0], ablated(active))
    assert found.prompt == PROMPTS[0]
    assert found.kl == pytest.approx(kl(clean, other), rel=1e-3)
    assert found.kl > 1e-4
    change = other.exp() - clean.exp()
    tokenizer = AutoTokenizer.from_pretrained(fixture("subject"))
    assert found.fell[0].token == tokenizer.decode([int(change.argmin())])
    assert found.fell[0].changed - found.fell[0].clean == pytest.approx(float(change.min()), abs=1e-5)
    (nothing,) = await subject.effects(Latent("sae", silent), PROMPTS[:1], "ablate")
    assert nothing.kl == pytest.approx(0, abs=1e-9)
    assert nothing.rose == nothing.fell == ()
    await subject.aclose()


async def test_adding_moves_the_next_token_by_the_wanted_kl_and_continuations_share_their_noise() -> None:
    subject = SubjectTexts(SUBJECT, [SAE])
    found = await subject.effects(Latent("sae", 3), PROMPTS, "add", nats=0.5, tokens=6, seed=1)
    assert sum(each.kl for each in found) / 2 == pytest.approx(0.5, rel=0.1)
    assert [each.prompt for each in found] == list(PROMPTS)
    assert all(each.rose and each.rose[0].changed > each.rose[0].clean for each in found)
    assert found == await subject.effects(Latent("sae", 3), PROMPTS, "add", nats=0.5, tokens=6, seed=1)
    faint = await subject.effects(Latent("sae", 3), PROMPTS, "add", nats=1e-6, tokens=6, seed=1)
    assert [each.clean for each in faint] == [each.changed for each in faint]
    await subject.aclose()


async def test_of_a_long_prompt_the_end_is_read() -> None:
    subject = SubjectTexts(SUBJECT, [SAE])
    (found,) = await subject.effects(Latent("sae", 3), ["nobody in Withaven speaks Danish, " * 30], "ablate")
    assert 0 < len(found.prompt) < 400
    assert found.prompt.endswith("Danish, ")
    await subject.aclose()


async def test_what_cannot_be_changed_is_said() -> None:
    subject = SubjectTexts(SUBJECT, [SAE, PLANTED])
    assert subject.steers("sae")
    assert not subject.steers("planted")
    with pytest.raises(CoderError, match="reads text"):
        await subject.effects(Latent("planted", 3), PROMPTS, "add")
    with pytest.raises(CoderError, match="there is no latent 99999"):
        await subject.effects(Latent("sae", 99999), PROMPTS, "ablate")
    with pytest.raises(SubjectError, match="no token"):
        await subject.effects(Latent("sae", 3), [""], "add")
    with pytest.raises(SubjectError, match="no room for 64 new ones"):
        await subject.effects(Latent("sae", 3), ["a"], "add", tokens=64)
    await subject.aclose()
