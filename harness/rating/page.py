"""The page on which people rate, whole in one text: asking a server, or with all items in it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from pathlib import Path
from typing import Any

__all__ = ["page"]

_FILES = Path(__file__).parent / "page"


def page(title: str, sheet: dict[str, Any] | None = None) -> str:
    """The HTML; with a `sheet` (JSON-able) it needs no server and keeps what is said until it is saved.

    Its policy lets its own script and style run, and nothing be fetched but answers from where it came.
    """
    style, script = ((_FILES / name).read_text(encoding="utf-8") for name in ("rate.css", "rate.js"))
    rules = [
        "default-src 'none'",
        f"script-src '{_sha(script)}'",
        f"style-src '{_sha(style)}'",
        "connect-src 'self'" if sheet is None else "connect-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
    # in JSON "<" can stand as an escape everywhere, so that nothing ends the element
    data = json.dumps(sheet).replace("<", "\\u003c")
    parts = {"{{policy}}": "; ".join(rules), "{{title}}": html.escape(title), "{{style}}": style, "{{script}}": script}
    text = (_FILES / "rate.html").read_text(encoding="utf-8")
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text.replace("{{data}}", data)


def _sha(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
