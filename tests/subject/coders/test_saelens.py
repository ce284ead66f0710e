"""SAELens' format: every supported combination against a formula written out, and every refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness.errors import CoderError
from harness.store import Rows
from harness.subject.coders import tiles
from harness.subject.coders.protocol import ActivationCoder
from harness.subject.coders.sae import SAECoder
from harness.subject.coders.saelens import save_saelens
from harness.subject.coders.sparse import SparseCoder, SparseWeights
from harness.task import CoderSettings

D, F, K = 6, 23, 4


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (D, F), "b_enc": (F,), "W_dec": (F, D), "b_dec": (D,), "threshold": (F,)}
    found = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    return found | {"threshold": found["threshold"].abs()}


def write(folder: Path, config: dict[str, Any], weights: dict[str, torch.Tensor] | None = None) -> CoderSettings:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps({"d_in": D, "d_sae": F} | config), encoding="utf-8")
    kept = tensors() if weights is None else weights
    if config.get("architecture") != "jumprelu":
        kept = {name: tensor for name, tensor in kept.items() if name != "threshold"}
    save_file(kept, folder / "sae_weights.safetensors")
    return CoderSettings(name="made", hookpoint="model.layers.1", path=str(folder))


def dense(rows: Rows, width: int = F) -> np.ndarray:
    found = np.zeros((len(rows.indptr) - 1, width), np.float64)
    for row in range(len(found)):
        part = slice(rows.indptr[row], rows.indptr[row + 1])
        assert (np.diff(rows.latents[part]) > 0).all()
        found[row, rows.latents[part]] = rows.values[part]
    return found


def by_formula(x: np.ndarray, config: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Latents and reconstruction of one activation, from the format's description, in float64."""
    w = {name: tensor.double().numpy() for name, tensor in tensors().items()}
    mean, scale, small = 0.0, 1.0, 0.0
    if config.get("normalize_activations") == "layer_norm":
        mean, scale, small = x.mean(), x.std(ddof=1), 1e-5
    if config.get("normalize_activations") == "constant_norm_rescale":
        scale = np.sqrt((x**2).sum()) / np.sqrt(len(x))
    y = (x - mean) / (scale + small)
    if config.get("apply_b_dec_to_input", True):
        y = y - w["b_dec"]
    norms = np.sqrt((w["W_dec"] ** 2).sum(1)) if config.get("rescale_acts_by_decoder_norm") else np.ones(F)
    before = np.array([(y @ w["W_enc"][:, j] + w["b_enc"][j]) * norms[j] for j in range(F)])
    acts = np.maximum(before, 0)
    if "k" in config or "activation_fn_kwargs" in config:
        acts[np.argsort(-before)[K:]] = 0
    if config.get("architecture") == "jumprelu":
        acts[before <= w["threshold"]] = 0
    return acts, ((acts / norms) @ w["W_dec"] + w["b_dec"]) * scale + mean


