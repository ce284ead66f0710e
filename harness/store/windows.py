"""Windows on a grid over a store: the document of each, and how many each latent activates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["NO_DOCUMENT", "TWO_DOCUMENTS", "count_windows", "window_documents"]

NO_DOCUMENT = -1
TWO_DOCUMENTS = -2
SCAN = 1 << 20


def window_documents(documents: NDArray[np.int32], window: int) -> NDArray[np.int32]:
    """The document of each window, int32 `[windows]`, from that of each position, `[contexts, positions]`."""
    out = np.empty(documents.size // window, dtype=np.int32)
    step = max(1, SCAN // documents.shape[1])
    per = documents.shape[1] // window
    for start in range(0, len(documents), step):
        cells = np.asarray(documents[start : start + step]).reshape(-1, window)
        most = cells.max(axis=1)
        least = np.where(cells < 0, most[:, None], cells).min(axis=1)
        out[start * per : start * per + len(cells)] = np.where(
            most < 0, NO_DOCUMENT, np.where(least == most, most, TWO_DOCUMENTS)
        )
    return out


def count_windows(
    indptr: NDArray[np.int64], positions: NDArray[np.uint32], window: int, single: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """How many of the `single` windows each latent activates: runs of equal windows in its sorted positions."""
    before = np.zeros(len(indptr), dtype=np.int64)
    total, last = 0, -1
    for start in range(0, len(positions), SCAN):
        stop = min(start + SCAN, len(positions))
        ids = positions[start:stop] // np.uint32(window)
        new = np.empty(len(ids), dtype=bool)
        new[0] = ids[0] != last
        np.not_equal(ids[1:], ids[:-1], out=new[1:])
        edges = indptr[np.searchsorted(indptr, start) : np.searchsorted(indptr, stop)]
        new[edges - start] = True
        new &= single[ids]
        hits = np.flatnonzero(new)
        here = slice(np.searchsorted(indptr, start, side="right"), None)
        ends = np.minimum(indptr[here], stop) - start
        before[here] = total + np.searchsorted(hits, ends)
        total, last = total + len(hits), int(ids[-1])
    return np.diff(before)
