"""Agents in whole runs: latents that only an experiment tells apart, through both SDKs and in plain text."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from tokenizers import Tokenizer, models, pre_tokenizers

from harness.analysis.load import Run, load
from harness.examples.splits import SPLITS, split_of
from harness.questions.messages import ToolCall
from harness.report.gather import gather
from harness.resources import fixture
from harness.runs.failpoints import VARIABLE
from harness.runs.plan import aplan
from harness.runs.running import conduct
from harness.store import CoderFrame, ManifestFrame, Rows, Store, StoreWriter, Vocabulary
from harness.task import Task, load_task
from harness.testing import Answer, FakeProvider, Tokens, by_keywords
from harness.values import digest
from tests.docs.pages import blocks, page
from tests.explainers.agent.scripted import PAIRS, TRUTH, investigator, write_concepts
from tests.explainers.agent.telling import told

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
JUDGE = "openai/gpt-4.1-mini"
OPENAI, ANTHROPIC, TEXT = "openai/gpt-4.1", "anthropic/claude-sonnet-5", "openai-api/fake/plain"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One working directory, so that all runs here share one store."""
    made = tmp_path_factory.mktemp("agent")
    write_concepts(made / "concepts.json")
    return made


@pytest.fixture
def write(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a task whose agent asks a model; keywords replace its tables."""
    monkeypatch.chdir(folder)
    # a row for each document: none begins behind the word that decides
    corpus = {"path": str(fixture("text", "demo.jsonl")), "packing": "rows"}

    def make(asked: str = OPENAI, agent: dict[str, Any] | None = None, settings: Any = None, **tables: Any) -> Path:
        concepts = str(folder / "concepts.json")
        base: dict[str, Any] = {
            "name": "agent",
            "subject": {"model": str(fixture("subject")), "corpus": corpus, "context": 1024},
            "coder": [{"name": "planted", "kind": "planted", "path": concepts}],
            "latents": {"ids": [0, 1, 2, 3], "min_examples": 50},
            "examples": {"scored": {"activating": 20, "non_activating": 20}},
            "explainer": [{"name": "agent", "kind": "agent", "model": asked, "by": "truth/judge", **(agent or {})}],
            "scorer": [{"name": "detection", "kind": "detection", "model": "truth/judge"}],
            "controls": [],
            "model": {"truth/judge": {"concepts": concepts}, **(settings or {})},
        }
        path = tmp_path / "task.toml"
        path.write_text(tomli_w.dumps({key: table for key, table in (base | tables).items() if table is not None}))
        return path

    return make


@pytest.fixture
def task(write: Callable[..., Path]) -> Callable[..., Task]:
    return lambda *args, **tables: load_task(write(*args, **tables))


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeProvider], None]:
    """Lets all three services be a fake provider."""

    def point(provider: FakeProvider) -> None:
        for name, value in environment(provider).items():
            monkeypatch.setenv(name, value)

    return point


def environment(provider: FakeProvider) -> dict[str, str]:
    keys = {f"{name}_API_KEY": "sk-none" for name in ("OPENAI", "ANTHROPIC", "FAKE")}
    urls = {"OPENAI": provider.openai_url, "FAKE": provider.openai_url, "ANTHROPIC": provider.url}
    return keys | {f"{name}_BASE_URL": url for name, url in urls.items()}


def _store_of_documents(path: Path, names: list[str], documents: int, words: int) -> Store:
    """A store in which each document is words of its own, and latent 0 fires on one of every eight."""
    tokenizer = Tokenizer(models.WordLevel({"<s>": 0, **{name: at + 1 for at, name in enumerate(names)}}, "<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    tokenizer.add_special_tokens(["<s>"])
    tokens = (np.arange(documents * words, dtype=np.uint32) + 1).reshape(documents, words)
    of = np.repeat(np.arange(documents, dtype=np.int32)[:, None], words, axis=1)
    fires = (np.arange(documents * words) % 16) == 3
    indptr = np.concatenate([[0], np.cumsum(fires)]).astype(np.int64)
    rows = Rows(indptr, np.zeros(int(fires.sum()), np.uint32), np.ones(int(fires.sum()), np.float32))
    frame = ManifestFrame(model="made", model_revision="0", tokenizer=None, corpus={}, context=words, bos=0)
    with StoreWriter.begin(path, frame, Vocabulary.from_tokenizer(tokenizer), [CoderFrame("words", 1, "", "1")]) as out:
        out.append(tokens, of, {"words": rows})
        return out.finish({})


def explained(run: Run) -> dict[int, Any]:
    """The unit of each latent's explanation."""
    return {latent: unit for arm, latent, unit in run.explanation_units() if arm.explainer == "agent"}


@pytest.mark.parametrize(
    ("model", "thinking"), [(OPENAI, False), (ANTHROPIC, False), (TEXT, False), (OPENAI, True), (ANTHROPIC, True)]
)
async def test_latents_alike_on_all_examples_are_told_apart_by_a_text_written_for_it(
    model: str,
    thinking: bool,
    task: Callable[..., Task],
    ask: Any,
    tmp_path: Path,
) -> None:
    settings = {model: {"extra": {"thinking": {"type": "enabled"}}}} if thinking else {}
    async with FakeProvider(investigator, reasoning=20 if thinking else 0) as provider:
        ask(provider)
        outcome = await conduct(task(model, settings=settings), tmp_path / "run")
        requests = provider.requests
    assert outcome.failures == {}
    run = load(tmp_path / "run")
    coder = Store.open(Path(run.record["store"]["path"])).coder("planted")
    for first in range(0, 2 * len(PAIRS), 2):
        one, other = coder.latent(first), coder.latent(first + 1)
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_array_equal(one.values, other.values)
    units = explained(run)
    assert {latent: unit.result["text"] for latent, unit in units.items()} == TRUTH
    assert len(requests) == 4 * len(TRUTH)
    paths = {OPENAI: "/v1/chat/completions", ANTHROPIC: "/v1/messages", TEXT: "/v1/chat/completions"}
    assert {request.path for request in requests} == {paths[model]}
    assert all(("tools" in request.body) is (model != TEXT) for request in requests)
    trace = units[1].result["notes"]["trace"]
    assert [[call["name"] for call in step["calls"]] for step in trace] == [
        ["examples"],
        ["read"],
        ["test"],
        ["submit"],
    ]
    assert "another bank" in trace[1]["calls"][0]["result"]
    if model == OPENAI:
        assert told(trace) in page("agent")
        (shown,) = blocks("agent", "python")
        names: dict[str, Any] = {}
        exec(shown.text.replace("runs/agent", str(tmp_path / "run")), names)
        assert names["traces"] == {latent: unit.result["notes"]["trace"] for latent, unit in units.items()}
    assert "Balanced accuracy 1.00" in trace[2]["calls"][0]["result"]
    assert units[1].result["notes"]["protocol"] == ("text" if model == TEXT else "tools")
    (traced,) = [latent.traces for latent in gather(run).latents if latent.latent.index == 1]
    assert [[call.name for call in step.calls] for step in traced[0].steps] == [
        ["examples"],
        ["read"],
        ["test"],
        ["submit"],
    ]
    assert traced[0].steps[1].calls[0].result == trace[1]["calls"][0]["result"]
    # scores rest on a fair look: the examples cannot tell the two apart, so both are right there
    assert {row.unit.result["metrics"]["balanced_accuracy"] for row in run.score_rows() if row.unit} == {1.0}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC])
