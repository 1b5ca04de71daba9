"""Training losses against dense references in float64, for values and the gradient of every parameter."""
import math

import dense_rules
import pytest
import torch

from lib.rng import generator
from lib.sparse_coders import SparseCoder, fit, functions, losses
from lib.sparse_coders.losses import Moment, auxk, loss
from lib.sparse_coders.rule import RULES

KINDS = {"sae": {}, "transcoder": {"d_out": 5}, "skip": {"d_out": 5, "skip": True}, "context": {"context": 3}}
D, M, B = 6, 20, 32


def made(rule, kind="sae", **options):
    """A coder with nothing at its symmetric start, x and y."""
    coder = SparseCoder(D, M, rule, dtype=torch.float64, **KINDS[kind], **options)
    rng = generator(0, "perturb")
    with torch.no_grad():
        for name, parameter in coder.named_parameters():
            noise = torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
            parameter.add_(0.01 * noise.abs() if name == "threshold" else 0.2 * noise)
    x = torch.randn(B, D + coder.context, generator=rng, dtype=torch.float64)
    y = torch.randn(B, 5, generator=rng, dtype=torch.float64) if coder.is_transcoder else None
    return coder, x, y


def pre_acts(coder, x):
    centre = 0 if coder.is_transcoder else torch.nn.functional.pad(coder.b_dec, (0, coder.context))
    return (x - centre) @ coder.W_enc.T + coder.b_enc


def squared_error(coder, latents, x, y):
    y = x[:, :D] if y is None else y
    skip = 0 if coder.W_skip is None else x @ coder.W_skip.T
    return (latents @ coder.W_dec + coder.b_dec + skip - y).pow(2).sum() / len(x)


def reference(coder, x, y):
    """The loss in the words of its definition, [B, n_latents] stored."""
    h, o = pre_acts(coder, x), coder.rule.model_dump()
    lengths = coder.W_dec.norm(dim=1)
    match coder.rule.name:
        case "relu" if o["l1_norm"] == "decoder":
            return squared_error(coder, h.relu(), x, y) + o["l1"] * (h.relu() * lengths).sum() / B
        case "relu" | "p_anneal":
            return squared_error(coder, h.relu(), x, y) + o["l1"] * h.relu().sum() / B
        case "topk":
            return squared_error(coder, dense_rules.topk(h, o["k"]), x, y)
        case "abs_topk":
            return squared_error(coder, dense_rules.abs_topk(h, o["k"]), x, y)
        case "batch_topk":
            return squared_error(coder, dense_rules.batch_topk(h, o["k"] * B)[0], x, y)
        case "matryoshka":
            latents = dense_rules.batch_topk(h, o["k"] * B)[0]
            prefixes = [latents * (torch.arange(M) < size) for size in o["groups"]]
            return sum(squared_error(coder, prefix, x, y) for prefix in prefixes) / len(prefixes)
        case "jumprelu":
            latents = functions.jumprelu(h, coder.threshold, o["bandwidth"])
            l0 = functions.step(h, coder.threshold, o["bandwidth"]).sum() / B
            size = {"l0": l0, "tanh": (4 * latents * lengths).tanh().sum() / B}
            size["target_l0"] = (l0 / (o["k"] or 1) - 1) ** 2
            return squared_error(coder, latents, x, y) + o["l0"] * size[o["penalty"]]


CASES = [
    ("relu", {"l1": 0.3}), ("relu", {"l1": 0.3, "l1_norm": "decoder"}), ("p_anneal", {"l1": 0.3}), ("topk", {"k": 3}),
    ("abs_topk", {"k": 3}), ("batch_topk", {"k": 3}), ("matryoshka", {"k": 3, "groups": (5, 12, M)}),
    ("jumprelu", {"l0": 0.3, "bandwidth": 0.2}), ("jumprelu", {"l0": 0.3, "penalty": "tanh"}),
    ("jumprelu", {"l0": 0.3, "penalty": "target_l0", "k": 3, "bandwidth": 0.2}),
]


