"""What the fake provider writes when it is asked for texts: as many as wanted, with its words or without."""

from __future__ import annotations

import pytest

from harness.questions.kinds import Generate, Texts
from harness.questions.prompts import load_variant
from harness.testing import by_hash, by_keywords
from harness.values import Explanation


@pytest.mark.parametrize("name", ["default", "tiny"])
def test_texts_have_what_the_description_quotes_where_it_is_wanted_and_nowhere_else(name: str) -> None:
    variant = load_variant("generate", name)
    for told, word in ((Explanation('The word "may".'), "may"), (None, None)):
        for activating in (True, False):
            question = Generate(told, 3, activating)
            messages = [{"role": m.role, "content": m.content} for m in variant.render(question).messages]
            found = variant.parse(question, by_keywords(messages, {}))
            assert isinstance(found, Texts)
            if word is not None:
                assert [word in text for text in found.texts] == [activating] * 3
            assert isinstance(variant.parse(question, by_hash(messages, {})), Texts)
