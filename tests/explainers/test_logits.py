"""Logits: the tokens that a decoder's row makes likelier, against the model's own norm and head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from harness.clients.models import Models
from harness.errors import CoderError, PromptError, TaskError
from harness.examples.draw import LatentExamples
from harness.questions.kinds import Explain
from harness.resources import fixture
from harness.runs.units import make_plan
from harness.subject.texts import SubjectTexts
from harness.task import CoderSettings, CorpusSettings, SubjectSettings, load_task
from harness.values import Latent

pytestmark = pytest.mark.anyio

SUBJECT = SubjectSettings(
    model=str(fixture("subject")), corpus=CorpusSettings(path=fixture("text", "demo.jsonl"), tokens=4096), context=64
)
SAE = CoderSettings(name="sae", hookpoint="model.layers.1", path=str(fixture("subject", "sae")))
LOGITS = {"name": "logits", "kind": "logits", "model": "lexical/rules"}


def by_hand(latent: int, top: int) -> tuple[list[str], list[str]]:
    """The first and the last tokens by the logits of a decoder's row, without this package's subject."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(fixture("subject"), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(fixture("subject"))
    row = load_file(fixture("subject", "sae") / "sae_weights.safetensors")["W_dec"][latent].half().float()
    norm = row / (row.square().mean() + model.config.rms_norm_eps).sqrt() * model.model.norm.weight
    logits = (model.lm_head.weight @ norm).detach()
    logits[tokenizer.all_special_ids] = 0.0
    order = logits.argsort(descending=True).tolist()
    # behind a letter, so that a blank before a word stays
    before = tokenizer.encode("a", add_special_tokens=False)
    said = [tokenizer.decode([*before, token])[1:] for token in (*order[:top], *order[::-1][:top])]
    return said[:top], said[top:]


@pytest.mark.parametrize("latent", [3, 40])
async def test_it_shows_what_the_decoders_row_does_to_the_logits(
    asking: Any, examples: LatentExamples, latent: int
) -> None:
    explainer, client = asking("logits", "[explanation]: x", model="lexical/rules", top=5)
    subject = SubjectTexts(SUBJECT, [SAE])
    explainer.bind(subject)
    await explainer.explain(replace(examples, latent=Latent("sae", latent)), 0)
    await subject.aclose()
    question = client.requests[0].question
    assert isinstance(question, Explain)
    assert question.examples == examples.shown
    assert question.projected is not None
    likelier, unlikelier = by_hand(latent, 5)
    assert [token for token, _ in question.projected.rose] == likelier
    assert [token for token, _ in question.projected.fell] == unlikelier
    prompt = client.requests[0].messages[-1].content
    assert f'Made likelier: "{likelier[0]}", ' in prompt
    assert f'Made less likely: "{unlikelier[0]}", ' in prompt


def test_a_coder_without_directions_is_refused_before_anything_is_loaded(asking: Any) -> None:
    explainer, _ = asking("logits", "x", model="lexical/rules")
    subject = SubjectTexts(SUBJECT, [SAE, CoderSettings(name="planted", kind="planted")])
    with pytest.raises(CoderError, match='needs the directions of a decoder, and coder "planted" has none'):
        explainer.bind(subject)


def test_a_task_without_a_subject_is_refused(write_task: Callable[..., Path]) -> None:
    with pytest.raises(TaskError, match=r"explainer\.logits: .* and the task has none"):
        make_plan(load_task(write_task(explainer=[LOGITS])), Models({}, lambda client: client), "s")


def test_what_is_shown_is_in_the_identity_and_a_variant_has_to_show_it(asking: Any) -> None:
    made = [asking("logits", "x", model="lexical/rules", **more)[0] for more in ({}, {"top": 3})]
    assert made[0].identity != made[1].identity
    assert made[0].needs_subject
    with pytest.raises(PromptError, match="does not show the variable promoted"):
        asking("logits", "x", model="lexical/rules", prompt="contrastive")
