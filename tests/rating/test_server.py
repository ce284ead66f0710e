"""The server answers its own page, under its own name and token, and nobody else."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from harness.errors import UserError
from harness.rating.book import Book
from harness.rating.items import Item
from harness.rating.server import RatingServer
from harness.rating.session import Session


def ask(server: RatingServer, method: str = "POST", path: str = "api/next", **changes: Any) -> tuple[int, str]:
    """A request as the page sends it, but for what is changed; a header that is None is left out."""
    host = f"127.0.0.1:{server.server_address[1]}"
    body = changes.pop("body", '{"rater": "Ada"}')
    token = changes.pop("token", server.token)
    headers = {"Host": host, "Origin": f"http://{host}", "Content-Type": "application/json"}
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.putrequest(method, f"/{token}/{path}", skip_host=True)
    for name, value in headers.items():
        if value is not None:
            connection.putheader(name, value)
    if "Content_Length" not in changes and method == "POST":
        connection.putheader("Content-Length", str(len(body.encode())))
    connection.endheaders(body.encode() if method == "POST" else None)
    response = connection.getresponse()
    content = response.read().decode()
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert "Access-Control-Allow-Origin" not in response.headers
    connection.close()
    return response.status, content


def test_its_own_page_is_answered(server: RatingServer) -> None:
    assert ask(server, "GET", "")[0] == 200
    status, content = ask(server)
    assert status == 200
    assert json.loads(content)["total"] == 20


def test_nobody_is_told_whose_words_they_are(server: RatingServer, items: list[Item]) -> None:
    _, content = ask(server)
    told = json.loads(content)
    assert set(told) == {"rater", "item", "done", "total", "options"}
    assert set(told["item"]) == {"id", "kind", "text", "contexts"}
    _, page = ask(server, "GET", "")
    for word in ("listed", "rules", "shuffled", "detection"):
        assert word not in page
        assert word not in content
    assert len({item.id for item in items}) == 20


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"token": "wrong"}, 404),
        ({"token": ""}, 404),
        ({"token": "%00%C3%A9"}, 404),
        ({"Host": "evil.example:80"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"Host": None}, 421),
        ({"Host": "rebound.example"}, 421),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_wrong_token_or_host_is_refused(
    server: RatingServer, method: str, changes: dict[str, Any], status: int
) -> None:
    found, content = ask(server, method, "" if method == "GET" else "api/next", **changes)
    assert found == status
    assert server.token not in content


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": None}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Length": "99999999"}, 413),
        ({"Content_Length": "-1"}, 411),
        ({"Content_Length": "x"}, 411),
        ({"body": "{"}, 400),
        ({"body": '{"rater": "Ada", "item": "x", "rating": 5, "more": 1}'}, 400),
        ({"body": '{"rater": 5}'}, 400),
        ({"body": '{"rater": "  "}'}, 400),
        ({"body": json.dumps({"rater": "A" * 41})}, 400),
        ({"path": "api/rate", "body": '{"rater": "Ada", "item": "x", "rating": 1}'}, 400),
        ({"path": "api/elsewhere"}, 404),
        ({"method": "GET", "path": "api/next"}, 404),
        ({"method": "PUT"}, 501),
    ],
)
def test_what_the_page_would_not_say_is_refused(
    server: RatingServer, book: Book, changes: dict[str, Any], status: int
) -> None:
    if changes.get("method") == "PUT":
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
        connection.request("PUT", f"/{server.token}/api/next", body="{}")
        assert connection.getresponse().status == status
        connection.close()
        return
    assert ask(server, **changes)[0] == status
    assert book.answers() == []


@pytest.mark.parametrize("rating", [0, 5, -1])
def test_a_rating_that_is_no_option_is_refused(
    server: RatingServer, book: Book, items: list[Item], rating: int
) -> None:
    body = json.dumps({"rater": "Ada", "item": items[0].id, "rating": rating})
    status, content = ask(server, path="api/rate", body=body)
    assert (status, json.loads(content)["message"]) == (400, "a rating is a number from 1 to 4, or none")
    body = json.dumps({"rater": "Ada", "item": items[0].id, "text": "words"})
    assert ask(server, path="api/write", body=body)[0] == 400
    assert book.answers() == []


def test_what_is_sent_twice_counts_once(server: RatingServer, book: Book, items: list[Item]) -> None:
    body = json.dumps({"rater": "Ada", "item": items[0].id, "rating": 3})
    threads = [threading.Thread(target=ask, args=[server], kwargs={"path": "api/rate", "body": body}) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(answer.rater, answer.item, answer.rating) for answer in book.answers()] == [("Ada", items[0].id, 3)]


def test_a_port_that_is_taken_is_told(server: RatingServer, book: Book, items: list[Item]) -> None:
    port = server.server_address[1]
    with pytest.raises(UserError, match=rf"--host 127\.0\.0\.1 --port {port}: this address cannot be listened on"):
        RatingServer(Session(book, items, 0), book.token, "x", port=port)


def test_it_listens_elsewhere_only_where_asked(book: Book, items: list[Item], serving: Callable[..., Any]) -> None:
    assert RatingServer.__init__.__kwdefaults__["host"] == "127.0.0.1"
    with serving(RatingServer(Session(book, items, 0), book.token, "x", host="127.0.0.2")) as made:
        assert made.url.startswith("http://127.0.0.2:")
        assert made.hosts == {f"127.0.0.2:{made.server_address[1]}", f"localhost:{made.server_address[1]}"}


def test_the_token_is_long_and_stays(directory: Any) -> None:
    first, second = Book(directory), Book(directory)
    assert len(first.token) >= 32
    assert first.token == second.token
    first.close()
    second.close()
