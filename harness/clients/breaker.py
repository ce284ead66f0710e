"""What stops all requests of an account once one has shown that none can succeed."""

from __future__ import annotations

import copy

from harness.errors import AccountError

__all__ = ["Breaker"]


class Breaker:
    """Lets everything pass until it is tripped, and nothing afterwards."""

    def __init__(self) -> None:
        self._error: AccountError | None = None

    def check(self) -> None:
        """Raise what tripped it, if anything has.

        Raises:
            AccountError: the account's first error, for every later request.
        """
        if self._error is not None:
            raise copy.copy(self._error)

    def trip(self, error: AccountError) -> None:
        """Let nothing pass from now on."""
        if self._error is None:
            self._error = copy.copy(error)
