"""The page is one safe, offline, complete file."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.report import ReportData, render, write
from harness.report.evidence import Arm
from harness.report.text import visible
from harness.values import Latent

HOSTILE = "</script><!--<script>boom()</script><img src=x onerror=boom()>'\"`{{7*7}}&lt;\u2028\x1b[2J\x00\u202e\udce2"


class Elements(HTMLParser):
    """Start tags with their attributes, and the text inside each script and style."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self.within = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.within = tag in ("script", "style")
        if self.within:
            self.inside.append("")

    def handle_endtag(self, tag: str) -> None:
        self.within = False

    def handle_data(self, data: str) -> None:
        if self.within:
            self.inside[-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def unpacked(page: str) -> tuple[dict[str, Any], list[Any]]:
    """The index and the latents' details as the script reads them."""
    blocks = re.findall(r'<script type="text/plain" id="([\w-]+)">([A-Za-z0-9+/=]*)</script>', page)
    values = {name: json.loads(gzip.decompress(base64.b64decode(text))) for name, text in blocks}
    index = values.pop("index")
    rows = index["latents"]
    index["latents"] = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
    return index, [_latent(values[f"chunk-{row['at'][0]}"], row["at"][1]) for row in index["latents"]]


def _latent(columns: dict[str, list[Any]], at: int) -> dict[str, Any]:
    """One latent of a chunk, as the page's script puts it together."""
    found: dict[str, Any] = {"shown": [], "scored": []}
    for kind, values in columns.items():
        name, _, field = kind.partition(".")
        if not field:
            found[name] = values[at]
        for number, value in enumerate(values[at] if field else ()):
            if number == len(found[name]):
                found[name].append({})
            found[name][number][field] = value
    return found


def poisoned(value: Any, keep: tuple[str, ...] = ("status", "outcome", "role", "rung")) -> Any:
    """A value with every free text in it replaced by a hostile one that keeps different texts different."""
    if isinstance(value, str):
        return f"{HOSTILE}{value}"
    if isinstance(value, Latent):
        return Latent(poisoned(value.coder), value.index)
    if isinstance(value, tuple):
        return tuple(poisoned(item) for item in value)
    if isinstance(value, dict):
        return {poisoned(key): poisoned(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: poisoned(getattr(value, f.name)) for f in fields(value) if f.name not in keep})
    return value


@pytest.fixture(scope="module")
def page(data: ReportData) -> str:
    return render(data)


@pytest.fixture(scope="module")
def hostile_page(make_report: Callable[..., ReportData]) -> str:
    return render(poisoned(make_report(latents=12, each=20)))


def test_the_policy_names_the_pages_own_script_and_style_and_allows_nothing_else(page: str) -> None:
    elements = Elements(page)
    (policy,) = [m["content"] for m in elements.of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy).split(";"))
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}'" for t in elements.inside]
    assert rules == {
        "default-src": "'none'",
        "style-src": hashes[0],
        "script-src": hashes[-1],
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_the_policy_comes_before_anything_that_it_rules(page: str) -> None:
    assert page.index("Content-Security-Policy") < page.index("<style") < page.index("<script")


def test_nothing_is_fetched(page: str, hostile_page: str) -> None:
    for text in (page, hostile_page):
        for tag, attributes in Elements(text).tags:
            assert tag not in {"link", "img", "iframe", "object", "embed", "base", "video", "audio", "source"}
            assert not {"src", "srcset", "data", "action", "style"} & set(attributes)
            assert not [name for name in attributes if name.startswith("on")]
            assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"https?://|url\(|@import", page)


def test_hostile_text_in_every_field_stays_text(page: str, hostile_page: str) -> None:
    def scripts(text: str) -> list[dict[str, str | None]]:
        return Elements(text).of("script")

    assert {tag for tag, _ in Elements(hostile_page).tags} == {tag for tag, _ in Elements(page).tags}
    assert len(scripts(hostile_page)) == 2 + len([s for s in scripts(hostile_page) if "chunk" in str(s.get("id"))])
    assert Elements(hostile_page).inside[-1] == Elements(page).inside[-1]
    assert "<!--" not in hostile_page
    assert "49&" not in hostile_page
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]", hostile_page)


