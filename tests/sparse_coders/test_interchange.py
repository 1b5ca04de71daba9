"""Files of SAELens and dictionary_learning, read in NumPy as documented, and by the libraries where installed."""
import importlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lib.rng import generator
from lib.sparse_coders import SparseCoder, fit
from lib.sparse_coders.interchange import (
    load_dictionary_learning,
    load_saelens,
    save_dictionary_learning,
    save_saelens,
)
from lib.torchvision_import import import_torchvision

D, M, OUT, B = 6, 20, 5, 64
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
RULES = {
    "relu": {}, "p_anneal": {}, "gated": {}, "jumprelu": {}, "prolu": {}, "topk": {"k": 4}, "abs_topk": {"k": 4},
    "batch_topk": {"k": 4}, "matryoshka": {"k": 4, "groups": (5, 20)},
}


def some(*shape, name="x", dtype=torch.float64):
    return torch.randn(*shape, generator=generator(0, "test", "interchange", name), dtype=torch.float64).to(dtype)


def a_coder(rule, dtype=torch.float64, **more):
    """Every parameter drawn, decoder rows of several lengths, both scales away from 1."""
    coder = SparseCoder(D, M, rule, dtype=dtype, **RULES.get(rule, {}) | more)
    with torch.no_grad():
        for name, parameter in coder.named_parameters():
            parameter.copy_(0.7 * some(*parameter.shape, name=name))
        coder.scale.fill_(0.37)
        coder.target_scale.fill_(0.37 if not coder.is_transcoder else 2.1)
        if rule == "jumprelu":
            coder.threshold.abs_()
        if rule in ("batch_topk", "matryoshka"):
            coder.inference_threshold.fill_(0.4)
    return coder


def saelens_in_numpy(folder, x):
    """Latents and reconstruction by the documented layout."""
    config = json.loads((folder / "cfg.json").read_text())
    w = {name: t.double().numpy() for name, t in load_file(folder / "sae_weights.safetensors").items()}
    assert config["reshape_activations"] == "none"
    length = np.ones((len(x), 1))
    if config["normalize_activations"] == "constant_norm_rescale":
        length = np.linalg.norm(x, axis=1, keepdims=True) / np.sqrt(config["d_in"])
    x = x / length
    name, h = config["architecture"], (x - w["b_dec"] if config["apply_b_dec_to_input"] else x) @ w["W_enc"]
    if name == "gated":
        f = (h + w["b_gate"] > 0) * np.maximum(h * np.exp(w["r_mag"]) + w["b_mag"], 0)
    elif name in ("topk", "abstopk"):
        h = h + w["b_enc"]
        size = np.abs(h) if name == "abstopk" else h
        f = np.where(size >= np.sort(size, 1)[:, -config["k"], None], h, 0)
        f = f if name == "abstopk" else np.maximum(f, 0)
    else:
        h = h + w["b_enc"]
        f = np.maximum(h, 0) * (h > w.get("threshold", 0))
    return f, (f @ w["W_dec"] + w["b_dec"] + (x @ w["W_skip"].T if "W_skip" in w else 0)) * length


def dictionary_learning_in_numpy(folder, x):
    """Latents and reconstruction by the documented layout."""
    trainer = json.loads((folder / "config.json").read_text())["trainer"]
    w = {name: t.double().numpy() for name, t in torch.load(folder / "ae.pt", weights_only=True).items()}
    name, b = trainer["dict_class"], w.get("bias", w.get("b_dec", w.get("decoder_bias")))
    W_enc = w["W_enc"] if "W_enc" in w else w["encoder.weight"].T
    W_dec = w["W_dec"] if "W_dec" in w else w["decoder.weight"].T
    h = (x if name == "JumpReluAutoEncoder" else x - b) @ W_enc
    h = h + w.get("b_enc", w.get("encoder.bias", 0))
    if name == "GatedAutoEncoder":
        f = (h + w["gate_bias"] > 0) * np.maximum(h * np.exp(w["r_mag"]) + w["mag_bias"], 0)
    elif name == "AutoEncoderTopK":
        assert w["k"] == trainer["k"]
        f = np.maximum(np.where(h >= np.sort(h, 1)[:, -trainer["k"], None], h, 0), 0)
    else:
        f = np.maximum(h, 0) * (h > w.get("threshold", 0))
    return f, f @ W_dec + b


