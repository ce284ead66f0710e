"""Workers on Ray, in processes of their own: the same results as one process, whatever becomes of them."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from harness.runs.directory import JOURNAL
from harness.runs.journal import Journal
from harness.runs.merging import WORKERS
from harness.runs.progress import Silent
from harness.runs.running import conduct
from harness.runs.stop import Stop
from harness.scale.crew import RayCrew, ray_crew
from harness.store import Store
from harness.task import load_task
from harness.testing import FakeProvider, Rate, Received, by_keywords
from harness.values import digest

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = [pytest.mark.anyio, pytest.mark.ray, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]

EXPLAINER, JUDGE = "openai-api/fake/explainer", "openai-api/fake/judge"


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def crew() -> Iterator[Callable[[int], RayCrew]]:
    with ray_crew(4) as most:
        yield most.of


@pytest.fixture
def task(remote_task: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a task whose models are a fake provider's, named in it: workers know no variables set later."""

    def write(provider: FakeProvider, *, batch: int = 2, sample: int = 8, **more: Any) -> Path:
        known = {"logprobs": True, "base_url": provider.openai_url, **more}
        return remote_task(
            latents={"sample": sample, "min_examples": 50},
            limits={"latents": 2, "requests": 8},
            scorer=[{"name": "detection", "kind": "detection", "model": JUDGE, "batch": batch}],
            model={EXPLAINER: known, JUDGE: known},
        )

    return write


async def test_two_workers_come_to_the_same_key_for_key(
    crew: Callable[[int], RayCrew], task: Callable[..., Path], tmp_path: Path, results_of: Callable[[Path], set[Any]]
) -> None:
    async with FakeProvider() as provider:
        written = task(provider)
        await conduct(load_task(written), tmp_path / "local")
        asked = Counter(provider.counts)
        provider.counts.clear()
        outcome = await conduct(load_task(written), tmp_path / "ray", crew=crew(2))
        assert provider.counts == asked
    assert outcome.failures == {}
    assert results_of(tmp_path / "ray") == results_of(tmp_path / "local")
    journals = [Journal(tmp_path / name / JOURNAL) for name in ("local", "ray")]
    assert journals[0].spent().tokens == journals[1].spent().tokens > 0
    for journal in journals:
        journal.close()
    assert not (tmp_path / "ray" / WORKERS).exists()


