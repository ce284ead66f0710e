"""Places and centred models as TransformerLens has them: its activations are ours, less their mean where it centres."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.subject.claims import check_claims
from harness.subject.coders.hook_names import Layout, places
from harness.subject.coders.protocol import Claims, CoderInfo
from harness.subject.hookpoints import Hookpoint
from harness.subject.models import ModelFiles
from harness.task import CoderSettings, CorpusSettings, SubjectSettings

pytestmark = [pytest.mark.foreign, pytest.mark.filterwarnings("ignore")]

NAMES = [
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
    "attn.hook_z",
    "mlp.hook_post",
    "ln1.hook_normalized",
    "ln2.hook_normalized",
]
SMALL = {"vocab_size": 50, "max_position_embeddings": 32}


def model_of(kind: str) -> Any:
    """A random model of two blocks, its biases and norms random too."""
    import transformers

    torch.manual_seed(0)
    wide = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
    if kind == "gpt2":
        made: Any = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32)
        )
    elif kind == "gpt_neox":
        made = transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**SMALL, **wide))
    else:
        made = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, **wide))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return made.eval()


def theirs_of(kind: str, model: Any, ids: torch.Tensor, **settings: bool) -> dict[str, torch.Tensor]:
    """TransformerLens' activations of the same model, which never goes to the Hub."""
    lens = pytest.importorskip("transformer_lens")
    from transformer_lens import loading_from_pretrained  # pyright: ignore[reportMissingImports]

    config = model.config
    common = {
        "n_layers": 2,
        "d_model": 16,
        "n_ctx": 32,
        "n_heads": 2,
        "d_head": 8,
        "d_vocab": 50,
        "d_mlp": 64 if kind == "gpt2" else 40,
        "device": "cpu",
        "dtype": torch.float32,
        "attn_only": False,
    }
    special: dict[str, dict[str, Any]] = {
        "gpt2": {
            "eps": 1e-5,
            "act_fn": "gelu_new",
            "normalization_type": "LN",
            "original_architecture": "GPT2LMHeadModel",
        },
        "gpt_neox": {
            "eps": config.layer_norm_eps if kind == "gpt_neox" else 0,
            "act_fn": "gelu",
            "normalization_type": "LN",
            "positional_embedding_type": "rotary",
            "rotary_dim": 2,
            "rotary_adjacent_pairs": False,
            "parallel_attn_mlp": True,
            "original_architecture": "GPTNeoXForCausalLM",
        },
        "llama": {
            "eps": 1e-6,
            "act_fn": "silu",
            "normalization_type": "RMS",
            "positional_embedding_type": "rotary",
            "rotary_dim": 8,
            "rotary_adjacent_pairs": False,
            "final_rms": True,
            "gated_mlp": True,
            "original_architecture": "LlamaForCausalLM",
        },
    }
    made = lens.HookedTransformer(lens.HookedTransformerConfig(**common, **special[kind]))
    convert = getattr(
        loading_from_pretrained,
        {"gpt2": "convert_gpt2_weights", "gpt_neox": "convert_neox_weights"}.get(kind, "convert_llama_weights"),
    )
    made.load_and_process_state_dict(convert(model, made.cfg), **settings)
    with torch.no_grad():
        _, cache = made.run_with_cache(ids)
    return {name: cache[f"blocks.1.{name}"] for name in NAMES if f"blocks.1.{name}" in cache}


def keep(seen: dict[Hookpoint, torch.Tensor], path: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
    read = args[0] if args else kwargs["hidden_states"]
    for point, value in ((Hookpoint(path), output), (Hookpoint(path, input=True), read)):
        seen[point] = (value[0] if isinstance(value, tuple) else value).detach()


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "llama"])
@pytest.mark.parametrize("centred", [False, True])
def test_places_and_centring_are_transformer_lens_own(tmp_path: Path, kind: str, centred: bool) -> None:
    model = model_of(kind)
    ids = torch.arange(24).reshape(2, 12)
    settings = {
        "fold_ln": False,
        "center_unembed": False,
        "fold_value_biases": False,
        "center_writing_weights": centred,
    }
    theirs = theirs_of(kind, model, ids, **settings)
    assert len(theirs) == (8 if kind == "gpt_neox" else 9)
    config = model.config.to_dict()
    (tmp_path / "config.json").write_text(json.dumps(config, default=str), encoding="utf-8")
    layout = Layout.of(config)
    assert layout is not None
    seen: dict[Hookpoint, torch.Tensor] = {}
    for path, module in model.named_modules():
        if path.startswith(layout.block.format(1)):
            module.register_forward_hook(partial(keep, seen, path), with_kwargs=True)
    with torch.no_grad():
        model(input_ids=ids)
    subject = SubjectSettings(model=str(tmp_path), corpus=CorpusSettings(path=tmp_path), context=12)
    compared = []
    for name, expected in theirs.items():
        points = places(f"blocks.1.{name}", layout, Hookpoint("x"))
        point = next((one for one in points or () if one in seen), None)
        if point is None:
            continue
        claims = Claims("cfg.json", hook=f"blocks.1.{name}", settings=(("center_writing_weights", centred),))
        coder = CoderSettings(name="sae", hookpoint=point.path, input=point.input, path="x")
        info = CoderInfo(9, 16, 16, str(point), "abc", claims=claims)
        found = check_claims(subject, ModelFiles("m", "0", tmp_path), [coder], [info], bos=True)[0]
        ours = seen[point]
        if found.centred:
            ours = ours - ours.mean(-1, keepdim=True)
        torch.testing.assert_close(ours, expected.reshape(ours.shape), atol=1e-5, rtol=1e-4)
        compared.append(name)
    # a norm before its weights is no module's output, and parallel blocks have no stream between attention and MLP
    assert set(theirs) - set(compared) == {"ln1.hook_normalized", "ln2.hook_normalized"}