PATHS = [(*case, False) for case in CASES] + [(*case, True) for case in CASES if case[0] in ("relu", "jumprelu")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rule", "options", "fused"), PATHS, ids=str)
def test_values_and_all_gradients_are_the_references(rule, options, fused, kind, monkeypatch):
    monkeypatch.setattr(losses, "FUSED_FROM", 0 if fused else math.inf)
    coder, x, y = made(rule, kind, **options)
    parameters = dict(coder.named_parameters())
    expected = reference(coder, x, y)
    wanted = torch.autograd.grad(expected, parameters.values(), allow_unused=True)
    terms = loss(coder, x, y)
    assert terms.total.item() == pytest.approx(expected.item(), rel=1e-12)
    found = torch.autograd.grad(terms.total, parameters.values(), allow_unused=True)
    for name, has, needs in zip(parameters, found, wanted, strict=True):
        assert torch.allclose(has, needs, rtol=1e-9, atol=1e-11), name
        assert (needs != 0).any(), name  # a reference that is 0 tests nothing


CHUNKED = [
    (rule, {"l1": 0.3} | options, bf16)
    for rule, options in [("p_anneal", {"p_start": 0.0}), ("p_anneal", {"l1_norm": "decoder"}), ("gated", {}),
                          ("stochastic", {}), ("stochastic", {"sampling": "bernoulli"})]
    for bf16 in (False, True)
] + [("jumprelu", {"l0": 0.3, "penalty": "tanh"}, False), ("jumprelu", {"l0": 0.3, "bandwidth": 0.2}, True),
     ("relu", {"l1": 0.3}, True)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rule", "options", "bf16"), CHUNKED, ids=str)
def test_a_loss_in_chunks_is_the_loss_at_once(rule, options, bf16, kind, monkeypatch):
    calls = []
    monkeypatch.setattr(losses, "chunk_size", lambda n, device: calls.append(1) or 5)

    def found(fused_from):
        monkeypatch.setattr(losses, "FUSED_FROM", fused_from)
        coder, x, y = made(rule, kind, **options)
        terms = loss(coder, x, y, Moment(sparsity=0.7, progress=0.6, rng=generator(0, "u"), bf16=bf16))
        parameters = list(coder.parameters())
        gradients = torch.autograd.grad(2 * terms.total, parameters, allow_unused=True)
        gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
        return [*terms, *gradients, *coder.buffers()]

    whole, parts = found(math.inf), found(0)
    assert calls == [1] and all(map(torch.any, whole[5:9]))
    near = {"rtol": 1e-2, "atol": 1e-2} if bf16 else {"rtol": 1e-9, "atol": 1e-11}
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one.double(), other.double(), **near)


def test_a_batch_that_wants_a_gradient_gets_it(monkeypatch):
    monkeypatch.setattr(losses, "FUSED_FROM", 0)
    coder, x, _ = made("gated")
    assert torch.autograd.grad(loss(coder, x.requires_grad_()).total, x)[0].any()


def test_firings_are_counted_where_latents_are_not_zero():
    for rule, options in CASES:
        coder, x, y = made(rule, **options)
        if rule in ("batch_topk", "matryoshka"):
            latents = dense_rules.batch_topk(pre_acts(coder, x), options["k"] * B)[0]
        else:
            latents = coder.rule.latents(coder, x)
            latents = latents if coder.rule.is_dense else latents.dense(M)
        assert torch.equal(loss(coder, x, y).fired, (latents != 0).sum(0)), rule


@pytest.mark.parametrize("rule", ["relu", "gated", "jumprelu", "topk", "matching_pursuit", "batch_topk"])
def test_the_loss_does_not_depend_on_the_batch_size(rule):
    coder, x, y = made(rule, **({} if rule in ("relu", "gated", "jumprelu") else {"k": 3}))
    once, twice = loss(coder, x, y), loss(coder, torch.cat([x, x]), y)
    assert twice.total.item() == pytest.approx(once.total.item(), rel=1e-9)


def test_gated_auxiliary_loss_leaves_the_decoder_alone():
    coder, x, _ = made("gated", l1=0.3)
    aux = loss(coder, x).aux
    by_decoder = torch.autograd.grad(aux, [coder.W_dec, coder.log_scale], allow_unused=True, retain_graph=True)
    assert by_decoder == (None, None)
    assert (torch.autograd.grad(aux, coder.W_enc)[0] != 0).any()
    gate = pre_acts(coder, x).relu()
    assert aux.item() == pytest.approx(squared_error(coder, gate, x, None).item())
    assert loss(coder, x).penalty.item() == pytest.approx(0.3 * gate.sum().item() / B)


def dense_auxk(coder, x, residual, dead, k):
    """Six lines: what AuxK is."""
    h = pre_acts(coder, x)[:, dead]
    latents = dense_rules.abs_topk(h, k) if coder.rule.is_signed else dense_rules.topk(h, k)
    e = residual.detach()
    variance = (e - e.mean(0)).pow(2).sum() / B
    return (latents @ coder.W_dec[dead] - e).pow(2).sum() / B / variance


@pytest.mark.parametrize("rule", ["topk", "abs_topk", "batch_topk", "matryoshka"])
@pytest.mark.parametrize("kind", ["sae", "skip"])
def test_auxk_and_its_gradients(rule, kind):
    coder, x, y = made(rule, kind, k=3, k_aux=2, aux=0.5)
    dead = torch.tensor([1, 4, 5, 17])
    moment = Moment(dead=dead)
    terms = loss(coder, x, y, moment)
    latents = coder.rule.latents(coder, x, moment).dense(M)
    y_true, skip = x if y is None else y, 0 if coder.W_skip is None else x @ coder.W_skip.T
    residual = y_true - latents @ coder.W_dec - coder.b_dec - skip
    expected = 0.5 * dense_auxk(coder, x, residual, dead, 2)
    assert terms.aux.item() == pytest.approx(expected.item(), rel=1e-10)
    weights = [coder.W_enc, coder.b_enc, coder.W_dec]
    found = torch.autograd.grad(terms.aux, weights, retain_graph=True)
    for has, needs in zip(found, torch.autograd.grad(expected, weights), strict=True):
        assert torch.allclose(has, needs, rtol=1e-9, atol=1e-12)
        living = [j for j in range(M) if j not in dead]
        assert (has[dead] != 0).any() and not has[living].any()
    assert torch.autograd.grad(terms.aux, coder.b_dec, allow_unused=True) == (None,)
    assert terms.total.item() == pytest.approx((terms.reconstruction + terms.aux).item())


def test_auxk_of_a_perfect_reconstruction_is_finite():
    coder, x, _ = made("topk", k=3)
    assert auxk(x, coder.encoder, coder.W_dec, torch.zeros(B, D, dtype=torch.float64), torch.arange(4), 2).isfinite()


def test_abs_topk_draws_k_per_sample_from_the_given_stream():
    coder, x, _ = made("abs_topk", k=8, k_min=2)
    codes = coder.rule.latents(coder, x, Moment(rng=generator(0, "k")))
    kept = functions.log_uniform_k(B, 2, 8, generator(0, "k"))
    assert torch.allclose(codes.dense(M), dense_rules.abs_topk(pre_acts(coder, x), kept))
    assert (coder.encode(x) != 0).sum(1).tolist() == [8] * B  # inference uses k


def test_p_annealing_starts_as_l1_ends_at_p_and_never_jumps():
    coder, x, _ = made("p_anneal", l1=1.0, p_start=0.5, p_end=0.2)
    latents = pre_acts(coder, x).relu()
    penalties = [loss(coder, x, moment=Moment(progress=p)).penalty.item() for p in (0, 0.5, 0.51, 0.75, 1.0)]
    assert penalties == pytest.approx([latents.sum().item() / B] * 5)
    assert coder.exponent == pytest.approx(0.2)
    (grad,) = torch.autograd.grad(loss(coder, x, moment=Moment(progress=1.0)).penalty, coder.b_enc)
    weight = coder.exponent_weight.item()
    active = torch.where(latents > 0, latents, torch.inf)
    assert torch.allclose(grad, weight * 0.2 * active.pow(-0.8).sum(0) / B)


def test_sparsity_weighs_the_penalty_only():
    coder, x, _ = made("relu", l1=0.3)
    half, full = (loss(coder, x, moment=Moment(sparsity=s)) for s in (0.5, 1.0))
    assert full.penalty.item() == pytest.approx(2 * half.penalty.item())
    assert full.reconstruction.item() == half.reconstruction.item()


def test_the_inference_threshold_is_a_running_mean_and_skips_empty_batches():
    average = torch.tensor(-1.0, dtype=torch.float64)
    for threshold, expected in [(0.0, -1.0), (math.inf, -1.0), (2.0, 2.0), (0.0, 2.0), (3.0, 2.1)]:
        functions.follow(average, torch.tensor(threshold), decay=0.9)
        assert average.item() == pytest.approx(expected)


def test_an_all_zero_batch_trains_nothing_and_breaks_nothing():
    coder = SparseCoder(D, M, "batch_topk", k=3)
    x = torch.zeros(B, D)
    terms = loss(coder, x)
    terms.total.backward()
    assert terms.total == 0 and coder.inference_threshold == -1
    assert not coder.encode(x).any() and coder.W_enc.grad.isfinite().all()
    loss(coder, torch.randn(B, D, generator=generator(0, "x")))
    learned = coder.inference_threshold.item()
    loss(coder, x)
    assert coder.inference_threshold == learned > 0


FULL_PRECISION = [name for name, rule in RULES.items() if not rule.has_bf16]
HAVE_BF16 = [case for case in [*CASES, ("gated", {}), ("stochastic", {})] if case[0] not in FULL_PRECISION]


@pytest.mark.parametrize(("rule", "options"), HAVE_BF16, ids=str)
def test_bf16_products_are_used_and_give_nearly_the_same_loss(rule, options, monkeypatch):
    screened, screen = [], losses.kernels.selection.screened_largest
    monkeypatch.setattr(
        losses.kernels.selection, "screened_largest", lambda *a, **o: screened.append(1) or screen(*a, **o)
    )
    coder, x, _ = made(rule, **options)
    exact, rough = (loss(coder, x, moment=Moment(rng=generator(0, "u"), bf16=bf16)) for bf16 in (False, True))
    assert rough.total.dtype == torch.float64
    assert rough.total.item() == pytest.approx(exact.total.item(), rel=0.03)
    assert screened == [1] if "topk" in rule else rough.total != exact.total  # the flag is not ignored


@pytest.mark.parametrize("rule", FULL_PRECISION)
def test_bf16_is_refused_where_it_would_do_nothing(rule):
    coder, x, _ = made(rule, k=3)
    with pytest.raises(ValueError, match=f"precision='bf16' would do nothing for rule {rule}"):
        loss(coder, x, moment=Moment(bf16=True))
    with pytest.raises(ValueError, match=f"precision='bf16' would do nothing for rule {rule}"):
        fit(coder, x, precision="bf16", progress=False)
    assert coder.scale == 1  # before anything was touched
