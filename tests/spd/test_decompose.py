"""Training: a known answer is found, a killed run continues bit for bit, seeds side by side are seeds alone."""
import os
import signal
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lib.files import ROOT
from lib.rng import generator
from lib.spd import Routed, SPDConfig, decompose
from lib.spd.gates import GATES
from lib.spd.metrics import identity_error, one_hot_importance, recovery
from lib.spd.targets import ToyModel, toy_draw
from lib.studies.spd_causal_graphs.mlp import MLP

SCRIPT = Path(__file__).with_name("resumed_decomposition.py")
QUICK = SPDConfig(n_components=6, steps=12, batch_size=64, warmup_steps=5)


def small_target():
    rng = generator(0, "target")
    return ToyModel(torch.randn(2, 5, generator=rng), torch.randn(5, generator=rng))


def trained(seed, **options):
    return decompose(small_target(), toy_draw(5), QUICK, seed, log_every=3, **options)


def test_result_and_history():
    result = trained(0, snapshot_at=(0, 6, 12))
    assert result.history.columns.tolist() == ["step", "loss", "recon", "layerwise", "importance"]
    assert result.history.step.tolist() == [0, 3, 6, 9, 11]
    row = result.history.iloc[-1]
    assert row.loss == pytest.approx(row.recon + row.layerwise + QUICK.importance * row.importance, rel=1e-5)
    assert sorted(result.snapshots) == [0, 6, 12]
    last, first = result.decomposition.arrays(), result.snapshots[0]
    assert all(np.array_equal(last[name], result.snapshots[12][name]) for name in last)
    assert not np.array_equal(last["linear1.V"], first["linear1.V"])
    again = trained(1).decomposition.load(last)
    assert np.array_equal(again.arrays()["linear2.gate.w1"], last["linear2.gate.w1"])


def test_warm_up_makes_components_faithful():
    configs = [SPDConfig(n_components=20, steps=1, lr=0.0, warmup_steps=n) for n in (0, 200)]
    before, after = (decompose(small_target(), toy_draw(5), config).decomposition for config in configs)
    for name in before.sites:
        assert before.delta(name).norm() > 0.5 * before.sites[name].weight.norm()
        assert after.delta(name).norm() < 0.01 * after.sites[name].weight.norm()


def test_seeds_side_by_side_are_seeds_alone():
    def draw(rng, samples):
        return toy_draw(5)(rng, samples).double()

    panels, alone = (decompose(small_target().double(), draw, QUICK, seed) for seed in ([4, 7], 7))
    assert np.allclose(panels[1].history, alone.history, rtol=1e-8)
    for name, value in alone.decomposition.arrays().items():
        assert np.allclose(panels[1].decomposition.arrays()[name], value, atol=1e-8), name
    assert not np.allclose(panels[0].decomposition.arrays()["linear1.V"], alone.decomposition.arrays()["linear1.V"])


def test_the_target_is_left_alone():
    target = small_target()
    kept = {name: t.clone() for name, t in target.state_dict().items()}
    result = decompose(target, toy_draw(5), QUICK, 0)
    assert all(torch.equal(t, kept[name]) for name, t in target.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in target.parameters())
    assert not any(p.requires_grad for p in result.decomposition.target.parameters())


def test_data_may_be_a_table():
    x = torch.rand(100, 4, generator=generator(0, "table"))
    config = SPDConfig(n_components=6, steps=30, batch_size=32, divergence="kl", warmup_steps=5)
    result = decompose(MLP((4, 3, 2), 0), x, config, [0, 1])
    assert len(result) == 2 and result[0].history.loss.iloc[-1] > 0


def test_zero_rows_must_be_zero_everywhere():
    config = SPDConfig(n_components=4, steps=1, drop_zero_rows=True)
    with pytest.raises(ValueError, match="not zero at site fc2"):
        decompose(MLP((4, 30, 2), 0), torch.rand(9, 4), config)


