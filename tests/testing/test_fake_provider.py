from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.testing import Answer, FakeProvider, Fault, ProviderProcess, by_hash, by_keywords, read_log, storm
from harness.testing.answers import tokens_of
from harness.testing.faults import Received
from harness.values import digest

pytestmark = pytest.mark.anyio

CHAT = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}

EXPLAIN = [
    {"role": "system", "content": "Explain. End with a line [explanation]: ..."},
    {"role": "user", "content": "Example 1: the month of<< March>> was\nExample 2: a<< March>> day, not<< May>>"},
]
JUDGE = [
    {"role": "system", "content": "Reply with a list of 0 and 1."},
    {"role": "user", "content": 'Description: The token "March".\n\nPassage 1: on March 3\nPassage 2: on June 3\n'},
]
FUZZ = [
    {"role": "user", "content": 'Explanation: "March".\nExample 1: on<< March>> 3\nExample 2:<< on>> March 3\n'},
]


async def posted(
    provider: FakeProvider | ProviderProcess, body: dict[str, Any], path: str = "/v1/chat/completions"
) -> Any:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.post(provider.url + path, json=body, headers={"authorization": "Bearer sk-mine"})


def test_an_explanation_quotes_the_token_marked_most_often() -> None:
    assert by_keywords(EXPLAIN, {}).splitlines()[-1] == '[explanation]: The token "March".'
    assert by_hash(EXPLAIN, {}).splitlines()[-1] == '[explanation]: The token "March".'


def test_labels_follow_what_the_explanation_quotes() -> None:
    assert by_keywords(JUDGE, {}) == "[1, 0]"


def test_labels_of_marked_examples_follow_the_marks() -> None:
    assert by_keywords(FUZZ, {}) == "[1, 0]"


def test_an_explanation_without_quotes_is_judged_by_its_longer_words() -> None:
    prompt = "Description: Words about the weather\nPassage 1: bad weather ahead\nPassage 2: a good book\n"
    assert by_keywords([{"role": "user", "content": prompt}], {}) == "[1, 0]"


def test_hashed_labels_are_the_same_every_time_and_differ_between_prompts() -> None:
    def labels(text: str) -> str:
        examples = "".join(f"Example {n}: x\n" for n in range(1, 21))
        return by_keywords([{"role": "user", "content": f"Explanation: (withheld)\n{text}\n{examples}"}], {})

    assert labels("a") == labels("a")
    assert len({labels(str(n)) for n in range(20)}) == 20
    share = sum(labels(str(n)).count("1") for n in range(100)) / 2000
    assert abs(share - 0.5) < 0.05


def test_a_worked_example_tells_what_is_asked() -> None:
    worked = [*EXPLAIN[:1], {"role": "user", "content": "Example 1: a"}, {"role": "assistant", "content": "[0]"}]
    assert by_hash([*worked, {"role": "user", "content": "Example 1: a\nExample 2: b"}], {}) in (
        "[0, 0]",
        "[0, 1]",
        "[1, 0]",
        "[1, 1]",
    )


@given(text=st.text(max_size=60), seed=st.integers(0, 2**32), top=st.integers(0, 20))
def test_tokens_join_to_the_text_and_their_probabilities_are_proper(text: str, seed: int, top: int) -> None:
    tokens = tokens_of(Answer(text), seed, top)
    assert "".join(token.token for token in tokens) == text
    for token in tokens:
        assert token.logprob < 0
        assert min(top, 15) <= len(token.top) <= top
        assert sum(math.exp(logprob) for _, logprob in token.top) <= 1 + 1e-9
        assert [logprob for _, logprob in token.top] == sorted((p for _, p in token.top), reverse=True)
        assert len({text for text, _ in token.top}) == len(token.top)


@given(labels=st.lists(st.integers(0, 1), min_size=1, max_size=20), seed=st.integers(0, 2**32))
@example(labels=[0, 0], seed=1_733_677_145)  # the other label once fell behind the fillers
def test_a_label_is_likelier_than_its_opposite_and_both_are_listed(labels: list[int], seed: int) -> None:
    tokens = tokens_of(Answer(str(labels)), seed, 5)
    found = [token for token in tokens if token.token in ("0", "1")]
    assert [int(token.token) for token in found] == labels
    for token in found:
        likely = dict(token.top)
        assert likely[token.token] == token.logprob > likely["1" if token.token == "0" else "0"]


async def test_equal_requests_are_counted_by_the_hash_of_their_body() -> None:
    async with FakeProvider() as provider:
        await posted(provider, CHAT)
        await posted(provider, CHAT)
        await posted(provider, CHAT | {"seed": 1})
        assert provider.counts == {digest(CHAT): 2, digest(CHAT | {"seed": 1}): 1}
        assert [(r.number, r.seen, r.key) for r in provider.requests] == [
            (0, 0, "sk-mine"),
            (1, 1, "sk-mine"),
            (2, 0, "sk-mine"),
        ]


async def test_logprobs_have_the_true_shape() -> None:
    async with FakeProvider(lambda messages, body: "é 1") as provider:
        body = (await posted(provider, CHAT | {"logprobs": True, "top_logprobs": 2})).json()
    content = body["choices"][0]["logprobs"]["content"]
    assert [item["token"] for item in content] == ["é", " ", "1"]
    assert content[0]["bytes"] == [195, 169]
    assert len(content[2]["top_logprobs"]) == 2
    assert set(content[2]["top_logprobs"][0]) == {"token", "logprob", "bytes"}
    assert body["usage"]["completion_tokens"] == 3


