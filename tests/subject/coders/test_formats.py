"""Every format against its formula written out, recognised by what the files hold, and every refusal."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness.errors import CoderError
from harness.store import Rows
from harness.subject.coders import tiles
from harness.subject.coders.protocol import Claims, CoderInfo, Published
from harness.subject.coders.sae import SAECoder
from harness.subject.hookpoints import Hookpoint
from harness.task import CoderSettings

D, F, K = 6, 24, 4

Weights = dict[str, np.ndarray]
Formula = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def draw(*shape: int, positive: bool = False) -> np.ndarray:
    made = np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)
    return np.abs(made) if positive else made


def as_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def tensors(weights: Weights) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value.copy()) for name, value in weights.items()}


def relu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0)


def top(values: np.ndarray) -> np.ndarray:
    kept = np.zeros_like(values)
    for row, one in enumerate(values):
        where = np.argsort(-one)[:K]
        kept[row, where] = relu(one[where])
    return kept


# Each maker writes a folder in its format and gives the formula of its latents and its reconstruction.


def sparsify(folder: Path, *, activation: str = "topk", transcode: bool = False, skip: bool = False) -> Formula:
    w = {"encoder.weight": draw(F, D), "encoder.bias": draw(F), "W_dec": draw(F, D), "b_dec": draw(D)}
    if skip:
        w["W_skip"] = draw(D, D)
    save_file(tensors(w), folder / "sae.safetensors")
    config = {"d_in": D, "k": K, "expansion_factor": 4, "num_latents": 0, "activation": activation}
    as_json(folder / "cfg.json", config | {"transcode": transcode, "skip_connection": skip})

    def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        before = (x if transcode else x - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"]
        if activation == "groupmax":
            groups = relu(before).reshape(len(x), K, F // K)
            acts = np.where(groups == groups.max(-1, keepdims=True), groups, 0).reshape(len(x), F)
        else:
            acts = top(before)
        made = acts @ w["W_dec"] + w["b_dec"]
        return acts, made + x @ w["W_skip"].T if skip else made

    return formula


def gemma(folder: Path, *, second: bool = False, out: int = D) -> Formula:
    w = {
        "W_enc": draw(D, F),
        "b_enc": draw(F),
        "W_dec": draw(F, out),
        "b_dec": draw(out),
        "threshold": draw(F, positive=True),
    }
    if second:
        w["affine_skip_connection"] = draw(D, out)
        save_file(tensors({name.lower(): value for name, value in w.items()}), folder / "params.safetensors")
        as_json(
            folder / "config.json",
            {
                "hf_hook_point_in": "model.layers.3.pre_feedforward_layernorm.output",
                "hf_hook_point_out": "model.layers.3.post_feedforward_layernorm.output",
                "model_name": "gemma-v3-1b-pt",
                "l0": 20,
            },
        )
    else:
        np.savez(folder / "params.npz", allow_pickle=False, **w)

    def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        before = x @ w["W_enc"] + w["b_enc"]
        acts = relu(before) * (before > w["threshold"])
        made = acts @ w["W_dec"] + w["b_dec"]
        return acts, made + x @ w["affine_skip_connection"] if second else made

    return formula


def learned(folder: Path, kind: str, *, config: bool = True) -> Formula:
    linear = {"encoder.weight": draw(F, D), "decoder.weight": draw(D, F)}
    plain = {"W_enc": draw(D, F), "W_dec": draw(F, D), "b_enc": draw(F), "b_dec": draw(D)}
    kept = {"k": np.array(K), "threshold": np.array(0.7, np.float32)}
    w: Weights = {
        "AutoEncoder": {**linear, "encoder.bias": draw(F), "bias": draw(D)},
        "AutoEncoderNew": {**linear, "encoder.bias": draw(F), "decoder.bias": draw(D)},
        "GatedAutoEncoder": {
            **linear,
            "decoder_bias": draw(D),
            "r_mag": draw(F),
            "gate_bias": draw(F + 1)[:F],
            "mag_bias": draw(F),
        },
        "JumpReluAutoEncoder": {**plain, "threshold": draw(F, positive=True)},
        "AutoEncoderTopK": {**linear, "encoder.bias": draw(F), "b_dec": draw(D), **kept},
        "BatchTopKSAE": {**linear, "encoder.bias": draw(F), "b_dec": draw(D), **kept},
        "MatryoshkaBatchTopKSAE": {**plain, **kept, "group_sizes": np.array([4, F - 4])},
    }[kind]
    torch.save(tensors(w), folder / "ae.pt")
    if config:
        trainer = {
            "dict_class": kind,
            "lm_name": "EleutherAI/pythia-70m-deduped",
            "submodule_name": "resid_post_layer_3",
        }
        as_json(folder / "config.json", {"trainer": trainer, "buffer": {"ctx_len": 128}})
        as_json(folder / "eval_results.json", {"l0": 4.5, "frac_variance_explained": 0.75})

    def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w_enc = w["encoder.weight"].T if "encoder.weight" in w else w["W_enc"]
        w_dec = w["decoder.weight"].T if "decoder.weight" in w else w["W_dec"]
        out = next(w[name] for name in ("bias", "decoder.bias", "decoder_bias", "b_dec") if name in w)
        less = x if kind in ("AutoEncoderNew", "JumpReluAutoEncoder") else x - out
        shared = less @ w_enc
        if kind == "GatedAutoEncoder":
            acts = (shared + w["gate_bias"] > 0) * relu(np.exp(w["r_mag"]) * shared + w["mag_bias"])
            return acts, acts @ w_dec + out
        before = shared + w["encoder.bias" if "encoder.bias" in w else "b_enc"]
        acts = top(before) if kind == "AutoEncoderTopK" else relu(before)
        if kind in ("JumpReluAutoEncoder", "BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
            acts = acts * (before > w["threshold"])
        return acts, acts @ w_dec + out

    return formula


def llama(folder: Path) -> Formula:
    w = {
        "encoder.weight": draw(F, D),
        "encoder.bias": draw(F),
        "decoder.weight": draw(D, F),
        "decoder.bias": draw(D),
    }
    (folder / "checkpoints").mkdir()
    save_file(tensors(w), folder / "checkpoints" / "final.safetensors")
    config = {
        "d_model": D,
        "d_sae": F,
        "hook_point_in": "blocks.3.hook_resid_post",
        "hook_point_out": "blocks.3.hook_resid_post",
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.5,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": 5.0, "out": 5.0},
    }
    as_json(folder / "hyperparams.json", config)

    def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scale = np.sqrt(D) / 5.0
        before = (x * scale) @ w["encoder.weight"].T + w["encoder.bias"]
        # the threshold belongs to latents of the unscaled model
        acts = relu(before) * (before / scale > 0.5)
        return acts, (acts @ w["decoder.weight"].T + w["decoder.bias"]) / scale

    return formula


def openai(folder: Path, activation: str = "TopK", *, tensor_k: bool = False) -> Formula:
    w = {"pre_bias": draw(D), "encoder.weight": draw(F, D), "latent_bias": draw(F), "decoder.weight": draw(D, F)}
    more: dict[str, Any] = {"activation": activation, "stats_last_nonzero": torch.zeros(F)}
    if activation == "TopK":
        more["activation_state_dict"] = {"k": torch.tensor(K) if tensor_k else K, "postact_fn": "ReLU"}
    torch.save(tensors(w) | more, folder / "5.pt")

    def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, spread = x.mean(-1, keepdims=True), x.std(-1, ddof=1, keepdims=True)
        y = (x - mean) / (spread + 1e-5) if activation == "TopK" else x
        before = (y - w["pre_bias"]) @ w["encoder.weight"].T + w["latent_bias"]
        acts = top(before) if activation == "TopK" else relu(before)
        made = acts @ w["decoder.weight"].T + w["pre_bias"]
        return acts, made * spread + mean if activation == "TopK" else made

    return formula


LEARNED = [
    "AutoEncoder",
    "AutoEncoderNew",
    "GatedAutoEncoder",
    "JumpReluAutoEncoder",
    "AutoEncoderTopK",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
]
MAKERS: dict[str, Callable[[Path], Formula]] = {
    "sparsify": sparsify,
    "sparsify, groups": lambda folder: sparsify(folder, activation="groupmax"),
    "sparsify, transcoder": lambda folder: sparsify(folder, transcode=True),
    "sparsify, skip": lambda folder: sparsify(folder, transcode=True, skip=True),
    "gemma": gemma,
    "gemma, transcoder": lambda folder: gemma(folder, out=5),
    "gemma 2": lambda folder: gemma(folder, second=True),
    "llama": llama,
    "openai": openai,
    "openai, k is a tensor": lambda folder: openai(folder, tensor_k=True),
    "openai, relu": lambda folder: openai(folder, "ReLU"),
    **{kind: lambda folder, kind=kind: learned(folder, kind) for kind in LEARNED},
    **{
        f"{kind} alone": lambda folder, kind=kind: learned(folder, kind, config=False)
        for kind in ("AutoEncoder", "AutoEncoderNew", "GatedAutoEncoder", "MatryoshkaBatchTopKSAE")
    },
}


def settings(path: Path, **more: Any) -> CoderSettings:
    return CoderSettings.model_validate({"name": "made", "hookpoint": "m", "input": True, "path": str(path), **more})


def describe(path: Path, **more: Any) -> CoderInfo:
    return SAECoder.describe(settings(path, **more), Path())


def dense(rows: Rows) -> np.ndarray:
    found = np.zeros((len(rows.indptr) - 1, F), np.float32)
    for row in range(len(found)):
        part = slice(rows.indptr[row], rows.indptr[row + 1])
        assert (np.diff(rows.latents[part]) > 0).all()
        found[row, rows.latents[part]] = rows.values[part]
    return found


@pytest.mark.parametrize("sizes", [(2048, 8192), (3, 5)])
@pytest.mark.parametrize("name", MAKERS)
def test_a_format_computes_its_formula(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sizes: tuple[int, int]
) -> None:
    monkeypatch.setattr(tiles, "_TOKENS", sizes[0])
    monkeypatch.setattr(tiles, "_LATENTS", sizes[1])
    # neither a folder's nor a file's name tells anything
    folder = tmp_path / "gemma-openai-llama-sae"
    folder.mkdir()
    formula = MAKERS[name](folder)
    for path in folder.rglob("*"):
        if path.suffix in (".npz", ".pt"):
            path.rename(path.with_name("weights.bin"))
    x = np.random.default_rng(9).normal(size=(17, D)).astype(np.float32) * 2
    coder = SAECoder.load(settings(folder), Path())
    rows = coder.encode(torch.from_numpy(x))
    acts, made = formula(x)
    np.testing.assert_allclose(dense(rows), acts, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(coder.decode(rows, torch.from_numpy(x)).numpy(), made, rtol=1e-4, atol=1e-4)
    assert (coder.info.n_latents, coder.info.d_in, coder.info.d_out) == (F, D, made.shape[1])
    assert coder.decoder.shape == (F, made.shape[1])


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda folder: learned(folder, "BatchTopKSAE"),
            Claims(
                model="EleutherAI/pythia-70m-deduped",
                hook="resid_post_layer_3",
                context=128,
                published=Published(4.5, 0.25),
            ),
        ),
        (llama, Claims(hook="blocks.3.hook_resid_post")),
        (gemma, Claims(published=Published(71))),
        (
            lambda folder: gemma(folder, second=True),
            Claims(
                model="gemma-v3-1b-pt",
                hook="model.layers.3.pre_feedforward_layernorm.output",
                target="model.layers.3.post_feedforward_layernorm.output",
                published=Published(20),
            ),
        ),
        (sparsify, Claims()),
    ],
)
def test_what_the_files_claim(tmp_path: Path, make: Callable[[Path], Formula], expected: Claims) -> None:
    folder = tmp_path / "average_l0_71"
    folder.mkdir()
    make(folder)
    assert describe(folder).claims == expected


def test_a_sparsify_folder_is_named_after_its_module(tmp_path: Path) -> None:
    (tmp_path / "layers.5.mlp").mkdir()
    sparsify(tmp_path / "layers.5.mlp")
    assert describe(tmp_path / "layers.5.mlp").claims.hook == "layers.5.mlp"
    sparsify(tmp_path / "layers.5.mlp", transcode=True)
    claims = describe(tmp_path / "layers.5.mlp").claims
    assert (claims.hook, claims.target) == ("layers.5.mlp.input", "layers.5.mlp.output")


def test_a_transcoder_s_target_is_told_by_the_task(tmp_path: Path) -> None:
    sparsify(tmp_path, transcode=True)
    assert describe(tmp_path).target == Hookpoint("m")
    assert describe(tmp_path, input=False, target="m.after").target == Hookpoint("m.after")
    with pytest.raises(CoderError, match="is a transcoder: it reads one place and predicts another; set input = true"):
        describe(tmp_path, input=False)
    sparsify(tmp_path)
    assert describe(tmp_path).target is None
    with pytest.raises(CoderError, match="target belongs to a transcoder"):
        describe(tmp_path, target="m.after")


def test_gemma_scope_is_a_transcoder_where_the_task_says_so(tmp_path: Path) -> None:
    gemma(tmp_path)
    assert describe(tmp_path).target is None
    assert describe(tmp_path, target="m.after").target == Hookpoint("m.after")


def test_a_file_is_named_as_well_as_its_folder(tmp_path: Path) -> None:
    formula = llama(tmp_path)
    coder = SAECoder.load(settings(tmp_path / "checkpoints" / "final.safetensors"), Path())
    x = draw(5, D)
    assert (dense(coder.encode(torch.from_numpy(x))) > 0).sum() == (formula(x)[0] > 0).sum()


@pytest.mark.parametrize("make", [llama, sparsify, openai, gemma])
def test_the_content_decides_the_revision(tmp_path: Path, make: Callable[[Path], Formula]) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        make(folder)
    assert describe(folders[0]) == describe(folders[1])
    weights = next(path for path in folders[1].rglob("*") if path.is_file() and path.suffix != ".json")
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    assert SAECoder.describe(settings(folders[0]), Path()).revision != _revision(folders[1])


def _revision(folder: Path) -> str:
    try:
        return describe(folder).revision
    except CoderError:
        # a changed byte that an archive's own checksum finds
        return "broken"


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("run",))


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_with_code_in_it_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str) -> None:
    if how == "torch":
        torch.save({"encoder.weight": torch.zeros(2, 2), "more": Evil()}, tmp_path / "ae.pt")
    else:
        (tmp_path / "ae.pt").write_bytes(pickle.dumps({"bias": Evil()}))
    with pytest.raises(CoderError, match=r"ae\.pt: (this pickle holds more than tensors|not a valid file)"):
        describe(tmp_path)
    assert capsys.readouterr().out == ""


def test_pickled_objects_in_an_npz_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "params.npz", allow_pickle=True, W_enc=np.array([Evil()], dtype=object))
    with pytest.raises(CoderError, match=r"W_enc\.npy holds pickled Python objects"):
        describe(tmp_path)


@pytest.mark.parametrize("make", [gemma, openai])
def test_a_truncated_archive_is_told(tmp_path: Path, make: Callable[[Path], Formula]) -> None:
    make(tmp_path)
    path = next(path for path in tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CoderError, match="this file is truncated: an archive whose end is missing"):
        describe(tmp_path)


def test_an_unknown_folder_is_told_with_what_is_in_it_and_what_is_known(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3, 4)}, tmp_path / "model.safetensors")
    as_json(tmp_path / "settings.json", {"width": 3})
    with pytest.raises(CoderError) as error:
        describe(tmp_path)
    told = str(error.value)
    assert "settings.json with the keys width; model.safetensors with the tensors weight [3, 4]" in told
    for name in ("SAELens", "sparsify", "dictionary_learning", "Llama Scope", "OpenAI", "Gemma Scope"):
        assert name in told


def test_settings_that_are_not_understood_are_never_passed_over(tmp_path: Path) -> None:
    learned(tmp_path, "AutoEncoderNew", config=False)
    as_json(tmp_path / "config.json", {"act_fn": "topk", "k": 3})
    with pytest.raises(CoderError, match="holds no coder of a known format"):
        describe(tmp_path)


def test_several_coders_in_one_folder_are_named(tmp_path: Path) -> None:
    gemma(tmp_path)
    (tmp_path / "other.npz").write_bytes((tmp_path / "params.npz").read_bytes())
    with pytest.raises(CoderError, match=r"several coders at .*other\.npz, .*params\.npz; name one file"):
        describe(tmp_path)
    assert describe(tmp_path / "other.npz").n_latents == F


def change_config(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    as_json(path, json.loads(path.read_text(encoding="utf-8")) | changes)


def drop(folder: Path, name: str, tensor: str) -> None:
    from safetensors.torch import load_file

    found = load_file(folder / name)
    del found[tensor]
    save_file(found, folder / name)


@pytest.mark.parametrize(
    ("make", "spoil", "told"),
    [
        (sparsify, lambda f: change_config(f, "cfg.json", activation="relu"), 'activation "relu" is not known'),
        (sparsify, lambda f: change_config(f, "cfg.json", k=0), "k has to be a whole number above 0, not 0"),
        (sparsify, lambda f: change_config(f, "cfg.json", num_latents=7), "num_latents is 7, and .* has 24 latents"),
        (sparsify, lambda f: change_config(f, "cfg.json", activation="groupmax", k=5), r"k \(5\) groups of equal size"),
        (sparsify, lambda f: change_config(f, "cfg.json", signed=True), "signed is not supported"),
        (
            sparsify,
            lambda f: change_config(f, "cfg.json", d_in=7),
            r"encoder\.weight has shape \[24, 6\], and cfg\.json \(d_in\) wants \[24, 7\]",
        ),
        (sparsify, lambda f: drop(f, "sae.safetensors", "b_dec"), 'the tensor "b_dec" is missing; there are: W_dec'),
        (
            sparsify,
            lambda f: change_config(f, "cfg.json", skip_connection=True),
            'the tensor "W_skip" is missing',
        ),
        (llama, lambda f: change_config(f, "hyperparams.json", act_fn="topk"), 'act_fn "topk" is not known'),
        (
            llama,
            lambda f: change_config(f, "hyperparams.json", norm_activation="token-wise"),
            'norm_activation "token-wise" is not known',
        ),
        (llama, lambda f: change_config(f, "hyperparams.json", use_glu_encoder=True), "use_glu_encoder is not supp"),
        (
            llama,
            lambda f: change_config(f, "hyperparams.json", jump_relu_threshold=None),
            "jump_relu_threshold has to be a number above 0, not None",
        ),
        (
            lambda f: learned(f, "AutoEncoderTopK", config=False),
            lambda f: None,
            r"AutoEncoderTopK and BatchTopKSAE have the same tensors .* trainer\.dict_class",
        ),
        (
            lambda f: learned(f, "AutoEncoder"),
            lambda f: change_config(f, "config.json", trainer={"dict_class": "CrossCoder"}),
            'dict_class "CrossCoder" is not known; known are: AutoEncoder',
        ),
        (
            lambda f: learned(f, "AutoEncoder"),
            lambda f: change_config(f, "config.json", trainer={"dict_class": "GatedAutoEncoder"}),
            'the tensor "decoder_bias" is missing',
        ),
        (lambda f: openai(f, "Identity"), lambda f: None, 'activation "Identity" is not known'),
    ],
)
def test_bad_input_is_named(tmp_path: Path, make: Any, spoil: Callable[[Path], None], told: str) -> None:
    make(tmp_path)
    spoil(tmp_path)
    with pytest.raises(CoderError, match=told):
        describe(tmp_path)


def test_weights_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    torch.save(
        {
            "bias": torch.full((D,), float("nan")),
            "encoder.weight": torch.zeros(F, D),
            "encoder.bias": torch.zeros(F),
            "decoder.weight": torch.zeros(D, F),
        },
        tmp_path / "ae.pt",
    )
    with pytest.raises(CoderError, match=r"ae\.pt: bias holds values that are not finite"):
        SAECoder.load(settings(tmp_path), Path())


def test_a_threshold_that_was_not_learned_is_told(tmp_path: Path) -> None:
    learned(tmp_path, "BatchTopKSAE")
    found = torch.load(tmp_path / "ae.pt", weights_only=True)
    torch.save(found | {"threshold": torch.tensor(-1.0)}, tmp_path / "ae.pt")
    with pytest.raises(CoderError, match="the threshold is -1: this BatchTopKSAE was saved before one was learned"):
        SAECoder.load(settings(tmp_path), Path())


@pytest.mark.parametrize(("make", "files"), [(llama, 2), (sparsify, 2), (gemma, 1), (openai, 1)])
def test_repositories_of_the_hub_are_read_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Formula], files: int
) -> None:
    commit = "a" * 40
    repository = tmp_path / "models--owner--saes"
    folder = repository / "snapshots" / commit / "some" / "layers.5"
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    make(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert sum(path.is_file() for path in folder.rglob("*")) == files
    wanted = settings(Path("owner/saes:some/layers.5"))
    info = SAECoder.describe(wanted, tmp_path)
    assert info.revision == f"{commit}:some/layers.5"
    assert SAECoder.load(wanted, tmp_path, info=info).info.n_latents == F
    with pytest.raises(CoderError, match='the Hugging Face repository owner/saes has no "elsewhere"'):
        SAECoder.describe(settings(Path("owner/saes:elsewhere")), tmp_path)
    with pytest.raises(
        CoderError, match="owner/other is not in the local cache and the Hugging Face Hub is not reached"
    ):
        SAECoder.describe(settings(Path("owner/other:elsewhere")), tmp_path)
