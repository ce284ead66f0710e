from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.clients.models import Models
from harness.errors import TaskError
from harness.examples.draw import LatentExamples
from harness.explainers.file import FromFile
from harness.values import Explanation, Failure, Latent

pytestmark = pytest.mark.anyio


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., FromFile]:
    def make(*lines: Any) -> FromFile:
        text = "\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
        (tmp_path / "mine.jsonl").write_text(text, encoding="utf-8")
        return FromFile(FromFile.Settings(path=Path("mine.jsonl")), Models({}, lambda client: client), tmp_path)

    return make


def _of(coder: str, index: int) -> LatentExamples:
    return LatentExamples(Latent(coder, index), (), (), (), 1.0, 0.1, {})


async def test_it_gives_the_files_words_and_rule(read: Callable[..., FromFile]) -> None:
    rule = {"kind": "tokens", "tokens": [" a"]}
    explainer = read({"latent": 3, "explanation": "x", "rule": rule}, "", {"latent": 4, "explanation": "y"})
    assert (await explainer.explain(_of("c", 3), 0)).explanation == Explanation("x", rule)
    assert (await explainer.explain(_of("c", 4), 0)).explanation == Explanation("y")


async def test_words_for_one_coder_go_before_words_for_any(read: Callable[..., FromFile]) -> None:
    explainer = read({"latent": 3, "explanation": "any"}, {"latent": 3, "coder": "c", "explanation": "c's"})
    assert (await explainer.explain(_of("c", 3), 0)).explanation == Explanation("c's")
    assert (await explainer.explain(_of("d", 3), 0)).explanation == Explanation("any")


async def test_a_latent_that_is_not_in_the_file_is_a_failure(read: Callable[..., FromFile]) -> None:
    found = (await read({"latent": 3, "coder": "d", "explanation": "x"}).explain(_of("c", 3), 0)).explanation
    assert isinstance(found, Failure)
    assert found.status == "unparsable"
    assert found.message.endswith("mine.jsonl has no explanation of latent 3")


async def test_line_breaks_that_json_allows_in_a_string_part_nothing(read: Callable[..., FromFile]) -> None:
    explainer = read({"latent": 3, "explanation": "a\u2028b\u0085c"})
    assert (await explainer.explain(_of("c", 3), 0)).explanation == Explanation("a\u2028b\u0085c")


def test_identity_is_the_content_and_not_its_order_or_place(read: Callable[..., FromFile]) -> None:
    one, two = {"latent": 1, "explanation": "x"}, {"latent": 2, "explanation": "y"}
    assert read(one, two).identity == read(two, "", one).identity
    assert read(one).identity != read(two).identity
    assert read(one).models == ()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", r"mine\.jsonl:2: not a line such as \{\"latent\": 3"),
        ("[1]", r"mine\.jsonl:2: not a line such as"),
        ({"latent": -1, "explanation": "x"}, r"mine\.jsonl:2: latent: input should be greater than or equal to 0"),
        ({"latent": 2}, r"mine\.jsonl:2: explanation: is missing"),
        ({"latent": 2, "explanation": ""}, r"mine\.jsonl:2: explanation: "),
        ({"latent": 1, "explanation": "x"}, r"mine\.jsonl:2: latent 1 is explained twice"),
        ({"latent": 2, "explanation": "x", "rule": {"kind": "nonsense"}}, r"mine\.jsonl:2: rule: "),
    ],
)
def test_a_wrong_line_is_told_with_its_number(read: Callable[..., FromFile], line: Any, told: str) -> None:
    with pytest.raises(TaskError, match=told):
        read({"latent": 1, "explanation": "x"}, line)


def test_an_empty_or_missing_file_is_told(read: Callable[..., FromFile], tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"mine\.jsonl: holds no explanations"):
        read("", " ")
    with pytest.raises(TaskError, match=r"gone: explanations cannot be read: No such file or directory"):
        FromFile(FromFile.Settings(path=Path("gone")), Models({}, lambda client: client), tmp_path)
