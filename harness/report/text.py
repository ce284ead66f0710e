"""Numbers and untrusted text as a reader sees them."""

from __future__ import annotations

import math
import unicodedata

__all__ = ["METRIC_NAMES", "STATUS_WORDS", "count", "duration", "figure", "metric_name", "p_value", "span", "visible"]

METRIC_NAMES = {"auroc": "AUROC", "auprc": "AUPRC", "f1": "F1"}

STATUS_WORDS = {
    "ok": "ok",
    "refused": "refused",
    "truncated": "cut off at the token limit",
    "unparsable": "reply could not be read",
    "provider_error": "provider error",
    "over_budget": "over budget",
    "too_few_examples": "too few examples",
    "no_partner": "no partner latent to shuffle with",
    "no_rule": "the lexical baseline found no rule",
}

_SYMBOLS = {"\n": "↵", "\t": "⇥", "\x7f": "␡"}
# zero-width joiners change how letters of Persian, Indic scripts and emoji join: text, not control
_JOINERS = "\u200c\u200d"
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(text: str, *, breaks: bool = False) -> str:
    """Text in which nothing acts: controls, direction overrides, invisible and broken characters as visible signs.

    Line feeds and tabs become `↵` and `⇥`, other C0 controls their control picture, bytes kept by surrogateescape
    `\\xNN`, whatever else is invisible its code point. With `breaks`, line feeds and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if breaks and character in "\n\t" else _sign(character) for character in text)


def figure(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """A number with that many decimals and a true minus sign; a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-", "−")


def span(interval: tuple[float, float] | None, digits: int = 2) -> str:
    """An interval in brackets, empty where there is none."""
    return "" if interval is None else f"[{figure(interval[0], digits)}, {figure(interval[1], digits)}]"


def count(value: float) -> str:
    """A whole number with thousands separated."""
    return f"{value:,.0f}"


def p_value(p: float) -> str:
    """A p-value as it is quoted."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def duration(seconds: float) -> str:
    """A time span in the two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def metric_name(metric: str) -> str:
    """A metric's name in prose."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def _sign(character: str) -> str:
    if (symbol := _SYMBOLS.get(character)) is not None:
        return symbol
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS:
        return character
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
