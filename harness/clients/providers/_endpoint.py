"""Where a model's requests go, and the key that they carry."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import urlsplit

from harness.clients.providers._settings import SDKSettings
from harness.errors import MissingKey, TaskError
from harness.values import digest

__all__ = ["Endpoint", "endpoint", "keyless"]

# while clients are made that send nothing
_KEYLESS: ContextVar[bool] = ContextVar("_KEYLESS", default=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go and the key they carry; the key is in no representation of it."""

    base_url: str
    key: str

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r})"

    @property
    def account(self) -> str:
        """What requests of one address and key have in common, without telling the key."""
        return digest([self.base_url, self.key])[:16]


def endpoint(
    settings: SDKSettings, name: str, base_url: str | None, key_variable: str, *, required: bool = True
) -> Endpoint:
    """The address and key of a model: `base_url` is where it is unless the settings say otherwise.

    A server on this machine needs no key, and others do where one is `required` or the settings name its variable.

    Raises:
        MissingKey: the environment variable is not set, or holds what cannot be a key.
        TaskError: there is no address, or a wrong one.
    """
    url = settings.base_url or base_url
    if url is None:
        raise TaskError(f'[model."{name}"]: base_url: is missing')
    url = _checked(url, name)
    variable = settings.key_variable or key_variable
    key = os.environ.get(variable, "").strip()
    if not key:
        needed = required or settings.key_variable is not None
        if needed and not _local(url) and not _KEYLESS.get():
            raise MissingKey(f'model "{name}" needs an API key: set the environment variable {variable}')
        key = "none"
    if not key.isascii() or not key.isprintable() or " " in key:
        raise MissingKey(f"{variable} holds characters that no API key has (blanks, line breaks or non-ASCII ones)")
    return Endpoint(url, key)


@contextmanager
def keyless() -> Iterator[None]:
    """While in it, clients are made without keys: they tell what they would send, and could not send it."""
    token = _KEYLESS.set(True)
    try:
        yield
    finally:
        _KEYLESS.reset(token)


def _checked(url: str, name: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TaskError(f'[model."{name}"]: base_url: has to be like https://host/v1, not "{url}"')
    if parts.username or parts.password or parts.query or parts.fragment:
        raise TaskError(f'[model."{name}"]: base_url: has to be an address alone, without user, password or query')
    return url.rstrip("/")


def _local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
