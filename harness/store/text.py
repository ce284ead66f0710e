"""The text of a store: its tokens mapped into memory, the documents that they are of, and their strings."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import StoreError
from harness.store.checked import CheckedFiles
from harness.store.files import open_array
from harness.store.format import Manifest
from harness.store.vocabulary import Vocabulary
from harness.store.windows import window_documents

__all__ = ["StoredText"]

# contexts whose documents are looked at together
_STEP = 1 << 14


class StoredText(CheckedFiles):
    """What the subject read, context by context; a file is checked when it is first read."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        super().__init__(path, manifest)
        self.id: str = manifest.id
        self.n_contexts: int = manifest.n_contexts
        self.context_length: int = manifest.frame.context
        shape = (self.n_contexts, self.context_length)
        self._tokens: NDArray[np.uint32] = open_array(path / "tokens.npy", "<u4", shape)
        self._documents: NDArray[np.int32] = open_array(path / "documents.npy", "<i4", shape)
        self.check_file("vocabulary.json")
        self.vocabulary = Vocabulary.load(path / "vocabulary.json")
        self._window_documents: dict[int, NDArray[np.int32]] = {}

    @property
    def tokens(self) -> NDArray[np.uint32]:
        """Token ids, `[contexts, positions]`."""
        self.check_once("tokens.npy")
        return self._tokens

    @property
    def documents(self) -> NDArray[np.int32]:
        """The document of each position, -1 for what is of none (BOS, padding), `[contexts, positions]`."""
        self.check_once("documents.npy")
        return self._documents

    @cached_property
    def read(self) -> NDArray[np.int64]:
        """How many tokens of documents each context has, `[contexts]`."""
        return np.concatenate(
            [(self.documents[low : low + _STEP] >= 0).sum(axis=1) for low in range(0, self.n_contexts, _STEP)]
        )

    @property
    def n_tokens(self) -> int:
        """How many positions it has."""
        return self.n_contexts * self.context_length

    def pieces(self, context: int, start: int, stop: int) -> tuple[str, ...]:
        """The token strings of positions `start` to `stop` of a context; the same whatever window is asked for."""
        row = self.tokens[context]
        return self.vocabulary.pieces(row[start:stop], row[:start], ends=stop >= self.context_length)

    def log_counts(self, context: int, start: int, stop: int) -> NDArray[np.float64]:
        """The logarithm of how often each of these tokens stands in the store, `[stop - start]`."""
        return self._log_counts[self.tokens[context, start:stop]]

    @cached_property
    def _log_counts(self) -> NDArray[np.float64]:
        """Of each token id; what stands nowhere counts as if it stood once."""
        tokens = self.tokens
        counts = np.zeros(int(tokens.max(initial=0)) + 1, dtype=np.int64)
        for low in range(0, self.n_contexts, _STEP):
            counts += np.bincount(tokens[low : low + _STEP].reshape(-1), minlength=len(counts))
        return np.log(np.maximum(counts, 1))

    def window_tokens(self, starts: NDArray[np.int64], window: int) -> NDArray[np.uint32]:
        """The token ids of windows from some positions on, uint32 `[windows, positions]`; none crosses a context."""
        ids, places = np.divmod(starts, window)
        if not places.any():
            return self.tokens.reshape(-1, window)[ids]
        return self.tokens.reshape(-1)[starts[:, None] + np.arange(window)]

    def window_pieces(self, starts: NDArray[np.int64], window: int) -> list[tuple[str, ...]]:
        """The token strings of windows from some positions on, as `pieces` gives them, for many windows at once."""
        own = self.window_tokens(starts, window)
        texts = self.vocabulary.rows(own)
        if not self.vocabulary.splits:
            return texts
        # where bytes of a character stand in two tokens, only reading the context from before helps
        last = self.tokens.reshape(-1)[np.maximum(starts - 1, 0)]
        split = self.vocabulary.has_partial(own)
        split |= (starts % self.context_length > 0) & self.vocabulary.unsettled(last)
        for place in np.flatnonzero(split).tolist():
            context, start = divmod(int(starts[place]), self.context_length)
            texts[place] = self.pieces(context, start, start + window)
        return texts

    def n_windows(self, window: int) -> int:
        """How many windows of that length lie in one document each.

        Raises:
            StoreError: the length does not divide the context.
        """
        return int((self.window_documents(window) >= 0).sum())

    def window_documents(self, window: int) -> NDArray[np.int32]:
        """The document of each window, int32 `[windows]`: -1 where it has none, -2 where it has two or more.

        Windows lie on a grid, `context_length / window` to a context, in the order of the contexts.

        Raises:
            StoreError: the length does not divide the context.
        """
        if window < 1 or self.context_length % window:
            raise StoreError(
                f"windows of {window} tokens do not divide {self.path}'s contexts of {self.context_length}"
            )
        if window not in self._window_documents:
            self._window_documents[window] = window_documents(self.documents, window)
        return self._window_documents[window]
