"""How much faster a stage that waits for replies gets with workers on Ray, and what collecting on them costs.

`python -m benchmarks.scale [--workers N ...] [--latents N] [--delay S] [--in-flight N] [--tokens N] [--rounds N]`

A task of one explainer and one scorer, which asks for each example by itself, on a store of random words; the fake
provider, in a process of its own, answers after `delay` seconds. One process works on `in-flight` latents at once, and
so does each worker. Ray is started before, and a small run is done on it: what is measured is a run, with the actors
that it starts, and not the start of Ray. Then the demo's store is collected, `tokens` of it, by one process and by as
many workers, on one thread each; each worker loads the subject anew. CPU seconds are those of the run's own process and
of its workers, without those of Ray's other processes. Rounds alternate between the ways; figures are medians, ratios
are taken within a round. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import chdir, closing
from pathlib import Path

import numpy as np
import tomli_w
from tokenizers import Tokenizer, models, pre_tokenizers

from harness.runs.collecting import collected
from harness.runs.directory import JOURNAL
from harness.runs.journal import Journal
from harness.runs.outcomes import result_hash
from harness.runs.progress import Silent
from harness.runs.running import conduct
from harness.runs.stop import Stop
from harness.scale.crew import RayCrew, ray_crew
from harness.store import CoderFrame, ManifestFrame, Rows, StoreWriter, Vocabulary
from harness.task import Task, load_task
from harness.testing import ProviderProcess

_CONTEXT = 64


def words_store(path: Path, latents: int) -> None:
    """A store of random words in which latent i fires on word i."""
    generator, words = np.random.default_rng(0), 3 * latents
    contexts = 6 * words
    tokens = generator.integers(1, words + 1, (contexts, _CONTEXT)).astype(np.uint32)
    documents = np.repeat(np.arange(contexts, dtype=np.int32)[:, None], _CONTEXT, axis=1)
    known = {"<s>": 0, **{f"w{number}": number + 1 for number in range(words)}}
    tokenizer = Tokenizer(models.WordLevel(known, "<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    fires = tokens.reshape(-1) <= latents
    indptr = np.concatenate([[0], np.cumsum(fires)]).astype(np.int64)
    values = generator.lognormal(0, 1, int(fires.sum())).astype(np.float32)
    rows = Rows(indptr, (tokens.reshape(-1)[fires] - 1).astype(np.uint32), values)
    frame = ManifestFrame(
        model="made", model_revision="0", tokenizer=None, corpus={"seed": 0}, context=_CONTEXT, bos=None
    )
    coders = [CoderFrame("words", latents, "", f"made-{latents}", None)]
    with StoreWriter.begin(path, frame, Vocabulary.from_tokenizer(tokenizer), coders) as writer:
        writer.append(tokens, documents, {"words": rows})
        writer.finish({})


def made_task(folder: Path, url: str, latents: int, in_flight: int) -> Task:
    """The task, on a store that is made for it."""
    words_store(folder / "store", latents)
    model = "openai-api/fake/model"
    task = {
        "name": "scale",
        "store": {"path": str(folder / "store")},
        "coder": [{"name": "words", "kind": "planted"}],
        "latents": {"sample": latents, "min_examples": 50},
        "examples": {"scored": {"activating": 20, "non_activating": 20}},
        "explainer": [{"name": "a", "kind": "contexts", "model": model}],
        "scorer": [{"name": "detection", "kind": "detection", "model": model, "batch": 1}],
        "limits": {"latents": in_flight, "requests": 100_000},
        "model": {model: {"base_url": url, "logprobs": True}},
    }
    path = folder / "task.toml"
    path.write_text(tomli_w.dumps(task), encoding="utf-8")
    return load_task(path)


def measured(task: Task, out: Path, crew: RayCrew | None, limit: int | None = None) -> dict[str, float]:
    """One run: its seconds, and the CPU seconds of this process and its workers."""

    def used() -> float:
        return time.process_time() + (0.0 if crew is None else crew.cpu)

    wall, cpu = time.perf_counter(), used()
    outcome = asyncio.run(conduct(task, out, crew=crew, limit=limit))
    if outcome.failures:
        raise RuntimeError(f"units failed: {outcome.failures}")
    return {"seconds": time.perf_counter() - wall, "cpu": used() - cpu}


def results(out: Path) -> set[tuple[str, str]]:
    """What a run came to."""
    with closing(Journal(out / JOURNAL)) as journal:
        return {(unit.key, result_hash(unit)) for arm in journal.arms() for unit in journal.units(arm)}


def requests(out: Path) -> int:
    """How many replies a run has."""
    with closing(Journal(out / JOURNAL)) as journal:
        return sum(1 for _ in journal.replies())


def main() -> None:
    """Measure, print a table and a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--latents", type=int, default=48)
    parser.add_argument("--delay", type=float, default=0.5, help="seconds a reply takes")
    parser.add_argument("--in-flight", type=int, default=2, help="latents at once of each process")
    parser.add_argument("--tokens", type=int, default=300_000, help="tokens of the demo's text that are collected")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.environ |= {"FAKE_API_KEY": "none"}
    with tempfile.TemporaryDirectory() as name, ProviderProcess("--delay", str(given.delay)) as provider:
        folder = Path(name)
        task = made_task(folder, provider.openai_url, given.latents, given.in_flight)
        with ray_crew(max(given.workers)) as most:
            crews = {number: most.of(number) for number in given.workers}
            figures = _rounds(given.rounds, crews, task, folder)
            figures |= _collections(given.rounds, crews, given.tokens, folder)
    sizes = {"latents": given.latents, "delay_s": given.delay, "in_flight": given.in_flight, "rounds": given.rounds}
    for key, value in figures.items():
        print(f"{key:28} {value:.3g}")
    print(json.dumps(sizes | figures))