def same(found, coder, x, close=CLOSE):
    latents, recons = coder.encode(x).detach().numpy(), coder(x).detach().numpy()
    assert (latents != 0).any() and np.ptp(recons) > 0.1
    np.testing.assert_allclose(found[0], latents, **close)
    np.testing.assert_allclose(found[1], recons, **close)


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_saelens_round_trip(rule, per_sample, tmp_path):
    coder, x = a_coder(rule, per_sample=per_sample), some(B, D)
    same(saelens_in_numpy(save_saelens(coder, tmp_path), x.numpy()), coder, x)
    again = load_saelens(tmp_path)
    expected = {"p_anneal": "relu"} | dict.fromkeys(("prolu", "batch_topk", "matryoshka"), "jumprelu")
    assert again.per_sample == per_sample and again.rule.name == expected.get(rule, rule)
    assert again.W_dec.dtype == torch.float64 and coder.scale == 0.37
    same((again.encode(x).detach(), again(x).detach()), coder, x)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("rule", ["relu", "jumprelu", "prolu", "batch_topk"])
def test_saelens_transcoder_round_trip(rule, skip, tmp_path):
    coder, x = a_coder(rule, d_out=OUT, skip=skip), some(B, D)
    same(saelens_in_numpy(save_saelens(coder, tmp_path), x.numpy()), coder, x)
    names = {"relu": ""} | dict.fromkeys(("jumprelu", "prolu", "batch_topk"), "jumprelu_")
    config = json.loads((tmp_path / "cfg.json").read_text())
    assert config["architecture"] == f"{names[rule]}{'skip_' if skip else ''}transcoder" and config["d_out"] == OUT
    again = load_saelens(tmp_path)
    assert again.is_transcoder and (again.W_skip is not None) == skip
    same((again.encode(x).detach(), again(x).detach()), coder, x)


@pytest.mark.parametrize("rule", sorted(RULES.keys() - {"abs_topk"}))
def test_dictionary_learning_round_trip(rule, tmp_path):
    coder, x = a_coder(rule), some(B, D)
    if rule in ("batch_topk", "matryoshka"):
        coder.inference_threshold.fill_(0.375)  # float32 there, so it must be one
    same(dictionary_learning_in_numpy(save_dictionary_learning(coder, tmp_path), x.numpy()), coder, x)
    again = load_dictionary_learning(tmp_path)
    assert again.rule.name == {"p_anneal": "relu", "prolu": "jumprelu"}.get(rule, rule)
    assert [again.config().get(name) for name in ("k", "groups")] == [coder.config().get(n) for n in ("k", "groups")]
    same((again.encode(x).detach(), again(x).detach()), coder, x)


def hand_written(folder, config=(), drop=(), **tensors):
    """A SAELens file of another making; what is given replaces or adds."""
    weights = {"W_enc": some(D, M, name="W_enc"), "W_dec": some(M, D, name="W_dec"), "b_enc": some(M, name="b_enc"),
               "b_dec": some(D, name="b_dec")} | tensors
    save_file({k: v.contiguous() for k, v in weights.items() if k not in drop}, folder / "sae_weights.safetensors")
    base = {"architecture": "standard", "d_in": D, "d_sae": M, "normalize_activations": "none",
            "reshape_activations": "none", "apply_b_dec_to_input": True}
    (folder / "cfg.json").write_text(json.dumps(base | dict(config)))
    return folder


@pytest.mark.parametrize("name", ["standard", "gated", "jumprelu"])
def test_bias_that_is_not_subtracted_moves_into_the_encoder(name, tmp_path):
    more = {"b_gate": some(M, name="g"), "b_mag": some(M, name="m"), "r_mag": some(M, name="r")}
    more = {"gated": more, "jumprelu": {"threshold": some(M, name="t")}}.get(name, {})  # below 0 too
    drop = ("b_enc",) if name == "gated" else ()
    hand_written(tmp_path, {"architecture": name, "apply_b_dec_to_input": False}, drop, **more)
    x = some(B, D)
    same(saelens_in_numpy(tmp_path, x.numpy()), load_saelens(tmp_path), x)


def test_latents_in_units_of_decoder_length_are_unfolded(tmp_path):
    hand_written(tmp_path, {"architecture": "topk", "k": 3, "rescale_acts_by_decoder_norm": True})
    coder, x = load_saelens(tmp_path), some(B, D)
    w = {name: t.numpy() for name, t in load_file(tmp_path / "sae_weights.safetensors").items()}
    length = np.linalg.norm(w["W_dec"], axis=1)
    h = ((x.numpy() - w["b_dec"]) @ w["W_enc"] + w["b_enc"]) * length
    f = np.maximum(np.where(h >= np.sort(h, 1)[:, -3, None], h, 0), 0)
    same((f, (f / length) @ w["W_dec"] + w["b_dec"]), coder, x)


