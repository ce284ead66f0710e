"""Neurons, random SAEs and random directions: coders that are made, not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import registry
from harness.errors import CoderError, UserError
from harness.store import Rows
from harness.subject.coders import tiles
from harness.subject.coders.directions import unit_directions
from harness.subject.coders.protocol import ActivationCoder, CalibratedCoder
from harness.subject.collect import collect
from harness.task import CoderSettings, CorpusSettings, SubjectSettings

D = 7


def settings(kind: str, **more: Any) -> CoderSettings:
    return CoderSettings.model_validate({"name": "made", "kind": kind, "hookpoint": "m", "width": D, **more})


def coder(kind: str, **more: Any) -> Any:
    found = registry.load("coders", kind).load(settings(kind, **more), Path())
    assert isinstance(found, ActivationCoder)
    return found


def dense(rows: Rows, width: int) -> np.ndarray:
    found = np.zeros((len(rows.indptr) - 1, width), np.float32)
    for row in range(len(found)):
        part = slice(rows.indptr[row], rows.indptr[row + 1])
        assert (np.diff(rows.latents[part]) > 0).all()
        found[row, rows.latents[part]] = rows.values[part]
    return found


def activations(count: int = 40, width: int = D) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(5))


def strongest(values: np.ndarray, k: int) -> np.ndarray:
    kept = np.zeros_like(values)
    for row, one in enumerate(values):
        where = sorted(range(len(one)), key=lambda at: (-one[at], at))[:k]
        kept[row, where] = np.maximum(one[where], 0)
    return kept


@pytest.mark.parametrize("sizes", [(2048, 8192), (3, 2)])
@pytest.mark.parametrize("k", [None, 1, 3, 100])
@pytest.mark.parametrize("absolute", [False, True])
def test_neurons_are_coordinates(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int], k: int | None, absolute: bool
) -> None:
    monkeypatch.setattr(tiles, "_TOKENS", sizes[0])
    monkeypatch.setattr(tiles, "_LATENTS", sizes[1])
    x = activations()
    made = coder("neurons", k=k, absolute=absolute)
    rows = made.encode(x)
    values = np.abs(x.numpy()) if absolute else x.numpy()
    expected = strongest(values, k or D)
    assert (dense(rows, D) == expected).all()
    assert (made.decode(rows, x).numpy() == np.where(expected > 0, x.numpy(), 0)).all()
    assert made.decoder is None


@pytest.mark.parametrize("sizes", [(2048, 8192), (3, 2)])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_what_is_shared_goes_to_the_lower_number_however_it_is_tiled(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int], k: int
) -> None:
    monkeypatch.setattr(tiles, "_TOKENS", sizes[0])
    monkeypatch.setattr(tiles, "_LATENTS", sizes[1])
    x = torch.randint(-2, 4, (60, D), generator=torch.Generator().manual_seed(0)).float()
    assert (dense(coder("neurons", k=k).encode(x), D) == strongest(x.numpy(), k)).all()


def test_a_random_sae_has_unit_rows_and_its_encoder_is_its_decoder() -> None:
    drawn = unit_directions(30, D, 3).numpy()
    np.testing.assert_allclose((drawn**2).sum(1), 1, rtol=1e-5)
    made = coder("random-sae", latents=30, k=4, seed=3)
    x = activations()
    expected = strongest(x.numpy() @ drawn.T, 4)
    rows = made.encode(x)
    np.testing.assert_allclose(dense(rows, 30), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(made.decode(rows, x).numpy(), expected @ drawn, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made.decoder, drawn, rtol=1e-2, atol=1e-3)


def test_random_directions_are_spread_evenly() -> None:
    drawn = unit_directions(20_000, 3, 0).numpy()
    # a uniform direction in three dimensions has uniform coordinates (Archimedes)
    counts = np.histogram(drawn[:, 0], bins=10, range=(-1, 1))[0]
    assert abs(counts - 2_000).max() < 200


@pytest.mark.parametrize("rate", [0.01, 0.25, 0.8])
def test_random_directions_fire_at_their_rate(rate: float) -> None:
    made = coder("random-directions", latents=50, rate=rate, seed=1)
    assert isinstance(made, CalibratedCoder)
    x = activations(1000)
    made.see(x)
    made.settle()
    found = dense(made.encode(x), 50)
    assert ((found > 0).sum(0) == round(rate * 1000)).all()
    projections = x.numpy() @ unit_directions(50, D, 1).numpy().T
    for latent in range(50):
        fired = found[:, latent] > 0
        assert projections[fired, latent].min() > projections[~fired, latent].max()
        np.testing.assert_allclose(
            found[fired, latent],
            projections[fired, latent] - projections[~fired, latent].max(),
            rtol=1e-3,
            atol=1e-5,
        )
    again = coder("random-directions", latents=50, rate=rate, seed=1)
    again.see(x[:400])
    again.see(x[400:])
    again.settle()
    assert (again.thresholds == made.thresholds).all()


def test_each_direction_may_have_a_rate_of_its_own() -> None:
    made = coder("random-directions", latents=5, rate=[0.1, 0.5], seed=1)
    x = activations(1000)
    made.see(x)
    made.settle()
    assert (dense(made.encode(x), 5) > 0).sum(0).tolist() == [100, 500, 100, 500, 100]


def test_a_rare_direction_is_calibrated_on_as_many_tokens_as_it_needs() -> None:
    made = coder("random-directions", latents=3, rate=[0.005, 0.1, 0.002], seed=1)
    assert made.calibration == 50_000
    x = activations(60_000)
    for part in x.split(7_000):
        made.see(part)
    made.settle()
    projections = x.numpy() @ unit_directions(3, D, 1).numpy().T
    for latent, (tokens, fire) in enumerate([(20_000, 100), (10_000, 1_000), (50_000, 100)]):
        # the largest that stays silent
        threshold = np.sort(projections[:tokens, latent])[-fire - 1]
        assert made.thresholds[latent].item() == pytest.approx(threshold, abs=1e-6)


def test_too_few_tokens_for_a_rate_are_told() -> None:
    made = coder("random-directions", latents=5, rate=0.001)
    made.see(activations())
    with pytest.raises(CoderError, match=r"rate of 0\.001 on 40 tokens: give a corpus of at least 1000"):
        made.settle()


@pytest.mark.parametrize(
    ("kind", "more", "change"),
    [
        ("neurons", {}, {"k": 3}),
        ("neurons", {}, {"absolute": True}),
        ("random-sae", {"latents": 9, "k": 2}, {"seed": 1}),
        ("random-sae", {"latents": 9, "k": 2}, {"k": 3}),
        ("random-sae", {"latents": 9, "k": 2}, {"latents": 10}),
        ("random-directions", {"latents": 9, "rate": 0.1}, {"rate": 0.2}),
        ("random-directions", {"latents": 9, "rate": 0.1}, {"seed": 1}),
    ],
)
def test_what_decides_a_coder_is_in_its_revision(kind: str, more: dict[str, Any], change: dict[str, Any]) -> None:
    one = registry.load("coders", kind)
    info = one.describe(settings(kind, **more), Path())
    assert info == one.describe(settings(kind, **more), Path())
    assert info.revision != one.describe(settings(kind, **(more | change)), Path()).revision
    assert one.reconstructs is False


@pytest.mark.parametrize(
    ("kind", "more", "told"),
    [
        ("neurons", {"width": None}, r'coder "made": the kind "neurons" needs width'),
        ("neurons", {"seed": 3}, r'coder "made": seed means nothing to the kind "neurons"'),
        ("random-sae", {"latents": 5}, r'the kind "random-sae" needs k'),
        ("random-sae", {"k": 5}, r'the kind "random-sae" needs latents'),
        ("random-directions", {"latents": 5}, r'the kind "random-directions" needs rate'),
        ("random-directions", {"latents": 5, "rate": 0.1, "path": "x"}, r"path means nothing"),
    ],
)
def test_keys_that_are_missing_or_mean_nothing_are_named(kind: str, more: dict[str, Any], told: str) -> None:
    with pytest.raises(CoderError, match=told):
        registry.load("coders", kind).describe(settings(kind, **more), Path())


def test_they_are_collected_with_the_width_that_the_model_tells(
    model_folders: dict[str, Path], corpus_file: Path, tmp_path: Path
) -> None:
    subject = SubjectSettings(
        model=str(model_folders["gpt2"]), corpus=CorpusSettings(path=corpus_file), context=16, batch=4
    )
    made = [
        {"name": "all", "kind": "neurons", "hookpoint": "transformer.h.1.mlp.c_proj", "input": True},
        {"name": "few", "kind": "neurons", "hookpoint": "transformer.h.1.mlp.c_proj", "input": True, "k": 2},
        {"name": "sae", "kind": "random-sae", "hookpoint": "transformer.h.1", "latents": 20, "k": 3},
        {"name": "lines", "kind": "random-directions", "hookpoint": "transformer.h.1", "latents": 20, "rate": 0.1},
    ]
    store = collect(subject, [CoderSettings.model_validate(one) for one in made], tmp_path / "store")
    rows = {one.name: store.coder(one.name) for one in store.manifest.coders}
    assert {name: one.n_latents for name, one in rows.items()} == {"all": 64, "few": 64, "sae": 20, "lines": 20}


def test_a_width_that_is_not_known_is_asked_for(
    model_folders: dict[str, Path], corpus_file: Path, tmp_path: Path
) -> None:
    subject = SubjectSettings(model=str(model_folders["gpt2"]), corpus=CorpusSettings(path=corpus_file), context=16)
    odd = CoderSettings(name="odd", kind="neurons", hookpoint="transformer.h.1.attn.c_attn")
    with pytest.raises(UserError, match=r'coder "odd": the kind "neurons" needs width'):
        collect(subject, [odd], tmp_path / "store")
