from __future__ import annotations

import subprocess
import sys

import harness.metrics


def test_importing_the_metrics_loads_no_heavy_library() -> None:
    code = "import sys, harness.metrics; print(sorted({'pandas', 'scipy', 'sklearn', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_all_names_exist() -> None:
    assert all(hasattr(harness.metrics, name) for name in harness.metrics.__all__)
