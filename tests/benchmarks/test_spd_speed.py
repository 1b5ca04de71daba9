"""A decomposition's training step against a plain PyTorch version of the same maths, and their working memory.

tms_40-10: 40 features, 10 hidden units, 200 components at each of two sites, batch 4,096, gates 1 -> 16 -> 1, one
thread. A step is forward, backward and fused AdamW. The plain version has no hooks either: it keeps activations in
rows, gates as strided batched products [B, C, m], and the delta component as a matrix of its own. Both run in a process
of their own and are taken in turns.
"""
from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from measuring import answer, least_ms, measured, peak_mb

from lib.rng import generator
from lib.spd import Decomposition, SPDConfig
from lib.spd.losses import Step
from lib.spd.masks import Noise
from lib.spd.targets import ToyModel, toy_draw

FEATURES, HIDDEN, C, B, WIDTH = 40, 10, 200, 4096, 16
CONFIG = SPDConfig(n_components=C, importance=1e-4, p=2.0, batch_size=B)
ROUNDS = 6


def setting(dtype=torch.float32) -> tuple[Decomposition, torch.Tensor]:
    rng = generator(0, "benchmark")
    W = torch.randn(HIDDEN, FEATURES, generator=rng) / HIDDEN**0.5
    target = ToyModel(W, -0.2 * torch.rand(FEATURES, generator=rng)).to(dtype)
    x = toy_draw(FEATURES)(rng, B).to(dtype)
    return Decomposition(target, x[:2], C), x


def lower(g):
    """clamp(g, 0, 1) whose gradient below 0 is .01 where it is negative, from detached parts."""
    inside = g.clamp(0, 1)
    leak = 0.01 * torch.where(g <= 0, g, 0.0)
    leak.register_hook(lambda d: d.clamp(max=0)) if leak.requires_grad else None
    return inside * (g > 0) + (leak - leak.detach())


def upper(g):
    return torch.where(g > 1, 1 + 0.01 * (g - 1), g.clamp(0, 1))


def strided_gate(a, p):
    """C networks 1 -> m -> 1 as a chain of batched linear maps, [B, C, i] x [C, i, o] -> [B, C, o]."""
    pre = torch.einsum("bci,cio->bco", a.unsqueeze(-1), p["w1"].unsqueeze(1)) + p["b1"]
    return torch.einsum("bci,cio->bco", F.gelu(pre), p["w2"].unsqueeze(2)).squeeze(-1) + p["b2"]


def broadcast_gate(a, p):
    """The same as products and a sum over [B, C, m]."""
    return (F.gelu(a.unsqueeze(-1) * p["w1"] + p["b1"]) * p["w2"]).sum(-1) + p["b2"]


def plain_loss(dec: Decomposition, x: torch.Tensor, noise: Noise, plain_gate=strided_gate) -> torch.Tensor:
    """recon + layerwise + 1e-4 importance, written as in the equations; the same draws in the same order."""
    one, two = (dec.sites[name] for name in ("linear1", "linear2"))
    parts = [dec.parts[name] for name in ("linear1", "linear2")]
    deltas = [site.weight.T - p.V @ p.U for site, p in zip((one, two), parts, strict=True)]  # [d_in, d_out]
    with torch.no_grad():
        hidden = one.apply(x)
        wanted = two.add_bias(two.apply(hidden)).relu()
    acts = [x @ parts[0].V, hidden @ parts[1].V]  # [B, C]
    gates = []
    for a, p in zip(acts, parts, strict=True):
        gates.append(plain_gate(a, p.gate))
    lowered = [lower(g) for g in gates]

    def draw(i):
        # component after component in memory, as the library draws, so that the numbers are the same
        r = noise.uniform(torch.empty(C, B, dtype=x.dtype).T)
        return lowered[i] + (1 - lowered[i]) * r, noise.uniform(torch.empty(B, dtype=x.dtype))

    def apply(i, x, mask, delta):
        return (x @ parts[i].V * mask) @ parts[i].U + delta.unsqueeze(-1) * (x @ deltas[i])

    masks = [draw(0), draw(1)]
    both = two.add_bias(apply(1, apply(0, x, *masks[0]), *masks[1])).relu()
    first = two.add_bias(two.apply(apply(0, x, *draw(0)))).relu()
    second = two.add_bias(apply(1, hidden, *draw(1))).relu()
    recon = (both - wanted).square().mean()
    layerwise = ((first - wanted).square().mean() + (second - wanted).square().mean()) / 2
    importance = sum((upper(g) + CONFIG.eps).pow(CONFIG.p).sum(-1).mean() for g in gates)
    return recon + layerwise + CONFIG.importance * importance


