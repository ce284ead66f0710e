"""The shipped subject as a local model: named anywhere, and its tokens counted before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.clients import connect
from harness.clients.models import Models
from harness.clients.protocol import Request
from harness.questions.messages import Message
from harness.resources import fixture

pytestmark = pytest.mark.anyio
REQUEST = Request((Message("system", "Say what it is."), Message("user", "In May the harvest <<was>> late.")), 3)


async def test_it_is_found_from_any_folder_and_is_the_one_of_the_fixtures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named, by_path = connect("local/shipped-subject"), connect(f"local/{fixture('subject')}")
    assert named.capabilities == by_path.capabilities
    assert named.capabilities.prompt_logprobs


async def test_a_prompts_tokens_are_those_that_the_model_is_billed_for() -> None:
    models = Models({}, lambda client: client)
    counted = models.count("local/shipped-subject", REQUEST)
    reply = await models.client("local/shipped-subject").generate(REQUEST)
    await models.aclose()
    assert counted == reply.usage.input > 10


def test_models_without_a_tokenizer_at_hand_count_nothing() -> None:
    assert Models({}, lambda client: client).count("lexical/rules", REQUEST) is None
