"""The grouped features follow their law sample by sample, and every seed keeps its own data."""
from __future__ import annotations

import math

import pytest
import torch

from lib.rng import generator
from lib.studies.incidental_polysemanticity.data import GROUPS, IMPORTANCE, compose, draw, grouped_samples, targets


def test_features_are_the_literal_loop_over_samples_groups_and_members():
    rng = torch.Generator().manual_seed(0)
    active, strength = torch.rand(50, 3, generator=rng) < 0.6, torch.rand(50, 3, generator=rng)
    common, own = torch.randn(50, 3, generator=rng), torch.randn(50, 8, generator=rng)
    mask = torch.rand(50, 8, generator=rng) < 0.5
    expected = torch.zeros(50, 8)
    for n in range(50):
        for g, members in enumerate(GROUPS):
            for i in members:
                if active[n, g] and mask[n, i]:
                    value = strength[n, g] * common[n, g] + (1 - strength[n, g]) * own[n, i]
                    expected[n, i] = max(0.0, float(value))
    torch.testing.assert_close(compose(active, strength, common, own, mask), expected)


def test_a_feature_is_active_in_fifteen_samples_of_a_hundred():
    """Group active .6, feature kept .5, value positive .5."""
    x, active = (torch.stack(part) for part in zip(*(draw(generator(seed, "data")) for seed in range(40)), strict=True))
    assert torch.equal(x, grouped_samples(range(40)).x)
    assert ((x > 0).float().mean((0, 1)) - 0.15).abs().max() < 0.01
    assert (active.float().mean((0, 1)) - 0.6).abs().max() < 0.01
    assert not (x > 0)[..., :3][~active[..., 0]].any()


def test_features_go_together_inside_groups_only():
    x = grouped_samples(range(40)).x.flatten(0, 1)  # [40960, 8]
    correlation = torch.corrcoef(x.T)
    same = torch.zeros(8, 8, dtype=torch.bool)
    for members in GROUPS:
        same[torch.tensor(members)[:, None], torch.tensor(members)] = True
    off = ~torch.eye(8, dtype=torch.bool)
    assert correlation[same & off].min() > 0.2
    assert correlation[~same].abs().max() < 0.03


def test_targets_at_a_point_worked_out_by_hand():
    x = torch.tensor([1.0, 2.0, 0.5, 3.0, 0.5, 2.0, 3.0, 0.5], dtype=torch.float64)
    by_hand = [2.25, math.sin(1.5) + 2, 2.0, 2.1, math.tanh(3.5), 3.0, 2.35, 10.0]
    assert targets(x).tolist() == pytest.approx(by_hand)


def test_targets_are_weighted_by_importance_and_split_as_published():
    data = grouped_samples([3])
    torch.testing.assert_close(data.y[0, 7], targets(data.x[0, 7]) * torch.tensor(IMPORTANCE))
    fitted, held_out = data.split()
    assert fitted.x.shape == (1, 820, 8) and held_out.y.shape == (1, 204, 8)
    assert torch.equal(torch.cat([fitted.x, held_out.x], 1), data.x)


def test_a_seed_has_its_data_whatever_other_seeds_are_asked_for():
    assert torch.equal(grouped_samples([4, 9]).x[1], grouped_samples([9]).x[0])
    assert not torch.equal(grouped_samples([4]).x, grouped_samples([9]).x)


def test_wrong_widths_are_refused():
    with pytest.raises(ValueError, match="8 features"):
        targets(torch.zeros(5, 7))
