"""Formats against the libraries that write or read them: the same latents and reconstructions within 1e-5."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness.subject.coders.sae import SAECoder
from harness.subject.coders.sparse import SparseCoder
from harness.task import CoderSettings

pytestmark = [pytest.mark.foreign, pytest.mark.filterwarnings("ignore")]

D, F, K = 12, 40, 5


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def randomize(module: Any) -> Any:
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=number))
    return module


def load(path: Path, **settings: Any) -> SparseCoder:
    return SAECoder.load(CoderSettings(name="made", hookpoint="m", path=str(path), **settings), Path())


def same(coder: SparseCoder, acts: torch.Tensor, made: torch.Tensor, x: torch.Tensor) -> None:
    rows = coder.encode(x)
    found = np.zeros((len(x), F), np.float32)
    found[np.repeat(np.arange(len(x)), np.diff(rows.indptr)), rows.latents] = rows.values
    assert (acts > 0).any()
    np.testing.assert_allclose(found, acts.detach().numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(coder.decode(rows, x).numpy(), made.detach().numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ["topk", "groupmax"])
@pytest.mark.parametrize(("transcode", "skip"), [(False, False), (True, False), (True, True)])
def test_sparsify(tmp_path: Path, activation: Any, transcode: bool, skip: bool) -> None:
    sparsify = pytest.importorskip("sparsify")
    config = sparsify.SparseCoderConfig(
        activation=activation, num_latents=F, k=K, transcode=transcode, skip_connection=skip
    )
    theirs = randomize(sparsify.SparseCoder(D, config))
    theirs.save_to_disk(tmp_path)
    x = draw(33, D)
    top, indices, _ = theirs.encode(x)
    acts = torch.zeros(33, F).scatter(-1, indices, top)
    same(load(tmp_path, input=transcode), acts, theirs(x).sae_out, x)


def test_sparsify_whose_width_is_a_multiple(tmp_path: Path) -> None:
    sparsify = pytest.importorskip("sparsify")
    theirs = randomize(sparsify.SparseCoder(10, sparsify.SparseCoderConfig(expansion_factor=4, k=K)))
    theirs.save_to_disk(tmp_path)
    assert json.loads((tmp_path / "cfg.json").read_text())["num_latents"] == 0
    x = draw(33, 10)
    top, indices, _ = theirs.encode(x)
    same(load(tmp_path), torch.zeros(33, F).scatter(-1, indices, top), theirs(x).sae_out, x)


@pytest.mark.parametrize(
    "kind",
    [
        "AutoEncoder",
        "AutoEncoderNew",
        "GatedAutoEncoder",
        "JumpReluAutoEncoder",
        "AutoEncoderTopK",
        "BatchTopKSAE",
        "MatryoshkaBatchTopKSAE",
    ],
)
def test_dictionary_learning(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("dictionary_learning")
    from dictionary_learning import dictionary  # pyright: ignore[reportMissingImports] - in the foreign environment
    from dictionary_learning.trainers import (  # pyright: ignore[reportMissingImports]
        batch_top_k,
        matryoshka_batch_top_k,
        top_k,
    )

    more: dict[str, Any] = {"k": K} if "TopK" in kind else {}
    if kind.startswith("Matryoshka"):
        more["group_sizes"] = [10, 30]
    module = next(m for m in (dictionary, top_k, batch_top_k, matryoshka_batch_top_k) if hasattr(m, kind))
    theirs = randomize(getattr(module, kind)(D, F, **more))
    if hasattr(theirs, "threshold"):
        theirs.threshold.data = theirs.threshold.data.abs()
    torch.save(theirs.state_dict(), tmp_path / "ae.pt")
    config = {"trainer": {"dict_class": kind, "layer": 3, "submodule_name": "resid_post_layer_3"}, "buffer": {}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    x = draw(33, D)
    acts = theirs.encode(x)
    same(load(tmp_path), acts, theirs.decode(acts), x)


def local_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Any:
    """SAELens' loaders, with files from a folder in place of the Hub's."""
    loaders = pytest.importorskip("sae_lens.loading.pretrained_sae_loaders")
    monkeypatch.setattr(
        loaders,
        "hf_hub_download",
        lambda repo_id, filename, subfolder=None, **_: str(folder / (subfolder or "") / filename),
    )
    return loaders


def sae_of(config: dict[str, Any], state: dict[str, torch.Tensor]) -> Any:
    sae_lens = pytest.importorskip("sae_lens")
    made = sae_lens.JumpReLUSAE(
        sae_lens.JumpReLUSAEConfig(d_in=D, d_sae=F, apply_b_dec_to_input=config["apply_b_dec_to_input"], device="cpu")
    )
    made.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return made


def test_llama_scope_as_sae_lens_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "Llama3_1-8B-Base-L15R-8x"
    (tmp_path / name / "checkpoints").mkdir(parents=True)
    config = {
        "d_model": D,
        "d_sae": F,
        "hook_point_in": "blocks.15.hook_resid_post",
        "hook_point_out": "blocks.15.hook_resid_post",
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.4,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": 7.5, "out": 7.5},
    }
    (tmp_path / name / "hyperparams.json").write_text(json.dumps(config), encoding="utf-8")
    weights = {
        "encoder.weight": draw(F, D),
        "encoder.bias": draw(F),
        "decoder.weight": draw(D, F),
        "decoder.bias": draw(D),
    }
    save_file(weights, tmp_path / name / "checkpoints" / "final.safetensors")
    loaders = local_hub(monkeypatch, tmp_path)
    settings, state, _ = loaders.llama_scope_sae_huggingface_loader(
        "fnlp/Llama3_1-8B-Base-LXR-8x", name, cfg_overrides={"dtype": "float32"}
    )
    theirs = sae_of(settings, state)
    theirs.fold_activation_norm_scaling_factor(D**0.5 / 7.5)
    x = draw(33, D)
    acts = theirs.encode(x)
    same(load(tmp_path / name), acts, theirs.decode(acts), x)


def test_gemma_scope_as_sae_lens_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = "layer_20/width_16k/average_l0_71"
    (tmp_path / folder).mkdir(parents=True)
    weights = {
        "W_enc": draw(D, F),
        "b_enc": draw(F),
        "W_dec": draw(F, D),
        "b_dec": draw(D),
        "threshold": draw(F).abs(),
    }
    np.savez(tmp_path / folder / "params.npz", **{name: tensor.numpy() for name, tensor in weights.items()})  # type: ignore[arg-type] - arrays by name
    loaders = local_hub(monkeypatch, tmp_path)
    settings, state, _ = loaders.gemma_2_sae_huggingface_loader("google/gemma-scope-2b-pt-res", folder)
    theirs = sae_of(settings, state)
    x = draw(33, D)
    acts = theirs.encode(x)
    same(load(tmp_path / folder), acts, theirs.decode(acts), x)
