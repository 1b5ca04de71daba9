"""Training steps of image classifiers against forward and backward alone, which no training can avoid.

On a CPU: TinyViT on 28 x 28 images with patches of 7, batch 128, float32, one thread; the floor is the same model's
forward pass, cross-entropy and backward pass on a batch that is ready. The loop adds the batch (drawn, gathered,
scaled, shifted and flipped), clipping, AdamW and the record. Times are CPU-milliseconds, measured in turns with the
floor; a second measurement adds the topographic loss on the four attention projections.

On a GPU: ViT-S/16 on 224 x 224 images in bfloat16, images per second with and without the topographic loss.
"""
from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from lib.models.image_models import image_model
from lib.rng import generator
from lib.topoloss import TopoLoss
from lib.training import Recipe, prepare, train, weighted
from lib.training.batches import ImageBatches
from lib.training.evaluation import autocast
from lib.training.steps import ModelTraining

BATCH, CALLS, ROUNDS = 128, 4, 9
CPU = torch.device("cpu")


def images(n: int, channels: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = generator(0, "benchmark")
    x = torch.randint(256, (n, channels, side, side), generator=rng, dtype=torch.uint8)
    return x, torch.randint(10, (n,), generator=rng)


def milliseconds(*calls: Callable[[int], object]) -> list[float]:
    """Median CPU-milliseconds of each call, taken in turns."""
    times = [[] for _ in calls]
    for turn in range(ROUNDS):
        for call, kept in zip(calls, times, strict=True):
            start = time.process_time()
            for i in range(CALLS):
                call(1 + turn * CALLS + i)
            kept.append(1000 * (time.process_time() - start) / CALLS)
    return [sorted(kept)[ROUNDS // 2] for kept in times]


def test_a_training_step_costs_little_more_than_forward_and_backward(benchmark):
    torch.set_num_threads(1)
    x, labels = images(4096, 1, 28)
    model, other = (image_model("tiny_vit", 28, 1, 10, 0, patch=7) for _ in range(2))
    topo = weighted(TopoLoss(other, "blocks.*.attn.proj", factor=4), 2.0)
    recipe = Recipe(steps=1000, batch=BATCH, augment=("shift", "flip"))
    batches = ImageBatches(x, labels, recipe, 0, CPU, True)
    both = [ModelTraining(m, batches, extra) for m, extra in ((model, None), (other, topo))]
    ready = prepare(x[:BATCH]), labels[:BATCH]

    def floor(_: int) -> None:
        model.zero_grad()
        F.cross_entropy(model(ready[0]), ready[1]).backward()

    def step(training: ModelTraining, number: int) -> None:
        training.update(number, *batches[number], number % 50 == 0)

    def measure() -> list[float]:
        with torch.random.fork_rng(devices=[]):
            return milliseconds(floor, lambda i: step(both[0], i), lambda i: step(both[1], i))

    bare, ours, with_topo = benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info.update(floor_ms=bare, step_ms=ours, with_topo_ms=with_topo)
    print(f"\nTinyViT, batch {BATCH}, one thread: CPU-ms per step, and images per CPU-second")
    for name, ms in {"forward + backward": bare, "training step": ours, "with TopoLoss": with_topo}.items():
        print(f"{name:20}{ms:8.1f}{1000 * BATCH / ms:8.0f}{ms / bare:8.3f}")
    assert ours <= 1.10 * bare
    assert with_topo <= 1.05 * ours


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device to measure on")
def test_images_per_second_on_a_gpu(benchmark):
    x, labels = images(8192, 3, 224)
    recipe = Recipe(steps=120, batch=256, augment=("random_resized_crop", "flip", "colour_jitter"), lr=5e-4)
    rates = {}
    for name, weight in {"without": None, "with": 2.0}.items():
        model = image_model("vit_small", 224, 3, 100, 0, drop_path=0.1)
        extra = None if weight is None else weighted(TopoLoss(model, "blocks.*.attn.proj", factor=8), weight)
        torch.cuda.reset_peak_memory_stats()
        looked: list[float] = []  # after the first step and after the last
        train(model, x, labels, recipe, 0, extra, device="cuda", progress=False, log_every=recipe.steps - 1,
              watch=[lambda step, told, looked=looked: looked.append(time.monotonic())])
        rates[name] = (recipe.steps - 1) * recipe.batch / (looked[1] - looked[0])
        gb = torch.cuda.max_memory_allocated() / 2**30
        print(f"\nViT-S/16 bf16, batch 256, {name} TopoLoss: {rates[name]:,.0f} images/s, {gb:.1f} GB")
    rates["floor"] = gpu_floor(x, labels)
    print(f"forward + backward alone: {rates['floor']:,.0f} images/s")
    benchmark.extra_info.update(rates)
    benchmark.pedantic(lambda: None, rounds=1)
    assert rates["with"] >= 0.9 * rates["without"] and rates["without"] >= 0.8 * rates["floor"]


def gpu_floor(x: torch.Tensor, labels: torch.Tensor) -> float:
    """Images per second of forward and backward on one batch that is ready."""
    model, device = image_model("vit_small", 224, 3, 100, 0, drop_path=0.1).cuda(), torch.device("cuda")
    batch, y = prepare(x[:256].cuda()), labels[:256].cuda()

    def once() -> None:
        model.zero_grad()
        with autocast(device, "bf16"):
            out = model(batch)
        F.cross_entropy(out.float(), y).backward()

    with torch.random.fork_rng():
        for _ in range(5):
            once()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(40):
            once()
        torch.cuda.synchronize()
        return 40 * 256 / (time.perf_counter() - start)
