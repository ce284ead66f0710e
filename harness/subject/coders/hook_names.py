"""What other libraries call a place in a model, and which hookpoints of the Hugging Face model that is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.subject.hookpoints import Hookpoint

__all__ = ["Layout", "places", "width_of", "writes_to_residual"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are in an architecture; paths inside a block, but for the block's own and the embedding's.

    `attention` and `mlp` are the modules whose outputs are added to the residual stream, `norms` those that stand
    before attention and MLP, `heads` reads the heads' outputs and `hidden` the MLP's hidden layer. `layer_norm` says
    whether norms take the mean away; with `parallel` attention and MLP read the same residual stream.
    """

    block: str
    embedding: str
    attention: str
    mlp: str
    norms: tuple[str, str]
    heads: str
    hidden: str
    layers: int
    layer_norm: bool = False
    parallel: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Layout | None:
        """The layout of the model that `config.json` describes, None for an architecture that is not known."""
        kind = str(config.get("model_type"))
        layers = config.get("num_hidden_layers", config.get("n_layer"))
        if not isinstance(layers, int):
            return None
        if kind == "gpt2":
            return cls(
                block="transformer.h.{}",
                embedding="transformer.wte",
                attention="attn",
                mlp="mlp",
                norms=("ln_1", "ln_2"),
                heads="attn.c_proj",
                hidden="mlp.c_proj",
                layers=layers,
                layer_norm=True,
            )
        if kind == "gpt_neox":
            return cls(
                block="gpt_neox.layers.{}",
                embedding="gpt_neox.embed_in",
                attention="attention",
                mlp="mlp",
                norms=("input_layernorm", "post_attention_layernorm"),
                heads="attention.dense",
                hidden="mlp.dense_4h_to_h",
                layers=layers,
                layer_norm=True,
                parallel=bool(config.get("use_parallel_residual", True)),
            )
        if kind in ("llama", "mistral", "qwen2", "qwen3", "gemma"):
            return cls(
                block="model.layers.{}",
                embedding="model.embed_tokens",
                attention="self_attn",
                mlp="mlp",
                norms=("input_layernorm", "post_attention_layernorm"),
                heads="self_attn.o_proj",
                hidden="mlp.down_proj",
                layers=layers,
            )
        if kind in ("gemma2", "gemma3_text"):
            # these normalise what attention and MLP give before they add it
            return cls(
                block="model.layers.{}",
                embedding="model.embed_tokens",
                attention="post_attention_layernorm",
                mlp="post_feedforward_layernorm",
                norms=("input_layernorm", "pre_feedforward_layernorm"),
                heads="self_attn.o_proj",
                hidden="mlp.down_proj",
                layers=layers,
            )
        return None

    def inside(self, layer: int, path: str) -> str:
        """A module of a block by its path inside it."""
        return f"{self.block.format(layer)}.{path}"


_BLOCK_HOOK = re.compile(r"^blocks\.(\d+)\.(.+)$")
# dictionary_learning's own scripts name submodules so
_SUBMODULE = re.compile(r"^(resid_pre|resid_post|resid_mid|attn_out|mlp_out)_layer_?(\d+)$")
_SIDE = re.compile(r"\.(input|output)$")


def places(name: str, layout: Layout | None, known: Hookpoint) -> frozenset[Hookpoint] | None:
    """The hookpoints that a library's name stands for: all that hold the same vectors; empty if none does.

    None if the name or the architecture is not known. A Hugging Face path may lack its beginning ("layers.5"):
    it stands for `known` where that ends so.
    """
    submodule = _SUBMODULE.match(name)
    if submodule:
        name = f"blocks.{submodule[2]}.hook_{submodule[1]}"
    block = _BLOCK_HOOK.match(name)
    if block or name == "hook_embed":
        if layout is None:
            return None
        if not block:
            return frozenset({Hookpoint(layout.embedding)})
        return _of_block(block[2], int(block[1]), layout)
    if "." not in name or name.startswith("hook_"):
        return None
    side = _SIDE.search(name)
    path = name[: side.start()] if side else name
    whole = known.path if known.path == path or known.path.endswith(f".{path}") else path
    point = Hookpoint(whole, side is not None and side[1] == "input")
    if layout is None:
        return frozenset({point})
    streams = (_before(layer, layout) for layer in range(layout.layers + 1))
    return frozenset(next((stream for stream in streams if point in stream), {point}))


def writes_to_residual(point: Hookpoint, layout: Layout) -> bool:
    """Whether a hookpoint holds the residual stream, or what attention or MLP add to it."""
    found = {Hookpoint(layout.embedding)}
    for layer in range(layout.layers):
        for kind in ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out"):
            found |= _of_block(kind, layer, layout) or set()
    return point in found


def width_of(point: Hookpoint, config: Mapping[str, Any]) -> int | None:
    """The width of a hookpoint's vectors, None where the configuration does not tell."""
    layout = Layout.of(config)
    width = config.get("hidden_size", config.get("n_embd"))
    if layout is None or not isinstance(width, int):
        return None
    for layer in range(layout.layers):
        if point == Hookpoint(layout.inside(layer, layout.hidden), input=True):
            inner = config.get("intermediate_size", config.get("n_inner")) or 4 * width
            return inner if isinstance(inner, int) else None
        if point == Hookpoint(layout.inside(layer, layout.heads), input=True):
            heads, size = config.get("num_attention_heads", config.get("n_head")), config.get("head_dim")
            return heads * size if isinstance(heads, int) and isinstance(size, int) else width
        norms = {Hookpoint(layout.inside(layer, norm)) for norm in layout.norms}
        if point in norms | {Hookpoint(layout.inside(layer, "mlp"), side) for side in (False, True)}:
            return width
    return width if writes_to_residual(point, layout) else None


def _of_block(kind: str, layer: int, layout: Layout) -> frozenset[Hookpoint] | None:
    """The hookpoints of a name inside a block, None where that name is not known."""
    makers = {
        "hook_resid_pre": lambda: _before(layer, layout),
        "hook_resid_post": lambda: _before(layer + 1, layout),
        "hook_attn_out": lambda: {Hookpoint(layout.inside(layer, layout.attention))},
        "hook_mlp_out": lambda: {Hookpoint(layout.inside(layer, layout.mlp))},
        "attn.hook_z": lambda: {Hookpoint(layout.inside(layer, layout.heads), input=True)},
        "mlp.hook_post": lambda: {Hookpoint(layout.inside(layer, layout.hidden), input=True)},
        # a norm before its weights: no module gives that
        "ln1.hook_normalized": set,
        "ln2.hook_normalized": set,
    }
    if not layout.parallel:
        makers["hook_resid_mid"] = lambda: {Hookpoint(layout.inside(layer, layout.norms[1]), input=True)}
    if kind not in makers:
        return None
    return frozenset(makers[kind]() if layer < layout.layers else ())


def _before(layer: int, layout: Layout) -> set[Hookpoint]:
    """The residual stream before a block, which is the one after the block before it."""
    found = {Hookpoint(layout.block.format(layer - 1))} if layer else set()
    return found | {Hookpoint(layout.block.format(layer), input=True)} if layer < layout.layers else found
