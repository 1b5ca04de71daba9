"""The protocol of my_study: what one run returns, and that its null is what it says."""
import torch

from lib import files, params
from lib.metrics.superposition import feature_norms
from lib.rng import generator
from lib.studies.my_study.protocol import Params, overlaps, random_twins

SMOKE = params.load(Params, files.ROOT / "params/my_study/smoke.yaml")


def test_run_has_one_value_per_model_and_draw_and_repeats_itself():
    found, again = overlaps(SMOKE), overlaps(SMOKE)
    assert found["trained"].shape == (SMOKE.seeds,) and found["null"].shape == (SMOKE.seeds, SMOKE.draws)
    assert all((found[name] == again[name]).all() for name in found)


def test_twins_keep_lengths_and_move():
    W = torch.tensor([[3.0, 0.0], [4.0, 1.0]])  # columns of length 5 and 1
    twins = random_twins(W, 2, generator(0, "test"))
    assert torch.allclose(feature_norms(twins), torch.tensor([5.0, 1.0]).expand(2, 2))
    assert not torch.allclose(twins[0], twins[1], atol=0.01)
