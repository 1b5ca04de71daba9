"""Augmentation on the device: draws keyed by seed, epoch and image; each change by hand."""
import math

import pytest
import torch
from training_parts import images

from lib.rng import generator
from lib.training import prepare
from lib.training.augmentation import _boxes, _jittered, _resized, augment, epoch_key, uniform


def test_an_images_changes_depend_on_seed_epoch_and_index_alone():
    x, _ = images(n=30, channels=3)
    names = ("shift", "flip", "colour_jitter")
    index = torch.arange(30)
    whole = augment(x, index, names, epoch_key(0, 2))
    order = torch.randperm(30, generator=generator(0, "order"))[:7]
    assert torch.equal(augment(x[order], index[order], names, epoch_key(0, 2)), whole[order])
    for other in (epoch_key(0, 3), epoch_key(1, 2)):
        changed = augment(x, index, names, other)
        assert sum(not torch.equal(a, b) for a, b in zip(changed, whole, strict=True)) > 25


def test_draws_are_uniform_and_unlike_each_other():
    u = uniform(epoch_key(0, 0), "flip", torch.arange(20_000), 2)
    assert u.min() >= 0 and u.max() < 1 and u.unique().numel() > 39_800
    for column in u.T:
        counts = torch.histc(column, 10, 0, 1)
        assert (counts - 2000).abs().max() < 5 * math.sqrt(2000 * 0.9)  # five standard deviations
    later = uniform(epoch_key(0, 1), "flip", torch.arange(19_999), 1)[:, 0]
    pairs = torch.stack((u[:-1, 0], u[1:, 0], u[:-1, 1], later))
    assert (torch.corrcoef(pairs) - torch.eye(4)).abs().max() < 5 / math.sqrt(20_000)


def test_pixels_are_scaled_and_the_middle_is_taken():
    x = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4) * 17
    assert prepare(x).flatten().tolist() == pytest.approx([-1 + 2 * i / 15 for i in range(16)], abs=1e-6)
    assert prepare(x, 2).flatten().tolist() == pytest.approx([-1 + 2 * i / 15 for i in (5, 6, 9, 10)], abs=1e-6)
    with pytest.raises(ValueError, match="middle 5 pixels of images of 4 x 4"):
        prepare(x, 5)


def test_a_shift_moves_a_dot_by_up_to_an_eighth_and_leaves_black():
    n = 400
    x = torch.zeros(n, 1, 16, 16, dtype=torch.uint8)
    x[:, 0, 8, 5] = 255
    moved = (augment(x, torch.arange(n), ("shift",), epoch_key(0, 0)) > 0).nonzero()[:, 2:] - torch.tensor([8, 5])
    assert len(moved) == n
    assert {tuple(m) for m in moved.tolist()} == {(i, j) for i in range(-2, 3) for j in range(-2, 3)}


def test_a_flip_turns_about_half_of_the_images_round():
    x, _ = images(n=200)
    out = augment(x, torch.arange(200), ("flip",), epoch_key(0, 0))
    turned = [torch.equal(o, prepare(i[None])[0].flip(-1)) for o, i in zip(out, x, strict=True)]
    kept = [torch.equal(o, prepare(i[None])[0]) for o, i in zip(out, x, strict=True)]
    assert sum(turned) + sum(kept) == 200 and 65 < sum(turned) < 135


def test_boxes_are_within_the_image_and_the_ranges():
    x, y, w, h = _boxes(uniform(epoch_key(0, 0), "place", torch.arange(2000), 22), 24, 48).unbind(1)
    assert min(x.min(), y.min()) >= 0 and max((x + w).max(), (y + h).max()) <= 1 + 1e-6
    area, ratio = w * h, w * 48 / (h * 24)
    fits = (w < 1) | (h < 1)
    assert area.min() >= 0.08 - 1e-6 and area.min() < 0.1 and area.max() > 0.6
    assert ratio[fits].min() >= 3 / 4 - 1e-5 and ratio[fits].max() <= 4 / 3 + 1e-5


def test_a_box_is_resized_from_its_place():
    x, _ = images(n=2, side=8, channels=3)
    whole = torch.tensor([[0.0, 0, 1, 1]] * 2)
    assert torch.allclose(_resized(x, whole, (8, 8)), prepare(x), atol=1e-5)
    quarter = torch.tensor([[0.5, 0.25, 0.5, 0.5]] * 2)  # columns 4 to 7, rows 2 to 5
    assert torch.allclose(_resized(x, quarter, (4, 4)), prepare(x[:, :, 2:6, 4:]), atol=1e-5)
    assert augment(x, torch.arange(2), ("random_resized_crop",), 0, 6).shape == (2, 3, 6, 6)


def test_colours_change_as_said():
    x = prepare(images(n=4, channels=3)[0])
    still = torch.zeros(4, 4)
    assert torch.allclose(_jittered(x, still), x, atol=1e-6)
    darker = _jittered(x, still + torch.tensor([-0.5, 0, 0, 0]))
    assert torch.allclose((darker + 1) / 2, 0.8 * (x + 1) / 2, atol=1e-6)
    mild = 0.2 * x  # away from the limits, so that nothing is cut
    hue = _jittered(mild, still + torch.tensor([0.0, 0, 0, 1.0]))
    assert torch.allclose(hue.sum(1), mild.sum(1), atol=1e-5) and not torch.allclose(hue, mild, atol=1e-2)
    grey = mild[:, :1].expand(-1, 3, -1, -1)
    assert torch.allclose(_jittered(grey, still + torch.tensor([0.0, 0, 0.7, 1.0])), grey, atol=1e-6)
    flat = _jittered(mild, still + torch.tensor([0.0, -1, 0, 0]))
    assert torch.allclose(flat.std((1, 2, 3)) / mild.std((1, 2, 3)), torch.full((4,), 0.6), atol=1e-4)
