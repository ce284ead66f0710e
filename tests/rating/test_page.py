"""The rating page in a real browser: nothing that is said is lost, nothing counts twice, and nobody else can say it."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.analysis.load import load
from harness.rating.book import Book
from harness.rating.items import Item, Selection, items_of, order
from harness.rating.server import RatingServer
from harness.rating.session import Session
from harness.rating.sheet import read_sheet, write_sheet
from tests.running import CHROMIUM

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium")]


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1000, "height": 900}, accept_downloads=True)
    context.set_default_timeout(20_000)
    yield context
    context.close()


def opened(context: BrowserContext, url: str, wrong: list[str] | None = None) -> Page:
    page = context.new_page()
    if wrong is not None:
        page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.goto(url)
    page.wait_for_selector("html[data-ready]")
    return page


def named(page: Page, name: str) -> None:
    page.fill("#name", name)
    page.get_by_role("button", name="Begin").click()
    page.wait_for_selector("#rate:not([hidden]), #end:not([hidden])")


def progress(page: Page) -> str:
    return page.locator("#progress").inner_text()


def rate(page: Page, rating: int, *, click: bool) -> str:
    """Rate the item that is shown and wait for the next; gives its id."""
    before, item = progress(page), page.locator("html").get_attribute("data-item")
    if click:
        page.locator("#options button").nth(rating - 1).click()
    else:
        page.keyboard.press(str(rating))
    page.wait_for_function("before => document.getElementById('progress').textContent !== before", arg=before)
    assert item is not None
    return item


def said(book: Book) -> dict[tuple[str, str], int | None]:
    return {(answer.rater, answer.item): answer.rating for answer in book.answers()}


def test_twenty_items_by_keyboard_and_click_with_a_reload_in_the_middle(
    context: BrowserContext, server: RatingServer, book: Book, items: list[Item]
) -> None:
    wrong: list[str] = []
    page = opened(context, server.url, wrong)
    named(page, "Ada")
    assert progress(page) == "Ada: 0 of 20"
    expected: dict[tuple[str, str], int | None] = {}
    for number in range(20):
        if number == 9:
            page.reload()
            page.wait_for_selector("html[data-ready]")
        assert progress(page) == f"Ada: {number} of 20"
        rating = number % 4 + 1
        expected["Ada", rate(page, rating, click=number % 2 == 0)] = rating
        # committed before the next is shown
        assert said(book) == expected
    assert page.locator("#end").is_visible()
    assert len(expected) == 20
    assert {item for _, item in expected} == {item.id for item in items}
    assert [answer.item for answer in book.answers()] == [item.id for item in order(items, 0, "Ada")]
    page.keyboard.press("3")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert said(book) == expected
    assert wrong == []
    assert page.evaluate("window.owned") is None


def test_undo_and_skip(context: BrowserContext, server: RatingServer, book: Book) -> None:
    page = opened(context, server.url)
    named(page, "Ada")
    assert page.locator("#undo").is_disabled()
    first, second = rate(page, 1, click=False), rate(page, 4, click=False)
    page.keyboard.press("u")
    page.wait_for_selector(f"html[data-item='{second}']")
    assert said(book) == {("Ada", first): 1}
    page.locator("#undo").click()
    page.wait_for_selector(f"html[data-item='{first}']")
    assert said(book) == {}
    page.keyboard.press("s")
    page.wait_for_selector(f"html[data-item='{second}']")
    assert said(book) == {("Ada", first): None}
    assert progress(page) == "Ada: 1 of 20"


def test_two_raters_at_once(browser: Browser, server: RatingServer, book: Book, items: list[Item]) -> None:
    contexts = [browser.new_context() for _ in range(2)]
    try:
        pages = [opened(one, server.url) for one in contexts]
        for page, name in zip(pages, ("Ada", "Ben"), strict=True):
            named(page, name)
        expected: dict[tuple[str, str], int | None] = {}
        for number in range(20):
            for page, name in zip(pages, ("Ada", "Ben"), strict=True):
                rating = number % 4 + 1 if name == "Ada" else 2
                expected[name, rate(page, rating, click=name == "Ben")] = rating
        assert said(book) == expected
        assert len(expected) == 40
    finally:
        for one in contexts:
            one.close()
    orders = [[item.id for item in order(items, 0, name)] for name in ("Ada", "Ben")]
    assert orders[0] != orders[1]


class Served:
    """The command in a process of its own, on one port."""

    def __init__(self, directory: Path, port: int = 0) -> None:
        # Ctrl-C does what it does in a terminal, also where tests run in the background, which ignores it
        interrupting = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        code = f"{interrupting}; from harness.cli import main; main()"
        arguments = ["rate", str(directory), "--explainer", "listed", "--no-controls", "--port", str(port)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.fullmatch(r"20 items at (http://127\.0\.0\.1:(\d+)/\S+/)\n", line)
        assert found is not None, line
        self.url, self.port = found[1], int(found[2])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_a_server_that_is_killed_and_started_again_has_lost_nothing(context: BrowserContext, directory: Path) -> None:
    served = Served(directory)
    try:
        page = opened(context, served.url)
        named(page, "Ada")
        expected: dict[tuple[str, str], int | None] = {("Ada", rate(page, 1, click=False)): 1 for _ in range(5)}
        served.kill()
        item = page.locator("html").get_attribute("data-item")
        page.keyboard.press("4")
        page.wait_for_selector("#trouble:not([hidden])")
        assert "Nothing was lost" in page.locator("#trouble").inner_text()
        assert page.locator("html").get_attribute("data-item") == item
        served = Served(directory, served.port)
        # the same tab goes on, at the same address
        assert page.url == served.url
        for number in range(15):
            expected["Ada", rate(page, 2, click=number % 2 == 0)] = 2
        assert page.locator("#trouble").is_hidden()
        assert page.locator("#end").is_visible()
    finally:
        served.kill()
    book = Book(directory)
    assert said(book) == expected
    assert len(expected) == 20
    book.close()


def test_ctrl_c_ends_it_without_a_traceback(directory: Path) -> None:
    served = Served(directory)
    try:
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(60) == 0
    finally:
        served.kill()


SITE = """<!doctype html><title>another site</title><script>
const target = TARGET, body = BODY;
const tries = [
  () => fetch(target + "api/rate", {method: "POST", headers: {"content-type": "application/json"}, body}),
  () => fetch(target + "api/rate", {method: "POST", mode: "no-cors", headers: {"content-type": "text/plain"}, body}),
  () => fetch(target + "api/next", {method: "POST", mode: "no-cors", body: '{"rater": "Eve"}'}),
  async () => navigator.sendBeacon(target + "api/rate", new Blob([body], {type: "application/json"})),
  () => fetch(target),
];
(async () => {
  window.read = [];
  for (const one of tries) {
    try {
      const r = await one();
      if (r.type !== "opaque" && r !== true) window.read.push(await r.text());
    } catch {}
  }
  window.done = true;
})();
</script><form id=f method=post enctype=text/plain target=frame><input name='{"rater": "Eve", "x": "' value='"}'></form>
<iframe name=frame></iframe>"""


def test_another_sites_page_can_neither_post_nor_read_even_if_it_knows_the_address(
    context: BrowserContext, server: RatingServer, book: Book, items: list[Item]
) -> None:
    body = json.dumps({"rater": "Eve", "item": items[0].id, "rating": 4})
    content = SITE.replace("TARGET", json.dumps(server.url)).replace("BODY", json.dumps(body)).encode()

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's name
            """Say nothing."""

    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        # another name for this machine, so that it is another site and not only another port
        page = context.new_page()
        page.goto(f"http://localhost:{site.server_address[1]}/")
        page.wait_for_function("window.done")
        assert page.evaluate("window.read") == []
        page.evaluate("url => { f.action = url + 'api/rate'; f.submit(); }", server.url)
        page.wait_for_load_state("networkidle")
        assert book.answers() == []
        # in no frame of another site
        page.evaluate("url => { document.querySelector('iframe').src = url; }", server.url)
        page.wait_for_load_state("networkidle")
        frame = next(one for one in page.frames if one.name == "frame")
        assert frame.locator("#who").count() == 0
    finally:
        site.shutdown()
        thread.join()
        site.server_close()


def test_an_offline_sheet_is_rated_saved_and_read_back(
    context: BrowserContext, run: Any, book: Book, items: list[Item], tmp_path: Path
) -> None:
    write_sheet(run.name, items, run.seed, tmp_path / "sheet.html")
    book.know(items)
    wrong: list[str] = []
    page = context.new_page()
    page.on("request", lambda r: wrong.append(r.url) if not r.url.startswith(("file:", "blob:")) else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((tmp_path / "sheet.html").as_uri())
    page.wait_for_selector("html[data-ready]")
    named(page, "Ben  Bo")
    expected: dict[tuple[str, str], int | None] = {}
    for number in range(20):
        if number == 7:
            page.reload()
            named(page, "Ben Bo")
        expected["Ben Bo", rate(page, number % 4 + 1, click=number % 2 == 0)] = number % 4 + 1
    page.locator("#back").click()
    page.wait_for_selector("#rate:not([hidden])")
    last = page.locator("html").get_attribute("data-item")
    assert last is not None
    expected["Ben Bo", last] = None
    page.keyboard.press("s")
    page.wait_for_selector("#end:not([hidden])")
    with page.expect_download() as download:
        page.locator("#save").click()
    assert download.value.suggested_filename == "ratings-Ben-Bo.json"
    download.value.save_as(tmp_path / "said.json")
    assert read_sheet(tmp_path / "said.json", book) == ("Ben Bo", 20)
    assert said(book) == expected
    assert read_sheet(tmp_path / "said.json", book) == ("Ben Bo", 20)
    assert said(book) == expected
    assert wrong == []
    assert page.evaluate("window.owned") is None


def test_people_write_explanations_of_their_own(
    context: BrowserContext, directory: Path, book: Book, serving: Callable[..., Any]
) -> None:
    run = load(directory)
    items = items_of(run, Selection(kind="write"))
    assert len(items) == 4
    with serving(RatingServer(Session(book, items, 0), book.token, "Writing")) as server:
        page = opened(context, server.url)
        named(page, "Ada")
        assert page.locator("#explanation").is_hidden()
        for number in range(4):
            before = progress(page)
            page.keyboard.type(f"what 1 suits {number}")
            page.keyboard.press("Control+Enter")
            page.wait_for_function("before => document.getElementById('progress').textContent !== before", arg=before)
    assert [answer.text for answer in book.answers()] == [f"what 1 suits {number}" for number in range(4)]
    run.close()
