"""Causal language models behind one adapter: `embed`, `blocks`, `norm`, `unembed`, a tokenizer, what begins a text.

    model = causal_lm(2048, tokenizer=byte_pairs(texts, 2048))    # small, untrained, in the architecture of GPT-2
    model = gpt2("folder or name on the hub")                     # lib.models.lm_files
    model = llama(as_file(dataset("smollm2")))

Whatever a model is, `blocks.<i>`, `blocks.<i>.attn` and `blocks.<i>.mlp` are modules that take and give [B, T, width],
so that `lib.activations` reads and replaces them by name.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.rng import generator

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class CausalLM(nn.Module):
    """Tokens -> logits of the next token, unembed(norm(blocks(embed(tokens)))).

    Attributes:
        embed, blocks, norm, unembed: the parts; tokens [B, T] and [B, T, width] in between.
        width: of the residual stream; context: tokens it takes at most.
        tokenizer: of its texts, or None; bos: the token every text begins with, None where it was trained without.
    """

    def __init__(
        self, embed: nn.Module, blocks: list[nn.Module], norm: nn.Module, unembed: nn.Linear, context: int,
        tokenizer: Tokenizer | None = None, bos: int | None = None,
    ):
        super().__init__()
        self.embed, self.blocks, self.norm, self.unembed = embed, nn.ModuleList(blocks), norm, unembed
        self.width, self.context, self.tokenizer, self.bos = unembed.in_features, context, tokenizer, bos

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each, [B, T, vocabulary], of tokens, int64 [B, T]."""
        if tokens.ndim != 2 or tokens.shape[1] > self.context:
            raise ValueError(f"tokens must be [B, T] with T up to {self.context}, got {list(tokens.shape)}")
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.unembed(self.norm(x))


class Embed(nn.Module):
    """Token and learned position, [B, T] -> [B, T, width]."""

    def __init__(self, vocabulary: int, context: int, width: int):
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(context, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.token(tokens) + self.position.weight[: tokens.shape[1]]


class Attention(nn.Module):
    """Causal self-attention of `heads` heads, `kv_heads` keys and values shared among them; positions as `Rotary` says.
    """

    def __init__(self, width: int, heads: int, kv_heads: int, bias: bool, rotary: Rotary | None = None):
        super().__init__()
        self.heads, self.kv_heads, self.size, self.rotary = heads, kv_heads, width // heads, rotary
        self.q = nn.Linear(width, width, bias)
        self.k, self.v = (nn.Linear(width, kv_heads * self.size, bias) for _ in range(2))
        self.out = nn.Linear(width, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (-1, self.size)).transpose(1, 2) for part in (self.q, self.k, self.v))
        if self.rotary is not None:  # q [B, heads, T, size]
            q, k = self.rotary(q), self.rotary(k)
        k, v = (part.repeat_interleave(self.heads // self.kv_heads, 1) for part in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))  # [B, T, width]


class Rotary(nn.Module):
    """Turns the pair of dimensions (2i, 2i + 1) of position t by t base^(-2i / size).

    Source: Su et al. 2021, "RoFormer"; pairs lie side by side, as GGUF files have the rows of queries and keys.
    """

    def __init__(self, size: int, base: float):
        super().__init__()
        rates = base ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
        self.register_buffer("rates", rates, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        angle = torch.arange(x.shape[-2], device=x.device)[:, None] * self.rates  # [T, size / 2]
        (a, b), cos, sin = (x[..., 0::2], x[..., 1::2]), angle.cos(), angle.sin()
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class MLP(nn.Module):
    """down(GELU(up(x))), GELU by its tanh formula as in GPT-2; or down(SiLU(gate(x)) up(x)) as in Llama."""

    def __init__(self, width: int, hidden: int, gated: bool):
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden, not gated), nn.Linear(hidden, width, not gated)
        self.gate = nn.Linear(width, hidden, False) if gated else None

    def forward(self, x: Tensor) -> Tensor:
        up = self.up(x)
        return self.down(F.gelu(up, approximate="tanh") if self.gate is None else F.silu(self.gate(x)) * up)


class Block(nn.Module):
    """x + attn(norm1(x)), then + mlp(norm2(.))."""

    def __init__(self, norms: tuple[nn.Module, nn.Module], attn: nn.Module, mlp: nn.Module):
        super().__init__()
        (self.norm1, self.norm2), self.attn, self.mlp = norms, attn, mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def gpt2_shaped(
    vocabulary: int, width: int, depth: int, heads: int, context: int, hidden: int | None = None, eps: float = 1e-5,
) -> CausalLM:
    """A model in the architecture of GPT-2, weights as torch makes them; the embedding is the unembedding.

    Source: Radford et al. 2019, "Language models are unsupervised multitask learners".
    """
    if width % heads:
        raise ValueError(f"{heads} heads do not divide a width of {width}")
    blocks = [Block((nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)), Attention(width, heads, heads, True),
                    MLP(width, hidden or 4 * width, False)) for _ in range(depth)]
    embed, unembed = Embed(vocabulary, context, width), nn.Linear(width, vocabulary, False)
    unembed.weight = embed.token.weight
    return CausalLM(embed, blocks, nn.LayerNorm(width, eps), unembed, context)


def causal_lm(
    vocabulary: int, width: int = 128, depth: int = 2, heads: int = 4, context: int = 128, seed: int = 0,
    tokenizer: Tokenizer | None = None, bos: int | None = 0,
) -> CausalLM:
    """A small untrained `gpt2_shaped` model; weights N(0, .02²), those that write to the stream / sqrt(2 depth).

    They depend on the arguments alone; the global random generators stay as they are.
    """
    with torch.random.fork_rng(devices=[]):  # torch draws weights that are drawn again below
        model = gpt2_shaped(vocabulary, width, depth, heads, context)
    rng = generator(seed, "causal_lm")
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1:
                p.normal_(0, 0.02, generator=rng)
                p.div_((2 * depth) ** 0.5 if name.endswith(("attn.out.weight", "mlp.down.weight")) else 1)
            elif name.endswith("bias"):
                p.zero_()
    model.tokenizer, model.bos = tokenizer, bos
    return model


@torch.no_grad()
def cross_entropy(model: CausalLM, tokens: Tensor, batch: int = 16) -> Tensor:
    """Loss of every predicted token in nats, [n, T - 1], of windows, int64 [n, T]."""
    found = []
    for part in tokens.to(model.unembed.weight.device).split(batch):
        logits = model(part)[:, :-1].float()
        found.append(F.cross_entropy(logits.transpose(1, 2), part[:, 1:], reduction="none"))
    return torch.cat(found)
