"""Array files: npy with a header of fixed length, written once with a checksum and checked when opened."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import StoreError

__all__ = [
    "HEADER",
    "checksum",
    "open_array",
    "sync_folder",
    "write_array",
    "write_chunks",
    "write_json",
]

HEADER = 128
_MAGIC = b"\x93NUMPY\x01\x00"
_READ = 1 << 22


def write_chunks(path: Path, dtype: np.dtype[Any], shape: Sequence[int], chunks: Iterable[NDArray[Any]]) -> int:
    """Write an npy file from consecutive chunks, flushed to the disk; returns the file's CRC-32.

    The header always takes `HEADER` bytes, so that a reader can seek without parsing it.
    """
    head = _header(dtype, shape)
    crc = zlib.crc32(head)
    with path.open("wb") as file:
        file.write(head)
        for chunk in chunks:
            data = np.ascontiguousarray(chunk, dtype=dtype).reshape(-1).view(np.uint8).data
            crc = zlib.crc32(data, crc)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return crc


def write_array(path: Path, array: NDArray[Any]) -> int:
    """Write one array as an npy file, flushed to the disk; returns the file's CRC-32."""
    return write_chunks(path, array.dtype, array.shape, (array,))


def write_json(path: Path, value: Any) -> int:
    """Write JSON so that a reader sees the old file or the new one, never half of one; returns its CRC-32.

    Lone surrogates (bytes that are no UTF-8) survive, as escapes.
    """
    data = (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode()
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)
    return zlib.crc32(data)


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder outlive a crash, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(path: Path) -> int:
    """The CRC-32 of a file's bytes.

    Raises:
        StoreError: the file is missing.
    """
    crc = 0
    try:
        with path.open("rb") as file:
            while data := file.read(_READ):
                crc = zlib.crc32(data, crc)
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing: collect the store again") from error
    return crc


def open_array(path: Path, dtype: str, shape: Sequence[int]) -> NDArray[Any]:
    """Map an npy file into memory, read-only, after checking that it is what the manifest says.

    Raises:
        StoreError: the file is missing, truncated or holds something else.
    """
    wanted = np.dtype(dtype).newbyteorder("<")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEADER)
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing: collect the store again") from error
    expected = HEADER + int(np.prod(shape, dtype=np.int64)) * wanted.itemsize
    if size != expected:
        state = "truncated" if size < expected else "too long"
        raise StoreError(f"{path} is {state}: {size} bytes where {expected} were expected; collect the store again")
    if head != _header(wanted, shape):
        raise StoreError(f"{path} is corrupt: not an array of {wanted.name} {list(shape)}; collect the store again")
    # as a plain array, which is indexed several times faster than a memmap
    return np.asarray(np.memmap(path, dtype=wanted, mode="r", offset=HEADER, shape=tuple(shape)))


def _header(dtype: np.dtype[Any], shape: Sequence[int]) -> bytes:
    text = repr({"descr": dtype.newbyteorder("<").str, "fortran_order": False, "shape": tuple(int(n) for n in shape)})
    room = HEADER - len(_MAGIC) - 2
    return _MAGIC + (room).to_bytes(2, "little") + text.encode("latin1").ljust(room - 1) + b"\n"
