from __future__ import annotations

from typing import Any

import pytest

from harness.errors import PromptError
from harness.examples.draw import LatentExamples
from harness.questions.kinds import Explain

pytestmark = pytest.mark.anyio
SAID = "[explanation]: x"


def question(client: Any) -> Explain:
    (request,) = client.requests
    assert isinstance(request.question, Explain)
    return request.question


# no silent window of this store holds the latent's token: that rung has none to give
@pytest.mark.parametrize(("rungs", "count"), [(("random",), 9), (("random", "same-token"), 5)])
async def test_it_shows_silent_windows_of_its_rungs_beside_what_contexts_shows(
    asking: Any, examples: LatentExamples, rungs: tuple[str, ...], count: int
) -> None:
    explainer, client = asking("contrastive", SAID, model="lexical/rules", rungs=rungs, count=9)
    await explainer.explain(examples, 0)
    shown = question(client)
    assert shown.examples == examples.shown
    assert len(shown.silent) == count
    assert {example.rung for example in shown.silent} == {"random"}
    assert not any(example.activations.any() for example in shown.silent)
    prompt = client.requests[0].messages[-1].content
    assert prompt.count("\nCounterexample ") == count
    hidden = [*examples.select, *(example for part in examples.scored for example in part.examples)]
    assert not any(example.passage.text.strip() in prompt for example in hidden)
    assert explainer.rungs == rungs


async def test_with_select_it_shows_both_halves_of_that_split(asking: Any, examples: LatentExamples) -> None:
    explainer, client = asking("contrastive", SAID, model="lexical/rules", count=3, with_select=True)
    await explainer.explain(examples, 0)
    shown = question(client)
    assert shown.examples == (*examples.shown, *(one for one in examples.select if one.activating))
    assert shown.silent[3:] == tuple(one for one in examples.select if not one.activating)
    assert len(shown.silent) == 3 + len(examples.select) // 2 > 3


def test_a_variant_without_counterexamples_is_refused(asking: Any) -> None:
    with pytest.raises(PromptError, match='does not show the variable silent, which the kind "contrastive" is there'):
        asking("contrastive", SAID, model="lexical/rules", prompt="default")


def test_what_is_shown_is_in_the_identity(asking: Any) -> None:
    def identity(**settings: Any) -> Any:
        return asking("contrastive", SAID, model="lexical/rules", **settings)[0].identity

    made = [identity(), identity(count=3), identity(rungs=("same-token",)), identity(with_select=True)]
    assert all(one != other for at, one in enumerate(made) for other in made[at + 1 :])
