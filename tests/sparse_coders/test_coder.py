"""The coder as a user meets it: options, encoding and decoding, files, and what it refuses."""
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lib.rng import generator
from lib.sparse_coders import SparseCoder, load
from lib.sparse_coders.rule import RULES

KINDS = {"sae": {}, "transcoder": {"d_out": 5}, "skip": {"d_out": 5, "skip": True}, "context": {"context": 3},
         "per sample": {"per_sample": True}, "skip per sample": {"d_out": 5, "skip": True, "per_sample": True}}
EVERY = [(rule, kind) for rule in RULES for kind in KINDS
         if rule != "matching_pursuit" or kind in ("sae", "per sample")]


def made(rule="topk", **options):
    if "k" in RULES[rule].model_fields and rule != "jumprelu":
        options = {"k": 4} | options
    return SparseCoder(6, 40, rule, **options)


def perturb(coder):
    """A coder nothing of which is at its start."""
    rng = generator(0, "perturb")
    with torch.no_grad():
        for parameter in coder.parameters():
            parameter.add_(0.1 * torch.rand(parameter.shape, generator=rng))
        coder.tidy()
        coder.scale.fill_(1.7)
        coder.target_scale.fill_(0.6 if coder.is_transcoder else 1.7)
        if hasattr(coder, "inference_threshold"):
            coder.inference_threshold.fill_(0.3)
    return coder


def samples(coder, n=50):
    return torch.randn(n, coder.d_in + coder.context, generator=generator(0, "x"))


@pytest.mark.parametrize(("rule", "kind"), EVERY)
def test_shapes_codes_and_reconstructions_agree(rule, kind):
    coder = perturb(made(rule, **KINDS[kind]))
    x = samples(coder)
    latents, codes = coder.encode(x), coder.encode_sparse(x)
    assert latents.shape == (50, 40) and coder(x).shape == (50, coder.d_out)
    assert torch.allclose(codes.dense(40), latents, atol=1e-6) and (codes.values != 0).all()
    assert 0 < (latents != 0).sum() < latents.numel()
    for f in (latents, codes):
        assert torch.allclose(coder.decode(f, x), coder(x), atol=1e-5)


@pytest.mark.parametrize(("rule", "kind"), EVERY)
def test_a_saved_coder_comes_back_exactly(rule, kind, tmp_path):
    coder = perturb(made(rule, **KINDS[kind], dtype=torch.float64))
    again = load(coder.save(tmp_path / "coder.safetensors"))
    assert again.config() == coder.config() and repr(again) == repr(coder)
    assert again.state_dict().keys() == coder.state_dict().keys()
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in coder.state_dict().items())
    x = samples(coder).double()
    assert torch.equal(again(x), coder(x)) and torch.equal(again.encode(x), coder.encode(x))


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "matching_pursuit"])
def test_a_samples_latents_do_not_depend_on_the_rest_of_the_batch(rule):
    coder = perturb(made(rule))
    x = samples(coder)
    assert torch.allclose(coder.encode(x)[:3], coder.encode(x[:3]), atol=1e-6)


def test_the_equations_of_autoencoder_and_skip_transcoder():
    sae, skip = perturb(made("relu")), perturb(made("relu", d_out=5, skip=True))
    x = samples(sae)
    for coder, centre in ((sae, sae.b_dec), (skip, torch.zeros(6))):
        h = (1.7 * x - centre) @ coder.W_enc.T + coder.b_enc
        out = h.relu() @ coder.W_dec + coder.b_dec
        out = out / 1.7 if coder is sae else (out + 1.7 * x @ skip.W_skip.T) / 0.6
        assert torch.allclose(coder(x), out, atol=1e-5)


