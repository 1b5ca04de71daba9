"""Facts about pressed weights, against what is known of them by hand."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from lib.studies.topoloss_hypotheses.sheet_weights import sheet_weights


def model_with(W: torch.Tensor) -> nn.Module:
    model = nn.Sequential(nn.Linear(W.shape[1], W.shape[0], bias=False))
    model[0].weight.data = W.clone()
    return model


def test_random_weights_have_full_rank_a_loss_near_one_and_exponent_minus_one():
    W = 0.5 * torch.randn(64, 300, generator=torch.Generator().manual_seed(0))
    model = model_with(W)
    found = sheet_weights(model, "0", 4.0)
    assert found["rms"] == pytest.approx(float(W.square().mean().sqrt())) and 55 < found["effective_rank"] <= 64
    assert found["topo_loss"] > 0.8 and found["exponent"] == pytest.approx(-1, abs=1e-3)
    assert torch.equal(model[0].weight, W)  # as before


def test_equal_units_have_rank_one_and_no_loss():
    found = sheet_weights(model_with(torch.ones(64, 1) @ torch.arange(1.0, 11)[None]), "0", 4.0)
    assert found["effective_rank"] == pytest.approx(1) and found["topo_loss"] == pytest.approx(0, abs=1e-5)