def test_hostile_text_is_shown_and_not_dropped(make_report: Callable[..., ReportData]) -> None:
    report = poisoned(make_report(latents=3, each=20))
    page = render(report)
    index, details = unpacked(page)
    assert index["latents"][0]["explanations"][0][0] == visible(report.latents[0].explanations[0].text, breaks=True)
    assert details[0]["shown"][0]["p"].split("\n") == [visible(piece) for piece in report.latents[0].shown[0].pieces]
    title = re.search("<title>(.*)</title>", page)
    assert title is not None
    assert title.group(1).startswith("&lt;/script&gt;&lt;!--&lt;script&gt;boom()")


def test_the_payload_holds_nothing_but_visible_text(hostile_page: str) -> None:
    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            for item in value:
                yield from texts(item)
        elif isinstance(value, dict):
            for key, item in value.items():
                yield from texts([key, item])

    index, details = unpacked(hostile_page)
    for text in texts([index, details]):
        assert visible(text, breaks=True) == text


def test_every_latent_is_there_with_everything_about_it(data: ReportData, page: str) -> None:
    index, details = unpacked(page)
    assert [(row["coder"], row["latent"]) for row in index["latents"]] == [
        (x.latent.coder, x.latent.index) for x in data.latents
    ]
    for latent, row, detail in zip(data.latents, index["latents"], details, strict=True):
        assert [line[0] for line in row["explanations"] if line] == [line.text for line in latent.explanations]
        assert len(detail["scores"]) == len(latent.scores)
        assert len(detail["shown"]) == len(latent.shown)
        for seen, example in zip(detail["scored"], latent.scored, strict=True):
            assert (seen["t"], seen["q"], seen["r"]) == (example.truth, example.quantile, example.rung)
            assert tuple(seen["m"]["fuzzing"]) == example.marks["fuzzing"]
            flat = [verdict for scorer in seen["v"] for verdict in scorer]
            assert len(flat) == len(example.verdicts)


def test_a_trace_has_every_step_with_its_calls(page: str) -> None:
    _, details = unpacked(page)
    (trace,) = details[0]["traces"]
    assert trace["arm"] == 0
    assert [step["said"] for step in trace["steps"]] == ["I look.", ""]
    assert trace["steps"][0]["calls"] == [["read", '{"texts": ["a"]}', "1. a\n   (silent)", 0]]
    assert trace["steps"][1]["calls"][0][3] == 1
    assert [step["tokens"] for step in trace["steps"]] == [1200, 1300]
    assert all(other["traces"] == [] for other in details[1:])


def test_activations_come_back_as_they_were(data: ReportData, page: str) -> None:
    _, details = unpacked(page)
    for latent, detail in zip(data.latents, details, strict=True):
        for example, seen in zip(latent.scored, detail["scored"], strict=True):
            restored = np.zeros(len(seen["p"].split("\n")))
            restored[[int(p) for p in seen["a"][::2]]] = seen["a"][1::2]
            np.testing.assert_allclose(restored, example.activations, rtol=1e-3)


def test_verdicts_keep_label_probability_and_failure(data: ReportData, page: str) -> None:
    _, details = unpacked(page)
    failures = 0
    for latent, detail in zip(data.latents, details, strict=True):
        for example, seen in zip(latent.scored, detail["scored"], strict=True):
            for verdict in example.verdicts:
                s = [scorer.name for scorer in data.scorers].index(verdict.scorer)
                told = seen["v"][s][data.arms.index(verdict.arm)]
                if verdict.label is None:
                    failures += 1
                    assert told == "unparsable"
                else:
                    assert told == [verdict.label, pytest.approx(verdict.probability, abs=5e-4)]
    assert failures > 0


