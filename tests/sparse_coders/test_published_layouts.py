"""Every layout that SAELens 3 to 6 and dictionary_learning have written since 2024, written here and read.

Keys and tensors are those of the tags and commits named; values are drawn. What a coder then says is held to the
layout's own arithmetic in NumPy.
"""
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lib.rng import generator
from lib.sparse_coders.interchange import load_dictionary_learning, load_saelens

D, M, OUT, K = 5, 12, 4, 3


def some(*shape, name="x"):
    return torch.randn(*shape, generator=generator(0, "layout", name, *shape))


BIASES = {"b_enc": (M,), "b_dec": (D,)}
SHAPES = {"W_enc": (D, M), "W_skip": (OUT, D), "W_dec": (M, D),
          "threshold": (M,), "b_gate": (M,), "b_mag": (M,), "r_mag": (M,), **BIASES}
STANDARD, JUMP = ("W_enc", "W_dec", "b_enc", "b_dec"), ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
GATED = ("W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag")
TRAINED_ON = {"model_name": "gpt2-small", "hook_name": "blocks.3.hook_resid_pre", "hook_layer": 3, "prepend_bos": True,
              "hook_head_index": None, "dataset_path": "some/text", "context_size": 128, "dtype": "torch.float32",
              "device": "cpu", "dataset_trust_remote_code": True, "sae_lens_training_version": None}
V3_0 = {"d_in": D, "d_sae": M, "activation_fn_str": "relu", "apply_b_dec_to_input": True, **TRAINED_ON,
        "finetuning_scaling_factor": False, "normalize_activations": "none"}
V3_9 = V3_0 | {"architecture": "standard", "activation_fn_kwargs": {}}
V3_18 = V3_9 | {"neuronpedia_id": None, "dtype": "float32"}
V4 = V3_18 | {"model_from_pretrained_kwargs": {}, "seqpos_slice": [None]}
TOPK = {"architecture": "topk", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}
V6 = {"d_in": D, "d_sae": M, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": True,
      "normalize_activations": "none", "reshape_activations": "none",
      "metadata": {"sae_lens_version": "6.0.0", "sae_lens_training_version": "6.0.0", "hook_name": "blocks.3.hook_z"}}
