"""Published records of two planted latents, and delphi caches as its own writer lays them out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models

Activation = dict[str, Any]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def batch(tmp_path: Path) -> Callable[..., Path]:
    """Writes an SAEDashboard batch: `features` maps a latent to its (tokens, values)."""

    def write(
        features: dict[int, list[tuple[list[str], list[float]]]], name: str = "batch-0.json", **keys: Any
    ) -> Path:
        described = [
            {
                "feature_index": index,
                "dataset": "some/text",
                "frac_nonzero": 0.5,
                "activations": [
                    {"bin_min": -1, "bin_max": 1, "bin_contains": -1, "tokens": t, "values": v, "dfa_values": []}
                    for t, v in rows
                ],
            }
            for index, rows in features.items()
        ]
        path = tmp_path / "batches" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"model_id": "m", "layer": 3, "sae_set": "res", "features": described, **keys}))
        return path

    return write


SPECIAL = 0


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A folder with a word-level tokenizer of 50 words; id 0 is special."""
    made = Tokenizer(models.WordLevel({"<s>": 0, **{f"w{n}": n for n in range(1, 50)}}, "<s>"))
    made.add_special_tokens(["<s>"])
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    return folder


class Cache:
    """Dense activations `[rows, positions, latents]` and tokens, written as delphi writes a cache of them."""

    def __init__(self, folder: Path, *, rows: int = 40, context: int = 32, latents: int = 10, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.folder = folder
        self.tokens = generator.integers(1, 50, (rows, context))
        self.tokens[::2, 0] = SPECIAL
        self.tokens[3, 17] = SPECIAL
        self.dense = np.where(generator.random((rows, context, latents)) < 0.05, generator.lognormal(size=1), 0)
        self.dense *= generator.uniform(0.5, 2, self.dense.shape)
        self.dense[5, 4, 2] = -1.5
        self.dense = self.dense.astype(np.float16).astype(np.float32)

    @property
    def expected(self) -> np.ndarray:
        """What a store of it should have."""
        return np.where((self.dense > 0) & (self.tokens != SPECIAL)[..., None], self.dense, 0)

    def splits(self, splits: int) -> Iterator[tuple[int, int]]:
        edges = np.linspace(0, self.dense.shape[2], splits + 1).astype(int)
        yield from zip(edges[:-1].tolist(), (edges[1:] - 1).tolist(), strict=True)

    def entries(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Locations in the order in which a model's batches leave them, and values."""
        locations = np.argwhere(np.abs(self.dense) > 1e-5)
        locations = locations[(locations[:, 2] >= first) & (locations[:, 2] <= last)]
        return locations, self.dense[tuple(locations.T)]

    def new(self, hookpoint: str = "layers.3.mlp", *, splits: int = 3, model: str | None = "some/model") -> Path:
        """The layout of now: latents counted from the shard's first, small integers, tokens in each shard."""
        from safetensors.numpy import save_file  # here because the environment of inspect_ai has none

        folder = self.folder / "latents" / hookpoint
        folder.mkdir(parents=True)
        for first, last in self.splits(splits):
            locations, values = self.entries(first, last)
            locations[:, 2] -= first
            save_file(
                {
                    "locations": np.ascontiguousarray(locations.astype(np.uint16)),
                    "activations": values.astype(np.float16),
                    "tokens": self.tokens,
                },
                folder / f"{first}_{last}.safetensors",
            )
        if model is not None:
            settings = {"dataset_repo": "some/text", "cache_ctx_len": self.tokens.shape[1], "model_name": model}
            (folder / "config.json").write_text(json.dumps(settings))
        return self.folder

    def old(self, hookpoint: str = ".model.layers.3", *, splits: int = 3) -> Path:
        """The layout of the first releases: latents by their own index, wide integers, no tokens, no settings."""
        from safetensors.numpy import save_file

        folder = self.folder / hookpoint
        folder.mkdir(parents=True)
        for first, last in self.splits(splits):
            locations, values = self.entries(first, last)
            save_file(
                {"locations": np.ascontiguousarray(locations), "activations": values.astype(np.float32)},
                folder / f"{first}_{last}.safetensors",
            )
        return self.folder


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """A small cache; see `Cache`."""
    return Cache(tmp_path / "run")