CONFIGS: dict[str, dict[str, Any]] = {
    "relu": {"architecture": "standard", "metadata": {"sae_lens_version": "6.0.0"}},
    "relu without b_dec": {"architecture": "standard", "apply_b_dec_to_input": False, "normalize_activations": "none"},
    "relu, layer norm": {"architecture": "standard", "normalize_activations": "layer_norm"},
    "relu, constant norm": {"architecture": "standard", "normalize_activations": "constant_norm_rescale"},
    "topk": {"architecture": "topk", "k": K, "normalize_activations": None},
    "topk, decoder norms": {"architecture": "topk", "k": K, "rescale_acts_by_decoder_norm": True},
    "jumprelu": {"architecture": "jumprelu", "apply_b_dec_to_input": False},
    "before 6: relu": {"activation_fn_str": "relu", "hook_point": "blocks.1.hook_resid_post"},
    "before 6: topk": {"architecture": "standard", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}},
    "before 6: topk by name": {"architecture": "topk", "activation_fn": "topk", "activation_fn_kwargs": {"k": K}},
    "before 6: heads": {"architecture": "standard", "reshape_activations": "hook_z"},
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("sizes", [(2048, 8192), (3, 5)])
def test_an_sae_computes_what_its_format_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sizes: tuple[int, int]
) -> None:
    monkeypatch.setattr(tiles, "_TOKENS", sizes[0])
    monkeypatch.setattr(tiles, "_LATENTS", sizes[1])
    coder = SAECoder.load(write(tmp_path, CONFIGS[name]), Path())
    assert isinstance(coder, ActivationCoder)
    x = torch.randn(17, D, generator=torch.Generator().manual_seed(1)) * 2
    rows = coder.encode(x)
    expected = [by_formula(row, CONFIGS[name]) for row in x.double().numpy()]
    found = dense(rows)
    assert ((found > 0) == (np.stack([acts for acts, _ in expected]) > 0)).all()
    np.testing.assert_allclose(found, np.stack([acts for acts, _ in expected]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(coder.decode(rows, x), np.stack([made for _, made in expected]), rtol=1e-4, atol=1e-4)
    assert (rows.values > 0).all()


def test_a_jumprelu_latent_fires_strictly_above_its_threshold(tmp_path: Path) -> None:
    weights = {
        "W_enc": torch.ones(D, F) / D,
        "b_enc": torch.zeros(F),
        "W_dec": torch.ones(F, D),
        "b_dec": torch.zeros(D),
        "threshold": torch.full((F,), 2.0),
    }
    coder = SAECoder.load(write(tmp_path, CONFIGS["jumprelu"], weights), Path())
    x = torch.zeros(3, D)
    x[:, 0] = torch.tensor([1.5, 2.0, 2.5]) * D
    assert np.diff(coder.encode(x).indptr).tolist() == [0, 0, F]


def test_half_precision_weights_and_activations_are_widened(tmp_path: Path) -> None:
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in tensors().items()}
    coder = SAECoder.load(write(tmp_path, CONFIGS["topk"], weights), Path())
    x = torch.randn(5, D).to(torch.bfloat16)
    assert coder.encode(x).values.dtype == np.float32
    assert (dense(coder.encode(x)) == dense(coder.encode(x.float()))).all()


def test_nothing_in_gives_nothing_out(tmp_path: Path) -> None:
    coder = SAECoder.load(write(tmp_path, CONFIGS["relu"]), Path())
    rows = coder.encode(torch.zeros(0, D))
    assert rows.indptr.tolist() == [0]
    silent = coder.encode(torch.full((2, D), -1e4) * torch.sign(tensors()["W_enc"].sum(1)))
    assert coder.decode(rows, torch.zeros(0, D)).shape == (0, D)
    assert len(silent.indptr) == 3


def test_a_saved_sae_is_read_back(tmp_path: Path) -> None:
    w = tensors()
    for activation, threshold in (("relu", None), ("topk", None), ("jumprelu", w["threshold"])):
        weights = SparseWeights(
            w["W_enc"], w["b_enc"], w["W_dec"], w["b_dec"], activation, K if activation == "topk" else 0, threshold
        )
        folder = tmp_path / activation
        save_saelens(folder, weights, {"hook_name": "model.layers.1"})
        settings = CoderSettings(name="saved", hookpoint="model.layers.1", path=activation)
        coder = SAECoder.load(settings, tmp_path)
        x = torch.randn(9, D)
        found, expected = coder.encode(x), SparseCoder(coder.info, weights).encode(x)
        for part in ("indptr", "latents", "values"):
            assert (getattr(found, part) == getattr(expected, part)).all()
        assert json.loads((folder / "cfg.json").read_text())["metadata"]["sae_lens_version"] == "6.0.0"


def test_what_is_known_without_weights(tmp_path: Path) -> None:
    settings = write(tmp_path / "a", CONFIGS["topk"])
    info = SAECoder.describe(settings, Path())
    assert (info.n_latents, info.d_in, info.d_decoder, info.hookpoint) == (F, D, D, "model.layers.1")
    before = settings.model_copy(update={"input": True})
    assert SAECoder.describe(before, Path()).hookpoint == "model.layers.1:input"
    other = write(tmp_path / "b", CONFIGS["topk"], tensors(1))
    assert SAECoder.describe(other, Path()).revision != info.revision
    same = write(tmp_path / "c", CONFIGS["topk"])
    assert SAECoder.describe(same, Path()).revision == info.revision


def test_the_decoder_is_given_in_half_precision(tmp_path: Path) -> None:
    coder = SAECoder.load(write(tmp_path, CONFIGS["relu"]), Path())
    assert coder.decoder.dtype == np.float16
    np.testing.assert_allclose(coder.decoder, tensors()["W_dec"], rtol=1e-3)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"architecture": "temporal"}, 'architecture "temporal" is not known; known are: batchtopk, gated, jumprelu'),
        ({"architecture": "transcoder"}, "d_out has to be a whole number above 0, not None"),
        ({"architecture": "transcoder", "d_out": D, "apply_b_dec_to_input": True}, "cannot be true for a transcoder"),
        ({"metadata": {"hook_head_index": 3}}, r"hook_head_index \(3\) is not supported"),
        ({"activation_fn_str": "tanh-relu"}, 'activation function "tanh-relu" is not known'),
        ({"normalize_activations": "expected_average_only_in"}, '"expected_average_only_in" is not supported: fold'),
        ({"normalize_activations": True}, '"expected_average_only_in" is not supported'),
        ({"reshape_activations": "other"}, 'reshape_activations "other" is not known'),
        ({"finetuning_scaling_factor": True}, "finetuning_scaling_factor is not supported"),
        ({"architecture": "topk"}, "k has to be a whole number above 0, not None"),
        ({"d_in": "wide"}, "d_in has to be a whole number above 0, not 'wide'"),
        ({"d_sae": F + 1}, r"W_enc has shape \[6, 23\], and cfg.json \(d_in, d_sae\) wants \[6, 24\]"),
        ({"architecture": "jumprelu", "d_in": D, "missing": True}, 'the tensor "threshold" is missing'),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path: Path, config: dict[str, Any], expected: str) -> None:
    weights = tensors()
    if config.pop("missing", False):
        del weights["threshold"]
    settings = write(tmp_path, config, weights)
    with pytest.raises(CoderError, match=expected):
        SAECoder.describe(settings, Path())