def our_loss(dec: Decomposition, x: torch.Tensor, noise: Noise) -> torch.Tensor:
    return Step(dec, x, CONFIG, noise).total()[0]


def broadcast_loss(dec: Decomposition, x: torch.Tensor, noise: Noise) -> torch.Tensor:
    return plain_loss(dec, x, noise, broadcast_gate)


LOSSES = {"ours": our_loss, "plain": plain_loss, "plain, broadcast": broadcast_loss}


class Training:
    """Calling it trains one step."""

    def __init__(self, name: str):
        self.dec, self.x = setting()
        self.loss, self.noise = LOSSES[name], Noise([0], False)
        self.parameters = list(self.dec.named_parameters().values())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-6, weight_decay=0.0, fused=True)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        self.loss(self.dec, self.x, self.noise).backward()
        self.optimizer.step()


def speed() -> dict[str, float]:
    """CPU-ms of a step of each."""
    steps = [Training(name) for name in LOSSES]
    return {**dict(zip(LOSSES, least_ms(steps, ROUNDS), strict=True)), "load": os.getloadavg()[0]}


def memory(name: str) -> float:
    """MB by which steps at the full batch raise the process's peak above steps at 64 samples."""
    step = Training(name)
    whole, step.x = step.x, step.x[:64]
    small, globals()["B"] = B, 64
    for _ in range(3):
        step()
    before = peak_mb()
    step.x, globals()["B"] = whole, small
    step(), step()
    return peak_mb() - before


class SingleNoise(Noise):
    """The float32 draws, whatever the type they are wanted in."""

    def uniform(self, like):
        return super().uniform(like.detach().float()).to(like.dtype)


def gradients(loss, dtype) -> dict[str, torch.Tensor]:
    dec, x = setting(dtype)
    value = loss(dec, x, SingleNoise([0], False))
    parameters = dec.named_parameters()
    found = torch.autograd.grad(value, list(parameters.values()))
    return {"loss": value.detach(), **dict(zip(parameters, found, strict=True))}


def largest_difference(one, other) -> float:
    return max(float((one[name] - other[name]).norm() / other[name].norm()) for name in other)


def test_all_compute_the_same():
    exact = gradients(plain_loss, torch.float64)
    for name, loss in LOSSES.items():
        assert largest_difference(gradients(loss, torch.float64), exact) < 1e-12, name
    difference = {name: largest_difference(gradients(loss, torch.float32), exact) for name, loss in LOSSES.items()}
    print("\nlargest relative difference of a gradient from float64: " + str(difference))
    assert difference["ours"] < 2e-6


def test_step_is_twice_as_fast(benchmark):
    row = benchmark.pedantic(measured, (__file__, "speed"), rounds=1)
    benchmark.extra_info.update(row)
    print("\n" + ", ".join(f"{name} {value:.1f}" for name, value in row.items()))
    assert row["plain"] / row["ours"] >= 2
    assert row["plain, broadcast"] / row["ours"] >= 1.4


def test_step_holds_half_the_memory(benchmark):
    rows = benchmark.pedantic(lambda: {name: measured(__file__, "memory", name) for name in LOSSES}, rounds=1)
    benchmark.extra_info.update(rows)
    print("\nMB a batch adds: " + ", ".join(f"{name} {mb:.0f}" for name, mb in rows.items()))
    for name in ("plain", "plain, broadcast"):
        assert rows[name] > 2 * B * C * WIDTH * 4 / 2**20, "the measurement sees what is stored"
        assert rows["ours"] <= rows[name] / 2


if __name__ == "__main__":
    answer(speed, memory)
