"""Array files: npy with a header of fixed length, written once with a checksum and checked when opened."""

from __future__ import annotations

import json
import os
import shutil
import weakref
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from harness.errors import StoreError

__all__ = [
    "HEADER",
    "ArrayFile",
    "checksum",
    "keep_beside",
    "open_array",
    "open_for_reading",
    "placed",
    "read_open",
    "read_stretch",
    "sync_folder",
    "write_array",
    "write_chunks",
    "write_json",
]

HEADER = 128
_MAGIC = b"\x93NUMPY\x01\x00"
_READ = 1 << 22


class ArrayFile:
    """Writes an npy file chunk by chunk; leaving the context flushes it to the disk. `crc` is its CRC-32 so far.

    The header always takes `HEADER` bytes, so that a reader can seek without parsing it.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: Sequence[int]) -> None:
        self._dtype = dtype
        self._file = path.open("wb")
        self.crc: int = 0
        try:
            self._put(_header(dtype, shape))
        except BaseException:
            self._file.close()
            raise

    def write(self, chunk: NDArray[Any]) -> None:
        """Append the elements of an array, converted to the file's type."""
        self._put(np.ascontiguousarray(chunk, dtype=self._dtype).reshape(-1).view(np.uint8).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None:
                self._file.flush()
                os.fsync(self._file.fileno())

    def _put(self, data: bytes | memoryview) -> None:
        self.crc = zlib.crc32(data, self.crc)
        self._file.write(data)


def write_chunks(path: Path, dtype: np.dtype[Any], shape: Sequence[int], chunks: Iterable[NDArray[Any]]) -> int:
    """Write an npy file from consecutive chunks, flushed to the disk; returns the file's CRC-32."""
    with ArrayFile(path, dtype, shape) as file:
        for chunk in chunks:
            file.write(chunk)
    return file.crc


def write_array(path: Path, array: NDArray[Any]) -> int:
    """Write one array as an npy file, flushed to the disk; returns the file's CRC-32."""
    return write_chunks(path, array.dtype, array.shape, (array,))


def keep_beside(path: Path, array: NDArray[Any]) -> None:
    """Write what was found out about a store, under the name of its content; not where the store cannot be written."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        write_array(temporary, array)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


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


@contextmanager
def placed(folder: Path) -> Iterator[Path]:
    """A new folder to write files into, which takes its name when they are complete, in place of an older one."""
    temporary = folder.with_name(f"{folder.name}.tmp")
    for stale in (temporary, folder):
        shutil.rmtree(stale, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    sync_folder(temporary)
    temporary.rename(folder)
    sync_folder(folder.parent)


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


def read_stretch(path: Path, dtype: np.dtype[Any], low: int, high: int) -> NDArray[Any]:
    """Elements `low` to `high` of an npy file that `open_array` would open; the file does not stay open.

    Raises:
        StoreError: the file is missing or truncated.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing: collect the store again") from error
    try:
        return read_open(handle, path, dtype, low, high)
    finally:
        os.close(handle)


def open_for_reading(owner: object, path: Path) -> int:
    """A handle for `read_open`, closed when its owner goes."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    weakref.finalize(owner, os.close, handle)
    return handle


def read_open(handle: int, path: Path, dtype: np.dtype[Any], low: int, high: int) -> NDArray[Any]:
    """As `read_stretch`, of a file that is open; safe to be called from several threads.

    Raises:
        StoreError: the file is truncated.
    """
    length, offset = (high - low) * dtype.itemsize, HEADER + low * dtype.itemsize
    data = os.pread(handle, length, offset)
    while 0 < len(data) < length:  # systems read 2 GiB at most at a time
        more = os.pread(handle, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    if len(data) < length:
        raise StoreError(f"{path} is truncated: collect the store again")
    return np.frombuffer(data, dtype=dtype)


def _header(dtype: np.dtype[Any], shape: Sequence[int]) -> bytes:
    text = repr({"descr": dtype.newbyteorder("<").str, "fortran_order": False, "shape": tuple(int(n) for n in shape)})
    room = HEADER - len(_MAGIC) - 2
    return _MAGIC + (room).to_bytes(2, "little") + text.encode("latin1").ljust(room - 1) + b"\n"