async def test_an_agent_killed_in_mid_course_goes_on_where_it_was(
    model: str, write: Callable[..., Path], tmp_path: Path, results_of: Callable[[Path], set[Any]]
) -> None:
    # what is cached by then, which usage tells, is another after a kill
    uncached = {ANTHROPIC: {"cache": False}}
    path = write(model, settings=uncached, limits={"latents": 1, "requests": 1})

    async def run(provider: FakeProvider, out: Path, **more: str) -> int:
        code = "from harness.cli import main; main()"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, "run", str(path), "--out", str(out), "--no-report",
            env={**os.environ, **environment(provider), "PYTHONPATH": str(ROOT), **more},
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, told = await process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), told
        return int(process.returncode or 0)

    async with FakeProvider(investigator) as provider:
        port = int(provider.url.rpartition(":")[2])
        assert await run(provider, tmp_path / "whole") == 0
        whole = len(provider.requests)
    wanted = results_of(tmp_path / "whole")
    # the same address: it is part of what a request is known by
    async with FakeProvider(investigator, port=port) as provider:
        committed: set[str] = set()
        for point, count in (("reply-committed", 2), ("reply-received", 1), ("reply-committed", 3)):
            begun = len(provider.requests)
            assert await run(provider, tmp_path / "killed", **{VARIABLE: f"{point}:{count}"}) == -signal.SIGKILL
            asked = {request.digest for request in provider.requests[begun:]}
            assert committed.isdisjoint(asked), "a committed reply was asked for again"
            committed = {digest(reply.wire["body"]) for reply in load(tmp_path / "killed").journal.replies()}
        assert await run(provider, tmp_path / "killed") == 0
        asked = Counter(request.digest for request in provider.requests)
    assert results_of(tmp_path / "killed") == wanted
    assert len(asked) == whole
    # one reply was received and lost
    assert sum(asked.values()) == whole + 1


