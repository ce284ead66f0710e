"""Numbers and untrusted text as a reader sees them."""

from __future__ import annotations

import math

from harness.visible import visible

__all__ = ["METRIC_NAMES", "STATUS_WORDS", "count", "duration", "figure", "metric_name", "p_value", "span", "visible"]

METRIC_NAMES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "f1": "F1",
    "iou": "IoU",
    "mcc": "MCC",
    "kl": "KL",
    "pearson": "Pearson's r",
    "brier": "Brier score",
    "nats_se": "standard error of nats",
}

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


def figure(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """A number with that many decimals and a true minus sign, none where it rounds to 0; a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:+z.{digits}f}" if sign else f"{value:z.{digits}f}"
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
