"""How large a report of very many latents is, and how soon a browser shows it.

10,000 latents with 5 arms and 2 scorers, thinned as a run's report would be: text from the shipped stories,
explanations of some fifteen words made of theirs, verdicts with probabilities. Keys:

    size_mb          the page in millions of bytes (aim: below 25)
    first_paint_s    from opening the file to the first paint, median of 5 (aim: 2)
    ready_s          to the table of latents, which is searched and sorted from then on
    latent_page_ms   from choosing a latent to its page, median over 20 latents of chunks not yet unpacked (aim: 300)
    render_s         making the page
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.report.data import CoderLine, Grid, Header, Primary, ReportData, ScorerLine
from harness.report.evidence import Arm, ExplanationLine, LatentReport, Profile, ScoredExample, ScoreLine, VerdictLine
from harness.report.page import write
from harness.report.plots import Dot, Plot, Scale, Series, sampled
from harness.report.thinning import thinned
from harness.resources import fixture
from harness.values import Latent

ARMS = (Arm("mini"), Arm("sonnet"), Arm("local"), Arm("mini", "shuffled"), Arm(None, "none"))
SCORERS = (ScorerLine("detection", "balanced_accuracy", 0.5), ScorerLine("fuzzing", "balanced_accuracy", 0.5))
WINDOW, EACH = 32, 20
_PIECE = re.compile(r" ?\w+| ?[^\w\s]|\s")


def pieces() -> list[str]:
    """The shipped stories, token by token."""
    lines = fixture("text", "demo.jsonl").read_text(encoding="utf-8").splitlines()
    return [piece for line in lines for piece in _PIECE.findall(json.loads(line)["text"])]


def latents(count: int, text: Sequence[str]) -> Iterator[LatentReport]:
    """So many latents, thinned."""
    for number in range(count):
        yield thinned(_latent(number, text, np.random.default_rng(number)))


def _latent(number: int, text: Sequence[str], rng: np.random.Generator) -> LatentReport:
    scored = tuple(_scored(at, text, rng) for at in range(2 * EACH))
    words = [tuple(text[start : start + 15]) for start in rng.integers(0, len(text) - WINDOW, len(ARMS) - 1)]
    explanations = [ExplanationLine(arm, "".join(said).strip(), "ok") for arm, said in zip(ARMS, words, strict=False)]
    scores = tuple(_score(arm, scorer, rng) for arm in ARMS for scorer in SCORERS)
    common = rng.integers(0, len(text), 12)
    profile = Profile(
        tuple(rng.integers(0, 900, 20).tolist()),
        tuple((str(text[at]), int(rng.integers(1, 400)), float(rng.uniform(1, 30))) for at in common.tolist()),
        9000,
    )
    rate = float(10 ** rng.uniform(-4, -1))
    latent, all_explained = Latent("res", number), (*explanations, ExplanationLine(ARMS[-1], None, "ok"))
    return LatentReport(latent, "model.layers.12", 30.0, all_explained, scores, (), scored, rate, profile=profile)


def _score(arm: Arm, scorer: ScorerLine, rng: np.random.Generator) -> ScoreLine:
    hits, alarms = rng.binomial(100, [skill := rng.beta(6, 2), 1 - skill]).tolist()
    recall, specific, said = hits / 100, 1 - alarms / 100, max(1, hits + alarms)
    value, precision = (recall + specific) / 2, hits / said
    spread = float(np.sqrt(max(1, (said * (200 - said)) * 10_000)))
    metrics = {
        scorer.metric: value,
        "accuracy": value,
        "precision": precision,
        "recall": recall,
        "f1": 2 * hits / (100 + said),
        "iou": hits / (100 + alarms),
        "mcc": (hits * (100 - alarms) - alarms * (100 - hits)) / spread,
        "auroc": min(1.0, value + float(rng.uniform(0, 0.1))),
        "average_precision": min(1.0, value + float(rng.uniform(-0.1, 0.1))),
        "brier": float(rng.uniform(0, 0.4)),
        "calibration_error": float(rng.uniform(0, 0.4)),
    }
    return ScoreLine(arm, scorer.name, "random", "ok", metrics, 100, 100, 0, (value - 0.05, min(1.0, value + 0.05)))


def _scored(at: int, text: Sequence[str], rng: np.random.Generator) -> ScoredExample:
    start, truth = int(rng.integers(0, len(text) - WINDOW)), at % 2 == 0
    activations = np.zeros(WINDOW, np.float32)
    if truth:
        fires = rng.integers(0, WINDOW, 3)
        activations[fires] = rng.lognormal(1, 1, 3)
    verdicts = tuple(
        VerdictLine(arm, scorer.name, int(said > 0.5), float(said))
        for arm in ARMS
        for scorer in SCORERS
        for said in [rng.beta(3, 1) if truth else rng.beta(1, 3)]
    )
    marks = {"fuzzing": tuple(sorted(rng.integers(0, WINDOW, 2).tolist()))}
    quantile = 1 + at // 2 % 10 if truth else None
    return ScoredExample(tuple(text[start : start + WINDOW]), activations, truth, quantile, "random", verdicts, marks)


def report(count: int) -> ReportData:
    """A report of so many latents."""
    header = Header(
        "synthetic", "a subject", "stories", 0, (CoderLine("res", "model.layers.12", 131_072),), (),
        Primary("detection", "balanced_accuracy", 0.02), {}, {"latents": count},
    )  # fmt: skip
    found = tuple(latents(count, pieces()))
    return ReportData(header, ARMS, SCORERS, (), (), (), found, grids=(_grid(found),))


def _grid(found: Sequence[LatentReport]) -> Grid:
    """The figures that a run of two scorers has a dot for each latent and explainer in."""
    real = [(at, arm) for at, arm in enumerate(ARMS) if arm.control is None]
    scores = [{(line.arm, line.scorer): line.metrics for line in latent.scores} for latent in found]
    first, second = ([one.name, one.metric] for one in SCORERS)

    def plot(title: str, across: Scale, x: Sequence[str] | None, y: Sequence[str]) -> Plot:
        series = []
        for at, arm in real:
            told = zip(found, scores, strict=True)
            dots = (
                Dot(
                    own[arm, x[0]][x[1]] if x else latent.firing_rate or 1e-4,
                    own[arm, y[0]][y[1]],
                    f"res {latent.latent.index}",
                )
                for latent, own in told
            )
            series.append(Series(arm.label, at, tuple(dots)))
        return sampled(Plot(title, across, Scale("score", 0, 1, 0.5), tuple(series)), 0)

    rate, score = Scale("rate", 1e-4, 0.1, logarithmic=True), Scale("score", 0, 1, 0.5)
    plots = (
        plot("agreement", score, first, second),
        plot("first", rate, None, first),
        plot("second", rate, None, second),
    )
    return Grid("scorers", "Figures", ("",), (("",),), plots=plots)


def measure(path: Path, count: int) -> dict[str, float]:
    """How soon headless Chromium shows the page and the pages of latents."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    paints, readies = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=flags)
        for _ in range(5):
            page = browser.new_page()
            began = time.perf_counter()
            page.goto(path.as_uri())
            page.wait_for_selector("html[data-ready]", timeout=120_000)
            readies.append(time.perf_counter() - began)
            told: Any = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            paints.append(told / 1000)
            page.close()
        page = browser.new_page()
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", timeout=120_000)
        wanted = [f"res:{number}" for number in np.linspace(0, count - 1, 20).astype(int).tolist()]
        pages = [float(page.evaluate(_OPEN, name)) for name in wanted]
        browser.close()
    return {
        "first_paint_s": round(statistics.median(paints), 3),
        "ready_s": round(statistics.median(readies), 3),
        "latent_page_ms": round(statistics.median(pages), 1),
    }


# from the change of address to the page with its examples laid out
_OPEN = """async (name) => {
  const began = performance.now();
  location.hash = `#latent=${encodeURIComponent(name)}`;
  while (document.getElementById("page").dataset.latent !== name) await new Promise((done) => setTimeout(done, 1));
  document.getElementById("page").getBoundingClientRect();
  return performance.now() - began;
}"""


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="where to leave the page")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.keep or Path(folder) / "report.html"
        data = report(given.latents)
        began = time.perf_counter()
        write(data, path.resolve())
        found = {"latents": given.latents, "render_s": round(time.perf_counter() - began, 2)}
        found["size_mb"] = round(path.stat().st_size / 1e6, 2)
        found |= measure(path.resolve(), given.latents)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
