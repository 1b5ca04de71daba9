"""The topographic loss, forward and backward, in its closed form against the published interpolation.

The published form takes one layer at a time: the sheet as [e, h, w], interpolated down and up, and the cosine of the
two over e. Beside it stands the library's own interpolation, which keeps e last in memory and takes layers of one shape
together. Weights of ViT-S/16 (the 12 attention projections; all 48 matrices of the blocks) at factor 8 and of ResNet-18
(its 16 3 x 3 convolutions) at factor 4; CPU-milliseconds on one thread, float32, measured in turns.
"""
from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from measuring import Call, cpu_seconds
from torch import Tensor, nn

from lib.models.image_models import image_model
from lib.rng import generator
from lib.topoloss import TopoLoss, interpolated_loss

ROUNDS, BATCH = 9, 8
LAYERS = {
    "ViT-S, 12 projections": ("vit_small", ("blocks.*.attn.proj",), 8, 12),
    "ViT-S, 48 matrices": ("vit_small", ("blocks.*.attn.*[jv]", "blocks.*.mlp.fc*"), 8, 48),
    "ResNet-18, 16 convolutions": ("resnet18", ("layer*.*.conv*",), 4, 16),
}


def published(model: nn.Module, topo: TopoLoss) -> Tensor:
    """The loss as its source composes it, layer by layer."""
    losses = []
    for name in topo.names:
        weight = model.get_submodule(name).weight
        h, w = topo.shapes[name]
        sheet = weight.reshape(h, w, -1).permute(2, 0, 1).unsqueeze(0)  # [1, e, h, w]
        down = F.interpolate(sheet, scale_factor=1 / topo.factor, mode="bilinear")
        up = F.interpolate(down, size=(h, w), mode="bilinear")
        a, b = (t[0].permute(1, 2, 0).flatten(0, 1) for t in (sheet, up))  # [n, e]
        losses.append(1 - F.cosine_similarity(a, b, dim=-1).mean())
    return torch.stack(losses).mean()


def interpolated(model: nn.Module, topo: TopoLoss) -> Tensor:
    """The loss by the library's interpolation, layers of one shape together."""
    groups: dict[torch.Size, list[str]] = {}
    for name in topo.names:
        groups.setdefault(model.get_submodule(name).weight.shape, []).append(name)
    sheets = [(names[0], torch.stack([model.get_submodule(name).weight.flatten(1) for name in names]))
              for names in groups.values()]
    return torch.cat([interpolated_loss(W, *topo.shapes[name], topo.factor) for name, W in sheets]).mean()


def cpu_milliseconds(call: Call) -> float:
    return 1000 * cpu_seconds(call)


def gpu_milliseconds(call: Call) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)


def in_turns(calls: dict[str, Call], clock: Callable[[Call], float], rounds: int = ROUNDS) -> dict[str, float]:
    """Least milliseconds of each call after one to warm up."""
    times = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            taken = clock(call)
            if turn:
                times[name].append(taken)
    return {name: min(taken) for name, taken in times.items()}


def backward(model: nn.Module, loss: Callable[[], Tensor]) -> Call:
    def call() -> None:
        model.zero_grad()
        loss().backward()

    return call


def forms(layers: str, device: str) -> dict[str, Call]:
    """Forward and backward of each form on one model; they are checked to give one gradient."""
    name, patterns, factor, count = LAYERS[layers]
    model = image_model(name, 224, 3, 100, 0).to(device)
    topo = TopoLoss(model, patterns, factor)
    assert len(topo.names) == count
    calls = {
        "closed": backward(model, lambda: topo(model)),
        "interpolated together": backward(model, lambda: interpolated(model, topo)),
        "published": backward(model, lambda: published(model, topo)),
    }
    gradients = []
    for call in calls.values():
        call()
        gradients.append(torch.cat([model.get_submodule(name).weight.grad.flatten() for name in topo.names]))
    for gradient in gradients[1:]:
        assert (gradient - gradients[0]).norm() < 1e-5 * gradients[0].norm()
    return calls


def report(layers: str, ms: dict[str, float]) -> None:
    print(f"\n{layers}: milliseconds of forward and backward, times the closed form")
    for name, taken in ms.items():
        print(f"{name:24}{taken:9.2f}{taken / ms['closed']:8.2f}")


@pytest.mark.parametrize("layers", LAYERS)
def test_the_closed_form_is_at_least_twice_as_fast(benchmark, layers):
    torch.set_num_threads(1)
    ms = benchmark.pedantic(in_turns, (forms(layers, "cpu"), cpu_milliseconds), rounds=1)
    benchmark.extra_info.update(ms)
    report(layers, ms)
    assert ms["published"] >= 2 * ms["closed"]


def test_its_share_of_a_training_step_is_small(benchmark):
    """Against forward and backward of ViT-S/16 on 8 images; in a larger batch the share is smaller in proportion."""
    torch.set_num_threads(1)
    model = image_model("vit_small", 224, 3, 100, 0)
    rng = generator(0, "benchmark")
    x, labels = torch.randn(BATCH, 3, 224, 224, generator=rng), torch.randint(100, (BATCH,), generator=rng)
    topo = {name: TopoLoss(model, LAYERS[name][1], 8) for name in list(LAYERS)[:2]}
    calls = {"step": backward(model, lambda: F.cross_entropy(model(x), labels))}
    for name, loss in topo.items():
        calls[name] = backward(model, lambda loss=loss: loss(model))
        calls[f"{name}, published"] = backward(model, lambda loss=loss: published(model, loss))
    ms = benchmark.pedantic(in_turns, (calls, cpu_milliseconds, 3), rounds=1)
    benchmark.extra_info.update(ms)
    print(f"\nViT-S/16, forward and backward of {BATCH} images: {ms['step']:.0f} CPU-ms")
    for name in list(ms)[1:]:
        print(f"{name:34}{ms[name]:8.1f} ms{ms[name] / ms['step']:8.2%}, at batch 256 {ms[name] / ms['step'] / 32:.3%}")
    assert ms["ViT-S, 12 projections"] <= 0.01 * ms["step"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device to measure on")
@pytest.mark.parametrize("layers", LAYERS)
def test_the_closed_form_on_a_gpu(benchmark, layers):
    ms = benchmark.pedantic(in_turns, (forms(layers, "cuda"), gpu_milliseconds, 50), rounds=1)
    benchmark.extra_info.update(ms)
    report(f"{torch.cuda.get_device_name()}, {layers}", ms)
    assert ms["published"] >= 2 * ms["closed"]
