"""Upload batches are taken by a server that enforces Neuronpedia's limits, once each, whatever happens on the way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.errors import FormatError, UserError
from harness.interop.findings import About, AboutCoder, Found, Told, Window
from harness.interop.neuronpedia_client import DONE, upload
from harness.interop.neuronpedia_upload import Uploads

KEY = "np-key-0123456789abcdef"


def wrong(body: Any) -> str | None:
    """What their route refuses in a body, written down from its source."""
    if not isinstance(body, dict) or not body["modelId"] or body["modelId"] != body["modelId"].lower():
        return "modelId must be lowercase"
    if not body["source"] or body["source"] != body["source"].lower():
        return "source must be lowercase"
    features = body["features"]
    if not 1 <= len(features) <= 128:
        return "between 1 and 128 features"
    if len({feature["index"] for feature in features}) != len(features):
        return "duplicate feature index"
    for feature in features:
        if not isinstance(feature["index"], int) or not 0 <= feature["index"] <= 10_000_000:
            return "index out of range"
        if "density" in feature and not 0 <= feature["density"] <= 1:
            return "density out of range"
        if not feature["activations"]:
            return "at least one activation"
        for one in feature["activations"]:
            if not 1 <= len(one["tokens"]) <= 1024 or len(one["tokens"]) != len(one["values"]):
                return "tokens and values"
            if any("\x00" in token for token in one["tokens"]):
                return "NUL"
        for told in feature.get("explanations", []):
            # JavaScript counts UTF-16 units
            if not 1 <= len(told["text"].encode("utf-16-le")) // 2 <= 512 or "\x00" in told["text"]:
                return "explanation text"
            if told.get("methodName", "np_max-act") != "np_max-act":
                return "unknown explanation method"
    return None


class Server:
    """Takes batches; `faults` are answered first: a status with headers, or a broken connection."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.faults: list[tuple[int, dict[str, str]] | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                if server.faults:
                    fault = server.faults.pop(0)
                    if fault is None:
                        self.close_connection = True
                        self.connection.close()
                        return
                    self.answer(fault[0], {"message": f"not now, {KEY}"}, fault[1])
                elif self.headers.get("x-api-key") != KEY:
                    self.answer(401, {"message": f"bad key {self.headers.get('x-api-key')}"})
                elif self.path != "/api/feature/upload-batch":
                    self.answer(404, {"message": "no such route"})
                elif (told := wrong(json.loads(data))) is not None:
                    self.answer(400, {"message": told})
                else:
                    server.taken.append(json.loads(data))
                    self.answer(200, {"message": "ok"})

            def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {**(headers or {}), "content-length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's name
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


CODER = AboutCoder("words", "model.layers.3", 20_000_000, 3, "words")
ABOUT = About("a", "m", "GPT2", "", "2026-11-27T12:00:00+00:00", {"words": CODER})


def latent(index: int, text: str = "words", tokens: int = 2) -> Found:
    window = Window(("a\x00",) * tokens, (1.0,) * tokens, 3)
    return Found("words", index, (Told("mini", text),), (window,), 1.0, 0.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Batches of 300 latents: with the longest text, with NUL, without examples, and too long or too large."""
    many = [
        *(latent(index) for index in range(296)),
        latent(296, "🙂" * 256),
        latent(297, "🙂" * 256 + "x"),
        latent(298, "a\x00b"),
        latent(299, tokens=1025),
        latent(20_000_000),
    ]
    uploads = Uploads(ABOUT, CODER, tmp_path / "upload", "np_max-act")
    uploads.write(many)
    assert sorted(uploads.left()) == [
        "1 explanations of more than 512 characters are not in the upload batches",
        "1 latents above 10,000,000 are not in the upload batches",
        "1 latents without examples are not in the upload batches",
    ]
    return tmp_path / "upload"


def test_every_batch_is_taken_once(server: Server, folder: Path) -> None:
    told: list[tuple[int, int]] = []
    done = upload(folder, KEY, url=server.url, tell=lambda *step: told.append(step))
    assert (done.batches, done.features, done.before) == (3, 299, 0)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert [f["index"] for body in server.taken for f in body["features"]] == list(range(299))
    assert server.taken[0]["modelId"] == "gpt2"
    assert {"explanations" in f for f in server.taken[2]["features"]} == {True, False}
    again = upload(folder, KEY, url=server.url)
    assert (again.batches, again.before, len(server.taken)) == (0, 3, 3)


def test_a_busy_or_broken_server_is_asked_again_as_it_wishes(server: Server, folder: Path) -> None:
    server.faults = [(429, {"retry-after": "7"}), (503, {}), None, (500, {})]
    waits: list[float] = []
    upload(folder, KEY, url=server.url, sleep=waits.append)
    assert len(server.taken) == 3
    assert len(waits) == 4
    assert waits[0] == 7
    assert all(wait <= 16 for wait in waits)


def test_one_that_stays_busy_is_given_up_and_gone_on_with_later(server: Server, folder: Path) -> None:
    upload(folder / "batch-0.json", KEY, url=server.url)
    server.faults = [(503, {})] * 10
    with pytest.raises(UserError, match=r"batch-1\.json: .* does not take this batch \(503\): .*0 of 2 were taken"):
        upload(folder, KEY, url=server.url, sleep=lambda _: None)
    done = upload(folder, KEY, url=server.url, sleep=lambda _: None)
    assert (done.batches, done.before) == (2, 1)
    assert len(server.taken) == 3


def test_another_server_has_taken_nothing(server: Server, folder: Path) -> None:
    upload(folder, KEY, url=server.url)
    other = Server()
    try:
        assert upload(folder, KEY, url=other.url).batches == 3
    finally:
        other.close()


@pytest.mark.parametrize(("key", "shown"), [("another-key-0123456789", "another-key")])
def test_a_wrong_key_is_told_without_it_and_not_tried_again(server: Server, folder: Path, key: str, shown: str) -> None:
    with pytest.raises(UserError, match=r"\(401\): bad key \[redacted\]; check NEURONPEDIA_API_KEY") as error:
        upload(folder, key, url=server.url, sleep=lambda _: pytest.fail("it waited"))
    assert shown not in str(error.value)
    assert not (folder / DONE).exists()


def test_what_is_refused_is_told_with_its_words(server: Server, folder: Path) -> None:
    path = folder / "batch-1.json"
    body = json.loads(path.read_text())
    body["features"][0]["explanations"][0]["methodName"] = "mine"
    path.write_text(json.dumps(body))
    with pytest.raises(UserError, match=r"batch-1\.json: .*\(400\): unknown explanation method; 1 of 3 were taken"):
        upload(folder, KEY, url=server.url)
    assert len(server.taken) == 1


def test_a_server_that_is_not_there_is_told(folder: Path) -> None:
    gone = Server()
    gone.close()
    with pytest.raises(UserError, match=r"cannot be reached: .*0 of 3 batches were taken: upload again to go on"):
        upload(folder, KEY, url=gone.url, sleep=lambda _: None)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda body: body["features"].append(body["features"][0]), r"features\[128\]|length <= 128"),
        (lambda body: body["features"][1].update(index=128), r"features\[1\].index: 128 is there twice"),
        (lambda body: body["features"][1].update(density=2), r"features\[1\].density: expected float <= 1"),
        (lambda body: body["features"][1].update(activations=[]), r"features\[1\].activations: expected array of len"),
    ],
)
def test_nothing_is_sent_where_a_batch_is_wrong(
    server: Server, folder: Path, edit: Callable[[Any], None], told: str
) -> None:
    path = folder / "batch-1.json"
    body = json.loads(path.read_text())
    edit(body)
    assert wrong(body) is not None
    path.write_text(json.dumps(body))
    with pytest.raises(FormatError, match=told):
        upload(folder, KEY, url=server.url)
    assert server.taken == []


def test_the_key_is_not_sent_in_clear(folder: Path) -> None:
    with pytest.raises(UserError, match="the key would be sent in clear; give an https:// address"):
        upload(folder, KEY, url="http://example.org")