def test_failures_are_counted_for_each_latent(data: ReportData, page: str) -> None:
    index, _ = unpacked(page)
    assert index["latents"][7]["explanations"][0][:2] == [None, "unparsable"]
    assert index["latents"][7]["scores"][0] == ["unparsable", "unparsable"]
    # the explanation, its two scores, and the verdicts of the other arms that failed
    assert index["latents"][7]["failures"] == 3 + sum(line.failed for line in data.latents[7].scores)
    assert (index["latents"][11]["status"], index["latents"][11]["failures"]) == ("too_few_examples", 1)


def test_a_page_is_the_same_each_time(data: ReportData, page: str) -> None:
    assert render(data) == page


def test_the_file_stays_small(page: str) -> None:
    assert len(page) < 1_000_000


def test_many_latents_are_spread_over_chunks(data: ReportData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.report.payload.CHUNK", 150_000)
    page = render(data)
    blocks = re.findall(r'id="chunk-\d+">([A-Za-z0-9+/=]*)<', page)
    assert len(blocks) > 2
    assert all(len(gzip.decompress(base64.b64decode(block))) < 300_000 for block in blocks)
    assert len(unpacked(page)[1]) == len(data.latents)


def test_the_header_says_what_ran_and_that_no_llm_explained(page: str) -> None:
    for told in (
        "The explainer is the lexical baseline and no LLM.",
        "The judge detection is the lexical baseline and no LLM.",
        "fixtures/corpus (300,032 tokens)",
        "openai/gpt-5-mini",
        "9f9f9f9f9f9f",
        "$1.27",
        "reply could not be read",
    ):
        assert told in page


def test_arms_are_ranked_with_controls_below(page: str, data: ReportData) -> None:
    board = page[page.index('<table class="board">') : page.index("</table>")]
    assert "ranks the arms" in board
    rows = re.findall(r'<tr class="(real|control)">\s*<th scope="row">([^<]*)', board)
    own = {row.arm.label: row.mean or 0 for row in data.summary if row.scorer == "detection"}
    assert rows[0] == ("real", "lexical")
    assert [name.strip() for _, name in rows[1:]] == sorted(["none", "lexical (shuffled)"], key=lambda name: -own[name])


def test_a_reader_without_a_script_gets_every_explanation(page: str, data: ReportData) -> None:
    plain = page[page.index("<noscript>") : page.index("</noscript>")]
    assert plain.count("<details>") == len(data.latents)
    assert "too few examples" in plain
    for latent in data.latents:
        assert str(latent.latent.index) in plain


def test_an_empty_run_still_gives_a_page(data: ReportData) -> None:
    empty = replace(data, latents=(), summary=(), comparisons=(), curves=())
    assert unpacked(render(empty)) == ({**unpacked(render(empty))[0], "latents": []}, [])


def test_a_metric_that_is_not_defined_is_left_out(data: ReportData) -> None:
    latent = data.latents[0]
    scores = tuple(replace(line, metrics={"balanced_accuracy": float("nan"), "f1": 0.5}) for line in latent.scores)
    index, details = unpacked(render(replace(data, latents=(replace(latent, scores=scores),))))
    assert index["latents"][0]["scores"][0] == [None, None]
    assert details[0]["scores"][0]["metrics"] == [None, 0.5]


def test_write_makes_the_folder_and_one_file(data: ReportData, tmp_path: Path) -> None:
    path = write(data, tmp_path / "runs" / "report" / "index.html")
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]
    assert path.read_text(encoding="utf-8") == render(data)


def test_arms_of_two_explainers_have_their_own_histograms(data: ReportData) -> None:
    second = Arm("second")
    latents = tuple(
        replace(x, scores=(*x.scores, *(replace(line, arm=second) for line in x.scores if line.arm == data.arms[0])))
        for x in data.latents
    )
    page = render(replace(data, arms=(*data.arms, second), latents=latents))
    assert page.count('aria-label="histogram of scores, second"') == len(data.scorers)
