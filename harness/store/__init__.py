"""The activation matrix on disk: tokens by latents, written once, read latent by latent."""

from __future__ import annotations

from harness.store.adding import add_rows
from harness.store.format import CoderFrame, Manifest, ManifestFrame, Observed, Rows
from harness.store.reader import Block, CoderReader, Firings, Store
from harness.store.rows import Fired
from harness.store.statistics import Statistics
from harness.store.vocabulary import Vocabulary
from harness.store.writer import StoreWriter

__all__ = [
    "Block",
    "CoderFrame",
    "CoderReader",
    "Fired",
    "Firings",
    "Manifest",
    "ManifestFrame",
    "Observed",
    "Rows",
    "Statistics",
    "Store",
    "StoreWriter",
    "Vocabulary",
    "add_rows",
]
