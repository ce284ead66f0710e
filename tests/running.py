"""What tests run with: a run from a test that is not async, and the browser."""

from __future__ import annotations

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.runs.running import conduct
from harness.task import load_task

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def conducted(task: Path, out: Path) -> Path:
    """The directory of a task's run, done."""
    # a thread of its own: beside a browser's test this one has an event loop already
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(asyncio.run, conduct(load_task(task), out)).result()
    return out
