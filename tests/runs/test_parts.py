"""A run whose latents are shared out comes to what one process comes to, and what one worker paid for no other pays."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from harness.clients import Limits, RunBudget
from harness.clients.ledger import Amount, Attempt
from harness.clients.protocol import Reply
from harness.clients.purpose import Purpose
from harness.clients.wire import Wire
from harness.errors import RunError, TaskError
from harness.runs.directory import JOURNAL, held
from harness.runs.journal import Journal
from harness.runs.journal_rows import Unit
from harness.runs.merging import WORKERS, merge, merge_worker, snapshot, worker_folder
from harness.runs.parts import Collecting, Order, Part, cut
from harness.runs.progress import Progress, Silent
from harness.runs.running import conduct
from harness.runs.stop import Stop
from harness.task import load_task
from harness.testing import FakeProvider
from harness.values import Usage

pytestmark = pytest.mark.anyio


class InTurn:
    """Workers that are this process, one after the other; those of `lost` end before they were merged."""

    def __init__(self, count: int, lost: tuple[int, ...] = ()) -> None:
        self._count = count
        self._lost = lost
        self.orders: list[Order] = []

    async def collect(self, collecting: Collecting, progress: Progress, stop: Stop) -> None:
        raise AssertionError("there is a store")

    async def work(self, order: Order) -> None:
        self.orders.append(order)
        beneath = snapshot(order.directory)
        for number in range(self._count):
            part = Part(number, self._count, Limits(order.task.limits.requests), RunBudget(), beneath)
            folder = worker_folder(order.directory, number)
            await conduct(order.task, folder, limit=order.limit, part=part)
            if number not in self._lost:
                merge_worker(order.directory, folder)


class Notes(Silent):
    def __init__(self) -> None:
        self.spent: Callable[[], Amount] = Amount

    def begin(self, latents: int, units: int, spent: Callable[[], Amount]) -> None:
        self.spent = spent


@pytest.fixture
def task(remote_task: Callable[..., Path]) -> Path:
    return remote_task(
        latents={"sample": 7, "min_examples": 50},
        explainer=[
            {"name": "a", "kind": "contexts", "model": "openai-api/fake/explainer"},
            {"name": "b", "kind": "contexts", "model": "anthropic/explainer"},
        ],
        scorer=[{"name": "detection", "kind": "detection", "model": "openai-api/fake/judge", "batch": 5}],
        model={},  # nothing is known of the judge: a run begins with a probe
    )


async def test_parts_come_to_the_same_key_for_key_and_ask_nothing_twice(
    task: Path, tmp_path: Path, results_of: Callable[[Path], set[Any]], point_at: Callable[..., None]
) -> None:
    async with FakeProvider() as provider:
        point_at(provider)
        await conduct(load_task(task), tmp_path / "whole")
        wanted, asked = results_of(tmp_path / "whole"), Counter(provider.counts)
        with closing(Journal(tmp_path / "whole" / JOURNAL)) as journal:
            spent = journal.spent()
            kept = {reply.key for reply in journal.replies()}
        provider.counts.clear()
        crew, notes = InTurn(3), Notes()
        outcome = await conduct(load_task(task), tmp_path / "parts", crew=crew, progress=notes)
        assert results_of(tmp_path / "parts") == wanted
        assert provider.counts == asked
        assert set(asked.values()) == {1}
    assert outcome.failures == {}
    assert sum(outcome.statuses.values()) == 7 * (4 + 5)
    with closing(Journal(tmp_path / "parts" / JOURNAL)) as journal:
        assert {reply.key for reply in journal.replies()} == kept
        assert journal.spent().tokens == spent.tokens
        assert notes.spent().tokens == spent.tokens
    assert (crew.orders[0].latents, crew.orders[0].gpus, len(crew.orders[0].accounts)) == (7, 0, 2)


async def test_a_part_leaves_undone_what_needs_the_latents_of_another(
    task: Path, tmp_path: Path, units_of: Callable[[Path], dict[str, Unit]], point_at: Callable[..., None]
) -> None:
    async with FakeProvider() as provider:
        point_at(provider)
        crew = InTurn(3, lost=(0, 1, 2))
        whole = crew.work

        async def stopped(order: Order) -> None:
            await whole(order)
            raise TaskError("stop here")

        crew.work = stopped  # type: ignore[method-assign] - the same shape
        with pytest.raises(TaskError, match="stop here"):
            await conduct(load_task(task), tmp_path / "run", crew=crew)
    order = [units_of(worker_folder(tmp_path / "run", number)) for number in range(3)]
    latents = [{unit.latent for unit in units.values()} for units in order]
    assert sorted(map(len, latents)) == [2, 2, 3]
    assert len(set.union(*latents)) == 7
    # of two and three latents in a row all but the last have their partner beside them, for both explainers
    shuffled = [sum("partner" in unit.result for unit in units.values()) for units in order]
    assert sorted(shuffled) == [2, 2, 4]


async def test_what_lost_workers_left_is_merged_by_the_next_run_whatever_it_runs_on(
    task: Path, tmp_path: Path, results_of: Callable[[Path], set[Any]], point_at: Callable[..., None]
) -> None:
    async with FakeProvider() as provider:
        point_at(provider)
        await conduct(load_task(task), tmp_path / "whole")
        wanted = results_of(tmp_path / "whole")
        provider.counts.clear()
        out = tmp_path / "run"
        # the second of three is lost when its journal is there and not merged; what it did is done here for the time
        await conduct(load_task(task), out, limit=4, crew=InTurn(3))
        asked = Counter(provider.counts)
        beneath = snapshot(out)
        part = Part(1, 2, Limits(), RunBudget(), beneath)
        await conduct(load_task(task), worker_folder(out, 1), part=part)
        assert provider.counts > asked
        await conduct(load_task(task), out)
        assert set(provider.counts.values()) == {1}
        # shuffled explanations of the last of four latents had another partner
        assert wanted <= results_of(out)
        assert not (out / WORKERS).exists()


async def test_a_part_finds_what_was_done_before_it(
    task: Path, tmp_path: Path, units_of: Callable[[Path], dict[str, Unit]], point_at: Callable[..., None]
) -> None:
    async with FakeProvider() as provider:
        point_at(provider)
        await conduct(load_task(task), tmp_path / "run")
        provider.counts.clear()
        part = Part(0, 1, Limits(), RunBudget(), snapshot(tmp_path / "run"))
        outcome = await conduct(load_task(task), tmp_path / "part", part=part)
        assert not provider.counts
    assert sum(outcome.statuses.values()) == 7 * (4 + 5)
    assert units_of(tmp_path / "part") == {}


def test_stretches_are_nearly_equal_and_leave_nothing_out() -> None:
    for length in range(12):
        for count in range(1, 15):
            parts = [cut(range(length), number, count) for number in range(count)]
            assert [item for part in parts for item in part] == list(range(length))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


# journals


def key(number: int) -> str:
    return f"{number:064x}"


def unit(number: int, status: Any = "ok", text: str = "one", *, pending: bool = False) -> Unit:
    return Unit(key(number), key(99), number, status, {"text": text}, None, (key(1),), pending)


def attempt(number: int) -> Attempt:
    return Attempt(f"{number:032x}", key(1), "m", Purpose("score", key(99), 1), Amount(100, 0.5))


async def test_what_is_newer_or_was_not_known_is_taken_and_twice_is_once(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.sqlite", tmp_path / "theirs.sqlite"
    wire, usage = Wire("POST", "http://here", b'{"a":1}'), Usage(input=7, output=3)
    async with Journal(ours) as journal:
        await journal.finish(unit(1))
        await journal.finish(unit(2, "provider_error", "", pending=True))
        await journal.reserve(attempt(1))
    await anyio.sleep(0.002)
    async with Journal(theirs) as journal:
        await journal.finish(unit(2, text="two"))
        await journal.finish(unit(3, text="three"))
        await journal.keep(key(1), wire, Reply("said", "stop", usage))
        await journal.reserve(attempt(1))
        journal.settle(attempt(1), "ok", Amount(10, 0.1), usage, 0.5)
        await journal.reserve(attempt(2))
        await journal.finish(unit(4))
    await anyio.sleep(0.002)
    async with Journal(ours) as journal:
        await journal.finish(unit(3, text="newer"))
    for _ in range(2):
        merge(ours, theirs)
        with closing(Journal(ours)) as journal:
            texts = {number: journal.unit(key(number)) for number in range(1, 6)}
            assert {number: found and found.result["text"] for number, found in texts.items()} == {
                1: "one",
                2: "two",
                3: "newer",
                4: "one",
                5: None,
            }
            reply = journal.get(key(1))
            assert reply is not None
            assert reply.text == "said"
            # what is not known to have ended counts in full
            assert journal.spent() == Amount(110, 0.6)
            assert [(one.outcome, one.input) for one in journal.attempts()] == [("ok", 7), (None, None)]


def test_a_merge_that_fails_changes_nothing(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "ours.sqlite")):
        pass
    (tmp_path / "theirs.sqlite").write_bytes(b"no journal at all, but long enough to look like one" * 40)
    with pytest.raises(RunError, match=r"theirs.sqlite: this journal cannot be opened"):
        merge(tmp_path / "ours.sqlite", tmp_path / "theirs.sqlite")


def test_the_journal_of_a_worker_that_is_still_at_work_is_not_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.runs.merging._PATIENCE", 0.0)
    worker = worker_folder(tmp_path, 0)
    with held(worker), pytest.raises(RunError, match="in use by process"):
        merge_worker(tmp_path, worker)
    assert worker.is_dir()


def test_a_copy_needs_nothing_beside_it(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / JOURNAL)
    connection.close()
    with closing(Journal(tmp_path / JOURNAL)):
        copy = snapshot(tmp_path)
    moved = tmp_path / "elsewhere.sqlite"
    shutil.move(copy, moved)
    moved.chmod(0o444)
    with closing(Journal(tmp_path / "new.sqlite", moved)) as journal:
        assert journal.unit(key(1)) is None
    assert not list(tmp_path.glob("elsewhere.sqlite-*"))


async def test_workers_leave_what_goes_by_batch_to_their_run(
    remote_task: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = load_task(
        remote_task(
            latents={"sample": 4, "min_examples": 50},
            model={"openai/writer": {"batch": True, "logprobs": True}, "openai-api/fake/judge": {"logprobs": True}},
            explainer=[{"name": "a", "kind": "contexts", "model": "openai/writer"}],
        )
    )
    async with FakeProvider(looks=1) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.openai_url)
        monkeypatch.setenv("FAKE_BASE_URL", provider.openai_url)
        assert (await conduct(task, tmp_path / "run", crew=InTurn(2))).waiting == 1
        assert [batch.requests for batch in provider.batches.made] == [4]
        while (outcome := await conduct(task, tmp_path / "run", crew=InTurn(2))).waiting:
            assert len(provider.batches.made) == 1
    assert (outcome.failures, len(provider.batches.made)) == ({}, 1)
    assert max(provider.counts.values()) == 1