def test_the_equations_of_coders_that_divide_every_sample_by_its_length():
    """h of x / |x| sqrt(6), recons times |x| / sqrt(6) (in scaled units): at any length a sample has one code."""
    own = {"per_sample": True}
    sae, skip = perturb(made("relu", **own)), perturb(made("relu", d_out=5, skip=True, **own))
    x = samples(sae)
    size = 1.7 * x.norm(dim=1, keepdim=True) / 6**0.5
    for coder, centre in ((sae, sae.b_dec), (skip, torch.zeros(6))):
        unit = 1.7 * x / size
        assert torch.allclose(unit.square().sum(1), torch.full((50,), 6.0))
        f = ((unit - centre) @ coder.W_enc.T + coder.b_enc).relu()
        out = f @ coder.W_dec + coder.b_dec
        out = out * size / 1.7 if coder is sae else (out + unit @ skip.W_skip.T) * size / 0.6
        assert torch.allclose(coder(x), out, atol=1e-5) and torch.allclose(coder.encode(x), f, atol=1e-5)
        longer = x * torch.linspace(0.01, 100, 50)[:, None]
        assert torch.allclose(coder.encode(longer), f, atol=1e-4)
        assert torch.allclose(coder(longer) / longer.norm(dim=1, keepdim=True), out / x.norm(dim=1, keepdim=True),
                              atol=1e-4)
        assert coder(torch.zeros(2, 6)).isfinite().all() and coder.encode(torch.zeros(2, 6)).isfinite().all()


@pytest.mark.parametrize(("rule", "kind"), [pair for pair in EVERY if pair[0] != "matching_pursuit"])
def test_folding_the_scale_changes_no_output(rule, kind):
    coder = perturb(made(rule, **KINDS[kind], dtype=torch.float64))
    x = samples(coder).double()
    latents, recons = coder.encode(x), coder(x)
    assert coder.fold_scale() is coder and coder.scale == coder.target_scale == 1
    assert torch.allclose(coder.encode(x), latents, atol=1e-12) and torch.allclose(coder(x), recons, atol=1e-12)


def test_matching_pursuit_cannot_fold_its_scale():
    with pytest.raises(ValueError, match="cannot be folded"):
        perturb(made("matching_pursuit")).fold_scale()


def test_the_encoder_starts_as_a_copy_of_the_decoder_never_as_an_alias():
    coder = made()
    assert torch.equal(coder.W_enc, coder.W_dec)
    assert coder.W_enc.untyped_storage().data_ptr() != coder.W_dec.untyped_storage().data_ptr()
    assert torch.allclose(coder.W_dec.norm(dim=1), torch.ones(40))
    assert not torch.equal(coder.W_dec, made(seed=1).W_dec) and torch.equal(coder.W_dec, made(seed=0).W_dec)


def test_numpy_input_of_another_precision_is_taken():
    coder, x = made(), np.random.default_rng(0).normal(size=(4, 6))
    assert torch.equal(coder(x), coder(torch.tensor(x, dtype=torch.float32)))


def test_numpy_input_of_any_strides_and_byte_order_is_taken():
    coder, x = made(), np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    for other in (x[::-1][::-1], x.astype(">f4"), np.asfortranarray(x), x.astype(">f8")):
        torch.testing.assert_close(coder(other), coder(x))  # another layout may be multiplied in another order
    torch.testing.assert_close(coder(x[::-1]), coder(x).flip(0))
    with pytest.raises(TypeError, match="x must be a matrix of floating-point numbers"):
        coder(np.array([["a"] * 6]))


@pytest.mark.parametrize("rule", ["topk", "abs_topk"])
def test_codes_hold_no_zeros_even_where_fewer_than_k_latents_are_positive(rule):
    coder = made(rule, k=30)
    x = torch.cat([samples(coder), torch.zeros(1, 6)])
    latents, codes = coder.encode(x), coder.encode_sparse(x)
    assert (codes.values != 0).all() and len(codes.values) == (latents != 0).sum() < 30 * len(x)
    assert torch.allclose(codes.dense(40), latents) and torch.allclose(coder.decode(codes), coder(x), atol=1e-6)
    codes.values.sum().backward()
    assert coder.W_enc.grad.any()


def test_negative_latents_of_abs_topk_survive():
    assert (made("abs_topk").encode(samples(made())) < 0).any()


