"""What a report says in sentences: who answered, what a comparison came to, what a control is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.report.data import Comparison, RoleLine
from harness.report.text import count, figure, metric_name, p_value, span

__all__ = ["CONTROL_NOTES", "RUNG_NOTES", "conclusion", "evidence", "listed", "model_free_lines"]

CONTROL_NOTES = {
    "shuffled": "another latent's explanation",
    "generic": "one sentence for every latent",
    "none": "the explanation withheld",
    "lexical": "the lexical baseline, no LLM",
    "random-direction": "random directions of the same firing rates, latents of their own",
    "random-coder": "a random autoencoder's latents of like firing rates, latents of their own",
}

# where the windows come from that do not activate the latent
RUNG_NOTES = {
    "random": "windows drawn from all of the text",
    "same-token": "windows with a token that the latent fires on most, on which it is silent here",
    "neighbour": "windows that fire one of the ten latents of nearest decoder direction",
    "semantic": "windows whose embeddings are nearest to those of activating windows",
    "misplaced": "activating windows with marks on tokens that do not activate",
    "cooccurring": "windows that fire one of the ten latents that fire on the same tokens most",
    "zero-row": "windows of those of the latent's records in which it fires nowhere",
    "same-row": "silent windows of records in which the latent fires elsewhere",
}

_STAND_INS = {
    "lexical": "the lexical baseline and no LLM",
    "truth": "the planted world's known truth and no LLM",
    "replay": "replies kept in a file and no LLM",
}


def model_free_lines(roles: Sequence[RoleLine]) -> tuple[str, ...]:
    """One sentence for each way in which something other than a language model explained or judged."""
    lines = []
    for role, noun in (("explainer", "explainer"), ("scorer", "judge")):
        of_role = [line for line in roles if line.role == role]
        for stand_in in dict.fromkeys(_stand_in(line) for line in of_role if line.model_free):
            names = [line.name for line in of_role if line.model_free and _stand_in(line) == stand_in]
            lines.append(_who(noun, names, everybody=len(names) == len(of_role)) + f" {stand_in}.")
    return tuple(lines)


def conclusion(comparison: Comparison) -> str:
    """A paired comparison as one sentence, with its evidence."""
    first, second = comparison.first.label, comparison.second.label
    if comparison.difference is None:
        return f"{first} and {second} share no latent that both have a score for."
    metric = f"{metric_name(comparison.metric)} of {comparison.scorer}"
    numbers = f"{figure(comparison.difference, 3, sign=True)} {span(comparison.interval, 3)}".strip()
    if comparison.outcome == "differ":
        high, low = (first, second) if comparison.difference > 0 else (second, first)
        by = f"{figure(abs(comparison.difference), 3)} {span(_of_higher(comparison), 3)}".strip()
        return f"{high} scores higher than {low} by {by} in {metric}."
    if comparison.outcome == "equivalent":
        return f"{first} and {second} are equivalent within {comparison.margin:g} in {metric}: {numbers}."
    return f"{first} and {second} cannot be told apart in {metric}: {numbers}.{_more(comparison)}"


def evidence(comparison: Comparison) -> str:
    """What a conclusion rests on."""
    parts = [] if comparison.p is None else [p_value(comparison.p)]
    parts.append(f"{count(comparison.n)} latents")
    if comparison.detectable is not None:
        parts.append(f"smallest difference found at 80 % power {figure(comparison.detectable, 3)}")
    return ", ".join(parts)


def _more(comparison: Comparison) -> str:
    if comparison.needed is None:
        return " These are too few latents to tell how many would settle it."
    if comparison.needed > comparison.n:
        return f" {count(comparison.needed - comparison.n)} more latents would settle it."
    return f" The difference lies between none and the margin of {comparison.margin:g}."


def _of_higher(comparison: Comparison) -> tuple[float, float] | None:
    """The interval of the higher arm's lead over the lower one."""
    if comparison.interval is None or (comparison.difference or 0) > 0:
        return comparison.interval
    low, high = comparison.interval
    return -high, -low


def _stand_in(line: RoleLine) -> str:
    provider = line.model.partition("/")[0]
    return _STAND_INS.get(provider, f"{line.model} and no LLM")


def _who(noun: str, names: Sequence[str], *, everybody: bool) -> str:
    if everybody and len(names) == 1:
        return f"The {noun} is"
    if everybody:
        return f"Every {noun} is"
    return f"The {noun} {names[0]} is" if len(names) == 1 else f"The {noun}s {listed(names)} are"


def listed(names: Iterable[str]) -> str:
    """Names, at least one, as a sentence lists them."""
    *head, last = names
    return f"{', '.join(head)} and {last}" if head else last
