"""Texts as a reply: what is written is read, messy lists are taken, and what is no list says how much it has."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import PromptError
from harness.questions.kinds import Explain, Generate, Judgement, Texts
from harness.questions.prompts import load_variant
from harness.questions.replies import FORMATS
from harness.resources import folder
from harness.values import Explanation, Failure

lists = FORMATS["texts"]
whole = st.text(st.characters(exclude_categories=["Cs"]))
nasty = st.lists(
    st.sampled_from(["1. ", "2) ", "- ", "[", '"', "“", "\\", "\\n", "\n", "\r", "word ", "```", "**", "<think>", ","])
).map("".join)
texts = (whole | nasty).filter(str.strip)


def asked(count: int, *, activating: bool = True) -> Generate:
    return Generate(Explanation("months"), count, activating)


@given(st.lists(texts, min_size=1, max_size=6))
def test_texts_survive_being_written_and_read(found: list[str]) -> None:
    answer = Texts(tuple(found))
    assert lists.parse(asked(len(found)), lists.format(answer, asked(len(found))), None) == answer


@given(whole | nasty | st.text(), st.integers(1, 4))
def test_any_text_gives_so_many_texts_or_a_failure(text: str, count: int) -> None:
    answer = lists.parse(asked(count), text, None)
    assert isinstance(answer, Failure) or (len(answer.texts) == count and all(map(str.strip, answer.texts)))  # type: ignore[union-attr] - Texts


def test_plain_texts_are_written_as_numbered_lines() -> None:
    answer = Texts(("In May.", "First line\nand a second with a \\", "3. of June"))
    assert lists.format(answer, asked(3)) == "1. In May.\n2. First line\\nand a second with a \\\\\n3. 3. of June"


@pytest.mark.parametrize(
    "text",
    [
        "1. In May.\n2. In June.",
        "1) In May.\n2) In June.",
        "1: In May.\n\n2: In June.\n",
        "**1.** In May.\n**2.** In June.",
        "Text 1: In May.\nText 2: In June.",
        "#1. In May.\r\n#2. In June.\r\n",
        '1. "In May."\n2. “In June.”',
        "1.\nIn May.\n2.\nIn June.",
        "1.\n\nIn May.\n\n2.\n\nIn June.",
        "Here are two texts:\n\n1. In May.\n2. In June.\n\nI hope that they help.",
        "```\n1. In May.\n2. In June.\n```",
        "1. Draft.\n2. Draft too.\n\nNo, better:\n1. In May.\n2. In June.",
        "1. In May.\n2. In June.\n3. In July.",
        "<think>1. a\n2. b</think>1. In May.\n2. In June.",
        '["In May.", "In June."]',
        'Sure:\n```json\n[\n  "In May.",\n  "In June."\n]\n```',
        '{"texts": ["In May.", "In June."]}',
        "- In May.\n- In June.",
        "* In May.\n* In June.\n",
        "• In May.\n• In June.",
    ],
)
def test_the_last_complete_list_is_taken_in_whatever_form(text: str) -> None:
    assert lists.parse(asked(2), text, None) == Texts(("In May.", "In June."))


def test_a_text_may_go_on_for_lines_until_a_blank_one() -> None:
    text = "1. Dear Ann,\nthank you.\n\n2. names = ['a']\n  for name in names:\n\nThese are the two."
    assert lists.parse(asked(2), text, None) == Texts(("Dear Ann,\nthank you.", "names = ['a']\nfor name in names:"))


def test_a_list_inside_a_text_is_none() -> None:
    text = '1. names = ["Ann", "Bob", "Cid"]\n2. for name in names: print(name)'
    assert lists.parse(asked(2), text, None) == Texts((text[3:32], text[36:]))


def test_speech_keeps_its_quotation_marks_where_they_are_no_frame() -> None:
    assert lists.parse(asked(1), '1. "No," she said. "Never."', None) == Texts(('"No," she said. "Never."',))


def test_halves_of_characters_are_replaced() -> None:
    assert lists.parse(asked(1), '["a \\ud83d b"]', None) == Texts(("a ? b",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1. In May.\n2. In June.", "the reply has 2 texts where 3 are needed"),
        ("1. In May.", "the reply has 1 text where 3 are needed"),
        ("In May, and in June.", "the reply has no texts where 3 are needed"),
        ("", "the reply has no texts where 3 are needed"),
        ("1. In May.\n3. In June.\n4. In July.", "the reply has 1 text where 3 are needed"),
    ],
)
def test_a_failure_says_how_many_texts_there_were(text: str, message: str) -> None:
    answer = lists.parse(asked(3), text, None)
    assert isinstance(answer, Failure)
    assert (answer.status, answer.message) == ("unparsable", message)


def test_a_refusal_is_told_from_a_list_that_is_too_short() -> None:
    answer = lists.parse(asked(2), "I'm sorry, but I can't help with that.", None)
    assert isinstance(answer, Failure)
    assert answer.status == "refused"


def test_an_answer_to_another_question_is_not_written() -> None:
    for answer in (Texts(("a",)), Judgement((1, 0), (None, None)), Texts(("a", " "))):
        with pytest.raises(ValueError, match=r"texts are needed|blank"):
            lists.format(answer, asked(2))
    with pytest.raises(ValueError, match="explain has no texts"):
        lists.parse(Explain((), 1.0), "1. a", None)


@pytest.mark.parametrize("name", ["default", "tiny"])
def test_a_prompt_tells_the_description_how_many_and_which_side(name: str) -> None:
    variant = load_variant("generate", name)
    for question, words in ((asked(3), ("somewhere", "with ")), (asked(3, activating=False), ("nowhere", "without "))):
        told = variant.render(question).messages[-1].content
        assert "months" in told
        assert "Write 3 texts" in told
        assert any(word in told for word in words)
    assert "Write 1 text " in variant.render(asked(1)).messages[-1].content
    withheld = variant.render(Generate(None, 3, activating=True)).messages
    assert withheld[:-1] == variant.render(asked(3)).messages[:-1]
    assert withheld[-1].content.splitlines()[1:] == variant.render(asked(3)).messages[-1].content.splitlines()[1:]


def test_few_shot_texts_read_back_as_they_stand_in_the_file() -> None:
    variant = load_variant("generate", "default")
    replies = [message.content for message in variant.render(asked(1)).messages if message.role == "assistant"]
    counts = [len(answer.texts) for reply in replies if isinstance(answer := variant.parse(asked(2), reply), Texts)]
    assert counts == [2] * 4
    first = variant.parse(asked(2), replies[2])
    assert isinstance(first, Texts)
    assert first.texts[0].splitlines()[1] == "1 can of chickpeas, drained"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('{{ "somewhere" if activating else "nowhere" }}', "", "activating"),
        ("{{ explanation }}", "", "the variable explanation"),
        ("{{ count }}", "{{ number }}", 'no variable "number"'),
        ("withheld = ", "# withheld = ", "withheld: is missing"),
        ('reply = "texts"', 'reply = "labels"', "reply"),
        ("activating = true", 'activating = "perhaps"', r"shot\[1\].activating"),
    ],
)
def test_a_mistake_in_a_prompt_names_the_file_and_what_is_wrong(tmp_path: Path, old: str, new: str, told: str) -> None:
    source = (folder("prompts") / "generate" / "default.toml").read_text(encoding="utf-8")
    assert old in source
    path = tmp_path / "mine.toml"
    path.write_text(source.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(PromptError, match=rf"mine\.toml.*{told}"):
        load_variant("generate", str(path))
