"""Training: what it learns, what it counts, what it refuses, and that a killed run continues bit for bit."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lib import checkpoints
from lib.activations.store import build
from lib.files import ROOT
from lib.rng import generator
from lib.sparse_coders import FitOptions, SparseCoder, fit, load, starts, table, trainee, trainer
from lib.sparse_coders.inputs import SampleBatches
from lib.sparse_coders.losses import Moment, loss
from lib.sparse_coders.starts import resample

SCRIPT = Path(__file__).with_name("resumed_training.py")


def planted(n=4000, n_features=24, d=12, seed=0):
    """Sparse sums of unit directions; x [n, d] and the directions [n_features, d]."""
    rng = generator(seed, "planted")
    directions = torch.nn.functional.normalize(torch.randn(n_features, d, generator=rng), dim=1)
    amounts = torch.rand(n, n_features, generator=rng) * (torch.rand(n, n_features, generator=rng) < 0.06)
    return amounts @ directions, directions


X, DIRECTIONS = planted()
NAN, ONE_CHANGED = X.clone(), X.clone()
NAN[17, 3], ONE_CHANGED[3333, 7] = torch.nan, 0.5
QUICK = {"steps": 40, "batch_size": 128, "progress": False}


def test_six_lines_train_a_coder_on_a_numpy_array(tmp_path):
    x = X.numpy()
    coder = SparseCoder(d_in=12, n_latents=48, k=3)
    result = fit(coder, x, steps=600, batch_size=256, lr=3e-3, progress=False)
    coder.save(tmp_path / "coder.safetensors")
    assert torch.equal(load(tmp_path / "coder.safetensors")(x[:5]), coder(x[:5]))
    assert result.coder is coder and result.metrics["fvu"] < 0.15 and result.metrics["l0"] <= 3
    assert "fvu" in repr(result) and "history" not in repr(result)
    found = (DIRECTIONS @ coder.W_dec.detach().T).amax(1)
    chance = (DIRECTIONS @ SparseCoder(12, 48, k=3, seed=5).W_dec.detach().T).amax(1)
    assert found.mean() > 0.93 > chance.mean() + 0.1


LEARNING = [
    ("relu", {"l1": 0.3}), ("relu", {"l1": 0.3, "l1_norm": "decoder"}), ("p_anneal", {"l1": 0.3}),
    ("gated", {"l1": 0.3}), ("topk", {"k": 3}), ("batch_topk", {"k": 3}), ("matryoshka", {"k": 3}),
    ("abs_topk", {"k": 3, "k_min": 1}), ("jumprelu", {"l0": 0.3}), ("jumprelu", {"l0": 0.3, "penalty": "tanh"}),
    ("jumprelu", {"l0": 10.0, "penalty": "target_l0", "k": 3}), ("stochastic", {"l1": 0.3}),
    ("matching_pursuit", {"k": 3}),
]
KINDS = [(*case, "sae") for case in LEARNING] + [(*case, "skip") for case in LEARNING[:-1]]


@pytest.mark.parametrize(("rule", "options", "kind"), KINDS, ids=str)
def test_every_rule_learns_as_autoencoder_and_skip_transcoder(rule, options, kind):
    size = {"d_out": 12, "skip": True} if kind == "skip" else {}
    target = X.relu() if kind == "skip" else None
    coder = SparseCoder(12, 48, rule, **options, **size)
    result = fit(coder, X, target=target, steps=400, batch_size=256, lr=3e-3, progress=False)
    assert result.metrics["fvu"] < 0.5 and 0 < result.metrics["l0"] < 20
    losses = result.history["reconstruction"]
    assert losses.iloc[-1] < 0.7 * losses.iloc[0]
    norms = coder.W_dec.detach().norm(dim=1)
    assert torch.allclose(norms, torch.ones(48), atol=1e-5) == (options.get("l1_norm") != "decoder")


def test_a_target_l0_is_met():
    coder = SparseCoder(12, 48, "jumprelu", l0=30.0, penalty="target_l0", k=4)
    result = fit(coder, X, steps=800, batch_size=256, lr=3e-3, progress=False)
    assert result.metrics["l0"] == pytest.approx(4, abs=1)


def test_the_batch_threshold_gives_about_k_latents_at_inference():
    result = fit(SparseCoder(12, 48, "batch_topk", k=3), X, steps=400, batch_size=256, lr=3e-3, progress=False)
    assert result.metrics["l0"] == pytest.approx(3, abs=0.5)


def test_scale_and_bias_come_from_the_first_data():
    coder = SparseCoder(12, 48, k=3)
    x = 7 * X + 2
    starts.start(coder, x, None, FitOptions())
    scaled = x * coder.scale
    assert scaled.square().sum(1).mean().item() == pytest.approx(12) and coder.target_scale == coder.scale
    assert torch.allclose(coder.b_dec, scaled.mean(0).float(), atol=1e-5)
    both = SparseCoder(12, 48, k=3, d_out=3)
    starts.start(both, x, 100 * X[:, :3], FitOptions(b_dec="zero"))
    assert (100 * X[:, :3] * both.target_scale).square().sum(1).mean().item() == pytest.approx(3)
    assert both.scale == coder.scale and not both.b_dec.any()


@pytest.mark.parametrize("rule", ["topk", "batch_topk", "jumprelu"])
def test_normalising_samples_is_training_on_samples_of_one_length(rule):
    """Whatever their lengths were: the coder of x / |x| sqrt(d), with recons multiplied back; a 0 does no harm."""
    lengths = 0.1 + 10 * torch.rand(len(X), 1, generator=generator(0, "lengths"))
    alive = X.norm(dim=1, keepdim=True) > 0
    unit = torch.where(alive, X / X.norm(dim=1, keepdim=True) * 12**0.5, 0)
    setting = QUICK | {"lr": 3e-3, "b_dec": "zero"}
    own = fit(SparseCoder(12, 48, rule, dtype=torch.float64), lengths * X, normalise="sample", **setting)
    given = fit(SparseCoder(12, 48, rule, dtype=torch.float64), unit, normalise=False, **setting)
    assert not alive.all() and own.coder.per_sample and not given.coder.per_sample
    for name, tensor in own.coder.named_parameters():
        assert torch.allclose(tensor, given.coder.state_dict()[name], atol=1e-6), name
    back = given.coder(unit) * (lengths * X).norm(dim=1, keepdim=True) / 12**0.5
    assert torch.allclose(own.coder(lengths * X)[alive[:, 0]], back[alive[:, 0]], atol=1e-5)
    assert all(map(np.isfinite, own.metrics.values())) and own.coder(lengths * X).isfinite().all()


def test_a_transcoders_target_is_divided_by_the_length_of_its_input():
    lengths = 0.1 + torch.rand(len(X), 1, generator=generator(0, "lengths"))
    x = X + 1  # none is 0
    setting = QUICK | {"lr": 3e-3, "normalise": False}
    coders = [SparseCoder(12, 48, "relu", d_out=12, skip=True, per_sample=own) for own in (True, False)]
    size = (lengths * x).norm(dim=1, keepdim=True) / 12**0.5
    given = [(lengths * x, lengths * x.relu()), (lengths * x / size, lengths * x.relu() / size)]
    for coder, (data, target) in zip(coders, given, strict=True):
        fit(coder, data, target=target, **setting)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*(c.parameters() for c in coders), strict=True))


def test_normalised_samples_set_where_the_bias_starts_and_what_shares_a_table():
    coder, x = SparseCoder(12, 48, k=3), (X + 1) * torch.linspace(1, 9, len(X))[:, None]
    starts.start(coder, x, None, FitOptions(normalise="sample"))
    unit = x / x.norm(dim=1, keepdim=True) * 12**0.5
    assert coder.per_sample and torch.allclose(coder.b_dec, unit.mean(0), atol=1e-5)
    starts.start(other := SparseCoder(12, 48, k=3), x, None, FitOptions())
    trainees = [trainee.Trainee(each, FitOptions(batch_size=64), 0) for each in (coder, other)]
    assert len(table.group(trainees)) == 2 and len(table.group(trainees[:1] * 2)) == 1


def test_normalised_samples_go_through_store_checkpoint_and_file(tmp_path):
    stored = build(tmp_path / "store", {"what": "planted"}, lambda: X.split(1000))
    setting = QUICK | {"normalise": "sample", "checkpoint": tmp_path / "c.pt"}
    first = fit(SparseCoder(12, 48, "batch_topk", k=3), stored, **setting)
    again = fit(SparseCoder(12, 48, "batch_topk", k=3), stored, **setting)
    back = load(first.coder.save(tmp_path / "coder.safetensors"))
    assert back.per_sample and torch.equal(back(X), again.coder(X)) and again.metrics == first.metrics
    fit(back, X, **QUICK)  # it keeps what it was trained with
    assert back.per_sample
    with pytest.raises(ValueError, match="was trained without normalise=\"sample\""):
        fit(fit(SparseCoder(12, 48, k=3), X, **QUICK).coder, X, normalise="sample", **QUICK)
    with pytest.raises(ValueError, match="rows of length 1"):
        back.W_dec.data.mul_(2)
        fit(back, X, **QUICK)


def test_training_again_keeps_scale_and_bias():
    coder = SparseCoder(12, 48, k=3)
    fit(coder, X, **QUICK)
    scale = coder.scale.clone()
    fit(coder, 5 * X, **QUICK)
    assert coder.scale == scale and coder.trained_on == 2 * 40 * 128


@pytest.mark.parametrize("options", [{}, {"context": 4}, {"d_out": 12, "skip": True}])
def test_a_folded_coder_trains_on_from_where_it_was(options):
    size = 12 - options.get("context", 0)
    coder, target = SparseCoder(size, 48, k=3, **options), X.relu() if "d_out" in options else None
    before = fit(coder, 5 * X, target=target, steps=200, batch_size=256, progress=False).metrics["fvu"]
    latents, recons = coder.encode(X), coder(X)
    coder.fold_scale()
    after = fit(coder, 5 * X, target=target, steps=1, lr=1e-9, progress=False).metrics["fvu"]
    assert after == pytest.approx(before, abs=1e-5) and coder.target_scale != 1
    assert torch.allclose(coder.encode(X), latents, atol=1e-4) and torch.allclose(coder(X), recons, atol=1e-4)
    with torch.no_grad():
        coder.W_dec[0] *= 2
    with pytest.raises(ValueError, match="decoder rows are 1 to 2 long; rule topk trains rows of length 1"):
        fit(coder, X, target=target, **QUICK)


@pytest.mark.parametrize("rule", ["relu", "gated", "jumprelu"])
def test_a_decoder_with_rows_of_many_lengths_gives_them_to_its_latents(rule):
    coder = SparseCoder(12, 48, rule)
    fit(coder, X, **QUICK)
    with torch.no_grad():
        coder.W_dec.mul_(torch.linspace(0.5, 2, 48)[:, None])
    latents, recons = coder.encode(X), coder(X)
    starts.start(coder, X, None, FitOptions())
    assert torch.allclose(coder.W_dec.norm(dim=1), torch.ones(48)) and torch.allclose(coder(X), recons, atol=1e-5)
    assert torch.allclose(coder.encode(X), latents * torch.linspace(0.5, 2, 48), atol=1e-5)


def test_neither_coder_nor_training_touches_the_global_stream():
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    for rule in ("topk", "stochastic"):
        fit(SparseCoder(12, 48, rule), X, resample_every=10, dead_after=100, **QUICK)
    assert torch.equal(states[0], torch.get_rng_state()) and (states[1] == np.random.get_state()[1]).all()


def test_schedules():
    plan = FitOptions(steps=100, lr_decay=0.2)
    assert (plan.lr_warmup, plan.sparsity_warmup) == (10, 20)
    assert [plan.lr_factor(step) for step in (0, 4, 9, 50, 80, 90, 99)] == pytest.approx([0.1, 0.5, 1, 1, 1, 0.5, 0.05])
    assert [plan.moment(step, None, None).sparsity for step in (0, 9, 19, 99)] == pytest.approx([0.05, 0.5, 1, 1])
    assert trainee.default_lr(2**14) == 2e-4 and trainee.default_lr(2**12) == 4e-4


def test_the_decoders_parallel_gradient_is_removed_and_the_rest_kept():
    coder = SparseCoder(12, 48, k=3)
    loss(coder, X[:64]).total.backward()
    before, rows = coder.W_dec.grad.clone(), coder.W_dec.detach()
    trainee.remove_parallel(coder)
    along = (before * rows).sum(1, keepdim=True) * rows
    assert along.abs().max() > 1e-3 and (coder.W_dec.grad * rows).sum(1).abs().max() < 1e-6
    assert torch.allclose(coder.W_dec.grad, before - along)


def test_samples_since_fired_are_exact_to_the_batch():
    coder = SparseCoder(12, 48, k=1)
    plan = FitOptions(steps=5, batch_size=32, lr=1e-3, lr_warmup=1, dead_after=64, log_every=1)
    one = trainee.Trainee(coder, plan, 0)
    last = torch.zeros(48, dtype=torch.int64)
    for step in range(5):
        x = X[step * 32 : (step + 1) * 32]
        last[(coder.encode(x) != 0).any(0)] = (step + 1) * 32
        one.step(step, x, None)
    assert torch.equal(one.since, 160 - last) and one.since.max() == 160 > one.since.min() == 0
    assert one.dead().tolist() == (one.since >= 64).nonzero()[:, 0].tolist()
    metrics = one.metrics(X[-50:], None)
    assert metrics["dead_window"] == 64 and metrics["dead_fraction"] == (one.since >= 64).double().mean()


def test_auxk_revives_dead_latents():
    def used(aux):
        coder = SparseCoder(12, 48, k=3, aux=aux)
        with torch.no_grad():
            coder.b_enc[24:] = -3  # half of the latents start where others win
        fit(coder, X, steps=300, batch_size=256, lr=3e-3, dead_after=2000, progress=False)
        return (coder.encode(X) != 0).any(0)[24:].sum()

    assert used(aux=1 / 32) > 1.5 * used(aux=0.0)


def test_resampling_points_dead_latents_at_what_is_missed_and_zeroes_their_moments():
    for options in ({"rule": "topk", "k": 3}, {"rule": "jumprelu"}, {"rule": "topk", "k": 3, "d_out": 12}):
        coder = SparseCoder(12, 48, **options)
        optimizer = trainee.adam(list(coder.parameters()), 1e-3)
        y = X[:256] if coder.is_transcoder else None
        loss(coder, X[:256], y).total.backward()
        optimizer.step()
        dead, before = torch.tensor([3, 7]), coder.W_enc.detach().clone()
        residual = X[:256] - coder.reconstruct(coder.rule.latents(coder, X[:256]), X[:256]).detach()
        resample(coder, optimizer, dead, X[:256], y, generator(0, "resample"))
        cosines = torch.nn.functional.normalize(residual, dim=1) @ coder.W_dec[dead].detach().T
        assert torch.allclose(cosines.amax(0), torch.ones(2), atol=1e-5)
        living = [j for j in range(48) if j not in (3, 7)]
        fifth = 0.2 * before[living].norm(dim=1).mean()
        assert not coder.b_enc[dead].any() and torch.allclose(coder.W_enc[dead].norm(dim=1), fifth)
        assert torch.equal(coder.W_enc[living], before[living])
        for name in ("W_enc", "b_enc", "W_dec", *coder.rule.per_latent):
            for moment in ("exp_avg", "exp_avg_sq"):
                state = optimizer.state[getattr(coder, name)][moment]
                assert not state[dead].any() and state[living].any()


def test_every_epoch_visits_every_training_row_once_in_its_own_order():
    x = torch.arange(100.0)[:, None]
    batches = SampleBatches(x, None, 20, 10, seed=0)
    epochs = [[batches[step][0][:, 0].tolist() for step in range(e * 8, e * 8 + 8)] for e in range(2)]
    held = batches.held[0][:, 0].tolist()
    flat = [sum(epoch, []) for epoch in epochs]
    assert sorted(flat[0] + held) == sorted(flat[1] + held) == list(range(100)) and flat[0] != flat[1]
    again, other = SampleBatches(x, None, 20, 10, seed=0), SampleBatches(x, None, 20, 10, seed=1)
    assert again[11][0][:, 0].tolist() == epochs[1][3]  # straight to the middle of the second epoch
    assert other.held[0][:, 0].tolist() == held and other[0][0].tolist() != again[0][0].tolist()


def test_arrays_stores_and_half_precision_give_the_same_training():
    class Store:
        def __len__(self):
            return len(X)

        def batch(self, indices):
            return X.half()[indices]

    sources = [X.half(), X.half().numpy(), Store(), X.half().numpy().astype(np.float64)]
    sources += [X.half().numpy().astype(">f4"), X.half().flip(1).numpy()[:, ::-1]]  # big-endian, and read backwards
    weights = [fit(SparseCoder(12, 48, k=3), source, **QUICK).coder.W_enc for source in sources]
    assert all(torch.equal(weights[0], other) for other in weights[1:])


def test_a_coder_trains_from_an_activation_store_as_from_its_array(tmp_path):
    store = build(tmp_path / "store", {"what": "planted"}, lambda: X.split(1000))
    setting = QUICK | {"checkpoint": tmp_path / "c.pt"}
    result = fit(SparseCoder(12, 48, k=3), store, **setting)
    assert torch.equal(result.coder.W_enc, fit(SparseCoder(12, 48, k=3), X.half().float(), **QUICK).coder.W_enc)
    changed = X.clone()
    changed[1234, 5] += 1
    other = build(tmp_path / "other", {"what": "planted, but for one value"}, lambda: changed.split(1000))
    with pytest.raises(ValueError, match="differs in data"):
        fit(SparseCoder(12, 48, k=3), other, **setting)


def test_seeds_decide_and_repeat():
    weights = [fit(SparseCoder(12, 48, k=3), X, seed=seed, **QUICK).coder.W_enc for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_given_samples_are_the_ones_it_is_judged_on():
    coder = SparseCoder(12, 48, k=3)
    held = planted(500, seed=1)[0]
    result = fit(coder, X, held_out=held, **QUICK)
    error = (coder(held) - held).square().sum() / (held - held.mean(0)).square().sum()
    assert result.metrics["fvu"] == pytest.approx(error.item(), rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"d_out": 12, "skip": True}, {"context": 4}])
def test_a_table_of_coders_equals_the_coders_one_by_one(options, monkeypatch):
    def coders():
        size = 12 - options.get("context", 0)
        return [SparseCoder(size, 48, k=k, seed=k, dtype=torch.float64, aux=0.5, **options) for k in (1, 2, 5)]

    target = X.relu() if "d_out" in options else None
    setting = QUICK | {"target": target, "dead_after": 500}
    together = fit(coders(), X, **setting)
    monkeypatch.setattr(table, "UP_TO", 0)
    alone = fit(coders(), X, **setting)
    assert any(result.history["aux"].max() > 0 for result in alone)
    for one, other in zip(together, alone, strict=True):
        for name, tensor in other.coder.state_dict().items():
            assert torch.allclose(one.coder.state_dict()[name], tensor, rtol=1e-7, atol=1e-9), name
        assert np.allclose(one.history, other.history) and one.metrics == pytest.approx(other.metrics)


def test_coders_own_their_weights_after_a_table():
    coders = [SparseCoder(12, 48, k=2, seed=s) for s in range(2)]
    fit(coders, X, **QUICK)
    storages = {p.untyped_storage().data_ptr() for coder in coders for p in coder.parameters()}
    assert len(storages) == 8 and coders[0].W_enc.untyped_storage().nbytes() == 48 * 12 * 4


def test_bf16_training_keeps_float32_parameters_and_learns():
    for rule, options in (("topk", {"k": 3}), ("relu", {"l1": 0.3})):
        coder = SparseCoder(12, 48, rule, **options)
        result = fit(coder, X, steps=300, batch_size=256, lr=3e-3, precision="bf16", progress=False)
        assert coder.W_enc.dtype == torch.float32 and result.metrics["fvu"] < 0.4


def test_an_interrupted_training_with_resampling_continues_bit_for_bit(tmp_path):
    class Store:
        left = 10**9

        def __len__(self):
            return len(X)

        def batch(self, indices):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
            return X[indices]

    setting = QUICK | {"resample_every": 15, "dead_after": 300, "checkpoint_every": 10}
    coder, store = SparseCoder(12, 48, k=1), Store()
    whole = fit(coder, store, checkpoint=tmp_path / "whole.pt", **setting)
    store.left = 30  # four reads before the first step
    with pytest.raises(KeyboardInterrupt):
        fit(SparseCoder(12, 48, k=1), store, checkpoint=tmp_path / "cut.pt", **setting)
    assert torch.load(tmp_path / "cut.pt", weights_only=True)["step"] == 20
    store.left = 10**9
    again = fit(SparseCoder(12, 48, k=1), store, checkpoint=tmp_path / "cut.pt", **setting)
    plain = fit(SparseCoder(12, 48, k=1), X, **setting | {"resample_every": None})
    assert all(map(torch.equal, coder.state_dict().values(), again.coder.state_dict().values()))
    assert whole.history.equals(again.history) and not torch.equal(plain.coder.W_enc, coder.W_enc)


def launch(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, SCRIPT, *map(str, arguments)], env=environment)


@pytest.mark.slow
def test_a_killed_training_continues_bit_for_bit(tmp_path):
    whole = launch(tmp_path / "whole.pt", tmp_path / "whole.out")
    checkpoint = tmp_path / "killed.pt"
    victim = launch(checkpoint, tmp_path / "killed.out", 0.1)
    wait_for_step(checkpoint, 14)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL and not (tmp_path / "killed.out").exists()
    done = torch.load(checkpoint, weights_only=True)["step"]
    assert 14 <= done < 60
    assert launch(checkpoint, tmp_path / "killed.out").wait() == whole.wait() == 0
    expected, found = (torch.load(tmp_path / f"{name}.out", weights_only=True) for name in ("whole", "killed"))
    assert len(expected) == len(found) == 9
    for one, other in zip(expected, found, strict=True):
        assert len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def wait_for_step(checkpoint, step):
    for _ in range(600):
        time.sleep(0.1)
        if checkpoint.exists() and torch.load(checkpoint, weights_only=True)["step"] >= step:
            return
    raise TimeoutError("no checkpoint appeared")


def test_a_finished_training_is_not_repeated(tmp_path):
    setting = QUICK | {"checkpoint": tmp_path / "c.pt", "checkpoint_every": 10}
    first = fit(SparseCoder(12, 48, k=3), X, **setting)
    written = (tmp_path / "c.pt").stat().st_mtime_ns
    again = fit(SparseCoder(12, 48, k=3), X, **setting)
    assert torch.equal(first.coder.W_enc, again.coder.W_enc) and again.history.equals(first.history)
    assert again.metrics == first.metrics and (tmp_path / "c.pt").stat().st_mtime_ns == written


LONGER = QUICK | {"steps": 70, "lr_warmup": 4, "sparsity_warmup": 8}


@pytest.mark.parametrize("rule", ["topk", "jumprelu", "stochastic"])
def test_a_finished_training_is_extended_to_the_training_of_that_length(rule, tmp_path):
    path = tmp_path / "c.pt"
    fit([SparseCoder(12, 48, rule, seed=s) for s in range(2)], X, checkpoint=path, **QUICK)
    longer, whole = (fit([SparseCoder(12, 48, rule, seed=s) for s in range(2)], X, **LONGER, **own)
                     for own in ({"checkpoint": path}, {}))
    for one, other in zip(longer, whole, strict=True):
        assert all(map(torch.equal, one.coder.state_dict().values(), other.coder.state_dict().values()))
        assert one.history.equals(other.history) and one.metrics == other.metrics


@pytest.mark.parametrize(
    ("rule", "options", "spread"),
    [("p_anneal", {}, "rule p_anneal"), ("batch_topk", {}, "rule batch_topk"), ("topk", {"lr_decay": 0.2}, "lr_decay")],
)
def test_what_is_spread_over_all_of_training_keeps_it_from_being_extended(rule, options, spread, tmp_path):
    setting = LONGER | options | {"checkpoint": tmp_path / "c.pt"}
    fit(SparseCoder(12, 48, rule), X, **setting | {"steps": 40})
    with pytest.raises(ValueError, match=rf"steps \(40 there\), and {spread} spreads over all of them; to train"):
        fit(SparseCoder(12, 48, rule), X, **setting)


def test_a_long_average_of_thresholds_does_not_depend_on_how_long_training_is(tmp_path):
    training = trainer.Fitting([SparseCoder(12, 48, "batch_topk")], SampleBatches(X, None, None, 128, 0),
                               FitOptions(steps=40_000))
    assert training.spread(20_000) == [] and training.spread(10_000) == ["rule batch_topk"]


@pytest.mark.parametrize(
    ("coder", "data", "options", "problem"),
    [
        ({"k": 4}, X, {}, "differs in coder 0"),
        ({"seed": 1}, X, {}, "differs in coder 0 .*, initial weights"),
        ({}, X + 1, {}, "differs in data"),
        ({}, ONE_CHANGED, {}, "differs in data"),
        ({}, X, {"steps": 60}, r"differs in lr_warmup \(4 there\), sparsity_warmup \(8 there\), steps \(40 there\);"),
        ({}, X, {"seed": 1}, r"differs in seed \(0 there\)"),
        ({}, X, {"lr": 1e-3}, r"differs in lr \(None there\)"),
        ({}, X, {"extra_loss": lambda coder, step: coder.b_dec.sum()}, r"differs in extra loss \(None there\)"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(coder, data, options, problem, tmp_path):
    path = tmp_path / "c.pt"
    fit(SparseCoder(12, 48, k=3), X, checkpoint=path, **QUICK)
    with pytest.raises(ValueError, match=problem) as caught:
        fit(SparseCoder(12, 48, **{"k": 3} | coder), data, checkpoint=path, **QUICK | options)
    assert str(path) in str(caught.value) and "use another file or delete it" in str(caught.value)


def test_a_checkpoint_of_a_loss_that_differs_at_one_step_is_refused(tmp_path):
    def fitted(at):
        fit(SparseCoder(12, 48, k=3), X, extra_loss=lambda coder, step: coder.W_dec.sum() * (step == at),
            checkpoint=tmp_path / "c.pt", **QUICK)

    fitted(None)
    with pytest.raises(ValueError, match="differs in extra loss"):
        fitted(5)


@pytest.mark.parametrize("content", [b"", b"abc", b"no checkpoint", b"\x80\x02.", None])
def test_a_broken_checkpoint_is_refused(content, tmp_path):
    path = tmp_path / "c.pt"
    fit(SparseCoder(12, 48, k=3), X, checkpoint=path, **QUICK)
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(ValueError, match="c.pt is not a whole checkpoint .*; delete it"):
        fit(SparseCoder(12, 48, k=3), X, checkpoint=path, **QUICK)


def test_a_flipped_bit_in_a_checkpoint_is_never_trained_from(tmp_path):
    path, states = tmp_path / "c.pt", [{"weights": torch.arange(600.0), "rng": torch.arange(9), "tokens": 5}]
    checkpoints.write(path, 3, states, identity={"seed": 0})
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 23):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            kept = checkpoints.read(path)
        except ValueError as error:
            refused += "delete it" in str(error)
        else:  # the padding of the archive
            assert kept["step"] == 3 and kept["identity"] == {"seed": 0}
            assert checkpoints.content_digest(kept["states"]) == checkpoints.content_digest(states)
    assert refused > 600 * 4 / 23


def test_a_checkpoint_keeps_its_last_good_state_when_training_diverges(tmp_path):
    path = tmp_path / "c.pt"
    setting = {"normalise": False, "b_dec": "zero", "held_out": X[:50], "checkpoint": path, "checkpoint_every": 1}

    class Store:
        reads = 0

        def __len__(self):
            return len(X)

        def batch(self, indices):
            self.reads += 1
            return X[indices] * (torch.nan if self.reads == 13 else 1)

    with pytest.raises(ValueError, match="the loss of step 9 is nan, so that .*c.pt was not written; lower lr"):
        fit(SparseCoder(12, 48, k=3), Store(), **QUICK | setting)
    kept = torch.load(path, weights_only=True)
    assert kept["step"] == 9 and all(t.isfinite().all() for t in kept["states"][0]["model"].values())



@pytest.mark.parametrize(
    ("data", "options", "error", "problem"),
    [
        (NAN, {}, ValueError, "data has NaN or infinite values, first in row 17"),
        (X[:, :5], {}, ValueError, "data is 5 wide, this coder reads 12 columns"),
        (X[0], {}, ValueError, r"data must be \[n_samples, width\]"),
        (X.long(), {}, TypeError, "data must be floating point, got torch.int64"),
        ([[1.0]], {}, TypeError, "a NumPy array, a torch tensor or a store with batch"),
        (torch.zeros(100, 12), {"held_out": X[:50]}, ValueError, "all zero"),
        (torch.zeros(100, 12), {}, ValueError, "the 5 held-out samples are all the same"),
        (X, {"target": X}, ValueError, "an autoencoder takes no target"),
        (X, {"target": X[:5]}, ValueError, "data has 4000 samples and target 5"),
        (X, {"steps": 0}, ValueError, "fit: steps: input should be greater than or equal to 1"),
        (X, {"batch_size": 2.5}, ValueError, "fit: batch_size: input should be a valid integer"),
        (X, {"lr": "a"}, ValueError, "lr: input should be a valid number, got 'a'"),
        (X, {"clip": "a"}, ValueError, "clip: input should be a valid number, got 'a'"),
        (X, {"lr": -1.0}, ValueError, "lr: input should be greater than 0"),
        (X, {"lr_decay": 2.0}, ValueError, "lr_decay: input should be less than or equal to 1"),
        (X, {"clip": 0}, ValueError, "clip: input should be greater than 0"),
        (X, {"b_dec": "median"}, ValueError, "b_dec: input should be 'mean' or 'zero'"),
        (X, {"precision": "fp8"}, ValueError, "precision: input should be 'float32' or 'bf16'"),
        (X, {"held_out": 4000}, ValueError, "held_out 4000 is outside 2 to 3999"),
        (X, {"held_out": X[:5, :3]}, ValueError, "held_out samples are 3 wide, the training samples 12"),
        (X, {"held_out": X[:1].expand(9, -1)}, ValueError, "the 9 held-out samples are all the same"),
        (X, {"held_out": NAN[:20]}, ValueError, "held_out has NaN or infinite values, first in row 17"),
        (X, {"checkpoint_every": 0}, ValueError, "checkpoint_every: input should be"),
        (X, {"epochs": 3}, ValueError, "fit has no option epochs; it has .*, steps, batch_size, lr"),
        (X, {"resample_every": 0}, ValueError, "resample_every: input should be"),
    ],
)
def test_data_and_options_that_cannot_be_are_refused(data, options, error, problem):
    with pytest.raises(error, match=problem):
        fit(SparseCoder(12, 48, k=3), data, **QUICK | options)


def test_coders_that_cannot_train_together_are_refused():
    one = SparseCoder(12, 48, k=3)
    refusals = [([one, one], "one coder twice"), ([], "needs a SparseCoder"), (["x"], "'str'"), (7, "'int'")]
    for coders, problem in refusals:
        with pytest.raises(ValueError, match=problem):
            fit(coders, X, **QUICK)
    with pytest.raises(ValueError, match="a transcoder .* needs a target"):
        fit([one, SparseCoder(12, 48, k=3, d_out=4)], X, **QUICK)
    with pytest.raises(ValueError, match="target is 3 wide, this coder writes 4 columns"):
        fit(SparseCoder(12, 48, k=3, d_out=4), X, target=X[:, :3], **QUICK)


def test_a_diverged_training_stops_with_its_step(monkeypatch):
    class Store:
        def __len__(self):
            return 1000

        def batch(self, indices):
            return torch.where((indices == 500)[:, None], torch.nan, X[indices])

    setting = QUICK | {"held_out": X[:50], "normalise": False, "b_dec": "zero"}
    with pytest.raises(ValueError, match="data has NaN or infinite values, in row 500"):
        fit(SparseCoder(12, 48, k=3), Store(), **setting)
    monkeypatch.setattr("lib.sparse_coders.inputs.FIRST", 64)
    with pytest.raises(ValueError, match="training diverged: the loss of step .* is nan; .* look for NaN in the data"):
        fit(SparseCoder(12, 48, k=3), Store(), **setting)


def test_nan_in_a_memory_map_is_named_before_training(tmp_path):
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(600, 12))
    x[:] = X[:600]
    held = torch.randperm(600, generator=generator(0, "held out"))[:30]
    for row in (int(held[3]), next(i for i in range(600) if i not in held)):
        value, x[row, 2] = x[row, 2], np.inf
        with pytest.raises(ValueError, match=f"data has NaN or infinite values, in row {row} at least"):
            fit(SparseCoder(12, 48, k=3), x, **QUICK)
        x[row, 2] = value


def test_a_moment_defaults_to_full_sparsity_at_the_start():
    assert Moment() == Moment(1.0, 0.0, None, None, 0.999, False)
