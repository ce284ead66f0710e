"""The page in a real browser: it is searched, sorted and paged through, and nothing in it acts or is fetched."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.analysis.load import load
from harness.report import ReportData, gather, write
from harness.report.data import Grid
from harness.report.evidence import Arm, Change, Exchange, PairLine, Profile, Trace, TraceCall, TraceStep, VerdictLine
from harness.report.plots import Dot, Plot, Scale, Series
from harness.report.plotting import BOTTOM, LEFT, RIGHT, TOP
from harness.report.text import visible
from harness.values import Latent
from tests.running import CHROMIUM

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Dialog, Page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium"),
]

ATTACK = "<img src=x onerror='window.owned=1'><script>window.owned=1</script></script>{{alert(1)}}\x1b[2J\u202e"


class Tab:
    """A page with all that went wrong in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.wrong: list[str] = []
        page.on("console", lambda m: self.wrong.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("dialog", self._dialog)
        page.on("request", lambda r: self.wrong.append(r.url) if not r.url.startswith("file:") else None)

    def _dialog(self, dialog: Dialog) -> None:
        self.wrong.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def open(self, path: Path, hash_: str = "") -> Page:
        self.page.goto(path.as_uri() + hash_)
        self.page.wait_for_selector("html[data-ready]")
        return self.page


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def tab(context: BrowserContext) -> Iterator[Tab]:
    tab = Tab(context.new_page())
    yield tab
    assert tab.wrong == []


@pytest.fixture(scope="module")
def report(data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(data, tmp_path_factory.mktemp("report") / "index.html")


def column(page: Page, number: int) -> list[str]:
    return page.locator(f"table.index tbody tr > :nth-child({number})").all_inner_texts()


def test_all_latents_are_listed_in_the_runs_order(tab: Tab, report: Path, data: ReportData) -> None:
    page = tab.open(report)
    assert column(page, 1) == [str(x.latent.index) for x in data.latents]
    assert page.locator("#shown").inner_text() == "40 latents"


def test_search_finds_words_of_explanations_and_latents(tab: Tab, report: Path, data: ReportData) -> None:
    page = tab.open(report)
    page.fill("#search", "HARBOUR")
    expected = [x for x in data.latents if any("harbour" in (line.text or "") for line in x.explanations)]
    assert column(page, 1) == [str(x.latent.index) for x in expected]
    page.fill("#search", f"res6:{data.latents[3].latent.index}")
    assert column(page, 1) == [str(data.latents[3].latent.index)]
    page.fill("#search", "nothing has this")
    assert page.locator("#shown").inner_text() == "0 of 40 latents"


def test_sorting_by_a_column_and_back(tab: Tab, report: Path) -> None:
    page = tab.open(report)
    page.get_by_role("button", name="detection").click()
    values = column(page, 3)
    numbers = [float(v) for v in values if re.fullmatch(r"[\d.]+", v)]
    assert numbers == sorted(numbers, reverse=True)
    # what has no score comes last, either way
    assert set(values[len(numbers) :]) == {"failed", "–"}
    page.get_by_role("button", name="detection").click()
    again = column(page, 3)
    assert again[: len(numbers)] == [f"{n:.2f}" for n in sorted(numbers)]
    assert set(again[len(numbers) :]) == {"failed", "–"}
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("detection")
    page.get_by_role("button", name="Latent", exact=True).click()
    indices = [int(v) for v in column(page, 1)]
    assert indices == sorted(indices)


def test_sorting_works_from_the_keyboard(tab: Tab, report: Path) -> None:
    page = tab.open(report)
    page.get_by_role("button", name="Failures").focus()
    page.keyboard.press("Enter")
    counts = [int(v) for v in column(page, 7)]
    assert counts == sorted(counts, reverse=True)
    page.keyboard.press("Enter")
    assert [int(v) for v in column(page, 7)] == sorted(counts)


def test_filtering_by_failures(tab: Tab, report: Path) -> None:
    page = tab.open(report)
    page.select_option("#filter", "failures")
    with_failures = column(page, 7)
    page.select_option("#filter", "clean")
    without = column(page, 7)
    assert all(int(v) > 0 for v in with_failures)
    assert without == ["0"] * (40 - len(with_failures))


def test_filtering_and_sorting_by_how_far_scorers_are_apart(tab: Tab, report: Path, data: ReportData) -> None:
    page = tab.open(report)
    page.get_by_role("button", name="Apart").click()
    told = [float(v) for v in column(page, 6) if v != "–"]
    assert told == sorted(told, reverse=True)
    first = next(x for x in data.latents if str(x.latent.index) == column(page, 1)[0])
    figures = [line.metrics["balanced_accuracy"] for line in first.scores if line.arm == data.arms[0]]
    # each from chance to 1
    assert told[0] == pytest.approx(2 * (max(figures) - min(figures)), abs=0.006)
    page.select_option("#filter", "apart")
    assert [float(v) for v in column(page, 6)] == [v for v in told if v > 0.25]
    page.select_option("#filter", "low")
    assert all(float(v) <= 0.55 for v in column(page, 3))


def test_profile_and_prompts_are_shown_and_nothing_in_them_acts(tab: Tab, tmp_path: Path, data: ReportData) -> None:
    profile = Profile((5, 0, 2), ((ATTACK, 4, 2.5), (" the", 3, 1.0)), 7)
    said = (Exchange(data.arms[0], "", ATTACK, "one\ntwo"), Exchange(data.arms[0], "fuzzing", "asked", ATTACK))
    latent = replace(data.latents[2], profile=profile, exchanges=said)
    grid = Grid("scorers", ATTACK, ("", ATTACK), ((ATTACK, ATTACK),), ATTACK)
    path = write(replace(data, latents=(latent,), grids=(grid,)), tmp_path / "report.html")
    page = tab.open(path)
    assert page.locator("#scorers td").inner_text() == " ".join(visible(ATTACK, breaks=True).split())
    page.locator("table.index tbody a").click()
    page.wait_for_selector("#page .profile")
    assert page.locator(".histogram span").count() == 3
    assert page.locator(".histogram span").nth(0).get_attribute("title") == "from 0: 5 firings"
    assert page.locator(".tokens code").nth(0).inner_text() == visible(ATTACK)
    assert page.locator(".tokens li").nth(1).inner_text().endswith("43 %")
    folded = page.locator("#page details:has(pre)")
    assert [folded.nth(at).locator("summary").inner_text() for at in range(2)] == [
        "lexical explaining",
        "fuzzing judging lexical (the first request)",
    ]
    assert not folded.nth(0).locator("pre").nth(0).is_visible()
    folded.nth(0).locator("summary").click()
    assert folded.nth(0).locator("pre").nth(0).inner_text() == visible(ATTACK, breaks=True)
    assert folded.nth(0).locator("pre").nth(1).inner_text() == "one\ntwo"
    assert page.evaluate("window.owned") is None


def test_continuations_stand_beside_each_other_and_simulated_below_true_strengths(
    tab: Tab, tmp_path: Path, data: ReportData
) -> None:
    first = data.latents[2].scored[0]
    values = np.zeros(32, np.float32)
    values[4] = 13.2
    strengths = tuple(5.0 if at == 4 else 0.0 for at in range(32))
    said = replace(
        first, activations=values, verdicts=(VerdictLine(data.arms[0], "fuzzing", None, strengths=strengths),)
    )
    found = VerdictLine(data.arms[0], "detection", None, right=True)
    pairs = (PairLine("He said", f" no.{ATTACK}", " no, river", 2, (found,)), PairLine("It", " is", " was", None))
    changes = (Change(0.3, 0.31, 12.5, "ok", pairs), Change(3.0, None, 80.0, "saturated", pairs[:1]))
    latent = replace(data.latents[2], scored=(said,), changes=changes)
    path = write(replace(data, latents=(latent,)), tmp_path / "report.html")
    page = tab.open(path, f"#latent=res6:{latent.latent.index}")
    page.wait_for_selector("#page table.pairs")
    folded = page.locator("details.change")
    assert [folded.nth(at).locator("summary").inner_text() for at in range(2)] == [
        "Amplified to a KL of 0.3 nats; 0.31 reached at strength 12.5 (2 prompts)",
        "Amplified to a KL of 3 nats; no number reached at strength 80; more strength brought no larger KL (1 prompt)",
    ]
    assert [folded.nth(at).locator("table").is_visible() for at in range(2)] == [True, False]
    cells = folded.nth(0).locator("tbody tr").nth(0).locator("td")
    told = [cells.nth(at).inner_text() for at in range(cells.count())]
    assert told == ["Q2", "He said", f" no.{visible(ATTACK, breaks=True)}", " no, river", "found ✓"]
    assert cells.nth(3).locator(".quiet").inner_text() == " no"
    rows = page.locator("table.simulated tbody tr")
    assert [rows.nth(at).locator("th").inner_text() for at in range(2)] == ["true", "simulated"]
    # the same token, at its largest in truth and at half of that simulated
    for at, share in ((0, "1.000"), (1, "0.500")):
        spans = rows.nth(at).locator(".passage span")
        assert spans.nth(4).evaluate("e => e.style.getPropertyValue('--a')") == share
        assert rows.nth(at).locator(".passage .on").count() == 1
    assert page.evaluate("window.owned") is None


def test_a_figure_stands_below_its_table_and_a_long_table_is_folded(tab: Tab, tmp_path: Path, data: ReportData) -> None:
    scale = Scale("detection", 0, 1, 0.5)
    arms = tuple(Series(name, at, (Dot(0.2, 0.9, f"res6 {at}"),)) for at, name in enumerate(("mini", "big")))
    rows = tuple((str(at), "x") for at in range(13))
    grids = (
        Grid("scorers", "Short", ("", "y"), rows[:2], plots=(Plot("Fuzzing", scale, scale, arms),)),
        Grid("scorers", "Long", ("", "y"), rows),
    )
    page = tab.open(write(replace(data, grids=grids), tmp_path / "report.html"))
    tables = page.locator("#scorers table")
    assert [tables.nth(at).is_visible() for at in range(2)] == [True, False]
    page.get_by_text("Long (13 rows)").click()
    assert tables.nth(1).is_visible()
    figure = page.locator("#scorers figure")
    table, drawn = tables.nth(0).bounding_box(), figure.locator("svg.chart").bounding_box()
    assert table is not None
    assert drawn is not None
    assert table["y"] + table["height"] < drawn["y"]
    # across a fifth of the way, and up nine tenths, in the middle of its shape
    spot = figure.locator(".spot.r0").first.bounding_box()
    assert spot is not None
    assert spot["x"] + spot["width"] / 2 - drawn["x"] == pytest.approx(LEFT + 0.2 * (RIGHT - LEFT), abs=1)
    assert spot["y"] + spot["height"] / 2 - drawn["y"] == pytest.approx(BOTTOM - 0.9 * (BOTTOM - TOP), abs=1)
    assert figure.locator(".keys").inner_text().split() == ["mini", "big"]


def test_the_arm_changes_explanations_and_scores(tab: Tab, report: Path, data: ReportData) -> None:
    page = tab.open(report)
    page.select_option("#arm", label="lexical (shuffled)")
    own = [line.text for x in data.latents for line in x.explanations if line.arm == Arm("lexical", "shuffled")]
    assert [text for text in column(page, 2) if text != "too few examples"] == own


def test_a_latents_page_shows_everything_about_it(tab: Tab, report: Path, data: ReportData) -> None:
    latent = data.latents[2]
    page = tab.open(report)
    page.locator("table.index tbody a").nth(2).click()
    page.wait_for_selector("#page .passage")
    assert page.locator("#page h1").inner_text() == f"Latent {latent.latent.index}"
    assert not page.locator("#overview").is_visible()
    arms = page.locator("table.arms tbody tr")
    assert arms.count() == 3
    assert str(latent.explanations[0].text) in arms.nth(0).inner_text()
    score = latent.scores[0]
    assert score.interval is not None
    assert f"{score.metrics['balanced_accuracy']:.2f} [{score.interval[0]:.2f}, {score.interval[1]:.2f}]" in arms.nth(
        0
    ).inner_text().replace("\t", " ").replace("\n", " ")
    tables = page.locator("table.examples")
    assert tables.nth(0).locator("tbody tr").count() == len(latent.shown)
    assert tables.nth(1).locator("tbody tr:not(.tally)").count() == len(latent.scored)
    assert page.locator("td.verdict").count() == len(latent.scored) * 6


def test_how_an_explainer_came_to_its_words_is_told_step_by_step(tab: Tab, report: Path, data: ReportData) -> None:
    page = tab.open(report)
    page.locator("table.index tbody a").nth(0).click()
    page.wait_for_selector("#page .passage")
    trace = page.locator("details.trace")
    assert trace.count() == 1
    assert trace.locator("summary").inner_text() == "How lexical came to it (2 steps, 2,500 tokens)"
    trace.locator("summary").click()
    assert trace.locator("li").count() == 2
    assert trace.locator("pre").first.inner_text() == "1. a\n   (silent)"
    assert trace.locator(".call.fail").count() == 1


def test_tokens_are_coloured_by_activation_and_tell_their_value(tab: Tab, report: Path, data: ReportData) -> None:
    latent = data.latents[2]
    page = tab.open(report, f"#latent=res6:{latent.latent.index}")
    example = max(latent.shown, key=lambda e: float(e.activations.max()))
    line = page.locator("table.examples").nth(0).locator(".passage").nth(0)
    assert line.inner_text().strip() == "".join(visible(p) for p in example.pieces).strip()
    strong = int(example.activations.argmax())
    token = line.locator("span").nth(strong)
    assert token.get_attribute("title") == f"“{visible(example.pieces[strong])}”  {example.activations[strong]:.4g}"
    assert "rgba(0, 0, 0, 0)" not in token.evaluate("e => getComputedStyle(e).backgroundColor")
    silent = int(example.activations.argmin())
    assert line.locator("span").nth(silent).evaluate("e => getComputedStyle(e).backgroundColor") == "rgba(0, 0, 0, 0)"
    weights = line.locator("span.on").evaluate_all("es => es.map(e => Number(e.style.getPropertyValue('--a')))")
    firing = [float(a) for a in example.activations if a > 0]
    assert latent.maximum is not None
    assert weights == pytest.approx([min(1, a / latent.maximum) for a in firing], abs=1e-3)


def test_verdicts_say_label_probability_and_whether_they_are_right(tab: Tab, report: Path, data: ReportData) -> None:
    latent = data.latents[2]
    page = tab.open(report, f"#latent=res6:{latent.latent.index}")
    wrong = sum(v.label is not None and bool(v.label) != e.truth for e in latent.scored for v in e.verdicts)
    assert page.locator("td.verdict.wrong").count() == wrong
    assert all("✗" in text for text in page.locator("td.verdict.wrong").all_inner_texts())
    failed = sum(v.label is None for e in latent.scored for v in e.verdicts)
    assert page.locator("td.verdict.fail").all_inner_texts() == ["failed"] * failed
    title = page.locator("td.verdict").nth(0).get_attribute("title")
    assert title is not None
    assert re.fullmatch(r"detection, lexical said (yes|no), P\(yes\) = \d\.\d{3}: (right|wrong)", title)


def test_values_strengths_and_blind_answers_are_shown_as_they_are(
    tab: Tab, make_report: Callable[..., ReportData], tmp_path: Path
) -> None:
    report = make_report(latents=2, each=4)
    arm, other = report.arms[0], report.arms[1]
    scorers = report.scorers
    verdicts = (
        VerdictLine(arm, scorers[0].name, None, value=-1.25),
        VerdictLine(arm, scorers[1].name, None, strengths=(0.0, 10.0, math.nan, 5.0)),
        VerdictLine(other, scorers[0].name, None, right=False),
        VerdictLine(other, scorers[1].name, None, right=True),
    )
    first = replace(report.latents[0], scored=(replace(report.latents[0].scored[0], verdicts=verdicts),))
    page = tab.open(
        write(replace(report, latents=(first,)), tmp_path / "kinds.html"), f"#latent=res6:{first.latent.index}"
    )
    cells = page.locator("td.verdict")
    assert [text.strip() for text in cells.all_inner_texts()] == ["−1.25", "missed ✗", "", "found ✓"]
    heights = page.locator(".bars span").evaluate_all("es => es.map(e => e.style.getPropertyValue('--h'))")
    assert heights == ["0.00", "1.00", "0.00", "0.50"]
    assert (cells.nth(2).get_attribute("title") or "").endswith("0 10 – 5")
    assert page.locator("td.verdict.wrong").count() == 1
    assert page.locator(".tally td").all_inner_texts()[1:] == ["", "", "", ""]


def test_scored_examples_are_filtered(tab: Tab, report: Path, data: ReportData) -> None:
    latent = data.latents[2]
    page = tab.open(report, f"#latent=res6:{latent.latent.index}")
    rows = page.locator("table.examples").nth(1).locator("tbody tr:not(.tally)")
    show = page.locator("#page form select").nth(0)
    show.select_option("silent")
    assert rows.count() == sum(not e.truth for e in latent.scored)
    assert all(t.startswith("silent, random") for t in rows.locator("td.kind").all_inner_texts())
    show.select_option("wrong")
    wrong = [any(v.label is not None and bool(v.label) != e.truth for v in e.verdicts) for e in latent.scored]
    assert rows.count() == sum(wrong)


def test_marks_of_fuzzing_are_underlined(tab: Tab, report: Path, data: ReportData) -> None:
    latent = data.latents[2]
    page = tab.open(report, f"#latent=res6:{latent.latent.index}")
    marked = page.locator("table.examples").nth(1).locator("span.marked").count()
    assert marked == sum(len(e.marks["fuzzing"]) for e in latent.scored)


def test_a_failed_latent_says_what_failed(tab: Tab, report: Path, data: ReportData) -> None:
    page = tab.open(report, f"#latent=res6:{data.latents[7].latent.index}")
    assert "reply could not be read" in page.locator("table.arms tbody tr").nth(0).inner_text()
    page.goto(report.as_uri() + f"#latent=res6:{data.latents[11].latent.index}")
    page.locator("#page .notice", has_text="Not asked about: too few examples.").wait_for()


def test_a_random_latents_page_has_the_arms_that_were_asked_about_it(
    tab: Tab, random_run: Path, tmp_path: Path
) -> None:
    run = load(random_run / "full")
    path = write(gather(run), tmp_path / "index.html")
    page = tab.open(path, f"#latent=sae~random-direction:{run.latents['sae~random-direction'][0]}")
    labels = page.locator("#page table.arms tbody th").all_inner_texts()
    assert [label.partition("\n")[0] for label in labels] == ["a (random-direction)"]
    page = tab.open(path, f"#latent=sae:{run.latents['sae'][0]}")
    labels = page.locator("#page table.arms tbody th").all_inner_texts()
    assert [label.partition("\n")[0] for label in labels] == ["a", "a (shuffled)", "none", "lexical baseline"]


def test_the_table_has_only_what_the_chosen_arm_has(tab: Tab, tmp_path: Path, data: ReportData) -> None:
    """Another explainer's scorer has no column, latents of another arm no row, unless they are searched for."""
    other = Arm("other")
    first, *rest = data.latents
    moved = tuple(
        replace(
            latent,
            scores=tuple(
                replace(s, arm=other) if (s.arm, s.scorer) == (data.arms[0], "fuzzing") else s for s in latent.scores
            ),
        )
        for latent in rest
    )
    random = replace(
        first,
        latent=Latent("res6~random-coder", first.latent.index),
        explanations=(),
        scores=tuple(replace(s, arm=other) for s in first.scores if s.arm == data.arms[0]),
    )
    told = replace(data, arms=(*data.arms, other), latents=(random, *moved))
    page = tab.open(write(told, tmp_path / "index.html"))
    heads = page.locator("table.index thead th")
    assert heads.all_inner_texts() == ["Latent", "Explanation", "detection", "Fires in", "Failures"]
    assert len(column(page, 1)) == len(moved)
    page.fill("#search", "random-coder")
    assert column(page, 1) == [f"res6~random-coder {first.latent.index}"]
    page.fill("#search", "")
    page.select_option("#arm", label="other")
    assert heads.all_inner_texts() == ["Latent", "Explanation", "detection", "fuzzing", "Fires in", "Apart", "Failures"]
    assert f"res6~random-coder {first.latent.index}" in column(page, 1)


def test_scores_are_listed_where_most_scorers_judge_few_arms(tab: Tab, tmp_path: Path, data: ReportData) -> None:
    latent = next(one for one in data.latents if one.status == "ok" and len(one.scores) == len(data.arms) * 2)
    own = dict(zip(data.arms, ("detection", "fuzzing", "none at all"), strict=True))
    few = replace(latent, scores=tuple(s for s in latent.scores if s.scorer == own[s.arm]))
    page = tab.open(write(replace(data, latents=(few,)), tmp_path / "index.html"), f"#latent=res6:{few.latent.index}")
    page.wait_for_selector("table.arms")
    assert page.locator("table.arms thead th").all_inner_texts() == ["Arm", "Explanation", "Scores"]
    cells = page.locator("table.arms tbody td:last-child").all_inner_texts()
    assert [cell.split(",")[0] for cell in cells] == ["detection", "fuzzing", ""]


def test_going_back_and_on_with_links_keys_and_the_browsers_button(tab: Tab, report: Path, data: ReportData) -> None:
    page = tab.open(report)
    names = [f"Latent {x.latent.index}" for x in data.latents]
    heading = page.locator("#page h1")

    def shown(name: str) -> None:
        page.get_by_role("heading", name=name, exact=True).wait_for()

    page.locator("table.index tbody a").nth(0).click()
    shown(names[0])
    page.get_by_role("link", name="Next").click()
    shown(names[1])
    page.keyboard.press("ArrowRight")
    shown(names[2])
    page.keyboard.press("ArrowLeft")
    shown(names[1])
    page.go_back()
    shown(names[2])
    page.keyboard.press("Escape")
    page.wait_for_selector("#overview:not([hidden])")
    assert not heading.is_visible()


def test_an_address_with_an_unknown_latent_shows_the_overview(tab: Tab, report: Path) -> None:
    page = tab.open(report, "#latent=res6:nonsense%")
    assert page.locator("#overview").is_visible()


def test_hostile_text_does_nothing(tab: Tab, make_report: Callable[..., ReportData], tmp_path: Path) -> None:
    report = make_report(latents=3, each=20)
    first = report.latents[0]
    latent = replace(
        first,
        latent=Latent(f"c{ATTACK}", 1),
        hookpoint=ATTACK,
        explanations=tuple(replace(line, text=ATTACK) for line in first.explanations),
        scores=tuple(replace(line, message=ATTACK) for line in first.scores),
        shown=tuple(replace(e, pieces=(ATTACK, *e.pieces[1:])) for e in first.shown),
        scored=tuple(replace(e, pieces=(*e.pieces[:-1], ATTACK), rung=ATTACK) for e in first.scored),
        traces=(Trace(first.traces[0].arm, (TraceStep(ATTACK, (TraceCall(ATTACK, ATTACK, ATTACK),), 1, ATTACK),)),),
    )
    header = replace(report.header, task=ATTACK, subject=ATTACK, corpus=ATTACK, notes=(ATTACK,))
    page = tab.open(write(replace(report, header=header, latents=(latent, *report.latents[1:])), tmp_path / "x.html"))
    page.fill("#search", "<img")
    page.locator("table.index tbody a").nth(0).click()
    page.wait_for_selector("#page .passage")
    assert page.evaluate("window.owned") is None
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == page.evaluate(
        "document.querySelectorAll('script[id], script:not([id])').length"
    )
    seen = visible(ATTACK)
    assert seen in page.locator("#page .passage").first.inner_text()
    assert page.locator("table.arms .words").first.inner_text() == visible(ATTACK, breaks=True)
    page.goto(page.url.split("#")[0])
    assert page.locator("header h1").inner_text() == seen
    assert page.title().startswith(seen[:20])


def test_injected_markup_could_neither_run_nor_load(context: BrowserContext, report: Path, tmp_path: Path) -> None:
    """The policy holds even where escaping would fail: inline scripts, handlers, styles and images are refused."""
    broken = tmp_path / "broken.html"
    attack = (
        "<script>window.owned=1</script><img src=x.png onerror='window.owned=2'><i style='color:red' id=styled>x</i>"
    )
    broken.write_text(report.read_text(encoding="utf-8").replace("<h2>Summary</h2>", attack), encoding="utf-8")
    tab = Tab(context.new_page())
    page = tab.open(broken)
    assert page.evaluate("window.owned") is None
    assert page.locator("#styled").evaluate("e => getComputedStyle(e).color") != "rgb(255, 0, 0)"
    assert page.evaluate("fetch('https://example.org').then(() => 'sent', () => 'refused')") == "refused"
    assert len([text for text in tab.wrong if "Content Security Policy" in text]) >= 4


def test_many_latents_are_shown_in_parts(tab: Tab, make_report: Callable[..., ReportData], tmp_path: Path) -> None:
    report = make_report(latents=30, each=20)
    copies = tuple(
        replace(x, latent=Latent("res6", 1000 * copy + n), shown=x.shown[:1], scored=x.scored[:1])
        for copy in range(20)
        for n, x in enumerate(report.latents)
    )
    page = tab.open(write(replace(report, latents=copies), tmp_path / "many.html"))
    assert page.locator("table.index tbody tr").count() == 200
    page.get_by_role("button", name="Show 200 more of 400").click()
    assert page.locator("table.index tbody tr").count() == 400
    page.goto(page.url + "#latent=res6:19029")
    page.get_by_role("heading", name="Latent 19029", exact=True).wait_for()


def test_without_a_script_explanations_and_scores_are_there(browser: Browser, report: Path, data: ReportData) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    entry = page.locator("noscript details").nth(0)
    entry.locator("summary").click()
    assert str(data.latents[0].explanations[0].text) in entry.inner_text()
    assert entry.locator("tbody tr").count() == 3
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(browser: Browser, report: Path, data: ReportData, scheme: str) -> None:
    """Contrast of at least 4.5 (WCAG AA) for text on the strongest activations and for quiet text."""
    context = browser.new_context(color_scheme=scheme)  # pyright: ignore[reportArgumentType] (one of two literals)
    tab = Tab(context.new_page())
    page = tab.open(report, f"#latent=res6:{data.latents[2].latent.index}")
    page.wait_for_selector("#page .passage")
    ratios = page.evaluate(CONTRAST)
    context.close()
    assert min(ratios.values()) >= 4.5, ratios


CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const paint = (...colours) => {
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (data) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
    const c = data[i] / 255;
    return sum + weight * (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  }, 0);
  const paper = getComputedStyle(document.body).backgroundColor;
  const ratio = (element) => {
    const style = getComputedStyle(element);
    const a = light(paint(paper, style.backgroundColor, style.color));
    const b = light(paint(paper, style.backgroundColor));
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const hot = document.querySelector('.passage .on');
  hot.style.setProperty('--a', 1);
  const found = { hot: ratio(hot) };
  for (const name of ['.kind', '.verdict', '.verdict.wrong', '.lede', '.crumbs a', 'small']) {
    found[name] = ratio(document.querySelector('#page ' + name));
  }
  return found;
}"""
