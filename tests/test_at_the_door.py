"""What a caller brings along: a session of other defaults, data in any order, impossible paths, models in wrappers.

A kind each, tried at every public entry that it can enter by.
"""
from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from lib.activations import build, capture, patch
from lib.models.toy_training import train_grid
from lib.press.pages import Page, Request
from lib.rng import generator
from lib.sparse_coders import SparseCoder, fit, load
from lib.sparse_coders.interchange import load_saelens, save_saelens
from lib.sparse_coders.rule import RULES
from lib.spd import Routed, SPDConfig, decompose, plain
from lib.spd.metrics import use
from lib.tensors import own_session
from lib.topoloss import TopoLoss
from lib.training import Recipe, evaluate, train

X = torch.randn(300, 8, generator=generator(0, "door"))
IMAGES, LABELS = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8), np.arange(40) % 3
QUIET = {"progress": False}


def linear(d_in: int, d_out: int) -> nn.Linear:
    layer = nn.Linear(d_in, d_out, dtype=torch.float32, device="cpu")
    with torch.no_grad():
        steps = torch.linspace(-1, 1, d_in * d_out, dtype=torch.float32, device="cpu")
        layer.weight.copy_(steps.reshape(d_out, d_in).sin())
        layer.bias.zero_()
    return layer


def coder(rule: str) -> Callable[[], float]:
    options = {"k": 2} if "k" in RULES[rule].model_fields and rule != "jumprelu" else {}
    return lambda: fit(SparseCoder(8, 16, rule, **options), X, steps=4, batch_size=64, resample_every=2, dead_after=64,
                       **QUIET).metrics["fvu"]


def reloaded(tmp_path) -> float:
    made = SparseCoder(8, 16, k=2)
    return float(load(made.save(tmp_path / "coder"))(X).detach().sum())


def classified() -> float:
    model = nn.Sequential(nn.Flatten(), linear(64, 3))
    return float(train(model, IMAGES, LABELS, Recipe(steps=3, batch=8), 0, device="cpu", **QUIET).table.loss.iloc[-1])


def decomposed() -> float:
    config = SPDConfig(4, steps=4, batch_size=16, warmup_steps=2)
    return float(decompose(Routed(linear(8, 4)), X, config, **QUIET).history.loss.iloc[-1])


def toy() -> float:
    density, importance = (torch.full((n,), v, dtype=torch.float32, device="cpu") for n, v in ((1, 0.3), (5, 1.0)))
    return float(train_grid(density, importance, 2, 2, 20, 64, generator(0, "toy")).loss.mean())


def sheet() -> float:
    model = nn.Sequential(linear(8, 16))
    return float(TopoLoss(model, "0", factor=2, permute=0)(model).detach())


ENTRIES = {**{rule: coder(rule) for rule in RULES}, "train": classified, "decompose": decomposed, "train_grid": toy,
           "TopoLoss": sheet}


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