def test_old_configuration_of_topk_is_understood(tmp_path):
    old = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}, "hook_point": "blocks.0.hook_resid_pre"}
    coder = load_saelens(hand_written(tmp_path, old | {"normalize_activations": None}))
    assert coder.rule.name == "topk" and coder.rule.k == 3


def test_half_precision_becomes_float32_and_training_goes_on(tmp_path):
    halves = {name: some(*shape, name=name, dtype=torch.bfloat16)
              for name, shape in {"W_enc": (D, M), "W_dec": (M, D), "b_enc": (M,), "b_dec": (D,)}.items()}
    coder = load_saelens(hand_written(tmp_path, **halves))
    assert coder.W_dec.dtype == torch.float32 and torch.equal(coder.W_enc.T.bfloat16(), halves["W_enc"])
    b_dec = coder.b_dec.detach().clone()
    fit(coder, some(256, D).float() + 5, steps=1, batch_size=32, lr=1e-9, progress=False)
    assert coder.scale == 1 and torch.allclose(coder.b_dec, b_dec, atol=1e-6)  # not measured anew


@pytest.mark.parametrize(("config", "message"), [
    ({"architecture": "batchtopk"}, "architecture 'batchtopk' is not one of standard"),
    ({"architecture": "temporal"}, "architecture 'temporal'"),
    ({"normalize_activations": "layer_norm"}, "normalize_activations 'layer_norm'"),
    ({"normalize_activations": "expected_average_only_in"}, "normalize_activations 'expected_average_only_in'"),
    ({"reshape_activations": "hook_z"}, "reshape_activations 'hook_z'"),
    ({"activation_fn": "tanh-relu"}, "activation_fn 'tanh-relu'"),
    ({"finetuning_scaling_factor": True}, "finetuning_scaling_factor True"),
    ({"architecture": "topk"}, "k None is not a whole number"),
    ({"architecture": "transcoder", "d_out": D}, "apply_b_dec_to_input True"),
    ({"architecture": "transcoder", "d_out": D, "normalize_activations": "constant_norm_rescale",
      "apply_b_dec_to_input": False}, "normalize_activations 'constant_norm_rescale' .* a transcoder's scale"),
    ({"d_sae": None}, "d_sae None is not a whole number"),
])
def test_saelens_options_that_change_the_function_are_refused(config, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        load_saelens(hand_written(tmp_path, config))
    assert "cfg.json" in str(error.value)


@pytest.mark.parametrize(("config", "drop", "tensors", "message"), [
    ({}, ("b_enc",), {}, "b_enc is missing"),
    ({}, (), {"scaling_factor": torch.full((M,), 2.0)}, "scaling_factor is unknown"),
    ({}, (), {"W_enc": torch.ones(M, D)}, r"W_enc is \(20, 6\), the configuration says \(6, 20\)"),
    ({}, (), {"b_dec": torch.full((D,), torch.nan)}, "b_dec has NaN"),
    ({"architecture": "jumprelu"}, (), {}, "threshold is missing"),
])
def test_weights_that_do_not_fit_are_named(config, drop, tensors, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        load_saelens(hand_written(tmp_path, config, drop, **tensors))
    assert "sae_weights.safetensors" in str(error.value)


def test_broken_and_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cfg\.json is missing"):
        load_saelens(tmp_path)
    folder = save_dictionary_learning(a_coder("topk"), tmp_path)
    (folder / "ae.pt").write_bytes((folder / "ae.pt").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"ae\.pt is not a whole file"):
        load_dictionary_learning(folder)
    for content in (b"", b"abc", b"\x80\x02."):
        (folder / "ae.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"ae\.pt is not a whole file of weights .*; fetch or save it again"):
            load_dictionary_learning(folder)
    hand_written(tmp_path)
    (tmp_path / "sae_weights.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"sae_weights\.safetensors is not a whole file"):
        load_saelens(tmp_path)
    (tmp_path / "cfg.json").write_text("{")
    with pytest.raises(ValueError, match=r"cfg\.json is not a whole file of settings"):
        load_saelens(tmp_path)


def changed(folder, tensors=(), **trainer):
    """A dictionary_learning folder with some of it replaced."""
    save_dictionary_learning(a_coder("batch_topk"), folder)
    weights, config = torch.load(folder / "ae.pt", weights_only=True), json.loads((folder / "config.json").read_text())
    torch.save(weights | dict(tensors), folder / "ae.pt")
    (folder / "config.json").write_text(json.dumps({"trainer": config["trainer"] | trainer}))
    return folder


@pytest.mark.parametrize(("tensors", "trainer", "message"), [
    ({}, {"dict_class": "IdentityDict"}, r"config\.json: trainer\.dict_class 'IdentityDict' is not one of AutoEncoder"),
    ({}, {"k": 5}, r"config\.json: trainer\.k is 5, k in ae\.pt is 4"),
    ({"threshold": torch.tensor(-1.0)}, {}, r"ae\.pt: threshold -1 was never learned"),
    ({"decoder.weight": torch.ones(M, D)}, {}, r"ae\.pt: decoder\.weight is \(20, 6\)"),
    ({"momentum": torch.ones(1)}, {}, r"ae\.pt: momentum is unknown"),
])
def test_dictionary_learning_refusals(tensors, trainer, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_dictionary_learning(changed(tmp_path, tensors, **trainer))


@pytest.mark.parametrize(("save", "rule", "options", "message"), [
    (save_saelens, "stochastic", {}, "SAELens has no layout for an autoencoder of rule stochastic"),
    (save_saelens, "matching_pursuit", {"k": 4}, "no layout for an autoencoder of rule matching_pursuit"),
    (save_saelens, "topk", {"d_out": OUT}, "no layout for a transcoder of rule topk"),
    (save_saelens, "relu", {"context": 2}, "with context=2"),
    (save_saelens, "relu", {"d_out": OUT, "per_sample": True}, r"a transcoder of rule relu with per_sample \(every"),
    (save_dictionary_learning, "topk", {"per_sample": True}, "an autoencoder of rule topk with per_sample"),
    (save_dictionary_learning, "abs_topk", {}, "dictionary_learning has no layout for an autoencoder of rule abs_topk"),
    (save_dictionary_learning, "relu", {"d_out": OUT}, "no layout for a transcoder of rule relu"),
])
def test_what_a_layout_cannot_say_is_not_written(save, rule, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save(a_coder(rule, **options), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("save", [save_saelens, save_dictionary_learning])
def test_a_threshold_that_was_never_learned_is_not_written(save, tmp_path):
    with pytest.raises(ValueError, match="has learned no threshold yet"):
        save(SparseCoder(D, M, "batch_topk", k=4), tmp_path)


def library(name):
    """The other library, or a skip that says why."""
    if importlib.util.find_spec(name.split(".")[0]) is None:
        pytest.skip(f"{name.split('.')[0]} is not installed; make bench-peers installs it into _build/peers")
    import_torchvision()  # both import it on the way
    return importlib.import_module(name)


LOOSE = {"rtol": 2e-5, "atol": 2e-5}


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_saelens_itself_reads_and_writes(rule, per_sample, tmp_path):
    sae_lens, x = library("sae_lens"), some(B, D, dtype=torch.float32)
    coder = a_coder(rule, dtype=torch.float32, per_sample=per_sample)
    theirs = sae_lens.SAE.load_from_disk(save_saelens(coder, tmp_path / "ours"))
    same((theirs.encode(x).detach(), theirs(x).detach()), coder, x, LOOSE)
    theirs.save_model(tmp_path / "theirs")
    again = load_saelens(tmp_path / "theirs")
    same((again.encode(x).detach(), again(x).detach()), coder, x, LOOSE)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("rule", ["relu", "jumprelu"])
def test_saelens_itself_reads_transcoders(rule, skip, tmp_path):
    sae_lens, x = library("sae_lens"), some(B, D, dtype=torch.float32)
    coder = a_coder(rule, dtype=torch.float32, d_out=OUT, skip=skip)
    config = json.loads((save_saelens(coder, tmp_path) / "cfg.json").read_text())
    cls = sae_lens.registry.get_sae_class(config["architecture"])[0]
    theirs = cls.load_from_disk(tmp_path)
    same((theirs.encode(x).detach(), theirs(x).detach()), coder, x, LOOSE)


@pytest.mark.parametrize("rule", sorted(RULES.keys() - {"abs_topk"}))
def test_dictionary_learning_itself_reads_and_writes(rule, tmp_path):
    utils, x = library("dictionary_learning.utils"), some(B, D, dtype=torch.float32)
    coder = a_coder(rule, dtype=torch.float32)
    if rule in ("relu", "p_anneal"):  # that loader rescales decoder rows to length 1, and latents with them
        coder.fold_scale().tidy()
    theirs, _ = utils.load_dictionary(save_dictionary_learning(coder, tmp_path), "cpu")
    same((theirs.encode(x).detach(), theirs(x).detach()), coder, x, LOOSE)
    torch.save(theirs.state_dict(), tmp_path / "ae.pt")
    again = load_dictionary_learning(tmp_path)
    same((again.encode(x).detach(), again(x).detach()), coder, x, LOOSE)
