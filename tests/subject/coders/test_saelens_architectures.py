"""SAELens' gated SAEs, transcoders and unfinished batch top-k SAEs against their formulas; tiles stay small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness.store import Rows
from harness.subject.coders import tiles
from harness.subject.coders.protocol import CoderInfo
from harness.subject.coders.sae import SAECoder
from harness.subject.coders.sparse import SparseCoder, SparseWeights
from harness.subject.hookpoints import Hookpoint
from harness.task import CoderSettings

D, OUT, F, K = 6, 5, 23, 4


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def write(folder: Path, config: dict[str, Any], weights: dict[str, np.ndarray]) -> CoderSettings:
    (folder / "cfg.json").write_text(json.dumps({"d_in": D, "d_sae": F} | config), encoding="utf-8")
    save_file({name: torch.from_numpy(value.copy()) for name, value in weights.items()}, folder / "any.safetensors")
    return CoderSettings(name="made", hookpoint="m", input=True, path=str(folder))


def dense(rows: Rows) -> np.ndarray:
    found = np.zeros((len(rows.indptr) - 1, F), np.float32)
    found[np.repeat(np.arange(len(found)), np.diff(rows.indptr)), rows.latents] = rows.values
    return found


def agree(settings: CoderSettings, x: np.ndarray, acts: np.ndarray, made: np.ndarray) -> None:
    coder = SAECoder.load(settings, Path())
    rows = coder.encode(torch.from_numpy(x))
    np.testing.assert_allclose(dense(rows), acts, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(coder.decode(rows, torch.from_numpy(x)).numpy(), made, rtol=1e-4, atol=1e-4)


@pytest.fixture(autouse=True, params=[(2048, 8192), (3, 5)])
def small_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in one tile, and in many."""
    monkeypatch.setattr(tiles, "_TOKENS", request.param[0])
    monkeypatch.setattr(tiles, "_LATENTS", request.param[1])


def test_a_gated_sae(tmp_path: Path) -> None:
    w = {
        "W_enc": draw(D, F),
        "W_dec": draw(F, D),
        "b_dec": draw(D),
        "b_gate": draw(F),
        "b_mag": draw(F + 1)[:F],
        "r_mag": draw(F + 2)[:F],
    }
    x = draw(17, D)
    shared = (x - w["b_dec"]) @ w["W_enc"]
    acts = (shared + w["b_gate"] > 0) * np.maximum(shared * np.exp(w["r_mag"]) + w["b_mag"], 0)
    agree(write(tmp_path, {"architecture": "gated"}, w), x, acts, acts @ w["W_dec"] + w["b_dec"])


@pytest.mark.parametrize("architecture", ["transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"])
@pytest.mark.parametrize("normalize", ["none", "layer_norm"])
def test_a_transcoder_reads_one_width_and_predicts_another(tmp_path: Path, architecture: str, normalize: str) -> None:
    w = {"W_enc": draw(D, F), "b_enc": draw(F), "W_dec": draw(F, OUT), "b_dec": draw(OUT)}
    if "jumprelu" in architecture:
        w["threshold"] = np.abs(draw(F))
    if "skip" in architecture:
        w["W_skip"] = draw(OUT, D)
    config = {
        "architecture": architecture,
        "d_out": OUT,
        "apply_b_dec_to_input": False,
        "normalize_activations": normalize,
        "metadata": {"hook_name": "blocks.1.ln2.hook_normalized", "hook_name_out": "blocks.1.hook_mlp_out"},
    }
    settings = write(tmp_path, config, w)
    x = draw(17, D)
    y = x
    if normalize == "layer_norm":
        y = (x - x.mean(-1, keepdims=True)) / (x.std(-1, ddof=1, keepdims=True) + 1e-5)
    before = y @ w["W_enc"] + w["b_enc"]
    acts = np.maximum(before, 0) * (before > w.get("threshold", np.zeros(F)))
    # what normalisation took is not put back, and the skip connection reads what came in
    made = acts @ w["W_dec"] + w["b_dec"] + (x @ w["W_skip"].T if "W_skip" in w else 0)
    agree(settings, x, acts, made)
    info = SAECoder.describe(settings, Path())
    assert (info.d_in, info.d_out, info.d_decoder, info.target) == (D, OUT, OUT, Hookpoint("m"))
    assert (info.claims.hook, info.claims.target) == ("blocks.1.ln2.hook_normalized", "blocks.1.hook_mlp_out")


@pytest.mark.parametrize("by_norm", [False, True])
def test_batch_top_k_saved_while_trained_fires_above_its_threshold(tmp_path: Path, by_norm: bool) -> None:
    w = {"W_enc": draw(D, F), "b_enc": draw(F), "W_dec": draw(F, D), "b_dec": draw(D)}
    config = {"architecture": "batchtopk", "k": 3.5, "rescale_acts_by_decoder_norm": by_norm}
    settings = write(tmp_path, config, w | {"topk_threshold": np.array(1.2, np.float64)})
    x = draw(17, D)
    norms = np.linalg.norm(w["W_dec"], axis=1) if by_norm else np.ones(F, np.float32)
    before = ((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]) * norms
    acts = np.maximum(before, 0) * (before > 1.2)
    agree(settings, x, acts, (acts / norms) @ w["W_dec"] + w["b_dec"])


class Watched(SparseCoder):
    """Remembers the largest tile that it made."""

    largest = 0

    def _tile(self, inputs: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        found = super()._tile(inputs, start, stop)
        self.largest = max(self.largest, found.numel())
        return found


@pytest.mark.parametrize("activation", ["relu", "topk", "jumprelu", "groupmax"])
def test_pre_activations_are_never_held_beyond_a_tile(monkeypatch: pytest.MonkeyPatch, activation: Any) -> None:
    monkeypatch.setattr(tiles, "_TOKENS", 10)
    monkeypatch.setattr(tiles, "_LATENTS", 16)
    weights = SparseWeights(
        torch.from_numpy(draw(D, 128)),
        torch.zeros(128),
        torch.from_numpy(draw(128, D)),
        torch.zeros(D),
        activation,
        8,
        torch.ones(128),
    )
    coder = Watched(CoderInfo(128, D, D, "m", ""), weights)
    rows = coder.encode(torch.from_numpy(draw(95, D)))
    assert len(rows.indptr) == 96
    assert coder.largest == 160


@pytest.mark.parametrize("k", [1, 2, 4])
def test_groups_are_the_same_however_they_are_tiled(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    monkeypatch.setattr(tiles, "_LATENTS", 7)
    w_enc = draw(D, 24)
    weights = SparseWeights(
        torch.from_numpy(w_enc),
        torch.zeros(24),
        torch.zeros(24, D),
        torch.zeros(D),
        "groupmax",
        k,
        subtract_b_dec=False,
    )
    x = draw(30, D)
    rows = SparseCoder(CoderInfo(24, D, D, "m", ""), weights).encode(torch.from_numpy(x))
    groups = (x @ w_enc).reshape(30, k, 24 // k)
    assert len(rows.latents) == (groups.max(-1) > 0).sum()
    assert ((rows.latents // (24 // k))[:3] < k).all()
    np.testing.assert_allclose(np.sort(rows.values), np.sort(groups.max(-1)[groups.max(-1) > 0]), rtol=1e-5)