def test_tidying_keeps_rows_at_length_one_and_thresholds_at_zero_or_above():
    coder = made("jumprelu")
    with torch.no_grad():
        coder.W_dec.mul_(3)
        coder.threshold[:2] = torch.tensor([-1.0, 0.5])
    coder.tidy()
    assert torch.allclose(coder.W_dec.norm(dim=1), torch.ones(40)) and coder.threshold[:2].tolist() == [0, 0.5]
    free = made("relu", l1_norm="decoder")
    with torch.no_grad():
        free.W_dec.mul_(3)
    free.tidy()
    assert torch.allclose(free.W_dec.norm(dim=1), torch.full((40,), 3.0))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rule": "top_k"}, "rule 'top_k' is not one of relu, p_anneal, gated, prolu, topk"),
        ({"k": 41}, "k 41 is outside 1 to n_latents = 40"),
        ({"k": 0}, "k: input should be greater than or equal to 1, got 0"),
        ({"k": 2.0}, r"rule topk: k: input should be a valid integer, got 2.0 \(float\)"),
        ({"k": True}, r"k: input should be a valid integer, got True \(bool\)"),
        ({"rule": "relu", "k": 3}, "rule relu has no option k; it has l1, l1_norm"),
        ({"rule": "relu", "aux": 0.1}, "rule relu has no option aux; it has l1, l1_norm"),
        ({"rule": "topk", "l1": 0.1}, "rule topk has no option l1; it has k, aux, k_aux"),
        ({"rule": "relu", "l1": -1.0}, "l1: input should be greater than or equal to 0"),
        ({"rule": "relu", "l1": float("nan")}, "l1: input should be a finite number"),
        ({"rule": "relu", "l1_norm": "both"}, "l1_norm: input should be 'unit' or 'decoder', got 'both'"),
        ({"rule": "jumprelu", "penalty": "l2"}, "penalty: input should be 'l0', 'tanh' or 'target_l0'"),
        ({"rule": "jumprelu", "bandwidth": 0.0}, "bandwidth: input should be greater than 0"),
        ({"rule": "jumprelu", "threshold": -0.1}, "threshold: input should be greater than or equal to 0"),
        ({"rule": "jumprelu", "k": 3}, "penalty='target_l0'"),
        ({"rule": "abs_topk", "k": 3, "k_min": 4}, "k_min 4 is larger than k 3"),
        ({"rule": "matryoshka", "groups": (4, 30)}, "rising prefix sizes that end in n_latents = 40"),
        ({"rule": "matryoshka", "groups": (30, 4, 40)}, "rising prefix sizes"),
        ({"rule": "matryoshka", "groups": 5}, "groups: input should be a valid tuple, got 5"),
        ({"rule": "p_anneal", "p_start": 1.5}, "p_start: input should be less than or equal to 1, got 1.5"),
        ({"rule": "stochastic", "masked": -0.1}, "masked: input should be greater than or equal to 0"),
        ({"rule": "stochastic", "sampling": "coin"}, "sampling: input should be 'noise' or 'bernoulli', got 'coin'"),
        ({"skip": True}, "give d_out to make a skip-transcoder"),
        ({"rule": "matching_pursuit", "k": 3, "d_out": 4}, "no context and no d_out"),
        ({"d_in": 0}, "SparseCoder: d_in: input should be greater than or equal to 1, got 0"),
        ({"n_latents": 4.0}, "n_latents: input should be a valid integer"),
        ({"context": -1}, "context: input should be greater than or equal to 0"),
        ({"dtype": torch.bfloat16}, "precision='bf16'"),
        ({"dtype": torch.int64}, "dtype must be float32 or float64"),
    ],
)
def test_what_cannot_be_is_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        SparseCoder(**{"d_in": 6, "n_latents": 40} | options)


@pytest.mark.parametrize(
    ("x", "error", "problem"),
    [
        (torch.zeros(3, 5), ValueError, r"x must be \[B, 6\], got \(3, 5\)"),
        (torch.zeros(6), ValueError, r"x must be \[B, 6\], got \(6,\)"),
        (torch.zeros(2, 3, 6), ValueError, "x.reshape"),
        (torch.zeros(0, 6), ValueError, r"got \(0, 6\)"),
        (torch.zeros(3, 6, dtype=torch.int64), TypeError, "floating point, got torch.int64"),
        (torch.full((3, 6), torch.nan), ValueError, "NaN or infinite values in 3 of 3 rows"),
        (torch.tensor([[0.0] * 6, [0.0] * 5 + [torch.inf]]), ValueError, "in 1 of 2 rows, the first of them row 1"),
    ],
)
def test_input_that_cannot_be_encoded_is_refused(x, error, problem):
    coder = made()
    for method in (coder.encode, coder.encode_sparse, coder):
        with pytest.raises(error, match=problem):
            method(x)


