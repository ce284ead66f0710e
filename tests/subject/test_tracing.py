"""Tracing: what is collected equals what plain hooks see, and what is spliced equals a plain hook's change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import HookpointError
from harness.subject.hookpoints import Hookpoint, first
from harness.subject.models import find_model, load_model
from harness.subject.tracing import Traced

LAYERS = {
    "llama": "model.layers",
    "gemma2": "model.layers",
    "gpt2": "transformer.h",
    "neox": "gpt_neox.layers",
}
PARTS = {
    "llama": (".mlp", ".self_attn"),
    "gemma2": (".mlp", ".self_attn", ".post_feedforward_layernorm"),
    "gpt2": (".mlp", ".attn"),
    "neox": (".mlp", ".attention"),
}


@pytest.fixture(scope="module")
def traced(model_folders: dict[str, Path]) -> dict[str, Traced]:
    return {
        name: Traced(load_model(find_model(str(folder), None, Path()), "float32", "cpu"))
        for name, folder in model_folders.items()
    }


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(300, (3, 12), generator=torch.Generator().manual_seed(0))


def by_hooks(
    model: torch.nn.Module, tokens: torch.Tensor, hookpoints: list[Hookpoint], mask: torch.Tensor | None = None
) -> dict[Hookpoint, torch.Tensor]:
    """What plain hooks see in a whole forward pass."""
    seen: dict[Hookpoint, torch.Tensor] = {}

    def before(hookpoint: Hookpoint) -> Any:
        def hook(_: Any, args: Any, kwargs: Any) -> None:
            seen[hookpoint] = first(args[0] if args else next(iter(kwargs.values()))).clone()

        return hook

    def after(hookpoint: Hookpoint) -> Any:
        def hook(_: Any, __: Any, output: Any) -> None:
            seen[hookpoint] = first(output).clone()

        return hook

    hooks = []
    for point in hookpoints:
        module = model.get_submodule(point.path)
        if point.input:
            hooks.append(module.register_forward_pre_hook(before(point), with_kwargs=True))
        else:
            hooks.append(module.register_forward_hook(after(point)))
    with torch.no_grad():
        model(input_ids=tokens, attention_mask=mask, use_cache=False)
    for each in hooks:
        each.remove()
    return seen


@pytest.mark.parametrize("kind", LAYERS)
def test_collected_activations_equal_a_plain_hooks(traced: dict[str, Traced], tokens: torch.Tensor, kind: str) -> None:
    layers = LAYERS[kind]
    paths = [f"{layers}.{number}{part}" for number in (1, 0) for part in ("", *PARTS[kind])]
    points = [Hookpoint(path) for path in paths] + [Hookpoint(f"{layers}.{n}", input=True) for n in (2, 0)]
    found = traced[kind].collect(tokens, points)
    expected = by_hooks(traced[kind].model, tokens, points)
    assert set(found) == set(points)
    for point in points:
        assert torch.equal(found[point], expected[point]), point
    assert torch.equal(found[Hookpoint(f"{layers}.1")], found[Hookpoint(f"{layers}.2", input=True)])


@pytest.mark.parametrize("kind", LAYERS)
def test_padded_rows_equal_a_plain_hooks_and_what_is_read_without_padding(
    traced: dict[str, Traced], tokens: torch.Tensor, kind: str
) -> None:
    points = [Hookpoint(f"{LAYERS[kind]}.1{part}") for part in ("", *PARTS[kind])]
    mask = torch.ones_like(tokens)
    mask[0, 7:] = mask[2, 11:] = 0
    found = traced[kind].collect(tokens, points, mask)
    expected = by_hooks(traced[kind].model, tokens, points, mask)
    alone = traced[kind].collect(tokens[:1, :7], points)
    for point in points:
        assert torch.equal(found[point], expected[point]), point
        torch.testing.assert_close(found[point][:1, :7], alone[point], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", LAYERS)
def test_inputs_of_parts_equal_a_plain_hooks(traced: dict[str, Traced], tokens: torch.Tensor, kind: str) -> None:
    points = [Hookpoint(f"{LAYERS[kind]}.1{part}", input=True) for part in PARTS[kind]]
    found = traced[kind].collect(tokens, points)
    expected = by_hooks(traced[kind].model, tokens, points)
    for point in points:
        assert torch.equal(found[point], expected[point]), point


def test_a_trace_stops_after_the_last_hookpoint(traced: dict[str, Traced], tokens: torch.Tensor) -> None:
    ran: list[int] = []
    model = traced["llama"].model
    hooks = [
        model.get_submodule(f"model.layers.{n}").register_forward_hook(lambda *_, n=n: ran.append(n)) for n in range(3)
    ]
    points = [Hookpoint("model.layers.1.mlp"), Hookpoint("model.layers.0")]
    traced["llama"].order(tokens, points)
    ran.clear()
    traced["llama"].collect(tokens, points)
    for hook in hooks:
        hook.remove()
    assert ran == [0]


def test_activations_carry_no_graph(traced: dict[str, Traced], tokens: torch.Tensor) -> None:
    [found] = traced["llama"].collect(tokens, [Hookpoint("model.layers.0")]).values()
    assert not found.requires_grad


@pytest.mark.parametrize("path", ["model.layers.1", "model.layers.1.self_attn"])
def test_a_splice_equals_a_plain_hooks_change(traced: dict[str, Traced], tokens: torch.Tensor, path: str) -> None:
    model = traced["llama"].model
    shift = torch.randn(16, generator=torch.Generator().manual_seed(1))

    def hook(_: Any, __: Any, output: Any) -> Any:
        changed = first(output) * 0.5 + shift
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = model.get_submodule(path).register_forward_hook(hook)
    with torch.no_grad():
        expected = model(input_ids=tokens).logits
    handle.remove()
    found = traced["llama"].logits(tokens, Hookpoint(path), lambda hidden: hidden * 0.5 + shift)
    assert torch.equal(found, expected)
    assert not torch.equal(found, traced["llama"].logits(tokens))


def test_a_splice_before_a_module_changes_its_input(traced: dict[str, Traced], tokens: torch.Tensor) -> None:
    after = traced["llama"].logits(tokens, Hookpoint("model.layers.1"), lambda hidden: hidden * 2)
    before = traced["llama"].logits(tokens, Hookpoint("model.layers.2", input=True), lambda hidden: hidden * 2)
    assert torch.equal(after, before)


def test_a_module_that_does_not_run_once_is_refused(tokens: torch.Tensor) -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(300, 4)
            self.block = torch.nn.Linear(4, 4)
            self.unused = torch.nn.Linear(4, 4)

        def forward(self, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
            return self.block(self.block(self.embed(input_ids)))

    twice = Traced(Twice())
    with pytest.raises(HookpointError, match="runs 2 times"):
        twice.collect(tokens, [Hookpoint("block")])
    with pytest.raises(HookpointError, match="runs 0 times"):
        twice.collect(tokens, [Hookpoint("unused")])
    with pytest.raises(HookpointError, match='no module of that path; did you mean "block"'):
        twice.collect(tokens, [Hookpoint("blok")])
    assert [len(module._forward_hooks) for module in twice.model.modules() if module is twice.model.block] == [0]


def test_tracing_leaves_other_objects_alone() -> None:
    assert not hasattr(object(), "save")
