"""The text of a cache: its token ids, in its files or beside them, and the tokenizer that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from harness.errors import FormatError
from harness.interop.tensors import Tensor
from harness.store import Vocabulary

__all__ = ["Text", "cache_text"]


@dataclass(frozen=True, slots=True)
class Text:
    """Token ids `[rows, context]` and the table of their text; `others` hold the same ids once more."""

    rows: int
    context: int
    vocabulary: Vocabulary
    where: Path
    ids: Tensor | NDArray[Any]
    others: tuple[tuple[Path, Tensor], ...] = ()

    @property
    def specials(self) -> NDArray[np.int64]:
        """The ids of special tokens."""
        return np.array(self.vocabulary.specials, dtype=np.int64)

    def read(self, start: int, stop: int) -> NDArray[np.uint32]:
        """The ids of some rows, uint32 `[rows, context]`.

        Raises:
            FormatError: an id is of no token of the tokenizer, or files differ.
        """
        ids = np.asarray(self.ids[start:stop])
        for path, other in self.others:
            if not np.array_equal(ids, other[start:stop]):
                raise FormatError(f"{path}: it was collected on other text than {self.where}: import one at a time")
        if ids.min() < 0 or ids.max() >= len(self.vocabulary):
            wrong = int(ids.min() if ids.min() < 0 else ids.max())
            raise FormatError(
                f"{self.where}: it has token id {wrong}, and the tokenizer has ids 0 to {len(self.vocabulary) - 1}: "
                "it is another model's"
            )
        return ids.astype(np.uint32)


def cache_text(
    source: Path, own: Sequence[tuple[Path, Tensor] | None], tokenizer: str | None, tokens: Path | None
) -> Text:
    """The text of a cache whose files have these token ids, or none.

    Raises:
        FormatError: there are no ids, they are no rows, files differ in shape, or there is no tokenizer.
    """
    if tokenizer is None:
        raise FormatError(
            f"{source}: a cache has token ids without their text; give --tokenizer, the folder of the model's "
            "tokenizer.json"
        )
    there = [one for one in own if one is not None]
    if tokens is not None:
        where, ids = tokens, _given(tokens)
    elif there:
        where, ids = there[0]
    else:
        raise FormatError(
            f"{source}: this cache was written without its tokens; give --tokens, a .npy or .safetensors file of the "
            "token ids [rows, context] that the model read"
        )
    shape = ids.shape
    if len(shape) != 2 or 0 in shape:
        raise FormatError(f"{where}: tokens have shape {list(shape)}, and should have [rows, context]")
    for path, other in there:
        if other.shape != shape:
            raise FormatError(f"{path}: it has tokens of shape {list(other.shape)} and {where} of {list(shape)}")
    # one file a hookpoint is enough: what one run wrote repeats them in each
    folders: dict[Path, tuple[Path, Tensor]] = {}
    for path, other in there:
        folders.setdefault(path.parent, (path, other))
    others = tuple(one for one in folders.values() if one[0] != where)
    return Text(shape[0], shape[1], _vocabulary(tokenizer), where, ids, others)


def _given(path: Path) -> NDArray[Any]:
    try:
        if path.suffix != ".safetensors":
            ids = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            with safe_open(path, framework="numpy") as file:
                ids = file.get_tensor("tokens")
    except (OSError, ValueError, SafetensorError) as error:
        raise FormatError(f"{path}: no token ids can be read from it: {error}") from error
    if not np.issubdtype(ids.dtype, np.integer):
        raise FormatError(f"{path}: token ids should be integers, and these are {ids.dtype}")
    return ids


def _vocabulary(tokenizer: str) -> Vocabulary:
    from tokenizers import Tokenizer

    path = Path(tokenizer)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise FormatError(f"--tokenizer {tokenizer}: there is no such tokenizer.json, nor a folder that has one")
    try:
        found = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise FormatError(f"--tokenizer {tokenizer}: this is no tokenizer.json: {error}") from error
    return Vocabulary.from_tokenizer(found)
