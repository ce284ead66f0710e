"""A cache that delphi's own code writes is read as delphi's own code reads it."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.interop.activations import import_activations

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.skipif(importlib.util.find_spec("delphi") is None, reason="delphi is not installed"),
]


@pytest.fixture
def delphi(monkeypatch: pytest.MonkeyPatch) -> Any:
    """delphi's cache module; what it imports for other purposes and is not installed is an empty stand-in."""
    for name, member in (("faiss", None), ("sentence_transformers", "SentenceTransformer"), ("sparsify", "Sae")):
        if importlib.util.find_spec(name) is None:
            stand_in = types.ModuleType(name)
            if member is not None:
                setattr(stand_in, member, object)
            monkeypatch.setitem(sys.modules, name, stand_in)
    return pytest.importorskip("delphi.latents.cache")


def test_a_cache_written_by_delphi(delphi: Any, cache: Any, tokenizer: Path, tmp_path: Path) -> None:
    import torch
    from delphi.config import CacheConfig
    from delphi.latents.loader import TensorBuffer

    held = delphi.InMemoryCache(filters=None, batch_size=8)
    for number in range(5):
        rows = slice(8 * number, 8 * number + 8)
        held.add(torch.tensor(cache.dense[rows]), torch.tensor(cache.tokens[rows]), number, "layers.3.mlp")
    held.save()
    writer = object.__new__(delphi.LatentCache)
    writer.cache, writer.width = held, 10
    writer.save_splits(3, cache.folder / "latents")
    writer.save_config(cache.folder / "latents", CacheConfig(dataset_repo="some/text", cache_ctx_len=32), "some/model")

    store = import_activations(cache.folder, tmp_path / "store", tokenizer=str(tokenizer))
    found = np.zeros((store.n_tokens, 10), np.float32)
    read = np.zeros_like(cache.dense)
    for index in range(10):
        firings = store.coder("layers.3.mlp").latent(index)
        found[firings.positions, index] = firings.values
    for path in (cache.folder / "latents" / "layers.3.mlp").glob("*.safetensors"):
        for latent in TensorBuffer(str(path), "layers.3.mlp"):
            at = latent.activation_data.locations
            read[at[:, 0], at[:, 1], latent.latent.latent_index] = latent.activation_data.activations
    kept = np.where((read > 0) & (cache.tokens != 0)[..., None], read, 0)
    np.testing.assert_array_equal(found.reshape(kept.shape), kept)
    np.testing.assert_array_equal(found.reshape(kept.shape), cache.expected)
    assert store.manifest.frame.model == "some/model"
