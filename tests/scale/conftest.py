"""What tests of workers share with tests of runs."""

from __future__ import annotations

from tests.runs.conftest import anyio_backend, remote_task, results_of, units_of

__all__ = ["anyio_backend", "remote_task", "results_of", "units_of"]