def test_decoding_refuses_other_widths_and_a_skip_connection_without_x():
    with pytest.raises(ValueError, match=r"latents must be \[B, 40\], got \(2, 39\)"):
        made().decode(torch.zeros(2, 39))
    with pytest.raises(ValueError, match=r"has a skip connection: decode\(latents, x\) needs x too"):
        made(d_out=5, skip=True).decode(torch.zeros(2, 40))
    with pytest.raises(ValueError, match=r"scales every sample by its own length: decode\(latents, x\) needs x too"):
        made(per_sample=True).decode(torch.zeros(2, 40))


def test_decoding_takes_and_refuses_what_encoding_does():
    coder = made()
    latents = coder.encode(samples(coder)).detach()
    for same in (latents.numpy(), latents.double(), latents.double().numpy()[::-1][::-1]):
        assert torch.equal(coder.decode(same), coder.decode(latents))
    codes = coder.encode_sparse(samples(coder))
    assert torch.equal(coder.decode(codes.with_values(codes.values.double())), coder.decode(codes))
    with pytest.raises(TypeError, match="latents must be floating point, got torch.int64"):
        coder.decode(latents.long())
    with pytest.raises(ValueError, match="latents has NaN or infinite values in 50 of 50 rows"):
        coder.decode(latents / 0)
    with pytest.raises(ValueError, match="codes have NaN or infinite values"):
        coder.decode(codes.with_values(codes.values / 0))
    with pytest.raises(ValueError, match="codes are of latents .* to .*, this coder has 40"):
        coder.decode(codes._replace(indices=codes.indices + 40))


def test_what_does_not_fit_the_coders_precision_is_refused():
    x = torch.zeros(3, 6, dtype=torch.float64)
    x[1] = 1e300
    with pytest.raises(ValueError, match="x is too large for torch.float32 in 1 of 3 rows, the first of them row 1"):
        made().encode(x)
    made().double().encode(x / 1e200)


def test_a_coder_is_saved_whatever_precision_it_went_through(tmp_path):
    for rule in ("topk", "batch_topk", "p_anneal"):
        coder = perturb(made(rule)).double().float()
        again = load(coder.save(tmp_path / "coder.safetensors"))
        assert torch.equal(again(samples(coder)), coder(samples(coder)))
    with pytest.raises(ValueError, match=r"a coder of torch.float16 cannot be saved; coder.float\(\).save"):
        made().half().save(tmp_path / "coder.safetensors")


FORMAT_1 = {
    "relu": {"l1": 1, "l1_norm": "unit"},
    "p_anneal": {"l1": 1.0, "l1_norm": "decoder", "p_end": 0.2, "p_start": 0.5},
    "gated": {"l1": 3.0, "l1_norm": "unit"},
    "prolu": {"l1": 1.0, "l1_norm": "unit", "gradient": "ste"},
    "topk": {"k": 4, "aux": 1 / 32, "k_aux": 3},
    "batch_topk": {"k": 4, "aux": 1 / 32, "k_aux": 3},
    "matryoshka": {"k": 4, "groups": [2, 5, 10, 20, 40], "aux": 0.0, "k_aux": 3},
    "abs_topk": {"k": 4, "k_min": None, "aux": 1 / 32, "k_aux": 3},
    "jumprelu": {"l0": 1.0, "penalty": "target_l0", "threshold": 0.1, "bandwidth": 0.1, "tanh_scale": 4.0, "k": 32},
    "stochastic": {"l1": 1.0, "p": 1.0, "sampling": "noise", "masked": 0.5},
    "matching_pursuit": {"k": 4},
}
"""The options in files of format 1, as the library of November 2026 wrote them."""
BESIDE = {
    "jumprelu": ("threshold",), "gated": ("log_scale", "b_mag"), "stochastic": ("gate_scale", "b_gate"),
    "batch_topk": ("inference_threshold", "batch_threshold"), "matryoshka": ("inference_threshold", "batch_threshold"),
    "p_anneal": ("exponent", "exponent_weight"),
}
NUMBERS = ("inference_threshold", "batch_threshold", "exponent", "exponent_weight")