def test_divergence_is_reported():
    config = SPDConfig(n_components=4, steps=40, batch_size=16, lr=1e20, warmup_steps=0)
    with pytest.raises(ValueError, match="diverged"):
        decompose(small_target(), toy_draw(5), config)


def launch(*arguments):
    return subprocess.Popen([sys.executable, SCRIPT, *map(str, arguments)], cwd=ROOT, env=os.environ)


def wait_for_step(checkpoint, step):
    for _ in range(600):
        time.sleep(0.1)
        if checkpoint.exists() and torch.load(checkpoint, weights_only=True)["step"] >= step:
            return
    raise TimeoutError("no checkpoint appeared")


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return np.array_equal(one, other)


@pytest.mark.slow
def test_a_killed_decomposition_continues_bit_for_bit(tmp_path):
    whole = launch(tmp_path / "whole.pt", tmp_path / "whole.out")
    checkpoint = tmp_path / "killed.pt"
    victim = launch(checkpoint, tmp_path / "killed.out", 0.1)
    wait_for_step(checkpoint, 21)  # the warm-up is over, and a snapshot is taken
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL and not (tmp_path / "killed.out").exists()
    assert 21 <= torch.load(checkpoint, weights_only=True)["step"] < 50
    assert launch(checkpoint, tmp_path / "killed.out").wait() == whole.wait() == 0
    expected, found = (torch.load(tmp_path / f"{name}.out", weights_only=False) for name in ("whole", "killed"))
    assert len(expected) == 2 and same(expected, found)


def test_checkpoints_of_other_runs_are_refused(tmp_path):
    path = tmp_path / "c.pt"
    first = trained(0, checkpoint=path, checkpoint_every=5)
    again = trained(0, checkpoint=path, checkpoint_every=5)
    assert same(first.decomposition.arrays(), again.decomposition.arrays()) and again.history.equals(first.history)
    with pytest.raises(ValueError, match="differs in seeds"):
        trained(1, checkpoint=path)
    with pytest.raises(ValueError, match="differs in data"):
        decompose(small_target(), toy_draw(5, 0.5), QUICK, 0, log_every=3, checkpoint=path)
    with pytest.raises(ValueError, match="differs in panels"):
        trained([0], checkpoint=path)
    other, own = small_target(), dict(small_target().named_children())
    hidden = Routed(OrderedDict(linear1=own["linear1"], hidden=nn.Linear(2, 2), linear2=own["linear2"]))
    with torch.no_grad():
        other.linear2.bias += 1  # the decomposed weights are the same, the network is not
    with pytest.raises(ValueError, match="differs in target"):
        decompose(other, toy_draw(5), QUICK, 0, log_every=3, checkpoint=path)
    with pytest.raises(ValueError, match="differs in target"):
        decompose(hidden, toy_draw(5), QUICK, 0, log_every=3, checkpoint=path, sites=["linear1", "linear2"])


def test_a_finished_decomposition_is_extended_where_its_schedule_does_not_depend_on_its_end(tmp_path):
    def lasting(steps, checkpoint=None, **options):
        return decompose(small_target(), toy_draw(5), QUICK.replace(steps=steps, **options), [0, 1], log_every=5,
                         checkpoint=checkpoint, snapshot_at=(12,))

    path, plain = tmp_path / "c.pt", {"schedule": "constant"}
    lasting(12, path, **plain)
    for one, other in zip(lasting(20, path, **plain), lasting(20, **plain), strict=True):
        assert same(one.decomposition.arrays(), other.decomposition.arrays()) and one.history.equals(other.history)
        assert same(one.snapshots, other.snapshots)
    for changes, what in (({}, "schedule"), (plain | {"p_final": 0.5}, "p_final")):
        path = tmp_path / what
        lasting(12, path, **changes)
        with pytest.raises(ValueError, match=rf"steps \(12 there\), and {what} spreads over all of them"):
            lasting(20, path, **changes)


