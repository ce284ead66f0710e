"""Lists of 0s and 1s in whatever models write around them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.questions.labels import find_labels

FIVE = [1, 0, 1, 1, 0]


def values(text: str, count: int) -> list[int] | None:
    labels = find_labels(text, count)
    return None if labels is None else [label.value for label in labels]


@pytest.mark.parametrize(
    "text",
    [
        "[1, 0, 1, 1, 0]",
        "[1,0,1,1,0]",
        "[1,0,1,1,0].",
        "[ 1 , 0 , 1 , 1 , 0 , ]",
        "[1 0 1 1 0]",
        "[1; 0; 1; 1; 0]",
        "[1.0, 0.0, 1.0, 1.0, 0.0]",
        "1, 0, 1, 1, 0",
        "1,0,1,1,0",
        "(1, 0, 1, 1, 0)",
        "1 0 1 1 0",
        "Labels: 1 0 1 1 0",
        "| 1 | 0 | 1 | 1 | 0 |",
        "10110",
        "```\n10110\n```",
        "```json\n[1, 0, 1, 1, 0]\n```",
        "```python\n[\n    1,\n    0,\n    1,\n    1,\n    0\n]\n```",
        "```\n1, 0, 1, 1, 0\n```",
        "**[1, 0, 1, 1, 0]**",
        "[**1**, **0**, **1**, **1**, **0**]",
        "**1**, **0**, **1**, **1**, **0**",
        '["1", "0", "1", "1", "0"]',
        "[true, false, true, true, false]",
        "[True, False, True, True, False]",
        "True, False, True, True, False",
        "yes, no, yes, yes, no",
        "[Yes, No, Yes, Yes, No]",
        "Yes, no, yes, yes, and no.",
        "yes\nno\nyes\nyes\nno",
        "Yes.\nNo.\nYes.\nYes.\nNo.",
        "1\n0\n1\n1\n0\n",
        "- 1\n- 0\n- 1\n- 1\n- 0",
        "1.\n0.\n1.\n1.\n0.",
        "1. 1\n2. 0\n3. 1\n4. 1\n5. 0",
        "1: 1\n2: 0\n3: 1\n4: 1\n5: 0",
        "1) yes\n2) no\n3) yes\n4) yes\n5) no",
        "Passage 1: 1\nPassage 2: 0\nPassage 3: 1\nPassage 4: 1\nPassage 5: 0",
        "**Passage 1:** 1\n**Passage 2:** 0\n**Passage 3:** 1\n**Passage 4:** 1\n**Passage 5:** 0",
        "Passage 1 - Yes, a month.\nPassage 2 - No, it doesn't.\nPassage 3 - yes\nPassage 4 - yes\nPassage 5 - no",
        "1. 1 (a month)\n2. 0 (no month)\n3. 1 - May\n4. 1: June\n5. 0",
        "[1]: 1\n[2]: 0\n[3]: 1\n[4]: 1\n[5]: 0",
        "| Passage | Label |\n|---|---|\n| 1 | 1 |\n| 2 | 0 |\n| 3 | 1 |\n| 4 | 1 |\n| 5 | 0 |",
        '{"1": 1, "2": 0, "3": 1, "4": 1, "5": 0}',
        '{"labels": [1, 0, 1, 1, 0]}',
        '{"passage 1": true, "passage 2": false, "passage 3": true, "passage 4": true, "passage 5": false}',
        "Here is the list: [1, 0, 1, 1, 0]. I hope this helps!",
        "The answer is 1, 0, 1, 1, 0.",
        "The labels are 1, 0, 1, 1, 0, respectively.",
        "First draft: [0, 0, 0, 0, 0]. On reflection: [1, 0, 1, 1, 0]",
        "First draft: [0, 0, 0, 0, 0]\nFinal: 1, 0, 1, 1, 0",
        "[1, 0, 1, 1, 0]\nThe first three alone would be [1, 0, 1].",
        "Passages 1, 3 and 4 [see 1, 2] fit.\n\n[1, 0, 1, 1, 0]",
        "Of the 5 passages 3 fit.\n1. March is a month: 1\n[1, 0, 1, 1, 0]",
        "[\n  1,  // March\n  0,  // none\n  1,\n  1,\n  0   // [no]\n]".replace("// [no]", "// no month"),
        "<think>Maybe [0, 0, 0, 0, 0]? No.</think>\n[1, 0, 1, 1, 0]",
        "Maybe [0, 0, 0, 0, 0]?\n</think>\n\n[1, 0, 1, 1, 0]",
        "\\[1, 0, 1, 1, 0\\]",
        "$\\boxed{[1, 0, 1, 1, 0]}$",
        "[1, 0, 1, 1, 0",
    ],
)
def test_five_labels_are_found(text: str) -> None:
    assert values(text, 5) == FIVE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "[]",
        "[1, 0, 1]",
        "[1, 0, 1, 1, 0, 1]",
        "1, 0, 1, 1, 0, 1",
        "1, 0, 1",
        "101101",
        "1. 1\n2. 0\n3. 1",
        "1. 1\n2. 0\n3. 1\n4. 1\n5. 0\n6. 1",
        "1. 1 month is named\n2. 0 months\n3. 1 month\n4. 1 month\n5. 0 months",
        "[1, 3, 4]",
        "[1, 2, 3, 4, 5]",
        "[0.9, 0.1, 0.8, 0.7, 0.2]",
        "0.9, 0.1, 0.8, 0.7, 0.2",
        "[1, 0, 1, 1, x]",
        "[1, 0, 1, 1, 0, null]",
        "Passages 1, 3 and 4 name a month in 2010; there are 0 others.",
        "<think>[1, 0, 1, 1, 0]",
        "-1, 0, -1, 1, 0",
        "10, 0, 1, 1, 0",
    ],
)
def test_what_is_no_complete_list_of_five_is_not_taken_for_one(text: str) -> None:
    assert values(text, 5) is None


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("1", 1),
        ("0.", 0),
        ("[1]", 1),
        ("**1**", 1),
        ("Yes", 1),
        ("Answer: 0", 0),
        ("The answer is 1.", 1),
        ("Passage 1: 0", 0),
        ("1. 0", 0),
        ("There is a month in it.\n1", 1),
        ("See passage [2].\n[0]", 0),
    ],
)
def test_one_label_is_found(text: str, label: int) -> None:
    assert values(text, 1) == [label]


@pytest.mark.parametrize(
    "text", ["Passage 1 fits.", "There is 1 month.", "No month is named here", "1 or 0", "[2]", "10"]
)
def test_a_lone_digit_in_prose_is_no_label(text: str) -> None:
    assert values(text, 1) is None


@pytest.mark.parametrize(("text", "labels"), [("1, 0", [1, 0]), ("Labels: 1, 0", [1, 0]), ("between 1, 0 and 2", None)])
def test_two_labels_need_a_line_of_their_own(text: str, labels: list[int] | None) -> None:
    assert values(text, 2) == labels


def test_a_letter_that_is_the_same_but_for_case_makes_no_label() -> None:
    assert find_labels("[ye\u017f]", 1) is None
    assert find_labels("1: fal\u017fe", 1) is None


def test_positions_are_those_of_the_labels() -> None:
    text = "So: [1, true,\n'no']"
    labels = find_labels(text, 3)
    assert labels is not None
    assert [text[label.start : label.stop] for label in labels] == ["1", "true", "no"]


fragments = st.sampled_from(
    ["1", "0", "[", "]", ", ", "\n", "1. ", "yes", "no ", "**", "Passage 2: ", "|", " " * 50, "{", '"', "x"]
)


@given(st.one_of(st.text(max_size=200), st.lists(fragments, max_size=60).map("".join)), st.integers(1, 6))
def test_any_text_gives_a_list_of_the_right_length_or_none(text: str, count: int) -> None:
    labels = find_labels(text, count)
    assert labels is None or len(labels) == count
    if labels is not None:
        spoken = {"1": 1, "0": 0, "yes": 1, "no": 0, "true": 1, "false": 0}
        words = [text[label.start : label.stop].lower().removesuffix(".0") for label in labels]
        assert all(label.value == spoken[word] for label, word in zip(labels, words, strict=True) if word in spoken)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("unit", [" ", "\n", "1 ", "[", "1,", "1. ", "**", "| ", "<think>", "1\n", "\t\n#"])
def test_long_replies_are_read_in_reasonable_time(unit: str) -> None:
    find_labels(unit * 20_000, 5)
