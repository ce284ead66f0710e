"""Servers that were written elsewhere, started on a free port; each is skipped where its variable is not set.

`.ci/servers` builds them and sets the variables.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

LLAMA_SERVER = "LATENT_HARNESS_LLAMA_SERVER"  # the binary
PYTHON = "LATENT_HARNESS_SERVERS_PYTHON"  # of an environment with llama_cpp.server and transformers' own
MODEL = "LATENT_HARNESS_SERVERS_MODEL"  # the little Llama with a chat template, and as llama.cpp reads it
KEY = "sk-servers-8f3b2c7d9e"
# ends the server when this process ends in whatever way, and with it the pipe
_UNTIL_EOF = '"$@" & server=$!; cat >/dev/null; kill -9 $server 2>/dev/null'
_STARTING = 90.0

Starter = Callable[..., str]


class Expected(NamedTuple):
    """A token's text, its logprob, and every token's logprob where it stands."""

    text: str
    logprob: float
    all: dict[str, float]


class Reference:
    """What the served model says, computed by torch without any of this package."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        names = self._tokenizer.convert_ids_to_tokens(range(len(self._tokenizer)))
        self.pieces = [name.replace("▁", " ") for name in names]

    def greedy(self, text: str, tokens: int) -> list[Expected]:
        """The likeliest tokens after a text, one by one."""
        ids = self._ids(text)
        found: list[Expected] = []
        for _ in range(tokens):
            logprobs = self._logprobs(ids)[-1]
            chosen = int(logprobs.argmax())
            found.append(self._expected(logprobs, chosen))
            ids = [*ids, chosen]
        return found

    def given(self, prefix: str, continuation: str) -> list[Expected]:
        """The tokens of a text that reach beyond its prefix."""
        encoded = self._tokenizer(prefix + continuation, return_offsets_mapping=True)
        ids, spans = encoded["input_ids"], encoded["offset_mapping"]
        logprobs = self._logprobs(ids)
        first = next(at for at, (_, end) in enumerate(spans) if end > len(prefix))
        return [self._expected(logprobs[at - 1], ids[at]) for at in range(first, len(ids))]

    def length(self, text: str) -> int:
        """How many tokens a text has, with the mark of its beginning."""
        return len(self._ids(text))

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text)["input_ids"])

    @torch.no_grad()
    def _logprobs(self, ids: list[int]) -> torch.Tensor:
        return torch.log_softmax(self._model(torch.tensor([ids])).logits[0].double(), -1)

    def _expected(self, logprobs: torch.Tensor, chosen: int) -> Expected:
        return Expected(
            self.pieces[chosen],
            float(logprobs[chosen]),
            dict(zip(self.pieces, logprobs.tolist(), strict=False)),
        )


def _needed(*names: str) -> list[str]:
    values = [os.environ.get(name, "") for name in names]
    if not all(values):
        pytest.skip(f"{' and '.join(names)} tell where the server is (see .ci/servers)")
    return values


@pytest.fixture(scope="session")
def model() -> Path:
    """The little Llama's folder; its chat template is the messages with a blank after each."""
    return Path(*_needed(MODEL))


@pytest.fixture(scope="session")
def reference(model: Path) -> Reference:
    """What torch computes of the same model."""
    return Reference(model)


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """Starts servers: a command with `{port}` in it, the path that answers 200 once it serves; gives the address."""
    running: list[subprocess.Popen[bytes]] = []
    logs = tmp_path_factory.mktemp("logs")

    def begin(command: Sequence[str], ready: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
        port = _free_port()
        log = logs / f"{len(running)}.log"
        with log.open("wb") as out:
            server = subprocess.Popen(
                ["sh", "-c", _UNTIL_EOF, "sh", *(part.format(port=port) for part in command)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                cwd=cwd,
                env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
                start_new_session=True,
            )
        running.append(server)
        _wait(f"http://127.0.0.1:{port}{ready}", server, log)
        return f"http://127.0.0.1:{port}"

    yield begin
    for server in running:
        os.killpg(server.pid, signal.SIGKILL)
        server.communicate()


@pytest.fixture(scope="session")
def llama_server(start: Starter, model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """llama.cpp's own server, which wants a key."""
    (binary,) = _needed(LLAMA_SERVER)
    options = (
        f"-m {model}/model.gguf --alias tiny --host 127.0.0.1 -c 2048 -np 4 -t 1 --offline --api-key {KEY}".split()
    )
    # in a folder of its own: it would read files named like its options' defaults
    return start([binary, "--offline", *options, "--port", "{port}"], "/health", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def llama_cpp_python(start: Starter, model: Path) -> str:
    """llama-cpp-python's server, which echoes prompts with their logprobs, and wants a key."""
    (python,) = _needed(PYTHON)
    options = f"--model {model}/model.gguf --model_alias tiny --api_key {KEY} --n_ctx 512 --n_threads 1".split()
    # with its interrupts on, it drops requests when others come
    options += ["--interrupt_requests", "False", "--host", "127.0.0.1", "--port", "{port}"]
    return start([python, "-m", "llama_cpp.server", *options], "/openapi.json")


@pytest.fixture(scope="session")
def transformers_serve(start: Starter, model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """transformers' own server, which gives no logprobs."""
    (python,) = _needed(PYTHON)
    command = [str(Path(python).parent / "transformers"), "serve", model.name, "--device", "cpu", "--port", "{port}"]
    cache = tmp_path_factory.mktemp("cache")
    (cache / "hub").mkdir()  # without it the server fails to list its models
    offline = {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    return start([*command, "--host", "127.0.0.1"], "/health", model.parent, offline)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _STARTING
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)  # it says nothing when it is ready
    pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")
