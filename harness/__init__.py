"""latent-harness: explains in words what the latents of sparse autoencoders do, and measures how good the words are.

Run a task:                 harness.run("demo"), or await harness.arun("demo")
Ask if a judge can judge:   harness.judge("openai/gpt-5-mini")
See what it would cost:     harness.plan("demo").table()
Read what came out:         harness.load("runs/demo").explanations(), .scores(), .verdicts(), .summary()
Compare arms and runs:      harness.compare("runs/a", "runs/b").differences
Any table of a run:         harness.analyse("runs/demo", table="quantiles")
Where variance comes from:  harness.variance("planted", draws=4).score
Build a task in Python:     harness.load_task("demo", ["latents.sample=5"])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.analysis.analyse import analyse as analyse
    from harness.analysis.compare import compare as compare
    from harness.analysis.load import Run as Run
    from harness.analysis.load import load as load
    from harness.api import ajudge as ajudge
    from harness.api import arun as arun
    from harness.api import avariance as avariance
    from harness.api import judge as judge
    from harness.api import run as run
    from harness.api import variance as variance
    from harness.errors import HarnessError as HarnessError
    from harness.errors import UserError as UserError
    from harness.runs.plan import plan as plan
    from harness.store import Store as Store
    from harness.task import Task as Task
    from harness.task import load_task as load_task

__all__ = [
    "HarnessError",
    "Run",
    "Store",
    "Task",
    "UserError",
    "ajudge",
    "analyse",
    "arun",
    "avariance",
    "compare",
    "judge",
    "load",
    "load_task",
    "plan",
    "run",
    "variance",
]

# name -> module: imported when first used, so that `import harness` costs next to nothing
_PUBLIC = {
    "HarnessError": "harness.errors",
    "Run": "harness.analysis.load",
    "Store": "harness.store",
    "Task": "harness.task",
    "UserError": "harness.errors",
    "ajudge": "harness.api",
    "analyse": "harness.analysis.analyse",
    "arun": "harness.api",
    "avariance": "harness.api",
    "compare": "harness.analysis.compare",
    "judge": "harness.api",
    "load": "harness.analysis.load",
    "load_task": "harness.task",
    "plan": "harness.runs.plan",
    "run": "harness.api",
    "variance": "harness.api",
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