async def test_the_budget_of_turns_is_kept_and_the_last_turn_said(
    task: Callable[..., Task], ask: Any, tmp_path: Path
) -> None:
    asked: list[str] = []

    def never(messages: Any, body: Any) -> Answer:
        asked.append(str(messages[-1]["content"]))
        return Answer("", calls=(ToolCall(f"c{len(asked)}", "examples", '{"where": "activating"}'),))

    async with FakeProvider(never) as provider:
        ask(provider)
        await conduct(task(OPENAI, {"turns": 3}, latents={"ids": [0], "min_examples": 50}), tmp_path)
    assert len(asked) == 3
    assert ["last turn" in words for words in asked] == [False, False, True]
    unit = explained(load(tmp_path))[0]
    assert (unit.status, unit.result["message"]) == ("truncated", "nothing was submitted by turn 3, the last one")


@pytest.mark.parametrize("tokens", [12_000, 80_000])
@pytest.mark.parametrize("counting", ["characters/4", "bytes"])
async def test_no_more_tokens_are_spent_on_a_latent_than_allowed_however_they_are_counted(
    counting: str, tokens: int, task: Callable[..., Task], ask: Any, tmp_path: Path
) -> None:
    """A model that goes on for ever, and whose every reply is as long as may be, tests included."""

    def endless(messages: Any, body: Any) -> Answer | str:
        if "tools" not in body:
            return "[1, 1, 1, 1, 1]"
        turn = sum(message["role"] == "assistant" for message in messages)
        call = ("test", {"explanation": f"Words of sort {turn}."}) if turn % 2 else ("examples", {"where": "random"})
        if "last turn" in str(messages[-1]["content"]):
            call = "submit", {"explanation": "Done."}
        return Answer("so " * 300, calls=(ToolCall(f"c{turn}", call[0], json.dumps(call[1])),))

    judge = {"name": "judge", "kind": "detection", "model": "truth/judge"}
    agent = {"tokens": tokens, "turns": 100, "tests": 50, "by": "openai/gpt-4.1-mini"}
    given = task(OPENAI, agent, latents={"ids": [0, 2], "min_examples": 50}, scorer=[judge])
    async with FakeProvider(endless, tokens=counting) as provider:
        ask(provider)
        await conduct(given, tmp_path)
    units = explained(load(tmp_path))
    for unit in units.values():
        usage = unit.result["usage"]
        assert sum(usage[name] for name in ("input", "cache_read", "cache_write", "output")) <= tokens
    if (counting, tokens) != ("bytes", 12_000):
        # there was room for a last turn in every case
        assert {unit.result["text"] for unit in units.values()} == {"Done."}
    if (counting, tokens) == ("characters/4", 80_000):
        assert all(len(unit.result["notes"]["trace"]) > 6 for unit in units.values())


async def test_dollars_are_a_limit_of_their_own(task: Callable[..., Task], ask: Any, tmp_path: Path) -> None:
    def endless(messages: Any, body: Any) -> Answer:
        turn = len(messages)
        last = "last turn" in str(messages[-1]["content"])
        name, arguments = ("submit", {"explanation": "Done."}) if last else ("examples", {"where": "random"})
        return Answer("", calls=(ToolCall(f"c{turn}", name, json.dumps(arguments)),))

    price = {OPENAI: {"price": {"input": 10.0, "output": 10.0}}}
    given = task(
        OPENAI,
        {"dollars": 0.6, "turns": 100, "by": "lexical/rules", "tests": 0},
        settings=price,
        latents={"ids": [0], "min_examples": 50},
        scorer=[{"name": "lexical", "kind": "detection", "model": "lexical/rules"}],
    )
    async with FakeProvider(endless) as provider:
        ask(provider)
        await conduct(given, tmp_path)
    unit = explained(load(tmp_path))[0]
    assert unit.result["text"] == "Done."
    assert 0.05 < unit.result["usage"]["cost"] <= 0.6


