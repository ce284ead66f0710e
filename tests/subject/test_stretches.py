"""A store that is collected in stretches is the one that is collected at one go, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.errors import CoderError, StoreError
from harness.store import Store
from harness.store.lock import take
from harness.subject import memory
from harness.subject.coders.saelens import save_saelens
from harness.subject.collect import HALVED, collect, parts_folder, read_figures
from harness.subject.stretches import Cuts, begin, join, stretch
from harness.task import CoderSettings, CorpusSettings, SubjectSettings
from tests.subject.conftest import sentences
from tests.subject.test_collect import weights

CONTEXT = 16


@dataclass(frozen=True)
class Made:
    """What is collected, and the store that one process makes of it."""

    subject: SubjectSettings
    coders: tuple[CoderSettings, ...]
    store: Store

    def begun(self, out: Path, count: int = 3) -> Cuts:
        cuts = begin(self.subject, self.coders, out, count)
        assert cuts is not None
        return cuts

    def stretch(self, out: Path, number: int, progress: Callable[[int, int], None] | None = None) -> None:
        stretch(self.subject, self.coders, out, number, progress=progress)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, model_folders: dict[str, Path]) -> Made:
    folder = tmp_path_factory.mktemp("whole")
    lines = [json.dumps({"text": text}) + "\n" for text in sentences(250, 1)]
    (folder / "corpus.jsonl").write_text("".join(lines), encoding="utf-8")
    save_saelens(folder / "sae", weights(), {})
    corpus = CorpusSettings(path=folder / "corpus.jsonl", tokens=156 * CONTEXT)
    subject = SubjectSettings(
        model=str(model_folders["llama"]), corpus=corpus, context=CONTEXT, batch=8, rows=True, threads=1, max_fvu=10
    )
    coders = (
        CoderSettings(name="sae", hookpoint="model.layers.1", path=str(folder / "sae")),
        # calibrated on the first of the text, wherever its own stretch begins
        CoderSettings(name="random", kind="random-directions", hookpoint="model.layers.1", latents=8, rate=(0.1,)),
    )
    return Made(subject, coders, collect(subject, coders, folder / "store"))


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


def test_stretches_in_any_order_make_the_same_store(tmp_path: Path, made: Made) -> None:
    out = tmp_path / "store"
    cuts = made.begun(out)
    # 156 contexts are 20 batches, the last one of 4
    assert cuts.stretches == ((0, 48), (48, 104), (104, 156))
    assert cuts.tokens == made.store.n_tokens
    for number in (2, 0, 1):
        made.stretch(out, number)
    assert join(out)
    same(Store.open(out), made.store)
    assert not parts_folder(out).exists()
    assert begin(made.subject, made.coders, out, 2) is None


def test_a_stretch_that_was_cut_off_goes_on_and_one_that_is_done_is_left(tmp_path: Path, made: Made) -> None:
    out = tmp_path / "store"
    made.begun(out)
    with pytest.raises(_Stopped):
        made.stretch(out, 1, progress=after(400))
    # whoever comes to it anew, with another number of workers, finds the same stretches
    assert len(made.begun(out, 7).stretches) == 3
    told: list[int] = []
    made.stretch(out, 1, progress=lambda done, _: told.append(done))
    assert told[0] == 8 * CONTEXT
    assert len(told) < 7  # seven batches, of which some were there
    for number in (0, 1, 2):
        made.stretch(out, number)
    assert join(out)
    same(Store.open(out), made.store)


def test_a_store_that_was_begun_at_one_go_is_gone_on_with_in_stretches(tmp_path: Path, made: Made) -> None:
    out = tmp_path / "store"
    with pytest.raises(_Stopped):
        collect(made.subject, made.coders, out, after(700))
    cuts = made.begun(out, 2)
    assert cuts.stretches[0][0] >= 40
    for number in range(2):
        made.stretch(out, number)
    assert join(out)
    same(Store.open(out), made.store)


def test_a_store_that_was_begun_in_stretches_is_gone_on_with_at_one_go(tmp_path: Path, made: Made) -> None:
    out = tmp_path / "store"
    made.begun(out)
    made.stretch(out, 0)
    with pytest.raises(_Stopped):
        made.stretch(out, 1, progress=after(400))
    made.stretch(out, 2)  # lost, for what is before it is not all there
    assert not join(out)
    assert sum(1 for _ in (out / "segments").glob("seg-*")) >= 2
    assert not parts_folder(out).exists()
    same(collect(made.subject, made.coders, out), made.store)


def test_parts_that_were_never_joined_are_taken_over(tmp_path: Path, made: Made) -> None:
    out = tmp_path / "store"
    made.begun(out)
    for number in (0, 1, 2):
        made.stretch(out, number)
    read: list[int] = []
    same(collect(made.subject, made.coders, out, lambda done, _: read.append(done)), made.store)
    assert not parts_folder(out).exists()


def test_batches_that_were_halved_are_on_record(tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "store"
    made.begun(out)
    made.stretch(out, 0)
    attempt = memory._attempt

    def small(work: Any, part: slice) -> Any:
        return None if part.stop - part.start > 4 else attempt(work, part)

    monkeypatch.setattr(memory, "_attempt", small)
    made.stretch(out, 1)
    monkeypatch.undo()
    made.stretch(out, 2)
    assert join(out)
    store = Store.open(out)
    assert store.manifest.counts["halved_contexts"] == 104 - 48
    assert store.manifest.counts["smallest_batch"] == 4
    assert json.loads((out / HALVED).read_text()) == [{"start": 48, "stop": 104, "batch": 4}]


def test_a_part_that_is_being_written_is_not_joined(tmp_path: Path, made: Made) -> None:
    out = tmp_path / "store"
    made.begun(out, 1)
    made.stretch(out, 0)
    lock = take(parts_folder(out) / "0")
    with pytest.raises(StoreError, match="is being written"):
        join(out)
    lock.release()
    assert join(out)


def test_a_coder_that_does_not_fit_is_told_before_anything_is_cut(tmp_path: Path, made: Made) -> None:
    with pytest.raises(CoderError, match=r"subject.max_fvu is 0.001"):
        begin(made.subject.model_copy(update={"max_fvu": 0.001}), made.coders, tmp_path / "store", 2)
    assert not parts_folder(tmp_path / "store").exists()


def test_a_host_with_other_files_is_told(tmp_path: Path, made: Made) -> None:
    out = tmp_path / "store"
    made.begun(out)
    with pytest.raises(StoreError, match="begun with other settings or files than this host has"):
        stretch(made.subject.model_copy(update={"batch": 16}), made.coders, out, 0)


def test_cuts_that_are_gone_are_told(tmp_path: Path, made: Made) -> None:
    out = tmp_path / "store"
    made.begun(out)
    (parts_folder(out) / "cuts.json").write_text('{"contexts": 3}')
    with pytest.raises(StoreError, match=r"cuts.json is missing or corrupt: delete .*store.parts and collect again"):
        made.stretch(out, 0)
