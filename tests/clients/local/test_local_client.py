"""The client of a local model: what is found out before any weights are read, and one model shared by many."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from harness.clients import Client, Request, connect
from harness.clients.local import engine as engines
from harness.errors import BadRequest, TaskError
from harness.questions.messages import Message
from harness.subject.worker import worker

from .conftest import SUBJECT

pytestmark = pytest.mark.anyio

ASKED = Request((Message("user", "The teams meet"),), 3)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the fixture subject."""
    folder = tmp_path / "model"
    shutil.copytree(SUBJECT, folder, ignore=shutil.ignore_patterns("sae", "*.md"))
    return folder


def test_a_client_is_made_without_torch(tmp_path: Path) -> None:
    code = (
        f"import sys; from harness.clients import connect; connect({f'local/{SUBJECT}'!r});"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_capabilities_are_those_of_the_models_files() -> None:
    found = connect(f"local/{SUBJECT}").capabilities
    assert (found.logprobs, found.prompt_logprobs, found.temperature, found.seed) == (True, True, True, True)
    assert (found.tools, found.embeddings, found.model_free) == (False, False, False)
    assert (found.context, found.top_logprobs) == (1024, 4096)
    assert connect(f"local/{SUBJECT}", {"context": 64}).capabilities.context == 64


def test_a_path_is_relative_to_the_working_directory(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copied.parent)
    (copied.parent / "below").mkdir()
    here = connect("local/model").capabilities.revision
    monkeypatch.chdir("below")
    assert connect("local/../model").capabilities.revision == here


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "generation_config.json", "chat_template.jinja"]
)
def test_the_revision_changes_with_every_file_that_decides(copied: Path, name: str) -> None:
    before = connect(f"local/{copied}")
    path = copied / name
    path.write_bytes(path.read_bytes() + b" " if path.exists() else b"{{ messages }}")
    after = connect(f"local/{copied}")
    assert before.capabilities.revision != after.capabilities.revision
    assert before.wire(ASKED) != after.wire(ASKED)
    (copied / "README.md").write_text("words")
    assert connect(f"local/{copied}").capabilities.revision == after.capabilities.revision


def test_the_wire_holds_what_decides_and_no_more() -> None:
    client = connect(f"local/{SUBJECT}")
    wire = client.wire(ASKED)
    assert (wire.url, wire.path) == ("local", client.capabilities.revision)
    assert client.wire(ASKED) is wire
    assert connect(f"local/{SUBJECT}", {"batch": 2, "batch_tokens": 9, "context": 50}).wire(ASKED) == wire
    assert connect(f"local/{SUBJECT}", {"dtype": "bfloat16"}).wire(ASKED) != wire
    others = [
        Request(ASKED.messages, 4),
        Request(ASKED.messages, 3, temperature=1.0),
        Request(ASKED.messages, 3, top_logprobs=0),
        Request(ASKED.messages, 3, seed=0),
        Request(ASKED.messages, 3, stop=("x",)),
        Request(ASKED.messages, 3, continuation=""),
        Request((Message("system", "The teams meet"),), 3),
    ]
    assert len({wire.body, *(client.wire(other).body for other in others)}) == 8


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"chat": True}, r'\[model."local/.*"\]: chat: this is a model without a chat template'),
        ({"revision": "main"}, r'model "local/.*": .*revision belongs to a Hugging Face id'),
        ({"batch": 0}, r'\[model."local/.*"\]: batch: '),
        ({"bach": 4}, "did you mean batch?"),
        ({"dtype": "int8"}, "dtype: "),
    ],
)
def test_wrong_settings_are_told_before_anything_is_loaded(settings: dict[str, object], said: str) -> None:
    with pytest.raises(TaskError, match=said):
        connect(f"local/{SUBJECT}", settings)


def test_a_model_that_is_none_is_told_before_anything_is_loaded(copied: Path) -> None:
    with pytest.raises(TaskError, match=r'model "local/./nothing": ./nothing: no such folder'):
        connect("local/./nothing")
    with pytest.raises(TaskError, match=r"no config\.json"):
        connect(f"local/{copied.parent}")
    (copied / "tokenizer.json").rename(copied / "tokens.json")
    with pytest.raises(TaskError, match=r"no tokenizer\.json"):
        connect(f"local/{copied}")
    (copied / "tokens.json").rename(copied / "tokenizer.json")
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"architectures": ["T5EncoderModel"]}))
    with pytest.raises(TaskError, match="architecture T5EncoderModel; a local model is a causal"):
        connect(f"local/{copied}")
    (copied / "model.safetensors").unlink()
    with pytest.raises(TaskError, match=r"model\.safetensors: missing"):
        connect(f"local/{copied}")


