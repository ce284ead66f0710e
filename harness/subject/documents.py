"""Documents of a corpus, text or token ids, out of rows of data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import CorpusError

__all__ = ["Document", "document_of", "ids_of", "no_column"]

Document = str | NDArray[np.uint32]
"""Text that the subject's tokenizer is to read, or the ids that one of the same vocabulary gave, `[tokens]`."""

_MOST = 2**32 - 1


def document_of(row: Any, column: str, where: str) -> Document:
    """The document that a row of data has under a column.

    Raises:
        CorpusError: there is no such column, or it holds neither text nor token ids.
    """
    if not isinstance(row, dict):
        raise CorpusError(f"{where}: expected an object with a {json.dumps(column)} column")
    if column not in row:
        raise CorpusError(f"{where}: {no_column(column, list(row))}")
    value = row[column]
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple, np.ndarray)):
        return ids_of(value, f"{where}: column {json.dumps(column)}")
    kind = "null" if value is None else type(value).__name__
    raise CorpusError(f"{where}: column {json.dumps(column)} has to be text or a list of token ids, not {kind}")


def no_column(column: str, known: Sequence[Any]) -> str:
    """That a column is missing, with those that there are."""
    there = ", ".join(map(str, known[:20])) or "none"
    return f'there is no column {json.dumps(column)}; columns here: {there} (subject.corpus.column = "..." chooses one)'


def ids_of(values: Any, where: str) -> NDArray[np.uint32]:
    """Token ids `[tokens]` as they are kept.

    Raises:
        CorpusError: they are no flat list of integers from 0 on.
    """
    try:
        found = np.asarray(values)
    except ValueError as error:
        raise CorpusError(f"{where}: token ids have to be a flat list of integers") from error
    if not found.size:
        return np.empty(0, np.uint32)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise CorpusError(f"{where}: token ids have to be a flat list of integers")
    outside = np.flatnonzero((found < 0) | (found > _MOST))
    if len(outside):
        raise CorpusError(f"{where}, position {outside[0]}: {found[outside[0]]} is no token id")
    return found.astype(np.uint32)
