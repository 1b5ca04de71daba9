"""Importances over positions and over images, each by hand."""
from collections import OrderedDict

import pytest
import torch
from torch import nn

from lib.spd import Decomposition, Routed
from lib.studies.shapes_and_colours.tallies import Tally, tally

IMAGES = torch.tensor([[[[0.05, 0.3], [0.3, 0.95]]], [[[0.05, 0.0], [0.0, 0.0]]]])  # [2, 1, 2, 2]


def tallied(V: list[list[float]], batch: int, **layers: nn.Module) -> Tally:
    """Of a site of one component that reads with V and whose gate says its activation."""
    dec = Decomposition(Routed(OrderedDict(layers)), IMAGES, 1, gate="linear")
    values = {"site.V": V, "site.U": [[1.0]], "site.gate.w": [1.0], "site.gate.b": [0.0]}
    dec.load({name: torch.tensor(value) for name, value in values.items()})
    return tally(dec, IMAGES, threshold=0.1, bins=4, batch=batch)["site"]


@pytest.mark.parametrize("batch", [1, 500])
def test_positions_and_images_are_tallied_apart_by_hand(batch):
    conv = tallied([[1.0]], batch, site=nn.Conv2d(1, 1, 1, bias=False))  # the importance is the pixel
    assert conv.positions == 4 and conv.mean == pytest.approx((0.05 + 0.3 + 0.3 + 0.95 + 0.05) / 8)
    assert conv.frequency == pytest.approx(3 / 8) and conv.image_frequency == pytest.approx(1 / 2)
    assert (conv.l0, conv.image_l0) == pytest.approx((3 / 8, 1 / 2))
    assert conv.histogram == pytest.approx([5 / 8, 2 / 8, 0, 1 / 8])
    first = [[1.0], [0.0], [0.0], [0.0]]  # the importance is the first pixel
    fc = tallied(first, batch, flat=nn.Flatten(), site=nn.Linear(4, 1, bias=False))
    assert fc.positions == 1 and fc.mean == pytest.approx(0.05) and fc.l0 == fc.image_l0 == 0


def test_a_decomposition_of_panels_has_no_tally():
    dec = Decomposition(Routed(nn.Linear(4, 2)), torch.zeros(2, 4), 3, seed=[0, 1])
    with pytest.raises(ValueError, match=r"dec\.panel"):
        tally(dec, torch.zeros(2, 4))
