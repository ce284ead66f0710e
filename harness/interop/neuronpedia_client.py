"""Uploads batches to Neuronpedia: each is checked before any is sent, sent until it is taken, and never sent twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import msgspec
import tenacity

from harness.clients.redact import Redactor
from harness.errors import FormatError, UserError
from harness.interop.documents import documents
from harness.interop.neuronpedia_upload import UploadBatch, read_batch
from harness.values import digest

__all__ = ["DONE", "URL", "Batch", "Uploaded", "batches", "upload"]

URL: Final = "https://www.neuronpedia.org"
PATH: Final = "/api/feature/upload-batch"
# which batches of a folder a server has taken
DONE: Final = "uploaded.json"
# a batch holds some hundred rows of each of 128 latents, which their server stores before it answers
_TIMEOUT: Final = 120.0
# with waits that double from one second on: a quarter of an hour
_ATTEMPTS: Final = 10
_LONGEST: Final = 300.0
_HERE: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it lies in a file, with its bytes and what is in it."""

    path: Path
    body: bytes
    content: UploadBatch

    @property
    def mark(self) -> str:
        """What it is known by where it was taken."""
        return digest([self.body.decode("utf-8")])


@dataclass(frozen=True, slots=True)
class Uploaded:
    """How many batches and features were taken now, and how many batches had been before."""

    batches: int = 0
    features: int = 0
    before: int = 0


class _Refused(Exception):
    """The server does not take a batch, or not yet; `wait` is what it asks for, in seconds."""

    def __init__(self, status: int, words: str, wait: float | None) -> None:
        super().__init__(words)
        self.status, self.words, self.wait = status, words, wait


def batches(source: Path) -> list[Batch]:
    """The batches of a file or folder, every one of them right.

    Raises:
        FormatError: one is not, or there is none.
    """
    files = [source] if source.is_file() else sorted(source.rglob("batch-*.json"), key=lambda p: (len(p.name), str(p)))
    found = []
    for path in files:
        parts = list(documents(path))
        if len(parts) != 1:
            raise FormatError(f"{path}: it has {len(parts)} documents; expected one upload batch")
        where, data = parts[0]
        found.append(Batch(path, data, read_batch(data, where)))
    if not found:
        raise FormatError(
            f"{source}: there are no upload batches (batch-0.json); harness export writes them in upload/"
        )
    return found


def upload(
    source: Path,
    key: str,
    *,
    url: str = URL,
    tell: Callable[[int, int], None] = lambda _done, _total: None,
    sleep: Callable[[float], None] | None = None,
) -> Uploaded:
    """Send the batches of a file or folder; those that this server has taken before are left out.

    A server that is busy or gone is asked again, for as long as it asks or twice as long each time. What was taken is
    noted beside the batches after each one, so that an upload that was ended goes on where it was.

    Args:
        source: batches, as `harness export --format neuronpedia` writes them into `upload/`.
        key: the API key.
        url: the server.
        tell: hears how many batches of how many are done.
        sleep: waits; a test's own, or time's.

    Raises:
        FormatError: a batch is not right; nothing is sent then.
        UserError: the server does not take one, is not there, or is to be reached in clear over a network.
    """
    if not url.startswith("https://") and httpx2.URL(url).host not in _HERE:
        raise UserError(f"--url {url}: the key would be sent in clear; give an https:// address")
    clean = Redactor(key).clean
    found = batches(source)
    notes = _Done(source, url)
    open_ = [batch for batch in found if batch.mark not in notes.marks]
    features = 0
    with httpx2.Client(base_url=url, headers={"x-api-key": key}, timeout=_TIMEOUT) as client:
        for number, batch in enumerate(open_):
            try:
                for attempt in _attempts(sleep):
                    with attempt:
                        _send(client, batch)
            except _Refused as error:
                raise UserError(
                    f"{batch.path}: {url} does not take this batch ({error.status}): {clean(error.words)}; {number} of "
                    f"{len(open_)} were taken"
                ) from None
            except httpx2.TransportError as error:
                raise UserError(
                    f"{url} cannot be reached: {clean(str(error)) or type(error).__name__}; {number} of "
                    f"{len(open_)} batches were taken: upload again to go on"
                ) from None
            notes.add(batch.mark)
            features += len(batch.content.features)
            tell(number + 1, len(open_))
    return Uploaded(len(open_), features, len(found) - len(open_))


def _attempts(sleep: Callable[[float], None] | None) -> Iterator[Any]:
    backoff = tenacity.wait_random_exponential(multiplier=1, max=_LONGEST)

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        asked = error.wait if isinstance(error, _Refused) else None
        return min(asked, _LONGEST) if asked is not None else backoff(state)

    def passing(error: BaseException) -> bool:
        if isinstance(error, _Refused):
            return error.status in _PASSING
        return isinstance(error, httpx2.TransportError)

    options: dict[str, Any] = {} if sleep is None else {"sleep": sleep}
    return iter(
        tenacity.Retrying(
            retry=tenacity.retry_if_exception(passing),
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=wait,
            reraise=True,
            **options,
        )
    )


def _send(client: httpx2.Client, batch: Batch) -> None:
    response = client.post(PATH, content=batch.body, headers={"content-type": "application/json"})
    if response.is_success:
        return
    try:
        told = msgspec.json.decode(response.content)
        words = str(told.get("message") or told.get("error") or told) if isinstance(told, dict) else str(told)
    except msgspec.MsgspecError:
        words = response.text[:200] or response.reason_phrase
    if response.status_code in (401, 403):
        words += "; check NEURONPEDIA_API_KEY, and that the source set is yours"
    raise _Refused(response.status_code, words, _wait(response))


def _wait(response: httpx2.Response) -> float | None:
    try:
        return max(0.0, float(response.headers.get("retry-after", "")))
    except ValueError:
        return None


class _Done:
    """The note beside the batches on what a server has taken."""

    def __init__(self, source: Path, url: str) -> None:
        self._path = (source.parent if source.is_file() else source) / DONE
        self._url = url
        self._all: dict[str, list[str]] = {}
        if self._path.is_file():
            try:
                self._all = msgspec.json.decode(self._path.read_bytes(), type=dict[str, list[str]])
            except msgspec.MsgspecError as error:
                raise FormatError(f"{self._path}: this note of what was uploaded is broken: {error}") from error
        self.marks = set(self._all.get(url, ()))

    def add(self, mark: str) -> None:
        """Note that a batch was taken."""
        self.marks.add(mark)
        self._all[self._url] = sorted(self.marks)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._all), encoding="ascii")
        temporary.replace(self._path)