async def test_a_language_model_embeds_nothing(local: Callable[..., Client]) -> None:
    with pytest.raises(BadRequest, match=r"is no embedder: it has no modules\.json"):
        await local("subject").embed(["a"])  # type: ignore[attr-defined] - a local client has it


async def test_clients_of_one_model_share_it_and_the_last_to_leave_frees_it() -> None:
    first, second, other = (
        connect(f"local/{SUBJECT}", settings) for settings in ({}, {"batch": 1}, {"dtype": "bfloat16"})
    )
    assert engines._SHARED == {}
    async with anyio.create_task_group() as group:
        for client in (first, second, other, first):
            group.start_soon(client.generate, ASKED)
    held = {key.dtype: engine for key, engine in engines._SHARED.items()}
    assert {dtype: engine.users for dtype, engine in held.items()} == {"float32": 2, "bfloat16": 1}
    model = weakref.ref(held["float32"]._loaded)
    assert model() is not None
    del held
    await first.aclose()
    await first.aclose()
    gc.collect()
    assert model() is not None
    await second.generate(ASKED)
    await second.aclose()
    assert model() is None
    await other.aclose()
    assert engines._SHARED == {}
    # a closed client that is asked again loads the model again
    assert (await first.generate(ASKED)).text
    await first.aclose()
    assert engines._SHARED == {}


async def test_a_model_is_freed_though_the_one_who_closes_is_cancelled(local: Callable[..., Client]) -> None:
    client = connect(f"local/{SUBJECT}", {"dtype": "float16"})
    await client.generate(ASKED)
    [model] = [weakref.ref(engine._loaded) for key, engine in engines._SHARED.items() if key.dtype == "float16"]
    with anyio.CancelScope() as scope:
        scope.cancel()
        await client.aclose()
    assert model() is None


async def test_threads_are_set_for_a_batch_and_no_longer(
    local: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from harness.clients.local.forward import Forward

    seen: set[int] = set()
    true = Forward.__call__

    def noting(self: Forward, *args: object, **options: object) -> object:
        seen.add(torch.get_num_threads())
        return true(self, *args, **options)  # type: ignore[arg-type] - passed on

    monkeypatch.setattr(Forward, "__call__", noting)
    before = await worker("cpu").call(lambda _: torch.get_num_threads())
    client = local("subject", threads=before + 1)
    await client.generate(ASKED)
    await client.generate(Request(ASKED.messages, 0, continuation=" again"))
    assert seen == {before + 1}
    assert await worker("cpu").call(lambda _: torch.get_num_threads()) == before


async def test_weights_that_cannot_be_read_are_the_askers_error(copied: Path) -> None:
    from harness.errors import SubjectError

    (copied / "model.safetensors").write_bytes(b"nothing")
    client = connect(f"local/{copied}")
    for _ in range(2):
        with pytest.raises(SubjectError, match="the model cannot be loaded"):
            await client.generate(ASKED)
    await client.aclose()


async def test_a_cancelled_request_leaves_the_thread_and_the_others_of_its_batch(
    local: Callable[..., Client],
) -> None:
    client = local("subject")
    requests = [Request((Message("user", text),), 30) for text in ("The teams", "The cat", "Once")]
    alone = [(await client.generate(request)).text for request in requests]
    found: dict[int, str] = {}

    async def one(number: int) -> None:
        found[number] = (await client.generate(requests[number])).text
        answered.set()

    async def left() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await client.generate(Request((Message("user", "The cows"),), 900, temperature=1.0))
            raise AssertionError("nobody cancelled it")

    scopes: list[anyio.CancelScope] = []
    answered = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(left)
        for number in range(3):
            group.start_soon(one, number)
        await answered.wait()
        scopes[0].cancel()
    assert [found[number] for number in range(3)] == alone
    # nothing runs on: the thread is free for the next job
    with anyio.fail_after(5):
        await worker("cpu").call(lambda _: None)
