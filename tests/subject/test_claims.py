"""What a coder's files claim, against the task: contradictions are told, knowingly overruled ones recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import CoderError
from harness.subject.claims import check_claims, with_widths
from harness.subject.coders.hook_names import Layout, places, writes_to_residual
from harness.subject.coders.protocol import Claims, CoderInfo
from harness.subject.coders.sae import SAECoder
from harness.subject.coders.saelens import save_saelens
from harness.subject.coders.sparse import SparseCoder, SparseWeights
from harness.subject.collect import collect
from harness.subject.hookpoints import Hookpoint
from harness.subject.models import ModelFiles
from harness.task import CoderSettings, CorpusSettings, SubjectSettings

GPT2 = {"model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12}
LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "intermediate_size": 100,
    "num_attention_heads": 4,
    "head_dim": 24,
}
GEMMA = {**LLAMA, "model_type": "gemma2"}
NEOX = {**LLAMA, "model_type": "gpt_neox"}

H = Hookpoint


def files(folder: Path, config: dict[str, Any], name: str | None = None) -> ModelFiles:
    """A model's files; with a name they are those of a model on the Hub."""
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if name is None:
        return ModelFiles(str(folder), "0", folder)

    class Remote(ModelFiles):
        def find(self, file: str) -> Path | None:
            return folder / file

    return Remote(name, "0", None)


def checked(
    folder: Path,
    claims: Claims,
    hookpoint: str = "transformer.h.5",
    config: dict[str, Any] = GPT2,
    model: str | None = None,
    context: int = 128,
    bos: bool = True,
    target: Hookpoint | None = None,
    **settings: Any,
) -> CoderInfo:
    found = files(folder, config, model)
    subject = SubjectSettings(model=found.name, corpus=CorpusSettings(path=folder), context=context)
    path, _, side = hookpoint.partition(":")
    coder = CoderSettings.model_validate(
        {"name": "sae", "hookpoint": path, "input": side == "input", "path": "x", **settings}
    )
    claims = replace(claims, source="cfg.json")
    info = CoderInfo(9, 768, 768, hookpoint, "abc", target=target, claims=claims)
    return check_claims(subject, found, [coder], [info], bos=bos)[0]


@pytest.mark.parametrize(
    ("config", "name", "expected"),
    [
        (GPT2, "blocks.6.hook_resid_pre", {H("transformer.h.5"), H("transformer.h.6", input=True)}),
        (GPT2, "blocks.0.hook_resid_pre", {H("transformer.h.0", input=True)}),
        (GPT2, "blocks.11.hook_resid_post", {H("transformer.h.11")}),
        (GPT2, "blocks.12.hook_resid_pre", set()),
        (GPT2, "blocks.3.hook_resid_mid", {H("transformer.h.3.ln_2", input=True)}),
        (GPT2, "blocks.3.hook_mlp_out", {H("transformer.h.3.mlp")}),
        (GPT2, "blocks.3.hook_attn_out", {H("transformer.h.3.attn")}),
        (GPT2, "blocks.3.attn.hook_z", {H("transformer.h.3.attn.c_proj", input=True)}),
        (GPT2, "blocks.3.mlp.hook_post", {H("transformer.h.3.mlp.c_proj", input=True)}),
        (GPT2, "blocks.3.ln2.hook_normalized", set()),
        (GPT2, "hook_embed", {H("transformer.wte")}),
        (LLAMA, "blocks.1.hook_resid_post", {H("model.layers.1"), H("model.layers.2", input=True)}),
        (LLAMA, "blocks.1.attn.hook_z", {H("model.layers.1.self_attn.o_proj", input=True)}),
        (LLAMA, "blocks.1.hook_mlp_out", {H("model.layers.1.mlp")}),
        (GEMMA, "blocks.1.hook_mlp_out", {H("model.layers.1.post_feedforward_layernorm")}),
        (GEMMA, "blocks.1.hook_attn_out", {H("model.layers.1.post_attention_layernorm")}),
        (GEMMA, "blocks.1.hook_resid_mid", {H("model.layers.1.pre_feedforward_layernorm", input=True)}),
        (NEOX, "blocks.1.hook_attn_out", {H("gpt_neox.layers.1.attention")}),
        (NEOX, "blocks.1.hook_resid_mid", None),
        (LLAMA, "blocks.1.hook_something", None),
        (LLAMA, "resid_post_layer_2", {H("model.layers.2"), H("model.layers.3", input=True)}),
        (LLAMA, "mlp_out_layer_2", {H("model.layers.2.mlp")}),
        (LLAMA, "layers.1", {H("model.layers.1"), H("model.layers.2", input=True)}),
        (LLAMA, "model.layers.1.output", {H("model.layers.1"), H("model.layers.2", input=True)}),
        (LLAMA, "model.layers.1.self_attn.o_proj.input", {H("model.layers.1.self_attn.o_proj", input=True)}),
        (LLAMA, "whatever", None),
    ],
)
def test_names_of_other_libraries_are_hookpoints_here(
    config: dict[str, Any], name: str, expected: set[Hookpoint] | None
) -> None:
    assert places(name, Layout.of(config), H("model.layers.1")) == expected


