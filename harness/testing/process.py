"""The fake provider in a process of its own, for tests that kill the harness or measure it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["ProviderProcess", "read_log"]


class ProviderProcess:
    """Runs `python -m harness.testing.server` with the arguments given; a context manager.

    The server ends with this process, however this one ends.
    """

    def __init__(self, *arguments: str, log: Path | None = None) -> None:
        self._arguments = [*arguments, *(() if log is None else ("--log", str(log)))]
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's clients; Anthropic's take `url`."""
        return f"{self.url}/v1"

    def bill(self) -> dict[str, Any]:
        """The server's bill (see `Bill`), and under `statuses` how often it answered what."""
        # past any proxy of the environment
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/bill", timeout=10) as reply:
            return json.load(reply)

    def __enter__(self) -> ProviderProcess:
        command: Sequence[str] = [sys.executable, "-m", "harness.testing.server", "--until-eof", *self._arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"the fake provider did not start (exit code {self._process.wait()})")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.communicate(timeout=10)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The requests and replies that a fake provider logged, in order; a last line cut short is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
