"""Calibration on models: KL from the last token alone equals whole forward passes', and dense sweeps agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import registry
from harness.resources import fixture
from harness.subject.calibrate import TARGETS, CalibrationSettings, Prompts, calibrate
from harness.subject.hookpoints import Hookpoint
from harness.subject.models import find_model, load_model
from harness.subject.steer import Edit, Padded, Steering, pad_left
from harness.subject.tracing import Traced
from harness.task import CoderSettings
from tests.subject.test_steer import ATTENTION, LAYERS, sae

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
PROMPTS = pad_left([[5, 80, 41, 122, 9], [200, 17], [33], [7, 8, 9]])


def kl_by_forward_passes(steering: Steering, prompts: Padded, latent: int, strength: float) -> float:
    """KL one prompt at a time, whole, in float64 from the definition."""
    each = []
    for tokens, mask in zip(prompts.tokens, prompts.mask, strict=True):
        alone = pad_left([tokens[mask == 1].tolist()])
        clean = steering.logits(alone, [None])[0].double().softmax(-1).numpy()
        other = steering.logits(alone, [Edit(latent, strength)])[0].double().softmax(-1).numpy()
        each.append(float(np.sum(clean * (np.log(clean) - np.log(np.maximum(other, 1e-300))))))
    return float(np.mean(each))


def points(kind: str) -> list[Hookpoint]:
    layers = LAYERS[kind]
    whole = [Hookpoint(f"{layers}.{number}") for number in (0, 1, 2)]
    parts = [Hookpoint(f"{layers}.{number}.{part}") for number in (0, 1) for part in ("mlp", ATTENTION[kind])]
    return [*whole, *parts, *(Hookpoint(f"{layers}.{number}", input=True) for number in (0, 2))]


@pytest.mark.parametrize("kind", LAYERS)
def test_kl_from_the_last_token_is_that_of_whole_passes(movable: dict[str, Traced], kind: str) -> None:
    for point in points(kind):
        steering = Steering(movable[kind], point, sae())
        added = torch.stack([3.0 * steering.direction(4), -2.0 * steering.direction(9)])
        found = Prompts(steering, PROMPTS).kl(added).tolist()
        expected = [kl_by_forward_passes(steering, PROMPTS, *edit) for edit in ((4, 3.0), (9, -2.0))]
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-6), point


@pytest.mark.parametrize("kind", LAYERS)
def test_every_target_that_a_dense_sweep_reaches_is_met(movable: dict[str, Traced], kind: str) -> None:
    steering = Steering(movable[kind], Hookpoint(f"{LAYERS[kind]}.1"), sae())
    check_against_sweep(steering, PROMPTS, range(6))


def check_against_sweep(steering: Steering, prompts: Padded, latents: Any) -> None:
    read = Prompts(steering, prompts)
    grid = np.geomspace(1e-3, 1e4, 120) * read.norm
    found = calibrate(steering, prompts, list(latents))
    assert len(found) == len(latents) * len(TARGETS)
    for one in found:
        swept = read.kl(torch.tensor(grid, dtype=torch.float32)[:, None] * steering.direction(one.latent)).numpy()
        if swept.max() >= one.target:
            assert abs(one.kl / one.target - 1) <= 0.1, one
            assert one.status in ("ok", "nonmonotone")
        elif swept.max() < 0.9 * one.target:
            assert one.status in ("saturated", "nonmonotone"), one
            assert one.kl >= 0.85 * swept.max()
        again = kl_by_forward_passes(steering, prompts, one.latent, one.strength)
        assert again == pytest.approx(one.kl, rel=1e-3)


def test_the_fixture_subjects_latents_meet_what_a_dense_sweep_reaches() -> None:
    folder = fixture("subject")
    settings = CoderSettings(name="sae", hookpoint="model.layers.1", path=str(folder / "sae"))
    coder = registry.load("coders", settings.kind).load(settings, Path(), "cpu")
    model = Traced(load_model(find_model(str(folder), None, Path()), "float32", "cpu"))
    prompts = pad_left([[1, 50 + 3 * n, 90 + n, 200 - n][: 2 + n % 3] for n in range(6)])
    check_against_sweep(Steering(model, Hookpoint("model.layers.1"), coder), prompts, range(0, 24, 4))


def test_a_latent_is_the_same_alone_and_among_others(movable: dict[str, Traced]) -> None:
    steering = Steering(movable["llama"], Hookpoint("model.layers.0"), sae())
    together = calibrate(steering, PROMPTS, [3, 4, 5], CalibrationSettings(rows=5))
    alone = calibrate(steering, PROMPTS, [4])
    for one, other in zip([found for found in together if found.latent == 4], alone, strict=True):
        assert one.status == other.status
        assert one.strength == pytest.approx(other.strength, rel=1e-2)


def test_a_direction_taken_away_is_calibrated_on_its_own(movable: dict[str, Traced]) -> None:
    steering = Steering(movable["llama"], Hookpoint("model.layers.0"), sae())
    [found] = calibrate(steering, PROMPTS, [3], CalibrationSettings(targets=(0.1,), sign=-1))
    assert kl_by_forward_passes(steering, PROMPTS, 3, -found.strength) == pytest.approx(found.kl, rel=1e-3)


def test_blocks_below_the_hookpoint_do_not_run_again(movable: dict[str, Traced]) -> None:
    ran: list[int] = []
    steering = Steering(movable["llama"], Hookpoint("model.layers.1.mlp"), sae())
    read = Prompts(steering, PROMPTS)
    layers: Any = movable["llama"].model.get_submodule("model.layers")
    hooks = [
        layer.self_attn.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, layer in enumerate(layers)
    ]
    read.kl(torch.ones(2, 16))
    for hook in hooks:
        hook.remove()
    assert ran == [1, 2]


def test_strengths_beyond_numbers_have_a_status(movable: dict[str, Traced]) -> None:
    steering = Steering(movable["llama"], Hookpoint("model.layers.1"), sae())
    assert torch.isnan(Prompts(steering, PROMPTS).kl(torch.full((1, 16), torch.inf))).all()


@pytest.mark.real_data
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared data")
@pytest.mark.parametrize("layer", [0, 2, 4])
def test_stories260k_meets_what_a_dense_sweep_reaches(layer: int) -> None:
    model = Traced(load_model(find_model(str(DATA / "stories260K"), None, Path()), "float32", "cpu"))
    prompts = pad_left([[1, 403, 407, 261], [1, 300 + layer], [1, 310, 320, 330, 340]])
    check_against_sweep(Steering(model, Hookpoint(f"model.layers.{layer}"), sae(64)), prompts, range(6))
