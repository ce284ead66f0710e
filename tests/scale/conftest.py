"""What tests of workers share with tests of runs."""

from __future__ import annotations

from tests.runs.conftest import remote_task, results_of, units_of

__all__ = ["remote_task", "results_of", "units_of"]
