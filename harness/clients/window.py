"""How many requests may be in flight at once: grown while that is all that holds them back, cut when refused."""

from __future__ import annotations

__all__ = ["Window"]

_START = 32.0
# Only a request sent while at least this share of the window was taken tells anything about the window.
_FULL = 0.8
# Most of what is in flight at the first refusal is refused too: no more than one for so many that went well before.
_CLEAN_FOR_EACH = 3.0
_GROWTH = 0.05  # in a round, after the first refusal
_FIRST_CUT = 0.5  # the start may overshoot by much
_CUT = 0.8


class Window:
    """Grows by a third every round until the first cut, then by a twentieth; a round is as many replies as it is wide.

    `limit` is its width now, from 1 to `most`.
    """

    __slots__ = ("_clean", "_starting", "limit", "most")

    def __init__(self, most: int, *, opened: bool = False) -> None:
        self.most = float(most)
        self._starting = True
        self._clean = 0
        self.limit = self.most if opened else min(_START, self.most)

    def full(self, flying: int) -> bool:
        """Whether so many in flight nearly fill it."""
        return flying >= _FULL * self.limit

    def succeeded(self) -> None:
        """Grow a little: a request that was sent when it was full was answered."""
        if self.limit >= self.most:
            return
        if self._starting:
            self._clean += 1
            self.widen(self._clean / _CLEAN_FOR_EACH)
        else:
            # at least by one a round, however narrow it is
            self.widen(self.limit + max(_GROWTH, 1.0 / self.limit))

    def cut(self, flying: int) -> None:
        """Shrink: with so many in flight the provider began to refuse."""
        self.limit = max(1.0, min(self.limit, float(flying)) * (_FIRST_CUT if self._starting else _CUT))
        self._starting = False

    def widen(self, least: float) -> None:
        """Be at least so wide."""
        self.limit = min(self.most, max(self.limit, least))