class AsOnCuda(TorchFunctionMode):
    """Does what a default device of CUDA does to random factories: a generator of the CPU must be told the device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        factories = {torch.randn, torch.rand, torch.randint, torch.randperm, torch.normal}
        if func in factories and kwargs.get("generator") is not None and kwargs.get("device") is None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        return func(*args, **kwargs)


SESSIONS = {
    "float64": lambda: default_dtype(torch.float64), "bfloat16": lambda: default_dtype(torch.bfloat16),
    "device": AsOnCuda, "meta device": lambda: torch.device("meta"), "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode, "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.fixture(scope="module")
def plainly() -> dict[str, float]:
    return {name: call() for name, call in ENTRIES.items()}


ONE_OF_A_KIND = ("topk", "TopoLoss", "decompose")  # on the meta device, where what names no device has no values


@pytest.mark.parametrize(("entry", "session"), [(entry, session) for entry in ENTRIES for session in SESSIONS
                                                if session != "meta device" or entry in ONE_OF_A_KIND])
def test_the_callers_session_changes_nothing(plainly, entry, session):
    with SESSIONS[session]():
        if (entry, session) == ("train", "inference_mode"):  # its model is made there, and cannot be trained anywhere
            with pytest.raises(ValueError, match="made in inference mode"):
                ENTRIES[entry]()
            return
        found = ENTRIES[entry]()
    assert found == pytest.approx(plainly[entry], rel=2e-3 if (entry, session) == ("TopoLoss", "autocast") else 1e-6)


@pytest.mark.parametrize("session", ["float64", "bfloat16", "device"])
def test_a_coder_saved_and_loaded_is_the_same_in_any_session(tmp_path, session):
    plain = reloaded(tmp_path)
    with SESSIONS[session]():
        assert reloaded(tmp_path) == plain


def test_the_session_is_as_it_was_afterwards():
    with default_dtype(torch.float64), torch.no_grad():
        coder("topk")()
        assert torch.get_default_dtype() == torch.float64 and not torch.is_grad_enabled()


@pytest.mark.parametrize("given", ["array", "memory map", "store"])
def test_scale_and_start_are_measured_on_rows_from_everywhere(tmp_path, given):
    """Sorted data: the first half small and round one point, the second large and round another."""
    halves = [scale * (centre + torch.randn(12_000, 8, generator=generator(i, "half")))
              for i, (scale, centre) in enumerate([(0.1, -1.0), (10.0, 1.0)])]
    x, held = torch.cat(halves).numpy(), torch.cat([half[:50] for half in halves])
    if given == "memory map":
        np.save(tmp_path / "x.npy", x)
        x = np.load(tmp_path / "x.npy", mmap_mode="r")
    whole = (8 / np.square(np.asarray(x, dtype=np.float64)).sum(1).mean()) ** 0.5
    if given == "store":
        x = build(tmp_path / "store", {"rows": "sorted"}, torch.from_numpy(x).split(500).__iter__, dtype="float32")
    found = SparseCoder(8, 16, k=2)
    fit(found, x, steps=1, batch_size=32, held_out=held, **QUIET)
    assert float(found.scale) == pytest.approx(whole, rel=0.05)


def calls_with(folder) -> dict[str, Callable[[], object]]:
    """Everything that would write a file, or read one, at `folder`."""
    made = SparseCoder(8, 16, k=2)
    checkpoint = {"checkpoint": folder, **QUIET}
    return {
        "save": lambda: made.save(folder), "load": lambda: load(folder),
        "fit": lambda: fit(made, X, steps=3, batch_size=32, **checkpoint),
        "decompose": lambda: decompose(Routed(linear(8, 4)), X, SPDConfig(3, steps=3, batch_size=8), **checkpoint),
        "train": lambda: train(nn.Sequential(nn.Flatten(), linear(64, 3)), IMAGES, LABELS, Recipe(steps=3, batch=8), 0,
                               device="cpu", **checkpoint),
    }


@pytest.mark.parametrize("entry", ["save", "load", "fit", "decompose", "train"])
def test_a_folder_where_a_file_is_meant_is_refused_before_work(tmp_path, monkeypatch, entry):
    folder = tmp_path / "coder"
    save_saelens(SparseCoder(8, 16, k=2), folder)
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *_: pytest.fail("it trained first"))
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: pytest.fail("it trained first"))
    with pytest.raises(OSError, match=f"{folder}") as refused:
        calls_with(folder)[entry]()
    assert "folder" in str(refused.value) or "no sparse coder" in str(refused.value)
    with pytest.raises(OSError, match="is a file, not a folder|no sparse coder"):
        calls_with(folder / "cfg.json" / "x")[entry]()


def test_a_checkpoint_of_training_is_called_so_and_goes_on(tmp_path):
    path, options = tmp_path / "run.ckpt", {"batch_size": 64, "lr_warmup": 1, "sparsity_warmup": 1, **QUIET}
    fit(SparseCoder(8, 16, k=2), X, steps=4, checkpoint=path, **options)
    with pytest.raises(ValueError, match="is a checkpoint of a training.*fit.coder, data, checkpoint=path"):
        load(path)
    again = SparseCoder(8, 16, k=2)
    fit(again, X, steps=4, checkpoint=path, **options)  # the remedy
    assert torch.equal(load(again.save(tmp_path / "coder"))(X), again(X))


def saelens(folder, config: dict, **tensors: Tensor):
    """A folder as SAELens writes it."""
    save_file(tensors, folder / "sae_weights.safetensors")
    own = {"d_in": 6, "d_sae": 16, "apply_b_dec_to_input": True, "normalize_activations": "none"}
    (folder / "cfg.json").write_text(json.dumps(own | config))
    return folder


def weights() -> dict[str, Tensor]:
    rng = generator(0, "saelens")
    shapes = {"W_enc": (6, 16), "W_dec": (16, 6), "b_enc": (16,), "b_dec": (6,)}
    return {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}


def test_a_scaling_factor_of_ones_is_no_scaling(tmp_path):
    config = {"activation_fn_str": "relu", "finetuning_scaling_factor": False}
    t, x = weights(), torch.randn(9, 6, generator=generator(1, "saelens"))
    wanted = ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu() @ t["W_dec"] + t["b_dec"]
    found = load_saelens(saelens(tmp_path, config, **t, scaling_factor=torch.ones(16)))(x)
    torch.testing.assert_close(found.detach(), wanted, atol=1e-4, rtol=1e-4)
    finetuned = config | {"finetuning_scaling_factor": True}  # a flag that SAELens, too, drops beside ones
    assert torch.equal(load_saelens(saelens(tmp_path, finetuned, **t, scaling_factor=torch.ones(16)))(x), found)
    for other in (config, finetuned):
        with pytest.raises(ValueError, match="scaling_factor"):
            load_saelens(saelens(tmp_path, other, **t, scaling_factor=torch.full((16,), 2.0)))


@pytest.mark.parametrize("config", [{"architecture": "standard"},
                                    {"architecture": "topk", "k": 4, "rescale_acts_by_decoder_norm": True}])
def test_a_decoder_row_of_length_0_adds_nothing_and_stops_nothing(tmp_path, config):
    t = weights()
    t["W_dec"][5] = 0
    found = load_saelens(saelens(tmp_path, config, **t))
    x = torch.randn(500, 6, generator=generator(1, "saelens"))
    before = found(x).detach()
    assert before.isfinite().all()
    if config["architecture"] == "standard":
        silent = fit(found, x, steps=1, lr=1e-12, batch_size=64, **QUIET).coder
        torch.testing.assert_close(silent(x).detach(), before, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(silent.W_dec.norm(dim=1), torch.ones(16))


ZEROS = {"samples": (slice(None, None, 3),), "a dimension": (slice(None), 0), "all but one sample": (slice(1, None),)}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("what", ZEROS)
@pytest.mark.parametrize("normalise", [True, "sample"])
def test_zeros_in_the_data_stop_no_coder(rule, what, normalise):
    x, options = X.clone(), {"k": 2} if "k" in RULES[rule].model_fields and rule != "jumprelu" else {}
    x[ZEROS[what]] = 0
    done = fit(SparseCoder(8, 16, rule, **options), x, steps=6, batch_size=64, resample_every=2, dead_after=64,
               normalise=normalise, held_out=X[:50], **QUIET)
    assert all(p.isfinite().all() for p in (*done.coder.parameters(), done.coder(x)))
    with pytest.raises(ValueError, match="all the same, so there is no variance to explain; give others"):
        fit(SparseCoder(8, 16, rule, **options), torch.ones_like(x), steps=2, batch_size=64, **QUIET)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_without_a_spread_stops_no_coder(rule, batch):
    """Of one sample, or of two alike; all latents but two are dead at once, so that those are revived, too."""
    options = {"k": 2} if "k" in RULES[rule].model_fields and rule != "jumprelu" else {}
    x = X[:9].repeat_interleave(batch, 0) if batch == 1 else X[:1].expand(9, 8)
    done = fit(SparseCoder(8, 16, rule, **options), x, steps=9, batch_size=batch, dead_after=1, held_out=X[:50],
               **QUIET)
    assert all(p.isfinite().all() for p in done.coder.parameters())


@pytest.mark.parametrize("part", [(0,), (slice(None), 0), (...,)])
@pytest.mark.parametrize("zeros", [None, *ZEROS.values(), (...,)])
@pytest.mark.parametrize("divergence", ["mse", "kl"])
def test_zeros_in_a_network_or_its_inputs_stop_no_decomposition(part, zeros, divergence):
    layer, x, config = linear(8, 4), X.clone(), SPDConfig(4, steps=4, batch_size=16, warmup_steps=2)
    layer.weight.data[part] = 0
    if zeros:
        x[zeros] = 0
    done = decompose(Routed(layer), x, config.replace(divergence=divergence), **QUIET)
    assert all(np.isfinite(values).all() for values in done.decomposition.arrays().values())
    found = use(done.decomposition, done.decomposition.capture(x))["0"]
    assert (np.isinf(found.leftover), np.isnan(found.breadth)) == (part == (...,), zeros == (...,))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = linear(4, 4)

    def forward(self, hidden_states, mask=None):
        return self.q(hidden_states), None


class Block(nn.Module):
    def __init__(self, **named):
        super().__init__()
        self.attn, self.named = Attention(), named

    def forward(self, x):
        return self.attn(hidden_states=x, **self.named)[0] if self.named is not None else self.attn(x)[0]


@pytest.mark.parametrize("named", [{}, {"mask": 1}])
def test_the_first_argument_is_found_by_name_too(named):
    model, x = Block(**named), torch.randn(2, 3, 4)
    with capture(model, "attn", where="input") as found:
        model(x)
    assert torch.equal(found["attn"], x)
    with patch(model, {"attn": lambda t, name: 2 * t}, where="input"):
        torch.testing.assert_close(model(x), 2 * (x @ model.attn.q.weight.T))


def test_a_call_by_name_without_the_first_argument_says_so():
    class Odd(nn.Module):
        def forward(self, a=None, b=None):
            return b

    model = nn.Module()
    model.odd = Odd()
    with capture(model, "odd", where="input"), pytest.raises(TypeError, match="odd is called by keyword.*argument a"):
        model.odd(b=torch.ones(1))


def twice(model: nn.Module) -> nn.Module:
    return nn.DataParallel(nn.DataParallel(model))


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, twice])
def test_a_loss_of_the_bare_model_takes_the_wrapped_one_and_the_other_way_round(wrap):
    model = nn.Sequential(linear(8, 16), nn.ReLU(), linear(16, 16))
    bare = TopoLoss(model, ["0", "2"], factor=2)
    assert torch.equal(bare(wrap(model)), bare(model))
    assert torch.equal(TopoLoss(wrap(model), ["0", "2"], factor=2)(model), bare(model))


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager"), twice])
@pytest.mark.parametrize("called", ["wrapped", "bare"])
def test_activations_of_a_wrapped_model_are_seen_and_replaced_also_after_it_was_compiled(wrap, called):
    model, x = nn.Sequential(linear(8, 16), nn.ReLU(), linear(16, 4)), X[:5]
    wrapped = wrap(model)
    before = wrapped(x)
    given = wrapped if called == "wrapped" else model
    with capture(given, "0") as seen, patch(given, {"1": lambda t, name: 0 * t}):
        after = wrapped(x)
    torch.testing.assert_close(seen["0"], model[0](x).detach())
    assert not after.any() and torch.equal(wrapped(x), before)


def test_compiling_is_on_again_once_all_blocks_have_ended_in_whatever_order():
    from torch._dynamo.testing import CompileCounter

    counted, model = CompileCounter(), nn.Sequential(linear(8, 16))
    compiled = torch.compile(model, backend=counted)
    first, second = capture(model, "0"), capture(model, "0")
    first.__enter__()
    found = second.__enter__()
    first.__exit__(None, None, None)
    compiled(X[:5])
    assert counted.frame_count == 0 and len(found) == 1
    second.__exit__(None, None, None)
    compiled(X[:5])
    assert counted.frame_count == 1


@pytest.mark.parametrize("name", ["module.0", "_orig_mod.module.0"])
def test_a_name_that_counts_the_wrapper_is_told_without_it(name):
    wrapped = nn.DataParallel(nn.Sequential(linear(8, 16)))
    with pytest.raises(ValueError, match=f"no module matches '{name}'; .* inside the wrapper: write '0'"):
        capture(wrapped, name).__enter__()
    with capture(wrapped, "0"):
        pass


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager"), twice])
def test_a_wrapped_network_is_decomposed(wrap):
    config = SPDConfig(4, steps=4, batch_size=16, warmup_steps=2)
    bare, wrapped = (decompose(give(nn.Sequential(linear(8, 4))), X, config, **QUIET) for give in (lambda m: m, wrap))
    assert torch.equal(torch.tensor(bare.history.loss), torch.tensor(wrapped.history.loss))
    with pytest.raises(TypeError, match="Linear.forward has no second argument"):
        decompose(wrap(linear(8, 4)), X, config, **QUIET)


@dataclass
class Output:
    logits: Tensor


class Gives(nn.Module):
    def __init__(self, give):
        super().__init__()
        self.f, self.give = linear(64, 3), give

    def forward(self, x):
        return self.give(self.f(x.flatten(1)), self.training)


@pytest.mark.parametrize("give", [lambda y, t: Output(y), lambda y, t: {"logits": y}, lambda y, t: (y, y),
                                  lambda y, t: (y, y) if t else y, lambda y, t: y[0]])
def test_a_classifier_that_gives_no_logits_is_refused_before_a_step(monkeypatch, give):
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: pytest.fail("it trained first"))
    with pytest.raises(ValueError, match=r"must give logits \[B, classes\].*wrap it in a module whose forward returns"):
        train(Gives(give), IMAGES, LABELS, Recipe(steps=2, batch=8), 0, device="cpu", **QUIET)
    if not isinstance(give(torch.ones(2, 3), False), Tensor):
        with pytest.raises(ValueError, match="logits"):
            evaluate(Gives(give), IMAGES, LABELS)


plainly_written = (st.text("0a1tre,=[]\"-+. ", max_size=6) | st.integers(-2, 2) | st.floats(-2, 2) | st.booleans()
                   | st.sampled_from(["true", "null", "a-b", "1e-3", "X" * 90]) | st.none())
values = st.dictionaries(st.sampled_from(["a", "seeds", "lr"]), plainly_written | st.lists(plainly_written, max_size=2),
                         min_size=1)


@settings(deadline=None, max_examples=300)
@given(values, values)
def test_outputs_of_other_values_have_another_place_and_of_the_same_ones_the_same(one, other):
    label, again, others = (Request(Page("a_study"), "quick", dict(given)).label
                            for given in (one, reversed(one.items()), other))
    assert label == again and label.startswith("quick+") and "/" not in label and len(label) <= 86
    assert (label == others) == (json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True))


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 500), st.floats(1, 64))
def test_the_remedy_for_a_factor_too_large_works(n, factor):
    layer = nn.Sequential(nn.Linear(4, n))
    try:
        TopoLoss(layer, "0", factor=factor)
    except ValueError as refused:
        said = str(refused).rpartition("take ")[2].removeprefix("at most ").removesuffix(" or less")
        remedy = (1, int(said[4:-1])) if said[0] == "(" else int(said)
        assert 0 <= TopoLoss(layer, "0", factor=remedy)(layer) <= 2


class WithoutFloat64(TorchDispatchMode):
    """The device "meta" as one that has no float64, as Apple's GPUs."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(t, Tensor) and t.device.type == "meta" and t.dtype == torch.float64:
                raise TypeError("Cannot convert a tensor to float64 on this device, which has none")
        return out


