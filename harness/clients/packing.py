"""JSON-able values as small blobs and back: what journals keep requests and replies in."""

from __future__ import annotations

import json
import sys
import threading
import zlib
from typing import Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["pack", "pack_json", "unpack", "unpack_json", "unpack_quickly"]

# below so many bytes compression costs more than it saves
_SMALL = 400
# level 1: half the time of the usual one for a tenth more bytes
_LEVEL = 1
# a thread's own: making one takes longer than compressing a few kilobytes
_compressors = threading.local()
# how compressed blobs begin; JSON begins in neither way
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZLIB = b"x"


def pack(value: Any) -> bytes:
    """Compact JSON, compressed where that pays.

    Lone surrogates (half a character of a token) and infinite or undefined numbers survive.
    """
    return pack_json(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass"))


def pack_json(text: bytes | memoryview) -> bytes:
    """JSON that is written already, compressed where that pays."""
    if len(text) < _SMALL:
        return bytes(text)
    if (compressor := getattr(_compressors, "own", None)) is None:
        compressor = _compressors.own = zstd.ZstdCompressor(_LEVEL)
    return compressor.compress(text, compressor.FLUSH_FRAME)


def unpack(blob: bytes) -> Any:
    """The value of a blob."""
    return json.loads(unpack_json(blob).decode("utf-8", "surrogatepass"))


def unpack_quickly(blob: bytes) -> Any:
    """`unpack` for reading very many blobs, of which almost none has what standard JSON has no place for."""
    import msgspec  # here because few commands need it

    text = unpack_json(blob)
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):  # half a character, or a number that is none
        return json.loads(text.decode("utf-8", "surrogatepass"))


def unpack_json(blob: bytes) -> bytes:
    """The JSON of a blob, as it was before it was compressed; also as earlier versions did it, by zlib."""
    if blob.startswith(_ZSTD):
        return zstd.decompress(blob)
    return zlib.decompress(blob) if blob.startswith(_ZLIB) else blob
