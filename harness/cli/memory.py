"""How often the command's process looks for reference cycles."""

from __future__ import annotations

import gc

__all__ = ["collect_rarely"]


def collect_rarely() -> None:
    """Look for cycles less often, and never among what is loaded by now.

    With hundreds of requests in flight Python's usual thresholds make a seventh of a request's CPU time a search
    through objects that are all in use. For a process that ends with its run; a library leaves this to its caller.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
