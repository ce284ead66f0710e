"""What a finished run of very many latents takes: on disk, in time, in memory.

`python -m benchmarks.million [--latents N] [--examples N] [--explainers 1|2] [--exported N] [--folder DIR] [--step S]`

A store, and a journal of explanations and of scores by three judges whose verdicts are simulated
(`benchmarks.million_run`), are written as a run writes them; then come the steps of somebody who comes back to it. Each
runs in a process of its own: CPU seconds and the peak of memory, of the whole process, are the system's (`getrusage`).
With `--folder` what was written stays and is used again, so that steps can be measured one by one; a second explainer
is judged by the first judge alone. The last line is JSON, for each step:

    <step>_s, <step>_cpu_s   wall time and CPU seconds
    <step>_mb                the most memory that the process had, in millions of bytes
    <step>_bytes             what the step left on disk, where it left anything

    store                    the activation store: each latent fires some 300 times
    journal                  the units through the journal's writer, with making them up: `journal_writing_s` is without
    resume                   a conductor that finds that nothing is left to do
    columns                  the columns that tables of large runs are made from, once
    arms, differences, correlations, quantiles
                             `harness analyse --table ...`, from the columns; differences and correlations are of one
                             comparison, with reliabilities and costs
    report                   the HTML page
    jsonl                    export of every explanation and score
    verdicts                 export of these and of every verdict as Parquet, without windows
    neuronpedia              export of `--exported` latents with all windows and verdicts
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks.million_run import CODER, MadeRun
from harness.analysis.analyse import analyse
from harness.analysis.columns import FOLDER
from harness.analysis.load import Run, load
from harness.interop.exporting import export
from harness.interop.parquet import write_parquet
from harness.report import write_report
from harness.runs.conductor import Conductor
from harness.runs.directory import JOURNAL
from harness.runs.journal import Journal
from harness.runs.progress import Silent
from harness.runs.stop import Stop

Found = dict[str, float]


@dataclass(frozen=True)
class Size:
    """What is measured on."""

    latents: int
    examples: int = 200
    explainers: int = 1
    exported: int = 500

    def run(self, folder: Path) -> MadeRun:
        """The run in a folder."""
        return MadeRun(folder, self.latents, self.examples, self.explainers)


def store(size: Size, folder: Path) -> Found:
    """Write the store."""
    size.run(folder).write_store()
    return {"bytes": _bytes(folder / "store")}


def journal(size: Size, folder: Path) -> Found:
    """Write the journal."""
    made = size.run(folder)
    written = made.write_journal()
    return {
        "bytes": _bytes(made.directory),
        "units": made.units,
        "writing_s": round(written["seconds"], 1),
        "writing_cpu_s": round(written["cpu"], 1),
    }


def resume(size: Size, folder: Path) -> Found:
    """Let a conductor find that all is done."""
    made = size.run(folder)

    async def work() -> int:
        async with Journal(made.directory / JOURNAL) as opened:
            conductor = Conductor(made.task, made.plan, opened, {}, {CODER: made.chosen}, Silent(), Stop())
            await conductor.run()
        return sum(conductor.statuses.values())

    return {"found": asyncio.run(work())}


def columns(size: Size, folder: Path) -> Found:
    """Make the columns; whatever lies there is thrown away."""
    run = _run(size, folder)
    shutil.rmtree(run.path / FOLDER, ignore_errors=True)
    if not run.columns.metrics:
        raise RuntimeError("the columns have no figures")
    return {"bytes": _bytes(run.path / FOLDER)}


def _table(name: str) -> Callable[[Size, Path], Found]:
    def made(size: Size, folder: Path) -> Found:
        print(analyse(_run(size, folder), table=name).head(12).to_string(max_cols=14), flush=True)
        return {}

    return made


def report(size: Size, folder: Path) -> Found:
    """Write the page."""
    return {"bytes": write_report(_run(size, folder), folder / "report.html").stat().st_size}


def jsonl(size: Size, folder: Path) -> Found:
    """Write every explanation and score as a line."""
    out = folder / "jsonl"
    shutil.rmtree(out, ignore_errors=True)
    export(_run(size, folder), out, "jsonl")
    return _left(out)


def verdicts(size: Size, folder: Path) -> Found:
    """Write the tables of explanations, scores and verdicts."""
    run, out = _run(size, folder), folder / "parquet"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    write_parquet(run, (), out)
    return _left(out)


def neuronpedia(size: Size, folder: Path) -> Found:
    """Write some latents in Neuronpedia's layout."""
    run, out = _run(size, folder), folder / "neuronpedia"
    shutil.rmtree(out, ignore_errors=True)
    export(run.part({coder: indices[: size.exported] for coder, indices in run.latents.items()}), out, "neuronpedia")
    return {**_left(out), "latents": min(size.exported, size.latents)}


STEPS: dict[str, Callable[[Size, Path], Found]] = {
    "store": store,
    "journal": journal,
    "resume": resume,
    "columns": columns,
    **{name: _table(name) for name in ("arms", "differences", "correlations", "quantiles")},
    "report": report,
    "jsonl": jsonl,
    "verdicts": verdicts,
    "neuronpedia": neuronpedia,
}


def _run(size: Size, folder: Path) -> Run:
    return load(size.run(folder).directory)


def _left(out: Path) -> Found:
    """How large an export was; it is not kept."""
    found = _bytes(out)
    shutil.rmtree(out)
    return {"bytes": found}


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def measured(step: str, size: Size, folder: Path) -> Found:
    """A step in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, step, size, folder).result()


def _measured(step: str, size: Size, folder: Path) -> Found:
    began, used = time.perf_counter(), time.process_time()
    found = STEPS[step](size, folder)
    taken = {"s": round(time.perf_counter() - began, 2), "cpu_s": round(time.process_time() - used, 2)}
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {**taken, "mb": round(peak / 1e6, 1), **found}


def main() -> None:
    """Measure, print the tables and what each step took, and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=int, default=1_000_000)
    parser.add_argument("--examples", type=int, default=200, help="examples a score")
    parser.add_argument("--explainers", type=int, choices=(1, 2), default=1)
    parser.add_argument("--exported", type=int, default=500, help="latents in Neuronpedia's layout")
    parser.add_argument("--folder", type=Path, help="where to write, and to leave it; a temporary folder if not given")
    parser.add_argument("--step", choices=STEPS, nargs="+", default=list(STEPS), help="only these; all if not given")
    given = parser.parse_args()
    size = Size(given.latents, given.examples, given.explainers, given.exported)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        figures: Found = {}
        for step in given.step:
            found = measured(step, size, folder)
            print(f"{step:13} " + "  ".join(f"{value:,} {name}" for name, value in found.items()), flush=True)
            figures |= {f"{step}_{name}": value for name, value in found.items()}
    print(json.dumps({"benchmark": "million", **asdict(size), **figures}))


if __name__ == "__main__":
    main()