async def test_requests_that_the_real_ones_refuse_are_refused() -> None:
    async with FakeProvider() as provider:
        assert (await posted(provider, CHAT | {"max_completion_tokens": 5})).status_code == 400
        assert (await posted(provider, CHAT | {"top_logprobs": 5})).status_code == 400
        assert (await posted(provider, CHAT | {"messages": []})).status_code == 400
        assert (await posted(provider, {"model": "m", "messages": CHAT["messages"]}, "/v1/messages")).status_code == 400
        assert (await posted(provider, CHAT | {"logprobs": True}, "/v1/messages")).status_code == 400
        assert (await posted(provider, CHAT, "/v1/messages")).status_code == 200


async def test_a_stop_sequence_ends_the_answer() -> None:
    async with FakeProvider(lambda messages, body: "one two three") as provider:
        body = (await posted(provider, CHAT | {"stop": [" three", " two"]})).json()
    assert body["choices"][0]["message"]["content"] == "one"


async def test_an_answer_longer_than_asked_comes_when_told_to() -> None:
    async with FakeProvider(lambda messages, body: "word " * 3, faults=[Fault("longer")]) as provider:
        body = (await posted(provider, CHAT)).json()
    assert body["usage"]["completion_tokens"] > 50


async def test_a_key_can_be_required() -> None:
    async with FakeProvider(key="sk-other") as provider:
        assert (await posted(provider, CHAT)).status_code == 401
    async with FakeProvider(key="sk-mine") as provider:
        assert (await posted(provider, CHAT)).status_code == 200


async def test_faults_come_in_turn_and_queued_ones_first() -> None:
    async with FakeProvider(faults=[Fault("server_error"), None, Fault("overloaded")]) as provider:
        provider.fail("quota", Fault("rate_limit", "3"))
        answers = [await posted(provider, CHAT) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [429, 429, 500, 200, 529, 200]
    assert answers[1].headers["retry-after"] == "3"


def test_a_storm_asks_for_waits_in_every_form_given() -> None:
    fault = storm(1.0, ["rate_limit"], wait=0.5, forms=("milliseconds", "seconds"))
    faults = [fault(Received(n, 0, "/", {}, digest(n), "")) for n in range(50)]
    headers = [found.headers() for found in faults if found is not None]
    assert {tuple(each.items()) for each in headers} == {(("retry-after-ms", "500"),), (("retry-after", "1"),)}


def test_a_storm_hits_its_share_and_is_the_same_every_time() -> None:
    fault = storm(0.3, ["reset", "slow"], seed=1)
    requests = [Received(n, 0, "/", {}, digest(n), "") for n in range(2000)]
    hit = [fault(request) for request in requests]
    assert hit == [storm(0.3, ["reset", "slow"], seed=1)(request) for request in requests]
    assert 0.26 < sum(found is not None for found in hit) / 2000 < 0.34
    assert {found.kind for found in hit if found is not None} == {"reset", "slow"}


async def test_a_mistake_in_an_answering_function_is_told_and_not_tried_again() -> None:
    def wrong(messages: Any, body: Any) -> str:
        raise KeyError("oops")

    async with FakeProvider(wrong) as provider:
        answer = await posted(provider, CHAT)
    assert answer.status_code == 400
    assert "the answering function failed: KeyError: 'oops'" in answer.text


async def test_the_log_holds_every_request_and_reply_and_no_key(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    async with FakeProvider(log=log, faults=[None, Fault("reset"), Fault("echo_key")]) as provider:
        await posted(provider, CHAT)
        with pytest.raises(httpx2.TransportError):
            await posted(provider, CHAT)
        await posted(provider, CHAT)
    lines = read_log(log)
    assert [(line["kind"], line["number"]) for line in lines] == [
        (kind, number) for number in range(3) for kind in ("request", "bill", "reply")
    ]
    assert lines[0]["body"] == CHAT
    assert lines[1]["dollars"] > 0
    assert lines[2]["data"]["choices"][0]["message"]["role"] == "assistant"
    assert lines[5]["fault"] == "reset"
    assert "sk-mine" not in log.read_text()


def test_a_last_line_cut_short_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"kind": "request"}\n{"kind": "rep')
    assert read_log(log) == [{"kind": "request"}]


async def test_it_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with ProviderProcess("--answer", "by_hash", "--key", "sk-mine", log=log) as provider:
        assert (await posted(provider, CHAT)).status_code == 200
        assert (await posted(provider, {"model": "m"})).status_code == 400
    assert [line["kind"] for line in read_log(log)] == ["request", "bill", "reply", "request", "reply"]


async def test_an_answering_function_can_be_named_by_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("def answer(messages, body):\n    return 'my own'\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with ProviderProcess("--answer", "mine:answer") as provider:
        assert (await posted(provider, CHAT)).json()["choices"][0]["message"]["content"] == "my own"


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits on a process of another's")
def test_the_server_ends_with_the_process_that_began_it(tmp_path: Path) -> None:
    code = (
        "import os, signal; from harness.testing import ProviderProcess\n"
        "p = ProviderProcess(); p.__enter__(); print(p._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert _ends(int(done.stdout))


def _ends(pid: int) -> bool:
    """Whether a process that is no child of ours ends within ten seconds."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    import select

    ended, _, _ = select.select([watched], [], [], 10)
    os.close(watched)
    return bool(ended)