@pytest.mark.parametrize(("rule", "kind"), EVERY)
def test_files_of_format_1_load_for_good(rule, kind, tmp_path):
    """Written here tensor by tensor and key by key, not by the library of today."""
    more = {"context": 0, "d_out": None, "skip": False} | KINDS[kind]
    n_in, d_out, rng = 6 + more["context"], more["d_out"] or 6, generator(0, "format 1")
    shapes = {"W_dec": (40, d_out), "b_dec": (d_out,)}
    shapes |= {} if rule == "matching_pursuit" else {"W_enc": (40, n_in), "b_enc": (40,)}
    shapes |= {"W_skip": (d_out, n_in)} if more["skip"] else {}
    shapes |= {name: (40,) for name in BESIDE.get(rule, ()) if name not in NUMBERS}
    tensors = {name: torch.rand(shape, generator=rng) for name, shape in shapes.items()}
    numbers = {name: 0.3 for name in BESIDE.get(rule, ()) if name in NUMBERS}
    numbers |= {"scale": 1.7, "target_scale": 0.6 if more["d_out"] else 1.7}
    tensors |= {name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()}
    tensors["trained_on"] = torch.tensor(4096)
    config = {"d_in": 6, "n_latents": 40, "rule": rule, **more, "seed": 3, "dtype": "float32", **FORMAT_1[rule]}
    metadata = {"format": "superposition-book sparse coder", "version": "1", "config": json.dumps(config)}
    save_file(tensors, tmp_path / "old.safetensors", metadata=metadata)
    coder = load(tmp_path / "old.safetensors")
    assert coder.config() == {"per_sample": False} | config and coder.rule.name == rule and coder.trained_on == 4096
    assert coder.state_dict().keys() == tensors.keys()
    assert all(torch.equal(value, tensors[name]) for name, value in coder.state_dict().items())
    assert coder(samples(coder)).isfinite().all()


def rewritten(path, change):
    """The file with its metadata and tensors changed in place."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    tensors = load_file(path)
    config = json.loads(metadata["config"])
    change(metadata, config, tensors)
    save_file(tensors, path, metadata=metadata | {"config": json.dumps(config)})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda m, c, t: m.update(version="2"), "has version 2, this library reads 1"),
        (lambda m, c, t: m.pop("format"), "holds no coder of this library"),
        (lambda m, c, t: c.pop("rule"), "lacks rule in its configuration"),
        (lambda m, c, t: c.update(colour="red"), "rule topk has no option colour; it has k, aux, k_aux"),
        (lambda m, c, t: c.update(k=400), "k 400 is outside"),
        (lambda m, c, t: t.pop("W_enc"), "W_enc is missing"),
        (lambda m, c, t: t.update(W_up=torch.zeros(2)), "W_up is unknown"),
        (lambda m, c, t: t.update(b_dec=torch.zeros(7)), r"b_dec is \(7,\) of torch.float32, expected \(6,\)"),
        (lambda m, c, t: t.update(b_dec=t["b_dec"].double()), "b_dec is .* of torch.float64"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused_by_name(change, problem, tmp_path):
    path = made().save(tmp_path / "coder.safetensors")
    rewritten(path, change)
    with pytest.raises(ValueError, match=problem) as caught:
        load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a coder", None])
def test_a_corrupt_or_truncated_file_is_refused(content, tmp_path):
    path = made().save(tmp_path / "coder.safetensors")
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(ValueError, match="coder.safetensors is not a whole safetensors file .* save the coder again"):
        load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"SparseCoder.save\(path\) writes one"):
        load(tmp_path / "coder.safetensors")
