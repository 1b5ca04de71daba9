"""Joint training moves the network by both losses, repeats, and leaves a decomposition of the trained network."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.spd import Decomposition, SPDConfig
from lib.spd.losses import Step
from lib.spd.masks import Noise
from lib.studies.spd_causal_graphs.joint import LivingDecomposition, train_joint
from lib.studies.spd_causal_graphs.mlp import MLP, pixels, train_mlp

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 4, 4), dtype=np.uint8)
LABELS = (IMAGES.reshape(64, -1)[:, 0] > 127).astype(int)
CONFIG = SPDConfig(6, steps=5, batch_size=32, warmup_steps=20, divergence="kl", faithfulness=1.0)


def trained(config: SPDConfig = CONFIG, **options):
    return train_joint(IMAGES, LABELS, (16, 8, 2), 0, 5, config, batch=32, device="cpu", **options)


def test_the_loss_of_a_living_decomposition_reaches_every_weight_and_that_of_a_frozen_one_none():
    network, x = MLP((16, 8, 2), 0), pixels(IMAGES, 255)
    for kind, reached in ((LivingDecomposition, True), (Decomposition, False)):
        dec = kind(network, x[:2], 6)
        Step(dec, x, CONFIG, Noise([0], False)).total()[0].backward()
        grads = [dec.target.fc1.weight.grad, dec.target.fc1.bias.grad, dec.target.fc2.weight.grad]
        assert [g is not None and bool((g != 0).any()) for g in grads] == [reached] * 3


def test_both_kinds_give_one_loss():
    network, x = MLP((16, 8, 2), 0), pixels(IMAGES, 255)
    totals = [float(Step(kind(network, x[:2], 6), x, CONFIG, Noise([0], False)).total()[0].detach())
              for kind in (LivingDecomposition, Decomposition)]
    assert totals[0] == pytest.approx(totals[1], rel=1e-6)


def test_joint_training_repeats_and_differs_from_training_alone():
    (network, dec), (again, _) = trained(), trained()
    alone, _ = train_mlp(IMAGES, LABELS, (16, 8, 2), 0, 5, batch=32, device="cpu")
    assert torch.equal(network.fc1.weight, again.fc1.weight)
    assert not torch.equal(network.fc1.weight, alone.fc1.weight)
    assert type(dec) is Decomposition and torch.equal(dec.sites["fc1"].weight, network.fc1.weight)
    assert not any(p.requires_grad for p in network.parameters())


def test_a_checkpoint_changes_nothing(tmp_path):
    (network, _), (kept, _) = trained(), trained(checkpoints=tmp_path)
    assert torch.equal(network.fc1.weight, kept.fc1.weight) and (tmp_path / "joint").is_file()


def test_a_larger_weight_on_faithfulness_leaves_less_over():
    plain = CONFIG.identity() | {"warmup_steps": 0}
    loose, tight = (trained(SPDConfig(**plain | {"faithfulness": weight}))[1] for weight in (0.0, 1e4))
    assert tight.delta("fc1").norm() < loose.delta("fc1").norm()


def test_it_starts_from_components_that_only_the_warm_up_has_moved():
    _, dec = train_joint(IMAGES, LABELS, (16, 8, 2), 0, 1, CONFIG, batch=32, lr=0.0, device="cpu")
    fresh = Decomposition(MLP((16, 8, 2), 0), pixels(IMAGES, 255)[:2], 6).named_parameters()
    moved = [name for name, value in dec.named_parameters().items() if not torch.equal(value, fresh[name])]
    assert moved == ["fc1.V", "fc1.U", "fc2.V", "fc2.U"]