@pytest.mark.parametrize("rule", RULES)
def test_a_coder_moves_to_a_device_without_float64(rule):
    with WithoutFloat64():
        SparseCoder(4, 8, rule, **({"k": 2} if "k" in RULES[rule].model_fields and rule != "jumprelu" else {}),
                    device="meta")
        moved = SparseCoder(4, 8, rule).to("meta") if "k" not in RULES[rule].model_fields else None
    assert moved is None or moved.scale.dtype == torch.float32


def test_the_operators_of_topoloss_come_to_a_device_without_float64():
    with WithoutFloat64():
        model = nn.Sequential(nn.Linear(8, 16)).to("meta")
        made = TopoLoss(model, "0", factor=2)._operator(["0"], model[0].weight)
    assert [part.dtype for part in made] == [torch.float32] * 2


def test_what_a_fit_is_given_stays_out_of_its_graph():
    layer = nn.Linear(8, 8)
    acts = layer(X).relu()
    fit(SparseCoder(8, 16, k=2), acts, steps=3, batch_size=64, **QUIET)
    leaf = X.clone().requires_grad_()
    fit(SparseCoder(8, 16, k=2), leaf, steps=2, batch_size=64, **QUIET)
    assert layer.weight.grad is None and leaf.grad is None


def test_a_refused_fit_can_be_made_as_it_says(tmp_path):
    options = {"steps": 3, "batch_size": 64, "checkpoint": tmp_path / "run.ckpt", **QUIET}
    fit(SparseCoder(8, 16, k=2), X, b_dec="zero", normalise=False, **options)
    again = SparseCoder(8, 16, k=2)
    with pytest.raises(ValueError, match="it differs in b_dec"):
        fit(again, X, normalise=False, **options)
    with pytest.raises(ValueError, match="it differs in .*normalise .False there"):
        fit(again, X, b_dec="zero", **options)
    fit(again, X, b_dec="zero", normalise=False, **options)
    with pytest.raises(ValueError, match="initial weights.*begin from the weights that it began from .make the model"):
        fit(again, X, b_dec="zero", normalise=False, **options)


