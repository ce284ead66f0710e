"""Questions about interventions: what rose is shown, answers survive their formats, a wrong prompt file is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import PromptError
from harness.questions.kinds import Amplified, Choice, Question, Rises, Steered
from harness.questions.prompts import load_variant
from harness.questions.render import one_line
from harness.questions.replies import FORMATS
from harness.resources import folder
from harness.values import Explanation, Failure, Passage, Rise

quoted = FORMATS["quoted"]
BOATS = Explanation("Boats\nand ships.")
ASKED = Amplified(Passage(("They said", " boats")))
PAIR = Steered(BOATS, (Passage(("They said", " no"), (1,)), Passage(("They said", " boats"), (1,))))
nasty = st.lists(st.sampled_from(['"', "word", " ", "\n", "\\", "“", "'", "\0", "\r"])).map("".join)


def last(name: str, question: Question) -> str:
    return load_variant(question.name, name).render(question).messages[-1].content


def test_what_rose_stands_under_its_text_and_nothing_of_it_breaks_a_line() -> None:
    rises = (Rise("Once <<\n there", ((" sea", 0.4126), ('"\n', 0.02)), ((" a", -0.3),)), Rise("so", ()))
    assert last("default", Rises(rises)) == (
        'Text 1: Once \\<\\<\\n there\nLikelier: " sea" +0.413, "\\"\\n" +0.020\n\nText 2: so\nLikelier: (nothing)'
    )
    assert last("tokens", Rises((Rise(None, ((" sea", 4.0),), ((" a", -2.0),)),))) == (
        'Promoted: " sea" +4.000\nSuppressed: " a" -2.000'
    )


def test_the_amplified_passage_is_seen_once_and_the_answer_is_what_follows() -> None:
    variant = load_variant("amplified", "default")
    contents = [message.content for message in variant.render(ASKED).messages]
    assert contents[-1] == "Passage: They said boats\n\nWhat the passage holds an amplified amount of:"
    assert "\n".join(contents).count("They said boats") == 1
    assert contents[2] == '"The sea, its shores and what sails on it."'
    # few-shot blocks look like the question
    assert [content.splitlines()[-1] for content in contents[1::2]] == [contents[-1].splitlines()[-1]] * 6
    assert variant.format(BOATS, ASKED) == '"Boats and ships."'


def test_what_was_written_anew_is_marked_for_a_judge_and_the_description_can_be_withheld() -> None:
    shown = "Passage 1: They said<< no>>\nPassage 2: They said<< boats>>"
    assert last("default", PAIR) == f"Description: Boats and ships.\n\n{shown}"
    withheld = Steered(None, PAIR.passages)
    assert last("default", withheld) == (
        f"Description: (The description is withheld. Judge by the passages alone.)\n\n{shown}"
    )
    assert withheld.digest() != PAIR.digest() != Steered(BOATS, (PAIR.passages[1], PAIR.passages[0])).digest()


def test_a_judge_names_one_of_two_passages() -> None:
    variant = load_variant("steered", "default")
    assert variant.parse(PAIR, "2") == Choice(2)
    assert isinstance(variant.parse(PAIR, "3"), Failure)
    assert variant.format(Choice(1), PAIR) == "1"


@given(st.text(st.characters(exclude_categories=["Cs"])) | nasty)
def test_quoted_words_survive_being_written_and_read(text: str) -> None:
    words = Explanation(one_line(text))
    found = quoted.parse(ASKED, quoted.format(words, ASKED), None)
    assert found == words if words.text else isinstance(found, Failure)


@given(st.text() | nasty)
def test_any_text_gives_words_or_a_failure(text: str) -> None:
    found = quoted.parse(ASKED, text, None)
    assert isinstance(found, Failure) or (isinstance(found, Explanation) and found.text)


@pytest.mark.parametrize("question", ["intervention", "amplified", "steered"])
def test_shipped_replies_of_few_shot_blocks_parse(question: str) -> None:
    for path in sorted((folder("prompts") / question).glob("*.toml")):
        variant = load_variant(question, path.stem)
        asked: Question = {"intervention": Rises(()), "amplified": ASKED, "steered": PAIR}[question]
        replies = [m.content for m in variant.render(asked).messages if m.role == "assistant"]
        answers = [variant.parse(asked, reply) for reply in replies]
        assert not any(isinstance(answer, Failure) for answer in answers)
        assert [variant.format(answer, asked) for answer in answers if not isinstance(answer, Failure)] == replies


@pytest.mark.parametrize(
    ("question", "old", "new", "message"),
    [
        ("intervention", "token.token", "token.change", r"templates\.user: has to show the tokens of example\.rose"),
        (
            "intervention",
            "token.change",
            "token.chance",
            r"x\.toml:27: templates\.user: a token has no attribute 'chance'",
        ),
        (
            "intervention",
            "rose = [[",
            "risen = [[",
            r"shot\[1\]\.examples\[1\]\.(rose: is missing|risen: is not a key)",
        ),
        ("amplified", "{{ examples[0].text }}", "it", r"templates\.user: the text of each example .* stands there 0"),
        ("amplified", "[templates]", "[sampling]\nmax_tokens = 1\n[templates]", r"sampling: is not a key"),
        ("steered", "{{ explanation }}", "it", r"templates\.user: has to show the variable explanation"),
        ("steered", "amplified = 2", "amplified = 3", r"shot\[1\]\.amplified: input should be 1 or 2"),
        ("steered", "by the<< river, and he knows>>", "by the river", r"shot\[1\]: nothing is marked with << and >>"),
    ],
)
def test_a_mistake_in_a_prompt_file_is_told(tmp_path: Path, question: str, old: str, new: str, message: str) -> None:
    text = (folder("prompts") / question / "default.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "x.toml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(PromptError, match=message):
        load_variant(question, str(tmp_path / "x.toml"))