LAYOUTS = {
    "before 3, hook_point and a flag": (
        {"d_in": D, "d_sae": M, "hook_point": "blocks.3.hook_resid_pre", "hook_point_layer": 3,
         "hook_point_head_index": None, "normalize_activations": False, "dtype": "torch.float32"}, STANDARD),
    "3.0": (V3_0, STANDARD),
    "3.0 with scaling_factor of ones": (V3_0 | {"finetuning_scaling_factor": True}, (*STANDARD, "scaling_factor")),
    "3.5, topk by name": (V3_0 | {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}, STANDARD),
    "3.9": (V3_9, STANDARD),
    "3.9 gated": (V3_9 | {"architecture": "gated"}, GATED),
    "3.18 jumprelu": (V3_18 | {"architecture": "jumprelu"}, JUMP),
    "3.18 jumprelu, b_dec not subtracted": (V3_18 | {"architecture": "jumprelu", "apply_b_dec_to_input": False}, JUMP),
    "4.0": (V4, STANDARD),
    "4.4 topk": (V4 | TOPK, STANDARD),
    "5.0 gated": (V4 | {"architecture": "gated"}, GATED),
    "5.10 jumprelu": (V4 | {"architecture": "jumprelu"}, JUMP),
    "5.10 topk": (V4 | TOPK, STANDARD),
    "6 standard": (V6 | {"architecture": "standard"}, STANDARD),
    "6 gated": (V6 | {"architecture": "gated"}, GATED),
    "6 jumprelu": (V6 | {"architecture": "jumprelu"}, JUMP),
    "6 topk": (V6 | {"architecture": "topk", "k": K}, STANDARD),
    **{f"6 {name}": (V6 | {"architecture": name, "apply_b_dec_to_input": False, "d_out": OUT},
                     (*(JUMP if "jump" in name else STANDARD), *(["W_skip"] if "skip" in name else [])))
       for name in ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")},
    "6 topk in units of decoder length": (
        V6 | {"architecture": "topk", "k": K, "rescale_acts_by_decoder_norm": True}, STANDARD),
}


def drawn(names, out):
    shapes = SHAPES | {"scaling_factor": (M,), "W_dec": (M, out), "b_dec": (out,)}
    return {name: torch.ones(M) if name == "scaling_factor" else some(*shapes[name], name=name) for name in names}


@pytest.mark.parametrize("written", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_saelens_layouts(layout, written, tmp_path):
    config, names = LAYOUTS[layout]
    tensors = drawn(names, config.get("d_out", D))
    (tmp_path / "cfg.json").write_bytes(json.dumps(config, indent=1).replace("\n", "\r\n").encode(written))
    save_file(tensors, tmp_path / "sae_weights.safetensors")
    save_file({"sparsity": torch.zeros(M)}, tmp_path / "sparsity.safetensors")  # beside it up to version 5
    x, w = some(40, D).numpy().astype(float), {name: t.numpy().astype(float) for name, t in tensors.items()}
    h = (x - w["b_dec"] if config.get("apply_b_dec_to_input", True) else x) @ w["W_enc"]
    if "b_gate" in w:
        f = (h + w["b_gate"] > 0) * np.maximum(h * np.exp(w["r_mag"]) + w["b_mag"], 0)
    else:
        h = h + w["b_enc"]
        length = np.linalg.norm(w["W_dec"], axis=1) if config.get("rescale_acts_by_decoder_norm") else np.ones(M)
        h, w["W_dec"] = h * length, w["W_dec"] / length[:, None]
        f = np.maximum(h, 0) * (h > w.get("threshold", 0))
        if "topk" in layout:
            f = np.where(h >= np.sort(h, 1)[:, -K, None], f, 0)
    check(load_saelens(tmp_path), x, f, f @ w["W_dec"] + w["b_dec"] + (x @ w["W_skip"].T if "W_skip" in w else 0))


def check(coder, x, latents, recons):
    x = torch.from_numpy(x).to(coder.W_dec.dtype)
    assert (latents != 0).any()
    np.testing.assert_allclose(coder.encode(x).detach(), latents, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(coder(x).detach(), recons, rtol=1e-4, atol=1e-5)


NN = {"encoder.weight": (M, D), "encoder.bias": (M,), "decoder.weight": (D, M)}
NATIVE = {"W_enc": (D, M), "b_enc": (M,), "W_dec": (M, D), "b_dec": (D,)}
GATES = {"decoder_bias": (D,), "encoder.weight": (M, D), "r_mag": (M,), "gate_bias": (M,), "mag_bias": (M,),
         "decoder.weight": (D, M)}
COUNT, LEVEL = {"k": torch.tensor(K, dtype=torch.int)}, {"threshold": torch.tensor(0.3)}
CLASSES = {  # class, tensors, what a commit of that day adds
    "AutoEncoder, 2024-04": ("AutoEncoder", NN | {"bias": (D,)}, {}),
    "AutoEncoderNew, 2024-05": ("AutoEncoderNew", NN | {"decoder.bias": (D,)}, {}),
    "GatedAutoEncoder, 2024-04": ("GatedAutoEncoder", GATES, {}),
    "JumpReluAutoEncoder, 2024-07": ("JumpReluAutoEncoder", NATIVE | {"threshold": (M,)}, {}),
    "AutoEncoderTopK, 2024-08": ("AutoEncoderTopK", NN | {"b_dec": (D,)}, {}),
    "AutoEncoderTopK, 2024-12": ("AutoEncoderTopK", NN | {"b_dec": (D,)}, COUNT | LEVEL),
    "AutoEncoderTopK, 2024-12, never learned": (
        "AutoEncoderTopK", NN | {"b_dec": (D,)}, COUNT | {"threshold": torch.tensor(-1.0)}),
    "BatchTopKSAE, 2024-12": ("BatchTopKSAE", NN | {"b_dec": (D,)}, COUNT | LEVEL),
    "MatryoshkaBatchTopKSAE, 2024-12": (
        "MatryoshkaBatchTopKSAE", NATIVE, COUNT | LEVEL | {"group_sizes": torch.tensor([4, 8])}),
}


def write(folder, name, shapes, more, **trainer):
    tensors = {key: some(*shape, name=key) for key, shape in shapes.items()} | more
    torch.save(tensors, folder / "ae.pt")
    config = {"trainer_class": "T", "activation_dim": D, "dict_size": M, "lr": 1e-3, "steps": 10, "seed": 0,
              "dict_class": name, "device": "cpu", "layer": 3, "lm_name": "gpt2", **trainer}
    (folder / "config.json").write_text(json.dumps({"trainer": config, "buffer": {"d_submodule": D, "ctx_len": 128}}))
    return {key: t.numpy().astype(float) for key, t in tensors.items()}


@pytest.mark.parametrize("layout", CLASSES)
def test_dictionary_learning_layouts(layout, tmp_path):
    name, shapes, more = CLASSES[layout]
    w = write(tmp_path, name, shapes, more, **({"k": K} if "TopK" in name else {}))
    x = some(40, D).numpy().astype(float)
    W_enc, W_dec = (w[a] if a in w else w[b].T for a, b in (("W_enc", "encoder.weight"), ("W_dec", "decoder.weight")))
    b = next(w[key] for key in ("bias", "b_dec", "decoder_bias", "decoder.bias") if key in w)
    h = (x if name in ("JumpReluAutoEncoder", "AutoEncoderNew") else x - b) @ W_enc
    h = h + w.get("b_enc", w.get("encoder.bias", 0))
    f = np.maximum(h, 0) * (h > (0 if name == "AutoEncoderTopK" else w.get("threshold", 0)))
    if name == "AutoEncoderTopK":
        f = np.where(h >= np.sort(h, 1)[:, -K, None], f, 0)
    if name == "GatedAutoEncoder":
        f = (h + w["gate_bias"] > 0) * np.maximum(h * np.exp(w["r_mag"]) + w["mag_bias"], 0)
    check(load_dictionary_learning(tmp_path), x, f, f @ W_dec + b)


@pytest.mark.parametrize(("more", "trainer", "message"), [
    ({}, {"k": K}, "threshold is missing.* ranked over its batch"),  # 2024-08 to 2024-12
    (COUNT, {"k": K}, "threshold is missing.* ranked over its batch"),
])
def test_a_coder_that_needs_its_batch_is_refused(more, trainer, message, tmp_path):
    write(tmp_path, "BatchTopKSAE", NN | {"b_dec": (D,)}, more, **trainer)
    with pytest.raises(ValueError, match=message):
        load_dictionary_learning(tmp_path)


def test_topk_without_k_anywhere_says_where_it_belongs(tmp_path):
    write(tmp_path, "AutoEncoderTopK", NN | {"b_dec": (D,)}, {})
    with pytest.raises(ValueError, match=r"config\.json: k None is not a whole number"):
        load_dictionary_learning(tmp_path)