async def test_the_demo_is_the_same_on_two_workers(
    crew: Callable[[int], RayCrew],
    tmp_path: Path,
    results_of: Callable[[Path], set[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    demo = load_task("demo", ["subject.corpus.tokens=60000", "latents.min_examples=40"])
    await conduct(demo, tmp_path / "local", limit=6)
    await conduct(demo, tmp_path / "ray", limit=6, crew=crew(2))
    found = results_of(tmp_path / "ray")
    assert found == results_of(tmp_path / "local")
    assert len(found) > 6 * 6


class Collected(Silent):
    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def collecting(self, done: int, total: int) -> None:
        self.told.append((done, total))


@pytest.mark.parametrize("killed", [False, True])
async def test_a_store_that_workers_collect_is_the_same_byte_for_byte(
    crew: Callable[[int], RayCrew], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    overrides = ["subject.corpus.tokens=60000", "latents.min_examples=40", "subject.threads=1"]
    demo, found, kills, two = load_task("demo", overrides), [], [], crew(2)
    for name, workers in (("local", None), ("ray", two)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        progress = Collected()
        async with anyio.create_task_group() as group:
            if killed and workers is not None:
                group.start_soon(_kill_when_reading, tmp_path / name / "stores", kills)
            await conduct(demo, tmp_path / name / "run", limit=1, crew=workers, progress=progress)
            group.cancel_scope.cancel()
        assert progress.told[-1] == (59_904, 59_904)
        found.append(Store.open(next((tmp_path / name / "stores").glob("*"))))
    local, ray = found
    assert ray.id == local.id
    assert ray.manifest.files == local.manifest.files
    assert ray.manifest.counts == local.manifest.counts
    assert two.cpu > 0
    assert len(kills) == killed
    assert [path.name for path in (tmp_path / "ray" / "stores").iterdir()] == [local.path.name]


async def _kill_when_reading(stores: Path, kills: list[Path]) -> None:
    """Kill the worker of the second stretch once its lock is held."""

    def kill() -> None:
        for owner in stores.glob("*.parts/1/.lock.pid"):
            if _alive(owner):
                os.kill(int(owner.read_text()), signal.SIGKILL)
                kills.append(owner)

    while not kills:
        await anyio.sleep(0.01)
        kill()


DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.skipif(not DATA.is_dir(), reason="the real model and text are not beside the checkout")
async def test_a_real_model_is_the_same_on_two_workers(
    crew: Callable[[int], RayCrew],
    write_task: Callable[..., Path],
    tmp_path: Path,
    results_of: Callable[[Path], set[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    text = {"path": str(DATA / "text" / "tinystories.jsonl"), "tokens": 100_000}
    task = write_task(
        store=None,
        subject={"model": str(DATA / "stories260K"), "corpus": text, "context": 512, "batch": 16},
        coder=[{"name": "mlp", "kind": "neurons", "hookpoint": "model.layers.2.mlp.down_proj", "input": True, "k": 8}],
        latents={"sample": 12, "min_examples": 50},
        scorer=[
            {"name": "detection", "kind": "detection", "model": "lexical/rules"},
            {"name": "fuzzing", "kind": "fuzzing", "model": "lexical/rules"},
        ],
    )
    await conduct(load_task(task), tmp_path / "local")
    outcome = await conduct(load_task(task), tmp_path / "ray", crew=crew(2))
    found = results_of(tmp_path / "ray")
    assert found == results_of(tmp_path / "local")
    assert len(found) >= 12 * 8
    assert sum(outcome.statuses.values()) == len(found)


@dataclass
class Killer:
    """Kills a random worker as every so many requests come; what it had committed must not be asked again."""

    out: Path
    gaps: list[int]
    draw: random.Random
    provider: FakeProvider | None = None
    kills: int = 0
    committed: list[tuple[int, set[str]]] = field(default_factory=list)

    def answer(self, messages: Any, body: Mapping[str, Any]) -> Any:
        if self.gaps:
            self.gaps[0] -= 1
            if self.gaps[0] <= 0 and self._kill():
                del self.gaps[0]
        return by_keywords(messages, body)

    def _kill(self) -> bool:
        owners = [owner for owner in self.out.glob(f"{WORKERS}/*/owner") if _alive(owner)]
        if not owners or self.provider is None:
            return False  # the one that was killed last has not begun again
        owner = self.draw.choice(owners)
        pid = int(owner.read_text())
        os.kill(pid, signal.SIGKILL)
        while _runs(pid):
            time.sleep(0.001)
        with closing(Journal(owner.parent / JOURNAL)) as journal:
            bodies = {digest(reply.wire["body"]) for reply in journal.replies()}
        self.committed.append((len(self.provider.requests), bodies))
        self.kills += 1
        return True


def _alive(owner: Path) -> bool:
    try:
        return _runs(int(owner.read_text()))
    except (OSError, ValueError):
        return False


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("kills", [pytest.param(2, id="2"), pytest.param(10, id="10", marks=pytest.mark.slow)])
async def test_workers_killed_at_random_come_to_the_same_and_pay_for_nothing_twice(
    crew: Callable[[int], RayCrew],
    task: Callable[..., Path],
    tmp_path: Path,
    results_of: Callable[[Path], set[Any]],
    kills: int,
) -> None:
    draw, notes = random.Random(kills), Notes()
    killer = Killer(tmp_path / "ray", [], draw)
    async with FakeProvider(killer.answer, delay=0.01) as provider:
        written = task(provider, batch=1, sample=12)
        await conduct(load_task(written), tmp_path / "local")
        whole = len(provider.requests)
        begun = len(provider.requests)
        killer.provider = provider
        killer.gaps = [draw.randint(1, whole // (kills + 1)) for _ in range(kills)]
        await conduct(load_task(written), tmp_path / "ray", crew=crew(2), progress=notes)
        requests: list[Received] = list(provider.requests)
    assert killer.kills == kills
    assert results_of(tmp_path / "ray") == results_of(tmp_path / "local")
    for after, bodies in killer.committed:
        later = {request.digest for request in requests[after:]}
        assert bodies.isdisjoint(later), "a committed reply was asked for again"
    # beyond one for each body: at most what was in flight in the worker that was killed
    extra = len(requests) - begun - len({request.digest for request in requests[begun:]})
    assert extra <= kills * 8
    assert sum("was lost and goes on" in note for note in notes.notes) >= kills


async def test_four_workers_together_keep_a_rate_of_100_a_second_and_what_may_be_under_way(
    crew: Callable[[int], RayCrew], task: Callable[..., Path], tmp_path: Path
) -> None:
    async with FakeProvider(rate=Rate(100, burst=50), delay=0.08) as provider:
        written = task(provider, batch=1, sample=12, requests_per_minute=6000)
        loaded = load_task(written, ["limits.requests=12", "limits.latents=6"])
        outcome = await conduct(loaded, tmp_path / "run", crew=crew(4))
        refused, answered = provider.statuses["429"], provider.statuses["200"]
    assert outcome.failures == {}
    assert answered > 600
    # a worker that the machine held up sends late what it was let go
    assert refused <= 0.1 * answered
    # the server counts some that have been answered just now; four that each keep to 12 by themselves have some 40
    assert 8 < provider.peak <= 24


async def test_a_budget_is_that_of_all_workers_together(
    crew: Callable[[int], RayCrew], task: Callable[..., Path], tmp_path: Path
) -> None:
    price = {"input": 1.0, "output": 10.0}
    async with FakeProvider() as provider:
        written = task(provider, price=price)
        outcome = await conduct(load_task(written, ["limits.spend=0.02"]), tmp_path / "run", crew=crew(2))
        assert provider.bill.dollars <= 0.02
        assert outcome.stopped_by is not None
        assert "limits.spend" in outcome.stopped_by
        spent = provider.bill.dollars
        # with more of it the run goes on where it was, and ends
        done = await conduct(load_task(written, ["limits.spend=10.0"]), tmp_path / "run", crew=crew(2))
        assert done.failures == {}
        assert set(provider.counts.values()) == {1}
        assert provider.bill.dollars > spent > 0


async def test_a_wish_to_stop_reaches_the_workers(
    crew: Callable[[int], RayCrew], task: Callable[..., Path], tmp_path: Path, results_of: Callable[[Path], set[Any]]
) -> None:
    stop = Stop()

    def answer(messages: Any, body: Mapping[str, Any]) -> Any:
        if len(provider.requests) == 30:
            stop.wish()
        return by_keywords(messages, body)

    async with FakeProvider(answer, delay=0.05) as provider:
        written = task(provider, batch=1, sample=12)
        outcome = await conduct(load_task(written), tmp_path / "run", crew=crew(2), stop=stop)
        assert outcome.interrupted
        asked = len(provider.requests)
        assert asked < 400
        await conduct(load_task(written), tmp_path / "run")
        assert set(provider.counts.values()) == {1}
    assert len(results_of(tmp_path / "run")) > 12 * 4


async def test_a_mistake_that_a_worker_finds_is_told(
    crew: Callable[[int], RayCrew], task: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.errors import UserError

    async with FakeProvider() as provider:
        # the address is set here alone: on the workers' side the service has none
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        written = task(provider)
        text = written.read_text().replace(f'base_url = "{provider.openai_url}"', "")
        written.write_text(text)
        with pytest.raises(UserError, match="FAKE_BASE_URL"):
            await conduct(load_task(written), tmp_path / "run", crew=crew(2))


async def test_what_goes_by_batch_is_submitted_once_by_the_run_itself(
    crew: Callable[[int], RayCrew],
    remote_task: Callable[..., Path],
    tmp_path: Path,
    results_of: Callable[[Path], set[Any]],
) -> None:
    writer, judge = "openai/explainer", "openai/judge"
    async with FakeProvider() as provider:
        known = {"logprobs": True, "base_url": provider.openai_url}
        tables = {
            "latents": {"sample": 6, "min_examples": 50},
            "explainer": [{"name": "a", "kind": "contexts", "model": writer}],
            "scorer": [{"name": "detection", "kind": "detection", "model": judge, "batch": 4}],
        }
        live = remote_task(model={writer: known, judge: known}, **tables)
        await conduct(load_task(live), tmp_path / "local")
        asked = Counter(provider.counts)
        provider.counts.clear()
        provider.requests.clear()
        # explanations are asked at once, by workers; the judge's requests wait for the run's own batch
        mixed = remote_task(model={writer: known, judge: known | {"batch": True}}, **tables)
        first = await conduct(load_task(mixed), tmp_path / "ray", crew=crew(2))
        assert first.waiting
        assert {request.batch for request in provider.requests if request.body["model"] == "explainer"} == {None}
        done = await conduct(load_task(mixed), tmp_path / "ray", crew=crew(2), wait=True)
        judged = [request.batch for request in provider.requests if request.body["model"] == "judge"]
        assert set(judged) == {"batch_0"}
        assert provider.counts == asked
    assert not done.waiting
    assert done.failures == {}
    assert results_of(tmp_path / "ray") == results_of(tmp_path / "local")
