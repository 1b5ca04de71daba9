"""Every edge of a decomposed 784-128-10 network ablated on 2,000 images, in process CPU seconds of one thread."""
from __future__ import annotations

import pytest
import torch
from measuring import cpu_seconds

from lib.rng import generator
from lib.studies.spd_causal_graphs.effects import Pairs, TwoLayers, ablation_effects, mean_effects

C, IMAGES = 500, 2000


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network() -> tuple[TwoLayers, torch.Tensor, torch.Tensor]:
    rng = generator(0, "causal speed")
    sizes = [(784, C), (C, 128), (128, 784), (128,), (128, C), (C, 10), (10, 128), (10,)]
    parts = [torch.randn(*size, generator=rng) / size[0] ** 0.5 for size in sizes]
    return TwoLayers(*parts), torch.rand(IMAGES, 784, generator=rng), torch.rand(IMAGES, C, generator=rng) < 0.1


def floor() -> float:
    """CPU seconds of one matrix product of the sweep's size, images x (C hidden) x C."""
    a, b = torch.rand(C, IMAGES), torch.rand(IMAGES, C * 128)
    return min(cpu_seconds(lambda: a @ b) for _ in range(2))


def test_all_250_000_edges_take_seconds(benchmark):
    net, x, on = network()
    seconds = []
    benchmark.pedantic(lambda: seconds.append(cpu_seconds(lambda: mean_effects(net, x, on))), rounds=3)
    ratio = min(seconds) / floor()
    benchmark.extra_info |= {"cpu_seconds": round(min(seconds), 2), "times_the_product": round(ratio, 2)}
    assert min(seconds) < 10 and ratio < 3, f"{min(seconds):.1f} s, {ratio:.1f} times the matrix product alone"


def test_the_sweep_agrees_with_single_images():
    net, x, on = network()
    few = [3, 100, 499]
    values = ablation_effects(Pairs(net, x, on[:, few], few, few))
    wanted = torch.stack([values[on[:, j], :, place].mean(0) for place, j in enumerate(few)], dim=1)
    torch.testing.assert_close(mean_effects(net, x, on)[few][:, few], wanted, atol=1e-6, rtol=1e-4)
