"""SAEs that SAELens itself writes and reads: the same latents and reconstructions on both sides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.errors import CoderError
from harness.subject.coders.release import ReleaseCoder
from harness.subject.coders.sae import SAECoder
from harness.subject.coders.saelens import save_saelens
from harness.subject.coders.sparse import SparseWeights
from harness.task import CoderSettings

pytestmark = [pytest.mark.foreign, pytest.mark.filterwarnings("ignore")]

D, OUT, F, K = 12, 9, 40, 5
NORMALIZATIONS = ["none", "layer_norm", "constant_norm_rescale"]


def randomize(module: Any, positive: tuple[str, ...] = ("threshold",)) -> Any:
    """Random weights instead of the library's initial ones, which are zero in many places."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            made = torch.randn(parameter.shape, generator=draw)
            parameter.copy_(made.abs() if name in positive else made / 2)
    return module


def both(theirs: Any, folder: Path, *, whole: bool = False) -> None:
    """Latents and reconstruction of what was saved, by both sides; `whole` compares their forward pass."""
    settings = CoderSettings(name="sae", hookpoint="h", input=True, path=str(folder))
    coder = SAECoder.load(settings, Path())
    x = torch.randn(33, D, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        acts = theirs.encode(x).to_dense()
        made = theirs(x) if whole else theirs.decode(theirs.encode(x))
    rows = coder.encode(x)
    found = np.zeros((33, F), np.float32)
    found[np.repeat(np.arange(33), np.diff(rows.indptr)), rows.latents] = rows.values
    assert (acts > 0).any()
    np.testing.assert_allclose(found, acts.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(coder.decode(rows, x).numpy(), made.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ["standard", "gated", "topk", "topk by decoder norm", "jumprelu"])
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@pytest.mark.parametrize("subtract", [True, False])
def test_what_sae_lens_saves_is_read(tmp_path: Path, architecture: str, normalize: str, subtract: bool) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    settings: dict[str, Any] = {
        "d_in": D,
        "d_sae": F,
        "normalize_activations": normalize,
        "apply_b_dec_to_input": subtract,
        "device": "cpu",
    }
    made: Any = {
        "standard": lambda: sae_lens.StandardSAE(sae_lens.StandardSAEConfig(**settings)),
        "gated": lambda: sae_lens.GatedSAE(sae_lens.GatedSAEConfig(**settings)),
        "topk": lambda: sae_lens.TopKSAE(sae_lens.TopKSAEConfig(**settings, k=K)),
        "topk by decoder norm": lambda: sae_lens.TopKSAE(
            sae_lens.TopKSAEConfig(**settings, k=K, rescale_acts_by_decoder_norm=True)
        ),
        "jumprelu": lambda: sae_lens.JumpReLUSAE(sae_lens.JumpReLUSAEConfig(**settings)),
    }[architecture]()
    randomize(made).save_model(tmp_path)
    both(sae_lens.SAE.load_from_disk(tmp_path, device="cpu"), tmp_path)


@pytest.mark.parametrize("name", ["Transcoder", "SkipTranscoder", "JumpReLUTranscoder", "JumpReLUSkipTranscoder"])
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_transcoders_that_sae_lens_saves_are_read(tmp_path: Path, name: str, normalize: str) -> None:
    pytest.importorskip("sae_lens")
    from sae_lens.saes import transcoder  # pyright: ignore[reportMissingImports] - in the foreign environment alone

    config = getattr(transcoder, f"{name}Config")(
        d_in=D, d_out=OUT, d_sae=F, normalize_activations=normalize, apply_b_dec_to_input=False, device="cpu"
    )
    made = randomize(getattr(transcoder, name)(config))
    made.save_model(tmp_path)
    both(made.eval(), tmp_path, whole=True)


@pytest.mark.parametrize("name", ["BatchTopK", "MatryoshkaBatchTopK"])
@pytest.mark.parametrize("by_norm", [True, False])
@pytest.mark.parametrize("trained", [True, False])
def test_batch_top_k_is_read_while_trained_and_after(tmp_path: Path, name: str, by_norm: bool, trained: bool) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    more: dict[str, Any] = {"matryoshka_widths": [10, F]} if name == "MatryoshkaBatchTopK" else {}
    config = getattr(sae_lens, f"{name}TrainingSAEConfig")(
        d_in=D, d_sae=F, k=float(K), rescale_acts_by_decoder_norm=by_norm, device="cpu", **more
    )
    made = randomize(getattr(sae_lens, f"{name}TrainingSAE")(config))
    made.topk_threshold.fill_(1.5)
    made.save_inference_model(tmp_path / "after")
    made.save_model(tmp_path / "while")
    theirs = sae_lens.SAE.load_from_disk(tmp_path / "after", device="cpu")
    if not trained:
        both(theirs, tmp_path / "after")
        return
    # a checkpoint holds the same parameters before decoder norms are folded into them
    x = torch.randn(33, D)
    coder = SAECoder.load(CoderSettings(name="sae", hookpoint="h", path=str(tmp_path / "while")), Path())
    with torch.no_grad():
        expected = theirs.decode(theirs.encode(x))
    np.testing.assert_allclose(coder.decode(coder.encode(x), x).numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("function", ["relu", "topk"])
def test_configurations_from_before_version_6_are_read_alike(tmp_path: Path, function: str) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    config = {"StandardSAE": sae_lens.StandardSAEConfig(d_in=D, d_sae=F, device="cpu")}["StandardSAE"]
    randomize(sae_lens.StandardSAE(config)).save_model(tmp_path)
    old = {
        "d_in": D,
        "d_sae": F,
        "dtype": "float32",
        "activation_fn_str": function,
        "activation_fn_kwargs": {"k": K} if function == "topk" else {},
        "hook_point": "blocks.1.hook_resid_post",
        "model_name": "gpt2-small",
        "normalize_activations": False,
        "context_size": 128,
        "prepend_bos": True,
    }
    (tmp_path / "cfg.json").write_text(json.dumps(old), encoding="utf-8")
    both(sae_lens.SAE.load_from_disk(tmp_path, device="cpu"), tmp_path)


def test_a_release_is_loaded_by_sae_lens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    from huggingface_hub.utils import EntryNotFoundError
    from sae_lens.loading import pretrained_sae_loaders  # pyright: ignore[reportMissingImports]

    hook = "blocks.6.hook_resid_pre"
    made = randomize(sae_lens.StandardSAE(sae_lens.StandardSAEConfig(d_in=D, d_sae=F, device="cpu")))
    made.save_model(tmp_path / hook)
    old = {"d_in": D, "d_sae": F, "dtype": "torch.float32", "model_name": "gpt2-small", "hook_point": hook}
    (tmp_path / hook / "cfg.json").write_text(json.dumps(old | {"context_size": 128}), encoding="utf-8")

    def local(repo_id: str, filename: str, **_: Any) -> str:
        if not (tmp_path / filename).is_file():
            raise EntryNotFoundError(filename)
        return str(tmp_path / filename)

    monkeypatch.setattr(pretrained_sae_loaders, "hf_hub_download", local)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path / ("a" * 40)))
    settings = CoderSettings(
        name="jb", kind="sae-lens-release", hookpoint="transformer.h.5", path=f"gpt2-small-res-jb:{hook}"
    )
    info = ReleaseCoder.describe(settings, Path())
    assert info.revision == f"{'a' * 40}:gpt2-small-res-jb:{hook}"
    assert (info.claims.hook, info.claims.context, info.claims.model) == (hook, 128, "gpt2-small")
    # the release's table knows what its files do not say
    assert dict(info.claims.settings) == {"center_writing_weights": True}
    assert info.claims.published.l0 is not None
    x = torch.randn(20, D)
    coder = ReleaseCoder.load(settings, Path(), info=info)
    with torch.no_grad():
        expected = made.decode(made.encode(x))
    np.testing.assert_allclose(coder.decode(coder.encode(x), x).numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)
    for path, told in (
        ("gpt2-small-res-jc:x", r'no release "gpt2-small-res-jc"; did you mean "gpt2-small-res-'),
        ("gpt2-small-res-jb:blocks.6.hook_resid_pr", r'has no SAE "blocks\.6\.hook_resid_pr"; did you mean'),
    ):
        with pytest.raises(CoderError, match=told):
            ReleaseCoder.describe(settings.model_copy(update={"path": path}), Path())


@pytest.mark.parametrize("activation", ["relu", "topk", "jumprelu"])
def test_sae_lens_reads_what_is_saved_here(tmp_path: Path, activation: Any) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    draw = torch.Generator().manual_seed(1)
    w_enc, w_dec = torch.randn(D, F, generator=draw), torch.randn(F, D, generator=draw)
    threshold = torch.rand(F, generator=draw) if activation == "jumprelu" else None
    weights = SparseWeights(w_enc, torch.randn(F), w_dec, torch.randn(D), activation, K, threshold)
    save_saelens(tmp_path, weights, {"hook_name": "model.layers.1", "model_name": "made"})
    both(sae_lens.SAE.load_from_disk(tmp_path, device="cpu"), tmp_path)
