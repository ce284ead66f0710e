"""What tests run with: planted latents, a run from a test that is not async, and the browser."""

from __future__ import annotations

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.resources import fixture
from harness.runs.running import conduct
from harness.task import load_task

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# tables of a task on planted latents of the fixtures' text, with their own explanations and their siblings'
PLANTED: dict[str, Any] = {
    "store": None,
    "subject": {
        "model": str(fixture("subject")),
        "corpus": {"path": str(fixture("text", "demo.jsonl")), "tokens": 60_000},
        "context": 256,
    },
    "coder": [{"name": "planted", "kind": "planted"}],
    "explainer": [
        {"name": "true", "kind": "file", "path": str(fixture("planted", "true.jsonl"))},
        {"name": "sibling", "kind": "file", "path": str(fixture("planted", "sibling.jsonl"))},
    ],
    "scorer": [{"name": "detection", "kind": "detection", "model": "truth/planted", "batch": 10}],
}


def conducted(task: Path, out: Path) -> Path:
    """The directory of a task's run, done."""
    # a thread of its own: beside a browser's test this one has an event loop already
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(asyncio.run, conduct(load_task(task), out)).result()
    return out
