"""Interventions against plain hooks: strengths, what rises, what the subject writes, where a direction points."""

from __future__ import annotations

import json

import pytest
import torch

from harness.errors import SubjectError
from harness.examples.cuts import Cut, Cuts
from harness.store.vocabulary import Vocabulary
from harness.subject.hookpoints import Hookpoint, first, put
from harness.subject.intervene import Intervening
from harness.subject.intervened import Intervened
from harness.subject.steer import Generation, Steering, pad_left
from harness.subject.tracing import Traced
from harness.subject.unembed import unembed
from harness.task import InterventionSettings
from harness.values import Latent, Place
from tests.subject.test_steer import LAYERS, sae

SETTINGS = InterventionSettings(targets=(0.1, 1.0), explain=3, select=2, score=4, top=4, tokens=5)
LATENT = 7
NORMS = {"llama": "model.norm", "gemma2": "model.norm", "gpt2": "transformer.ln_f", "neox": "gpt_neox.final_layer_norm"}


def _prompts() -> Cuts:
    draw = torch.Generator().manual_seed(5)

    def cut(number: int) -> Cut:
        length = int(torch.randint(2, 9, (), generator=draw))
        ids = torch.randint(2, 200, (length,), generator=draw).tolist()
        return Cut((0, *ids), f"prompt {number}", Place("store", number, 0))

    parts = [tuple(cut(10 * part + number) for number in range(size)) for part, size in enumerate((3, 2, 4, 3))]
    return Cuts(Latent("coder", LATENT), *parts, dropped=0)


def _intervening(traced: Traced, kind: str, settings: InterventionSettings = SETTINGS) -> Intervening:
    vocabulary = Vocabulary(tuple(f"<{token}>" for token in range(300)), (0, 1))
    return Intervening(Steering(traced, Hookpoint(f"{LAYERS[kind]}.1"), sae()), vocabulary, settings)


def _logits(traced: Traced, kind: str, tokens: tuple[int, ...], strength: float) -> torch.Tensor:
    """Logits after one prompt under a plain hook at its last token."""
    direction = strength * torch.from_numpy(sae().decoder[LATENT]).float()

    def hook(_: object, __: object, output: object) -> object:
        hidden = first(output).clone()
        hidden[:, -1] += direction
        return put(output, hidden)

    handle = traced.model.get_submodule(f"{LAYERS[kind]}.1").register_forward_hook(hook)
    with torch.no_grad():
        found = traced.model(input_ids=torch.tensor([tokens])).logits[0, -1]
    handle.remove()
    return found


@pytest.mark.parametrize("kind", LAYERS)
def test_what_rises_is_what_plain_hooks_raise(movable: dict[str, Traced], kind: str) -> None:
    prompts = _prompts()
    for found in _intervening(movable[kind], kind).intervene(LATENT, prompts, seed=3):
        strength = found.calibration.strength
        assert [rise.text for rise in found.rises] == [cut.text for cut in prompts.explain]
        for cut, rise in zip(prompts.explain, found.rises, strict=True):
            clean, steered = (_logits(movable[kind], kind, cut.tokens, s).softmax(-1) for s in (0.0, strength))
            change = steered - clean
            change[[0, 1]] = 0
            values, ids = change[:300].topk(4)
            assert [token for token, _ in rise.rose] == [f"<{token}>" for token in ids.tolist()]
            assert [by for _, by in rise.rose] == pytest.approx(values.tolist(), abs=2e-6)
            assert [by for _, by in rise.fell] == pytest.approx(change[:300].sort().values[:4].tolist(), abs=2e-6)
        moved = torch.stack(
            [
                _logits(movable[kind], kind, cut.tokens, strength) - _logits(movable[kind], kind, cut.tokens, 0.0)
                for cut in prompts.anywhere
            ]
        ).mean(0)
        moved[[0, 1]] = 0
        values, ids = moved[:300].topk(4)
        assert [token for token, _ in found.change.rose] == [f"<{token}>" for token in ids.tolist()]
        assert [by for _, by in found.change.rose] == pytest.approx(values.tolist(), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_direction_s_logits_are_those_of_norm_and_head(movable: dict[str, Traced], kind: str) -> None:
    model = movable[kind].model
    direction = torch.randn(16, generator=torch.Generator().manual_seed(1))
    norm, head = model.get_submodule(NORMS[kind]), model.get_output_embeddings()  # pyright: ignore[reportCallIssue]
    with torch.no_grad():
        expected = head(norm(direction)) - head(norm(torch.zeros(16)))
    torch.testing.assert_close(unembed(model, direction), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(SubjectError, match="a direction of 5 numbers has no logits: the model's head takes 16"):
        unembed(model, torch.zeros(5))


def test_strengths_are_found_on_the_prompts_to_score(movable: dict[str, Traced]) -> None:
    prompts = _prompts()
    for found in _intervening(movable["llama"], "llama").intervene(LATENT, prompts, seed=3):
        each = []
        for cut in prompts.score:
            clean = _logits(movable["llama"], "llama", cut.tokens, 0.0).double().log_softmax(-1)
            steered = _logits(movable["llama"], "llama", cut.tokens, found.calibration.strength)
            each.append(float((clean.exp() * (clean - steered.double().log_softmax(-1))).sum()))
        assert sum(each) / len(each) == pytest.approx(found.calibration.kl, rel=1e-3)
        assert found.calibration.status == "ok"
        assert found.calibration.kl == pytest.approx(found.calibration.target, rel=0.1)


def test_continuations_depend_on_the_prompt_and_the_seed_and_share_their_noise(movable: dict[str, Traced]) -> None:
    prompts = _prompts()
    intervening = _intervening(movable["llama"], "llama")
    weak, strong = intervening.intervene(LATENT, prompts, seed=3)
    assert [pair.clean for pair in weak.score] == [pair.clean for pair in strong.score]
    assert [pair.steered for pair in weak.score] != [pair.steered for pair in strong.score]
    alone = intervening.steering.generate(
        pad_left([prompts.score[2].tokens]), [None], Generation(5, 1.0, 3), identities=["22:0"]
    )
    assert "".join(f"<{token}>" for token in alone[0].tokens).replace("<0>", "").replace("<1>", "") == (
        weak.score[2].clean
    )
    other = intervening.intervene(LATENT, prompts, seed=4)[0]
    assert [pair.clean for pair in other.score] != [pair.clean for pair in weak.score]
    assert other.rises == weak.rises


def test_what_was_found_survives_json(movable: dict[str, Traced]) -> None:
    # a strength without end makes logits that are no numbers
    settings = SETTINGS.model_copy(update={"targets": (0.1, 50.0)})
    for found in _intervening(movable["llama"], "llama", settings).intervene(LATENT, _prompts(), seed=3):
        told = json.loads(json.dumps(found.as_json(), allow_nan=False))
        assert Intervened.from_json(told) == found or found.calibration.kl != found.calibration.kl
        assert Intervened.from_json(told).as_json() == found.as_json()


def test_without_prompts_to_choose_by_nothing_is_written_for_that(movable: dict[str, Traced]) -> None:
    prompts = _prompts()
    none = Cuts(prompts.latent, prompts.explain, (), prompts.score, (), 0)
    found = _intervening(movable["llama"], "llama").intervene(LATENT, none, seed=3)[0]
    assert found.select == ()
    assert found.change.rose == ()