async def test_a_store_alone_is_explained_without_the_tools_that_need_a_subject(
    remote_task: Callable[..., Path], point_at: Any, tmp_path: Path
) -> None:
    seen: list[Any] = []

    def model(messages: Any, body: Any) -> Answer | str:
        if "tools" not in body:
            return by_keywords(messages, body)
        seen.append(body)
        calls = (ToolCall("a", "read", '{"texts": ["w1 w2"]}'), ToolCall("b", "submit", '{"explanation": "w1"}'))
        return Answer("", calls=calls)

    agent = {"name": "a", "kind": "agent", "model": "openai-api/fake/explainer", "protocol": "tools"}
    async with FakeProvider(model) as provider:
        point_at(provider)
        outcome = await conduct(load_task(remote_task(explainer=[agent], controls=[])), tmp_path)
    assert outcome.failures == {}
    assert [tool["function"]["name"] for tool in seen[0]["tools"]] == ["examples", "submit"]
    (unit, *_) = [unit for _, _, unit in load(tmp_path).explanation_units() if unit]
    (step,) = unit.result["notes"]["trace"]
    assert step["calls"][0]["result"] == "error: there is no tool of that name; there are: examples, submit"


async def test_no_text_of_a_scored_document_comes_out_of_any_tool(
    remote_task: Callable[..., Path], point_at: Any, make_store: Callable[..., Store], tmp_path: Path
) -> None:
    """Each document has words of its own, so that any text tells where it comes from."""
    documents, words = 120, 40
    names = [f"d{document}x{word}" for document in range(documents) for word in range(words)]
    path = _store_of_documents(tmp_path / "store", names, documents, words)
    asked: list[str] = []

    def greedy(messages: Any, body: Any) -> Answer | str:
        if "tools" not in body:
            return by_keywords(messages, body)
        asked.append(json.dumps(body))
        (tool,) = [tool["function"] for tool in body["tools"] if tool["function"]["name"] == "examples"]
        kinds = tool["parameters"]["properties"]["where"]["enum"]
        turn = sum(message["role"] == "assistant" for message in messages)
        if turn == 30:
            return Answer("", calls=(ToolCall("s", "submit", '{"explanation": "Words."}'),))
        calls = [
            ToolCall(f"{turn}a{at}", "examples", json.dumps({"where": kind, "count": 10}))
            for at, kind in enumerate(kinds)
        ]
        test = ToolCall(f"{turn}t", "test", json.dumps({"explanation": f"Words of sort {turn}."}))
        return Answer("", calls=(test, *calls[: 3 if turn % 2 else 2], *calls[-1:]))

    agent = {"name": "a", "kind": "agent", "model": "openai-api/fake/explainer", "protocol": "tools", "turns": 40,
             "tests": 50, "tokens": 10_000_000, "by": "openai-api/fake/judge"}  # fmt: skip
    given = load_task(
        remote_task(
            store={"path": str(path.path)},
            explainer=[agent],
            controls=[],
            latents={"ids": [0], "min_examples": 10},
            examples={"window": 8, "scored": {"activating": 10, "non_activating": 10, "minimum": 2, "quantiles": 1}},
        )
    )
    async with FakeProvider(greedy) as provider:
        point_at(provider)
        await conduct(given, tmp_path / "run")
    shares = given.examples.split
    splits = split_of(given.seed, np.arange(documents), shares)
    found = {int(number) for text in asked for number in re.findall(r"\bd(\d+)x\d+", text)}
    assert {SPLITS[splits[document]] for document in found} == {"shown", "select"}
    # all of the shown documents were seen in the end
    assert {document for document in range(documents) if SPLITS[splits[document]] == "shown"} <= found


