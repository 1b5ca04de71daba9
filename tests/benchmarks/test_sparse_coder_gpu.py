"""A TopK training step on a GPU beside a plain dense step of the same maths: tokens per second and MFU.

d = 768, 24,576 latents, batch 8,192, k = 32, in float32 and with products in bfloat16. Our step is the one `fit` takes;
the plain one is written here as PyTorch users write it: all pre-activations stored, `topk`, `scatter`, a dense decoder.
Both end with the gradient projection, the clip and fused Adam.

MFU is the arithmetic a TopK step cannot avoid, 2 B d M for the encoder and 8 B k d for what is sparse, per second, over
the fastest large product of the same type measured on the same device beside it.
"""
from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lib.rng import generator
from lib.sparse_coders import FitOptions, SparseCoder
from lib.sparse_coders.trainee import Trainee, remove_parallel

D, M, B, K = 768, 24_576, 8192, 32
WARM, ROUNDS = 5, 20
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device to measure on")


def milliseconds(call: Callable[[], object]) -> float:
    """Median time of a call on the device."""
    for _ in range(WARM):
        call()
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(ROUNDS)]
    for first, last in events:
        first.record()
        call()
        last.record()
    torch.cuda.synchronize()
    return sorted(first.elapsed_time(last) for first, last in events)[ROUNDS // 2]


def peak(dtype: torch.dtype) -> float:
    """Operations per second of a product of two 8,192 x 8,192 matrices."""
    a = torch.randn(8192, 8192, generator=generator(0, "peak", device="cuda"), device="cuda").to(dtype)
    return 2 * 8192**3 / (milliseconds(lambda: a @ a) / 1000)


def made(precision: str) -> Trainee:
    own = {"lr": 1e-4, "lr_warmup": 0, "sparsity_warmup": 0, "log_every": 1000}
    return Trainee(SparseCoder(D, M, k=K, device="cuda"), FitOptions(batch_size=B, precision=precision, **own), 0)


def plain_loss(coder: SparseCoder, x: torch.Tensor, precision: str) -> torch.Tensor:
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
        h = (x - coder.b_dec) @ coder.W_enc.T + coder.b_enc
        best = h.topk(coder.rule.k, dim=1)
        latents = torch.zeros_like(h).scatter(1, best.indices, best.values.relu())
        recons = latents @ coder.W_dec + coder.b_dec
    return (recons.float() - x).square().sum(1).mean()


def plain_step(trainee: Trainee, x: torch.Tensor, precision: str) -> torch.Tensor:
    loss = plain_loss(trainee.coder, x, precision)
    trainee.optimizer.zero_grad()
    loss.backward()
    remove_parallel(trainee.coder)
    torch.nn.utils.clip_grad_norm_(trainee.parameters, 1.0)
    trainee.optimizer.step()
    trainee.coder.tidy()
    return loss


@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_topk_step_on_a_gpu(benchmark, precision):
    x = torch.randn(B, D, generator=generator(0, "benchmark", device="cuda"), device="cuda")
    ours, plain = made(precision), made(precision)
    steps = iter(range(1, 1000))
    calls = {"ours": lambda: ours.step(next(steps), x, None), "plain dense": lambda: plain_step(plain, x, precision)}
    useful = 2 * B * D * M + 8 * B * K * D
    fastest = peak(torch.bfloat16 if precision == "bf16" else torch.float32)

    print(f"\n{torch.cuda.get_device_name()}, {precision}, fastest product {fastest / 1e12:.0f} TFLOP/s")
    print(f"{'step':14}{'ms':>9}{'tokens/s':>13}{'MFU':>8}{'GB':>8}")

    def measure() -> None:
        for name, call in calls.items():
            torch.cuda.reset_peak_memory_stats()
            ms = milliseconds(call)
            mfu, gb = useful / (ms / 1000) / fastest, torch.cuda.max_memory_allocated() / 2**30
            benchmark.extra_info[name] = {"ms": ms, "tokens_per_s": 1000 * B / ms, "mfu": mfu, "gb": gb}
            print(f"{name:14}{ms:9.2f}{1000 * B / ms:13,.0f}{mfu:8.1%}{gb:8.2f}")

    benchmark.pedantic(measure, rounds=1)
    assert all(0 < row["mfu"] < 1 for row in benchmark.extra_info.values())


def test_the_plain_step_has_the_maths_of_ours():
    coder = SparseCoder(16, 64, k=4)
    x = torch.randn(32, 16, generator=generator(0, "maths"))
    expected = (coder(x) - x).square().sum(1).mean()
    assert plain_loss(coder, x, "float32").item() == pytest.approx(expected.item(), rel=1e-5)
