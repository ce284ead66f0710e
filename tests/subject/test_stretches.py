"""A store that is collected in stretches is the one that is collected at one go, byte for byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CoderError, StoreError
from harness.resources import fixture
from harness.store import Store
from harness.store.lock import take
from harness.subject import memory
from harness.subject.collect import HALVED, collect, parts_folder, read_figures
from harness.subject.stretches import Cuts, begin, join, stretch
from harness.task import CoderSettings, SubjectSettings

SAE = CoderSettings(name="sae", hookpoint="model.layers.1", path=str(fixture("subject", "sae")))
# calibrated on the first of the text, wherever its own stretch begins
RANDOM = CoderSettings(name="random", kind="random-sae", hookpoint="model.layers.1", latents=64, k=2, seed=3)
CODERS = (SAE, RANDOM)


def subject(**keys: Any) -> SubjectSettings:
    corpus = {"path": str(fixture("text", "demo.jsonl")), "tokens": 20_000}
    return SubjectSettings.model_validate(
        {"model": str(fixture("subject")), "corpus": corpus, "context": 128, "batch": 8, "rows": True, **keys}
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return collect(subject(), CODERS, tmp_path_factory.mktemp("whole") / "store")


def same(store: Store, whole: Store) -> None:
    assert store.id == whole.id
    assert store.manifest.files == whole.manifest.files
    assert store.manifest.counts == whole.manifest.counts
    assert read_figures(store) == read_figures(whole)
    for name in whole.manifest.files:
        assert (store.path / name).read_bytes() == (whole.path / name).read_bytes()


class _Stopped(BaseException):
    pass


def after(tokens: int) -> Callable[[int, int], None]:
    """A progress that stops what is collected after so many tokens."""

    def tell(done: int, total: int) -> None:
        if done >= tokens:
            raise _Stopped

    return tell


def begun(out: Path, count: int = 3) -> Cuts:
    cuts = begin(subject(), CODERS, out, count)
    assert cuts is not None
    return cuts


def test_stretches_in_any_order_make_the_same_store(tmp_path: Path, whole: Store) -> None:
    out = tmp_path / "store"
    cuts = begun(out)
    # 156 contexts are 20 batches, the last one of 4
    assert cuts.stretches == ((0, 48), (48, 104), (104, 156))
    assert cuts.tokens == whole.n_tokens
    for number in (2, 0, 1):
        stretch(subject(), CODERS, out, number)
    assert join(out)
    same(Store.open(out), whole)
    assert not parts_folder(out).exists()
    assert begin(subject(), CODERS, out, 2) is None


def test_a_stretch_that_was_cut_off_goes_on_and_one_that_is_done_is_left(tmp_path: Path, whole: Store) -> None:
    out = tmp_path / "store"
    begun(out)
    with pytest.raises(_Stopped):
        stretch(subject(), CODERS, out, 1, progress=after(3000))
    # whoever comes to it anew, with another number of workers, finds the same stretches
    assert len(begun(out, 7).stretches) == 3
    told: list[int] = []
    stretch(subject(), CODERS, out, 1, progress=lambda done, _: told.append(done))
    assert told[0] == 8 * 128
    assert len(told) < 7  # seven batches, of which some were there
    for number in (0, 1, 2):
        stretch(subject(), CODERS, out, number)
    assert join(out)
    same(Store.open(out), whole)


def test_a_store_that_was_begun_at_one_go_is_gone_on_with_in_stretches(tmp_path: Path, whole: Store) -> None:
    out = tmp_path / "store"
    with pytest.raises(_Stopped):
        collect(subject(), CODERS, out, after(5000))
    cuts = begun(out, 2)
    assert cuts.stretches[0][0] >= 40
    for number in range(2):
        stretch(subject(), CODERS, out, number)
    assert join(out)
    same(Store.open(out), whole)


def test_a_store_that_was_begun_in_stretches_is_gone_on_with_at_one_go(tmp_path: Path, whole: Store) -> None:
    out = tmp_path / "store"
    begun(out)
    stretch(subject(), CODERS, out, 0)
    with pytest.raises(_Stopped):
        stretch(subject(), CODERS, out, 1, progress=after(3000))
    stretch(subject(), CODERS, out, 2)  # lost, for what is before it is not all there
    assert not join(out)
    assert sum(1 for _ in (out / "segments").glob("seg-*")) >= 2
    assert not parts_folder(out).exists()
    same(collect(subject(), CODERS, out), whole)


def test_parts_that_were_never_joined_are_taken_over(tmp_path: Path, whole: Store) -> None:
    out = tmp_path / "store"
    begun(out)
    for number in (0, 1, 2):
        stretch(subject(), CODERS, out, number)
    read: list[int] = []
    same(collect(subject(), CODERS, out, lambda done, _: read.append(done)), whole)
    assert not parts_folder(out).exists()


def test_batches_that_were_halved_are_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "store"
    begun(out)
    stretch(subject(), CODERS, out, 0)
    attempt = memory._attempt

    def small(work: Any, part: slice) -> Any:
        return None if part.stop - part.start > 4 else attempt(work, part)

    monkeypatch.setattr(memory, "_attempt", small)
    stretch(subject(), CODERS, out, 1)
    monkeypatch.undo()
    stretch(subject(), CODERS, out, 2)
    assert join(out)
    store = Store.open(out)
    assert store.manifest.counts["halved_contexts"] == 104 - 48
    assert store.manifest.counts["smallest_batch"] == 4
    assert json.loads((out / HALVED).read_text()) == [{"start": 48, "stop": 104, "batch": 4}]


def test_a_part_that_is_being_written_is_not_joined(tmp_path: Path) -> None:
    out = tmp_path / "store"
    begun(out, 1)
    stretch(subject(), CODERS, out, 0)
    lock = take(parts_folder(out) / "0")
    with pytest.raises(StoreError, match="is being written"):
        join(out)
    lock.release()
    assert join(out)


def test_a_coder_that_does_not_fit_is_told_before_anything_is_cut(tmp_path: Path) -> None:
    with pytest.raises(CoderError, match=r"subject.max_fvu is 0.001"):
        begin(subject(max_fvu=0.001), CODERS, tmp_path / "store", 2)
    assert not parts_folder(tmp_path / "store").exists()


def test_a_host_with_other_files_is_told(tmp_path: Path) -> None:
    out = tmp_path / "store"
    begun(out)
    with pytest.raises(StoreError, match="begun with other settings or files than this host has"):
        stretch(subject(batch=16), CODERS, out, 0)


def test_cuts_that_are_gone_are_told(tmp_path: Path) -> None:
    out = tmp_path / "store"
    begun(out)
    shutil.copy(fixture("subject", "config.json"), parts_folder(out) / "cuts.json")
    with pytest.raises(StoreError, match=r"cuts.json is missing or corrupt: delete .*store.parts and collect again"):
        stretch(subject(), CODERS, out, 0)