@pytest.mark.slow
def test_a_known_answer_is_found():
    """The pentagon, its exact weights given: five features must get a component each in both layers, their own."""
    angle = 2 * torch.pi * torch.arange(5) / 5
    W = 1.14 * torch.stack([angle.cos(), angle.sin()])
    config = SPDConfig(n_components=40, steps=1200, batch_size=512, lr=0.01, importance=3e-3, drop_zero_rows=True)
    results = decompose(ToyModel(W, torch.full((5,), -0.25)), toy_draw(5), config, range(6))
    errors = [sum(map(identity_error, one_hot_importance(r.decomposition, 5).values())) for r in results]
    assert min(errors) == 0, errors
    best = results[int(np.argmin(errors))].decomposition.parts["linear1"]
    found = recovery(best.V, best.U, W)
    assert found.mmcs > 0.99 and abs(found.ml2r - 1) < 0.05 and found.whole > 0.99


def _conv():
    return Routed(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 2 * 2, 3)), (2, 4, 4)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("kind", ["mlp", "conv", "tokens"])
def test_every_kind_of_site_and_gate_trains(kind, gate):
    """After some steps the loss is lower, and every parameter has moved."""
    rng = generator(0, "kinds")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        target, shape = _conv() if kind == "conv" else (MLP((4, 3, 2), 0), (4,))
        words = Routed(nn.Embedding(7, 5), nn.Linear(5, 3))
    x = torch.randint(7, (64, 3), generator=rng) if kind == "tokens" else torch.randn(64, *shape, generator=rng)
    config = SPDConfig(n_components=6, gate=gate, width=4, steps=60, batch_size=32, lr=0.01, warmup_steps=5, subset=1.0)
    if kind == "tokens" and gate.endswith(("vector_mlp", "shared_mlp")):
        with pytest.raises(ValueError, match="reads tokens"):
            decompose(words, x, config)
        return
    result = decompose(words if kind == "tokens" else target, x, config, snapshot_at=[0], log_every=1)
    course, before = result.history.loss, result.snapshots[0]
    assert course.tail(10).mean() < course.head(10).mean()
    after = result.decomposition.arrays()
    assert [name for name in after if np.array_equal(after[name], before[name])] == []


def test_seeds_are_different_numbers():
    for seeds in ([], [3, 3]):
        with pytest.raises(ValueError, match="seeds that differ"):
            trained(seeds)
    own, numpys = trained(2), trained(np.int64(2))
    assert same(own.decomposition.arrays(), numpys.decomposition.arrays())


def test_steps_that_never_come_are_refused():
    for wrong, what in (({"snapshot_at": [0, 13]}, "0 to 12, got"), ({"snapshot_at": [-1]}, "0 to 12, got"),
                        ({"checkpoint_every": 0}, "checkpoint_every")):
        with pytest.raises(ValueError, match=what):
            trained(0, **wrong)
    with pytest.raises(ValueError, match="log_every"):
        decompose(small_target(), toy_draw(5), QUICK, 0, log_every=0)


def test_parameters_no_term_reads_stay():
    """Faithfulness alone trains no gate, the importance term alone no U; neither is an error."""
    none = {"recon": 0.0, "layerwise": 0.0, "importance": 0.0}
    for terms, moved in (({"faithfulness": 1.0}, {"V", "U"}), ({"importance": 1.0}, {"V", "gate"})):
        config = SPDConfig(n_components=6, steps=3, batch_size=64, warmup_steps=0, **none | terms)
        result = decompose(small_target(), toy_draw(5), config, snapshot_at=[0])
        before, after = result.snapshots[0], result.decomposition.arrays()
        found = {name.split(".")[1] for name in after if not np.array_equal(before[name], after[name])}
        assert found == moved


def test_the_frozen_target_draws_nothing():
    """Dropout would make importances of one input differ from pass to pass."""
    target = Routed(nn.Linear(4, 30), nn.Dropout(0.5), nn.Linear(30, 2)).train()
    x = torch.rand(8, 4, generator=generator(0, "dropout"))
    dec = decompose(target, x, SPDConfig(n_components=3, steps=1, batch_size=4, warmup_steps=0)).decomposition
    assert torch.equal(*(dec.causal_importance(x)["2"] for _ in range(2))) and target.training