async def test_what_an_agent_may_take_is_foretold(
    task: Callable[..., Task], ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeProvider(investigator) as provider:
        ask(provider)
        await conduct(task(OPENAI, {"turns": 8}, latents={"ids": [0], "min_examples": 50}), tmp_path / "run")
        before = len(provider.requests)
        forecast = await aplan(task(OPENAI, {"turns": 8}), tmp_path / "none", collect=True)
        assert len(provider.requests) == before
    tested = await aplan(task(OPENAI, {"turns": 8, "by": JUDGE, "tests": 3}), tmp_path / "none")
    (judging,) = [line for line in tested.lines if line.model == JUDGE]
    # three tests of 40 passages, five at a time
    assert 4 * 3 * 8 <= judging.calls.low < 4 * 3 * 8 + 4
    (line,) = [line for line in forecast.lines if line.stage == "explain" and line.model == OPENAI]
    # every turn of every latent: the most that it can be but for failures
    assert line.calls.low == 4 * 8
    spent = sum(unit.result["usage"]["input"] for unit in explained(load(tmp_path / "run")).values())
    assert line.tokens.low > 4 * spent


@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC])
async def test_malicious_calls_over_the_wire_are_answered_and_the_agent_goes_on(
    model: str, task: Callable[..., Task], ask: Any, tmp_path: Path
) -> None:
    wrong = [
        ToolCall("c0", "rm -rf /; drop", "{}"),
        ToolCall("c1", "read", json.dumps({"texts": ["x" * 300_000]})),
        ToolCall("c2", "examples", json.dumps({"where": ["scored"], "count": {"$ne": 1}})),
        # Anthropic's protocol cannot carry what is no JSON
        ToolCall("c3", "read", "{broken" if model == OPENAI else json.dumps({"texts": {"0": "a"}})),
    ]
    seen: list[list[str]] = []

    def malicious(messages: Any, body: Any) -> Answer:
        turn = sum(message["role"] == "assistant" for message in messages)
        seen.append([str(message["content"]) for message in messages if message["role"] == "tool"])
        if turn == 0:
            return Answer("", calls=tuple(wrong))
        return Answer("", calls=(ToolCall("c9", "submit", '{"explanation": "Words."}'),))

    async with FakeProvider(malicious, tokens=Tokens(len, lambda text: [text])) as provider:
        ask(provider)
        await conduct(task(model, latents={"ids": [0], "min_examples": 50}), tmp_path)
    unit = explained(load(tmp_path))[0]
    assert unit.result["text"] == "Words."
    assert [result.startswith("error: ") for result in seen[1]] == [True] * 4
    assert sum(map(len, seen[1])) < 1500


async def test_on_a_live_subject_texts_are_read_and_the_latent_is_added_and_ablated(
    task: Callable[..., Task], ask: Any, tmp_path: Path
) -> None:
    prompts = ["Log of the Petrel, April", "The ferry to Falbury leaves on"]
    turns = [
        ("read", {"texts": ["Log of the Petrel, April 27", "x"]}),
        ("change", {"prompts": prompts, "how": "add", "nats": 0.5}),
        ("change", {"prompts": prompts[:1], "how": "ablate"}),
        ("submit", {"explanation": "Words."}),
    ]

    def scripted(messages: Any, body: Any) -> Answer:
        turn = sum(message["role"] == "assistant" for message in messages)
        name, arguments = turns[turn]
        return Answer("", calls=(ToolCall(f"c{turn}", name, json.dumps(arguments)),))

    corpus = {"path": str(fixture("text", "demo.jsonl")), "tokens": 40_000}
    live = task(
        OPENAI,
        {"by": "lexical/rules"},
        subject={"model": str(fixture("subject")), "corpus": corpus, "context": 256, "batch": 16},
        coder=[{"name": "sae", "hookpoint": "model.layers.1", "path": str(fixture("subject", "sae"))}],
        latents={"sample": 1, "min_examples": 40, "max_rate": 0.3},
        examples={"scored": {"activating": 10, "non_activating": 10, "minimum": 5}},
        scorer=[{"name": "detection", "kind": "detection", "model": "lexical/rules"}],
    )
    async with FakeProvider(scripted) as provider:
        ask(provider)
        await conduct(live, tmp_path)
        tools = [tool["function"]["name"] for tool in provider.requests[0].body["tools"]]
    assert tools == ["examples", "read", "change", "test", "submit"]
    (unit,) = explained(load(tmp_path)).values()
    read, added, ablated, _ = [step["calls"][0] for step in unit.result["notes"]["trace"]]
    assert not any("error" in call for call in (read, added, ablated))
    assert read["result"].startswith("1. ")
    assert "2. x" in read["result"]
    moved = [float(found) for found in re.findall(r"moved by ([\d.]+) nats", added["result"])]
    assert sum(moved) / 2 == pytest.approx(0.5, rel=0.15)
    assert ablated["result"].count("next token moved by") == 1
