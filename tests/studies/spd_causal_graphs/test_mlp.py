"""The MLP is the formula, its weights follow from the seed, and every weight goes through the operation."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.data.images import load
from lib.studies.spd_causal_graphs.mlp import MLP, pixels, train_mlp
from lib.training import prepare


def test_forward_is_the_formula_and_the_seed_is_all():
    model, again, other = MLP((6, 4, 3), 0), MLP((6, 4, 3), 0), MLP((6, 4, 3), 1)
    x = torch.rand(5, 6)
    wanted = (x @ model.fc1.weight.T + model.fc1.bias).relu() @ model.fc2.weight.T + model.fc2.bias
    torch.testing.assert_close(model(x), wanted)
    assert torch.equal(model.fc1.weight, again.fc1.weight) and not torch.equal(model.fc1.weight, other.fc1.weight)
    assert model.fc1.weight.abs().max() <= 6**-0.5 and model.fc2.weight.abs().max() > 0.3


def test_every_weight_goes_through_the_operation():
    model, seen = MLP((6, 4, 3), 0), []

    def op(name, module, x):
        seen.append((name, tuple(x.shape)))
        return 0 * module(x)

    assert (model(torch.rand(5, 6), op) == 0).all() and seen == [("fc1", (5, 6)), ("fc2", (5, 4))]


def test_pixels_and_prepared_images_are_the_same_input():
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4), dtype=np.uint8)
    model = MLP((16, 5, 3), 0)
    flat, square = pixels(images, 255), prepare(torch.from_numpy(images)[:, None])
    assert flat.shape == (7, 16) and 0 <= flat.min() and flat.max() <= 1
    torch.testing.assert_close(model(flat), model(square), atol=1e-6, rtol=1e-5)


def test_training_learns_digits_and_repeats():
    data = load("digits")
    images = (data.images.astype(int) * 255 // data.peak).astype(np.uint8)
    before = torch.get_rng_state()
    (model, _), (again, _) = (train_mlp(images[:1400], data.labels[:1400], (64, 32, 10), 3, 300, lr=3e-3, device="cpu")
                              for _ in range(2))
    assert torch.equal(model.fc1.weight, again.fc1.weight) and torch.equal(torch.get_rng_state(), before)
    right = model(pixels(images[1400:], 255)).argmax(1).numpy() == data.labels[1400:]
    assert right.mean() > 0.8


def test_too_few_widths_are_refused():
    with pytest.raises(ValueError, match="at least two widths"):
        MLP((5,), 0)