def test_a_scaling_factor_in_the_weights_is_refused(tmp_path: Path) -> None:
    ones = write(tmp_path / "ones", CONFIGS["relu"], tensors() | {"scaling_factor": torch.ones(F)})
    SAECoder.load(ones, Path())
    twos = write(tmp_path / "twos", CONFIGS["relu"], tensors() | {"scaling_factor": torch.full((F,), 2.0)})
    with pytest.raises(CoderError, match="scaling_factor other than 1"):
        SAECoder.load(twos, Path())


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    broken = tensors()
    broken["W_enc"][1, 2] = float("nan")
    with pytest.raises(CoderError, match="W_enc holds values that are not finite"):
        SAECoder.load(write(tmp_path, CONFIGS["relu"], broken), Path())


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_file_is_told(tmp_path: Path, kept: int) -> None:
    settings = write(tmp_path, CONFIGS["relu"])
    weights = tmp_path / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(CoderError, match=r"sae_weights\.safetensors: .*truncated"):
        SAECoder.describe(settings, Path())


def test_other_broken_files_are_told(tmp_path: Path) -> None:
    settings = write(tmp_path, CONFIGS["relu"])
    weights = tmp_path / "sae_weights.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good + b"more")
    with pytest.raises(CoderError, match="longer than it says"):
        SAECoder.describe(settings, Path())
    weights.write_bytes((20).to_bytes(8, "little") + b"x" * 40)
    with pytest.raises(CoderError, match="its header is broken"):
        SAECoder.describe(settings, Path())
    weights.write_bytes(good)
    (tmp_path / "cfg.json").write_text("{", encoding="utf-8")
    with pytest.raises(CoderError, match=r"cfg\.json: not valid JSON"):
        SAECoder.describe(settings, Path())
    (tmp_path / "cfg.json").unlink()
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(CoderError, match="a Git LFS pointer"):
        SAECoder.describe(settings, Path())
    weights.unlink()
    with pytest.raises(CoderError, match=r'coder "made": .* holds no file of tensors'):
        SAECoder.describe(settings, Path())


@pytest.mark.parametrize("path", ["nowhere", "./nowhere:sub", "a b:c"])
def test_a_folder_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings = CoderSettings(name="made", hookpoint="model.layers.1", path=path)
    with pytest.raises(CoderError, match=r"no such folder|cannot be fetched"):
        SAECoder.describe(settings, tmp_path)
