"""Other definitions of an effect agree with ablation where no gate moves."""
from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.rng import generator
from lib.studies.spd_causal_graphs.effects import mean_effects
from lib.studies.spd_causal_graphs.variants import variants

made = runpy.run_path(str(Path(__file__).with_name("test_effects.py")))
network, images, pairs, INS, OUTS = (made[name] for name in ("network", "images", "pairs", "INS", "OUTS"))


def compared(net):
    x = images(30)
    on = torch.rand(30, 8, generator=generator(1)) < 0.7
    effects, keep = mean_effects(net, x, on)[INS][:, OUTS].numpy(), np.ones((3, 2), dtype=bool)
    ones = torch.ones(30, 5, dtype=x.dtype)
    return variants(pairs(net, x, on[:, OUTS]), ones, effects, keep, 3, generator(2)).set_index("variant")


def test_where_no_gate_moves_only_replacing_by_the_mean_differs():
    rows = compared(network()._replace(b1=torch.full((7,), 100.0, dtype=torch.float64)))
    same = rows.drop(index=["replaced by its mean", "published form"])
    assert (same.same_sign == 1).all() and same.correlation.to_numpy() == pytest.approx(1)
    assert rows.correlation["replaced by its mean"] < 0.999


def test_where_gates_move_effects_differ_by_their_definition():
    rows = compared(network())
    assert len(rows) == 4 and rows.correlation.max() < 1 and rows.same_sign.between(0, 1).all()