def _rounds(count: int, crews: Mapping[int, RayCrew], task: Task, folder: Path) -> dict[str, float]:
    found: list[dict[str, float]] = []
    same = True
    for number, crew in crews.items():
        measured(task, folder / f"first-{number}", crew, limit=2 * number)
    for turn in range(count):
        alone = folder / f"alone-{turn}"
        ways = {"alone": measured(task, alone, None)}
        for number, crew in crews.items():
            out = folder / f"{number}-{turn}"
            ways[f"{number}_workers"] = measured(task, out, crew)
            same = same and results(out) == results(alone)
        found.append({f"{key}_{way}": value for way, taken in ways.items() for key, value in taken.items()})
    figures = {key: statistics.median(one[key] for one in found) for key in found[0]}
    for number in crews:
        ratios = [one["seconds_alone"] / one[f"seconds_{number}_workers"] for one in found]
        figures[f"speedup_{number}_workers"] = statistics.median(ratios)
    return figures | {"requests": requests(folder / "alone-0"), "same_results": float(same)}


def gathered(task: Task, crew: RayCrew | None, folder: Path) -> tuple[dict[str, float], str]:
    """One collection: its seconds, CPU seconds, and the store's id."""
    folder.mkdir()
    wall, cpu = time.perf_counter(), time.process_time() + (0.0 if crew is None else crew.cpu)
    with chdir(folder):
        store = asyncio.run(collected(task, task.coder, Silent(), Stop(), crew))
    assert store is not None
    used = time.process_time() + (0.0 if crew is None else crew.cpu) - cpu
    return {"collect_seconds": time.perf_counter() - wall, "collect_cpu": used}, store.id


def _collections(count: int, crews: Mapping[int, RayCrew], tokens: int, folder: Path) -> dict[str, float]:
    def demo(tokens: int) -> Task:
        return load_task("demo", [f"subject.corpus.tokens={tokens}", "subject.threads=1"])

    found: list[dict[str, float]] = []
    same = True
    # modules are loaded before anything is measured; workers are new processes, which is part of what they cost
    gathered(demo(8192), None, folder / "collect-first")
    for turn in range(count):
        taken, wanted = gathered(demo(tokens), None, folder / f"collect-alone-{turn}")
        one = {f"{key}_alone": value for key, value in taken.items()}
        for number, crew in crews.items():
            taken, store = gathered(demo(tokens), crew, folder / f"collect-{number}-{turn}")
            same = same and store == wanted
            one |= {f"{key}_{number}_workers": value for key, value in taken.items()}
            one[f"collect_cpu_ratio_{number}_workers"] = taken["collect_cpu"] / one["collect_cpu_alone"]
        found.append(one)
    figures = {key: statistics.median(one[key] for one in found) for key in found[0]}
    return figures | {"same_stores": float(same)}


if __name__ == "__main__":
    main()
