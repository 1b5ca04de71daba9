"""Networks trained with their components: both losses move them, they repeat, and what is left is of the network."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.spd import Decomposition, Mask, SPDConfig
from lib.spd.losses import Step
from lib.spd.masks import Noise
from lib.studies.spd_causal_graphs.mlp import MLP, pixels
from lib.studies.spd_causal_graphs.together import LivingDecomposition, train_joint, train_whole

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


def test_joint_training_repeats_and_moves_the_network_by_both_losses():
    dec, again = trained(), trained()
    assert torch.equal(dec.target.fc1.weight, again.target.fc1.weight)
    other = trained(CONFIG.replace(importance=1.0))
    assert not torch.equal(dec.target.fc1.weight, other.target.fc1.weight)
    assert torch.equal(dec.sites["fc1"].weight, dec.target.fc1.weight)
    assert not any(p.requires_grad for p in dec.target.parameters())


def test_a_larger_weight_on_faithfulness_leaves_less_over():
    plain = CONFIG.replace(warmup_steps=0)
    loose, tight = (trained(plain.replace(faithfulness=weight)) for weight in (0.0, 1e4))
    assert tight.delta("fc1").norm() < loose.delta("fc1").norm()


def test_it_starts_from_components_that_only_the_warm_up_has_moved():
    dec = train_joint(IMAGES, LABELS, (16, 8, 2), 0, 1, CONFIG, batch=32, lr=0.0, device="cpu")
    fresh = Decomposition(MLP((16, 8, 2), 0), pixels(IMAGES, 255)[:2], 6).named_parameters()
    moved = [name for name, value in dec.named_parameters().items() if not torch.equal(value, fresh[name])]
    assert moved == ["fc1.V", "fc1.U", "fc2.V", "fc2.U"]


def test_a_network_of_components_learns_and_is_its_masked_pass():
    halves = np.repeat([[255, 0], [0, 255]], 8, axis=1).astype(np.uint8)  # the upper half is lit, or the lower
    images = np.maximum(halves[LABELS].reshape(64, 4, 4), IMAGES // 2)
    dec, x = train_whole(images, LABELS, (16, 8, 2), 0, 300, 24, batch=32, device="cpu"), pixels(images, 255)
    seen = dec.capture(x)
    assert (seen.result.argmax(1).numpy() == LABELS).mean() > 0.9
    assert all(dec.delta(name).abs().max() < 1e-6 for name in dec.sites)
    masks = {name: Mask(g, delta=0.0) for name, g in dec.causal_importance(x).items()}
    torch.testing.assert_close(dec(x, masks, seen), seen.result, atol=1e-5, rtol=1e-5)
    hidden = (x @ dec.parts["fc1"].V * masks["fc1"].importance @ dec.parts["fc1"].U + dec.target.fc1.bias).relu()
    torch.testing.assert_close(seen.inputs["fc2"], hidden.detach(), atol=1e-5, rtol=1e-5)


def test_gates_of_a_network_of_components_learn_from_the_importance_loss_alone(monkeypatch):
    """Bernoulli masks pass the answer's gradient to V and U; without the importance loss gates stay as drawn."""
    monkeypatch.setattr("lib.studies.spd_causal_graphs.together.WEIGHT", 0.0)
    dec = train_whole(IMAGES, LABELS, (16, 8, 2), 0, 20, 6, batch=32, device="cpu")
    fresh = Decomposition(MLP((16, 8, 2), 0), pixels(IMAGES, 255)[:2], 6, seed=0).named_parameters()
    same = {name for name, value in dec.named_parameters().items() if torch.equal(value, fresh[name])}
    assert same == {name for name in fresh if ".gate." in name}