def test_sessions_side_by_side_leave_the_default_dtype_to_the_caller():
    first, last = threading.Event(), threading.Event()
    seen = []

    def inside(mine: threading.Event, other: threading.Event) -> None:
        with own_session():
            mine.set()
            other.wait(10)
            seen.append(torch.get_default_dtype())

    with default_dtype(torch.float64):
        threads = [threading.Thread(target=inside, args=pair) for pair in ((first, last), (last, first))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert torch.get_default_dtype() == torch.float64 and seen == [torch.float32] * 2


@pytest.mark.parametrize(("spoil", "message"), [(lambda made: made.requires_grad_(False), "is frozen; coder.requires"),
                                                (lambda made: made.half(), "coder.float")])
def test_a_coder_that_cannot_train_is_refused_in_words(spoil, message):
    made = spoil(SparseCoder(8, 16, k=2))
    with pytest.raises(ValueError, match=message):
        fit(made, X, steps=2, batch_size=64, **QUIET)
    fit(made.float().requires_grad_(), X, steps=2, batch_size=64, **QUIET)  # the remedies


def test_a_coder_is_emptied_copied_and_moved_as_other_modules():
    made = SparseCoder(8, 16, k=2)
    assert made.to_empty(device="meta").W_dec.device.type == "meta"
    with torch.device("meta"):
        assert SparseCoder(8, 16, k=2).to("cpu").encode(X).device.type == "cpu"


@pytest.mark.parametrize("rule", ["topk", "jumprelu", "matching_pursuit"])
def test_decoder_rows_of_length_0_throughout_are_refused_in_words(rule):
    made = SparseCoder(8, 16, rule, **({} if rule == "jumprelu" else {"k": 2}))
    made.trained_on += 1
    made.W_dec.data.zero_()
    if rule == "jumprelu":  # its latents have a length of their own: all fall silent
        assert fit(made, X, steps=2, batch_size=64, **QUIET).metrics["fvu"] > 0
        return
    with pytest.raises(ValueError, match="decoder rows are 0 to 0 long"):
        fit(made, X, steps=2, batch_size=64, **QUIET)


def test_a_plain_sequential_and_an_array_are_decomposed_and_a_forward_without_op_is_told_how():
    config = SPDConfig(4, steps=4, batch_size=16, warmup_steps=2)
    layers = nn.Sequential(linear(8, 16), nn.ReLU(), linear(16, 4))
    ours = decompose(Routed(*layers), X, config, **QUIET)
    theirs = decompose(layers, X.double().numpy(), config, **QUIET)
    assert torch.equal(torch.tensor(ours.history.loss), torch.tensor(theirs.history.loss))
    assert list(theirs.decomposition.sites) == ["0", "2"]

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = linear(8, 4)

        def forward(self, x):
            return self.layer(x)

    with pytest.raises(TypeError, match=r"Own.forward has no second argument: give it `op=.*write op\("):
        decompose(Own(), X, config, **QUIET)
    Own.forward = lambda self, x, op=plain: op("layer", self.layer, x)
    assert list(decompose(Own(), X, config, **QUIET).decomposition.sites) == ["layer"]
