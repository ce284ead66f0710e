"""Adds rows to a store that was finished without them."""

from __future__ import annotations

import os
from pathlib import Path

from harness.store.files import open_array, placed, write_json
from harness.store.format import CoderManifest, FileRecord, Manifest, coder_folder, read_manifest
from harness.store.lock import take, writing
from harness.store.reader import Store
from harness.store.rows import stretches, write_rows
from harness.store.segments import Columns
from harness.store.writer import SEGMENT_NONZEROS

__all__ = ["add_rows"]


def add_rows(path: str | os.PathLike[str]) -> Store:
    """Write the rows of every coder of a finished store that has none; neither its id nor what it fits changes.

    Memory is bounded however large the store is. Killed, it leaves the store as it was.

    Raises:
        StoreError: there is no finished store, it is being written, a file is corrupt, or the disk refuses.
    """
    folder = Path(path)
    store = Store.open(folder)
    with writing(folder):
        lock = take(folder)
        try:
            manifest = read_manifest(folder)
            for coder in manifest.coders:
                if not coder.rows:
                    manifest = _added(store, manifest, coder)
        finally:
            lock.release()
    return Store.open(folder)


def _added(store: Store, manifest: Manifest, coder: CoderManifest) -> Manifest:
    inside = f"coders/{coder.name}"
    store.check_once(f"{inside}/csc/positions.npy")
    folder, nonzeros = coder_folder(store.path, coder.name), manifest.nonzeros[coder.name]
    indptr = open_array(folder / "csc" / "indptr.npy", "<i8", (coder.n_latents + 1,))
    positions = open_array(folder / "csc" / "positions.npy", "<u4", (nonzeros,))
    matrix = Columns(indptr, positions, positions)
    with placed(folder / "rows") as target:
        crc = write_rows(stretches(matrix, store.n_tokens, SEGMENT_NONZEROS), store.n_tokens, nonzeros, target)
    files = {
        f"{inside}/rows/{name}": FileRecord(bytes=(folder / "rows" / name).stat().st_size, crc32=value)
        for name, value in crc.items()
    }
    coders = tuple(one.model_copy(update={"rows": True}) if one.name == coder.name else one for one in manifest.coders)
    now = manifest.model_copy(update={"coders": coders, "files": dict(sorted((manifest.files | files).items()))})
    write_json(store.path / "manifest.json", now.model_dump(mode="json"))
    return now
