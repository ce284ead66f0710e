"""SAEs that SAELens itself writes and reads: the same latents and reconstructions on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.subject.coders.sae import SAECoder
from harness.subject.coders.saelens import save_saelens
from harness.subject.coders.sparse import SparseWeights
from harness.task import CoderSettings

pytestmark = [pytest.mark.foreign, pytest.mark.filterwarnings("ignore")]

D, F, K = 12, 40, 5


def both(theirs: Any, folder: Path) -> None:
    coder = SAECoder.load(CoderSettings(name="sae", hookpoint="h", path=str(folder)), Path())
    x = torch.randn(33, D, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        acts = theirs.encode(x)
        made = theirs.decode(acts)
    rows = coder.encode(x)
    found = np.zeros((33, F), np.float32)
    found[np.repeat(np.arange(33), np.diff(rows.indptr)), rows.latents] = rows.values
    np.testing.assert_allclose(found, acts.to_dense().numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(coder.decode(rows, x).numpy(), made.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu"])
@pytest.mark.parametrize("normalize", ["none", "layer_norm", "constant_norm_rescale"])
def test_what_sae_lens_saves_is_read(tmp_path: Path, architecture: str, normalize: str) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    settings: dict[str, Any] = {"d_in": D, "d_sae": F, "normalize_activations": normalize, "device": "cpu"}
    made: Any = {
        "standard": lambda: sae_lens.StandardSAE(sae_lens.StandardSAEConfig(**settings)),
        "topk": lambda: sae_lens.TopKSAE(sae_lens.TopKSAEConfig(**settings, k=K)),
        "jumprelu": lambda: sae_lens.JumpReLUSAE(sae_lens.JumpReLUSAEConfig(**settings)),
    }[architecture]()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    made.save_model(tmp_path)
    both(sae_lens.SAE.load_from_disk(tmp_path, device="cpu"), tmp_path)


@pytest.mark.parametrize("activation", ["relu", "topk", "jumprelu"])
def test_sae_lens_reads_what_is_saved_here(tmp_path: Path, activation: Any) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    draw = torch.Generator().manual_seed(1)
    w_enc, w_dec = torch.randn(D, F, generator=draw), torch.randn(F, D, generator=draw)
    threshold = torch.rand(F, generator=draw) if activation == "jumprelu" else None
    weights = SparseWeights(w_enc, torch.randn(F), w_dec, torch.randn(D), activation, K, threshold)
    save_saelens(tmp_path, weights, {"hook_name": "model.layers.1", "model_name": "made"})
    both(sae_lens.SAE.load_from_disk(tmp_path, device="cpu"), tmp_path)