def keep(seen: dict[Hookpoint, torch.Tensor], path: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
    read = args[0] if args else kwargs["hidden_states"]
    for point, value in ((H(path), output), (H(path, input=True), read)):
        seen[point] = (value[0] if isinstance(value, tuple) else value).detach()


def test_a_library_s_places_hold_the_vectors_that_it_means(model_folders: dict[str, Path]) -> None:
    """All hookpoints of one name give the same tensor, and what is added gives the residual stream."""
    from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 2}
    gemma = Gemma2ForCausalLM(Gemma2Config(vocab_size=50, num_key_value_heads=1, head_dim=8, **sizes))
    for model in (gemma, *(AutoModelForCausalLM.from_pretrained(folder) for folder in model_folders.values())):
        model.eval()
        layout = Layout.of(model.config.to_dict())
        assert layout is not None
        seen: dict[Hookpoint, torch.Tensor] = {}

        names = ["hook_resid_pre", "hook_resid_post", "hook_attn_out", "hook_mlp_out"]
        sets = {name: places(f"blocks.1.{name}", layout, H("x")) or frozenset() for name in names}
        for point in frozenset().union(*sets.values()):
            module = model.get_submodule(point.path)
            module.register_forward_hook(partial(keep, seen, point.path), with_kwargs=True)
        with torch.no_grad():
            model(input_ids=torch.arange(8)[None])
        for same in sets.values():
            first, *others = (seen[point] for point in same)
            assert all(torch.equal(first, other) for other in others)
        value = {name: seen[next(iter(same))] for name, same in sets.items()}
        total = value["hook_resid_pre"] + value["hook_attn_out"] + value["hook_mlp_out"]
        torch.testing.assert_close(total, value["hook_resid_post"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("claims", "more", "told"),
    [
        (
            Claims(hook="blocks.6.hook_resid_pre"),
            {"hookpoint": "transformer.h.6"},
            r'cfg\.json says hook name "blocks\.6\.hook_resid_pre", which is "transformer\.h\.5" or '
            r'"transformer\.h\.6:input" here, and the task has "transformer\.h\.6"; .*overrule = \["hookpoint"\]',
        ),
        (Claims(hook="blocks.13.hook_resid_pre"), {}, "which no module of this model holds"),
        (Claims(hook="layers.4"), {}, r'"layers\.4", which is "layers\.4" here, and the task has "transformer\.h\.5"'),
        (
            Claims(hook="blocks.5.hook_resid_post", target="blocks.6.hook_mlp_out"),
            {"target": H("transformer.h.5.mlp")},
            r'output hook name "blocks\.6\.hook_mlp_out".*overrule = \["target"\]',
        ),
        (Claims(context=64), {}, r'contexts of 64 tokens, and subject\.context is 128.*overrule = \["context"\]'),
        (Claims(bos=True), {"bos": False}, r"rows with a BOS \(prepend_bos\), and the subject reads them without one"),
        (Claims(bos=False), {}, "rows without a BOS .* with one"),
        (Claims(model="gemma-2-2b"), {"model": "openai-community/gpt2"}, '"gemma-2-2b", and the subject is openai-'),
        (Claims(settings=(("checkpoint_index", 3),)), {}, r"checkpoint_index = 3, which is not supported here"),
        (Claims(settings=(("revision", "step9"),)), {}, r'revision "step9", and subject\.revision is None'),
        (
            Claims(settings=(("fold_ln", True),)),
            {"hookpoint": "transformer.h.5.ln_2"},
            "fold_ln = True, which is not supported here",
        ),
        (
            Claims(hook="blocks.5.attn.hook_z", settings=(("fold_value_biases", True),)),
            {"hookpoint": "transformer.h.5.attn.c_proj:input"},
            "fold_value_biases = True, which is not supported here",
        ),
        (
            Claims(settings=(("center_writing_weights", True),)),
            {"config": {"model_type": "new", "num_hidden_layers": 2}},
            "center_writing_weights = true, which is not known how to apply",
        ),
        (
            Claims(settings=(("center_writing_weights", True),)),
            {"center_writing_weights": False},
            "says center_writing_weights = true, and the task false",
        ),
    ],
)
def test_a_contradiction_names_both_sides(tmp_path: Path, claims: Claims, more: dict[str, Any], told: str) -> None:
    with pytest.raises(CoderError, match=told) as error:
        checked(tmp_path, claims, **more)
    assert str(error.value).startswith('coder "sae": cfg.json says')
    key = str(error.value).rsplit('overrule = ["', 1)[1].removesuffix('"]')
    info = checked(tmp_path, claims, **more, overrule=(key,))
    assert info.revision.endswith(f"+overruled {key}")
    assert any(note.startswith("overruled: cfg.json says") for note in info.notes)


@pytest.mark.parametrize(
    ("claims", "more"),
    [
        (Claims(), {}),
        (Claims(hook="blocks.6.hook_resid_pre", context=128, bos=True), {}),
        (Claims(hook="blocks.6.hook_resid_pre"), {"hookpoint": "transformer.h.6:input"}),
        (Claims(hook="h.5"), {}),
        (Claims(context=1024), {}),
        (Claims(model="gpt2-small"), {"model": "openai-community/gpt2"}),
        (Claims(model="anything"), {}),
        (Claims(settings=(("center_unembed", True), ("dtype", "bfloat16"), ("fold_ln", True))), {}),
        (Claims(settings=(("fold_value_biases", True), ("first_n_layers", None))), {}),
    ],
)
def test_what_agrees_changes_nothing(tmp_path: Path, claims: Claims, more: dict[str, Any]) -> None:
    info = checked(tmp_path, claims, **more)
    assert (info.revision, info.centred, info.target_centred, info.notes) == ("abc", False, False, ())


def test_what_cannot_be_compared_is_noted(tmp_path: Path) -> None:
    info = checked(tmp_path, Claims(hook="blocks.5.hook_unheard_of"))
    assert info.notes == (
        'cfg.json says hook name "blocks.5.hook_unheard_of", which could not be compared with "transformer.h.5"',
    )


CENTRED = Claims(settings=(("center_writing_weights", True),))


@pytest.mark.parametrize(
    ("hookpoint", "config", "centred"),
    [
        ("transformer.h.5", GPT2, True),
        ("transformer.h.5:input", GPT2, True),
        ("transformer.h.5.mlp", GPT2, True),
        ("transformer.h.5.attn", GPT2, True),
        ("transformer.h.5.ln_2:input", GPT2, True),
        ("transformer.wte", GPT2, True),
        ("transformer.h.5.attn.c_proj:input", GPT2, False),
        ("transformer.h.5.mlp.c_proj:input", GPT2, False),
        ("transformer.h.5.ln_2", GPT2, False),
        ("gpt_neox.layers.2", NEOX, True),
        ("model.layers.2", LLAMA, False),
        ("model.layers.2", GEMMA, False),
    ],
)
def test_a_centred_model_s_residual_stream_is_read_without_its_mean(
    tmp_path: Path, hookpoint: str, config: dict[str, Any], centred: bool
) -> None:
    info = checked(tmp_path, CENTRED, hookpoint, config)
    assert (info.centred, info.target_centred) == (centred, centred)
    assert info.revision == ("abc+centred" if centred else "abc")
    assert checked(tmp_path, Claims(), hookpoint, config, center_writing_weights=True).centred is centred


def test_centring_that_cannot_be_applied_is_told(tmp_path: Path) -> None:
    odd = {"model_type": "new", "num_hidden_layers": 2}
    with pytest.raises(CoderError, match=r'coder "sae": center_writing_weights = true is not known how to apply'):
        checked(tmp_path, Claims(), "h.1", odd, center_writing_weights=True)
    assert not checked(tmp_path, Claims(), "h.1", odd, center_writing_weights=False).centred


def test_a_transcoder_s_target_is_centred_where_it_is_added_to_the_stream(tmp_path: Path) -> None:
    info = checked(tmp_path, CENTRED, "transformer.h.5.ln_2", target=H("transformer.h.5.mlp"))
    assert (info.centred, info.target_centred) == (False, True)


def test_a_centred_coder_takes_the_mean_away(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    weights = SparseWeights(
        torch.randn(6, 9, generator=draw), torch.zeros(9), torch.randn(9, 6, generator=draw), torch.ones(6), "relu"
    )
    info = CoderInfo(9, 6, 6, "m", "abc")
    plain, centred = SparseCoder(info, weights), SparseCoder(replace(info, centred=True), weights)
    x = torch.randn(20, 6, generator=draw) + 3
    less = x - x.mean(-1, keepdim=True)
    expected, found = plain.encode(less), centred.encode(x)
    assert (found.values == expected.values).all()
    assert (found.latents == expected.latents).all()
    assert torch.equal(centred.decode(found, x), plain.decode(expected, less))


def test_the_claims_reach_a_collection(model_folders: dict[str, Path], corpus_file: Path, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    w_dec = torch.randn(20, 16, generator=draw)
    weights = SparseWeights(w_dec.T.contiguous(), torch.zeros(20), w_dec, torch.zeros(16), "relu")
    told = {
        "hook_name": "blocks.1.hook_resid_post",
        "context_size": 16,
        "prepend_bos": True,
        "model_from_pretrained_kwargs": {"center_writing_weights": True},
    }
    save_saelens(tmp_path / "sae", weights, told)
    subject = SubjectSettings(
        model=str(model_folders["gpt2"]), corpus=CorpusSettings(path=corpus_file), context=16, max_fvu=1e9
    )
    coder = CoderSettings(name="sae", hookpoint="transformer.h.1", path=str(tmp_path / "sae"))
    assert SAECoder.describe(coder, Path()).claims.context == 16
    store = collect(subject, [coder], tmp_path / "store")
    assert store.manifest.coders[0].revision.endswith("+centred")
    for change, told_of in (({"hookpoint": "transformer.h.0"}, "hook name"), ({}, "contexts of 16")):
        with pytest.raises(CoderError, match=told_of):
            collect(
                subject.model_copy(update={"context": 32}) if not change else subject,
                [coder.model_copy(update=change)],
                tmp_path / "other",
            )


@pytest.mark.parametrize(
    ("hookpoint", "config", "width"),
    [
        ("transformer.h.3", GPT2, 768),
        ("transformer.h.3.mlp.c_proj:input", GPT2, 3072),
        ("model.layers.2.mlp.down_proj:input", LLAMA, 100),
        ("model.layers.2.self_attn.o_proj:input", LLAMA, 96),
        ("model.layers.2.mlp", LLAMA, 64),
        ("model.layers.2.mlp.gate_proj", LLAMA, None),
        ("model.layers.9", LLAMA, None),
    ],
)
def test_the_width_follows_from_the_configuration(
    tmp_path: Path, hookpoint: str, config: dict[str, Any], width: int | None
) -> None:
    path, _, side = hookpoint.partition(":")
    coder = CoderSettings(name="n", kind="neurons", hookpoint=path, input=side == "input")
    assert with_widths([coder], files(tmp_path, config))[0].width == width


def test_only_the_stream_and_what_is_added_to_it_is_written() -> None:
    layout = Layout.of(LLAMA)
    assert layout is not None
    assert writes_to_residual(H("model.layers.3"), layout)
    assert not writes_to_residual(H("model.layers.3.mlp", input=True), layout)
