"""What is read: speeches as windows of tokens, language models and their activations. Nothing is trained here."""
from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from lib.data.registry import dataset
from lib.data.resolve import as_file
from lib.data.text import Speech, byte_pairs, speeches, split, windows
from lib.files import ROOT, names_folder, pinned, unpinned
from lib.models.causal_lm import CausalLM, causal_lm
from lib.models.lm_files import gpt2, llama
from lib.params import Count, Params
from lib.rng import generator, stream_seed

SLUG = "transformer_saes"
OWN, SMOLLM2 = "own", "smollm2"


class Common(Params):
    """What every stage reads."""

    seed: int = Field(ge=0, description="root of every random stream")
    device: str = Field(pattern="^(auto|cpu|cuda)$", description="where models and coders are trained")


class Text(Common):
    """A model's texts."""

    model: str = Field(description='"own": trained here; "smollm2"; else GPT-2 from this folder, or name@revision')
    vocabulary: int = Field(ge=257, description="tokens of the own model")
    context: int = Field(ge=8, description="tokens of a window, the one before the text included")
    every: int = Field(ge=1, description="every so many-th speech is read; all would be 1")

    @field_validator("model")
    @classmethod
    def _with_content(cls, model: str) -> str:
        """A folder's name with a digest of its files, so that every run of another content is another run."""
        if model in (OWN, SMOLLM2):
            return model
        on_hub = re.fullmatch(r"([\w-][\w.-]*)(/[\w-][\w.-]*)?@[\w.-]+", model)
        if not names_folder(model) and (not on_hub or on_hub[1] in (OWN, SMOLLM2) or names_folder(on_hub[1])):
            raise ValueError(f"there is no folder {unpinned(model)}, seen from {ROOT}; give the folder that holds "
                             "config.json, or a name on the hub and a revision of it, such as gpt2@main: a commit says "
                             "for good which files those were")
        return pinned(model)


class Size(Text):
    """The own model's size."""

    width: int = Field(ge=4, description="of its residual stream")
    depth: Count = Field(description="its blocks")
    heads: Count = Field(description="of a block's attention")


def stream(params: Common, *labels: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """The study's random stream of that name."""
    return generator(params.seed, SLUG, *labels, device=device)


def read_speeches(params: Text) -> tuple[list[Speech], list[Speech]]:
    """Speeches to train on, of which every so many-th is taken, and held out."""
    train, held = split(speeches())
    return train[:: params.every], held


@functools.lru_cache(maxsize=1)
def untrained(params: Size) -> CausalLM:
    """The own model before training, or a model from its file, with its tokenizer."""
    if params.model == SMOLLM2:
        return llama(as_file(dataset(SMOLLM2)))
    if params.model != OWN:
        if pinned(params.model) != params.model:
            raise ValueError(f"{unpinned(params.model)} has changed since the parameters were read: run the parameters "
                             "cell again, and those after it")
        return gpt2(ROOT / unpinned(params.model)) if names_folder(params.model) else gpt2(*params.model.split("@"))
    tokenizer = byte_pairs([speech.text for speech in read_speeches(params)[0]], params.vocabulary)
    return causal_lm(params.vocabulary, params.width, params.depth, params.heads, params.context,
                     stream_seed(params.seed, SLUG, "model"), tokenizer)


def evenly(n: int, wanted: int, what: str) -> np.ndarray:
    """Numbers of `wanted` of n windows, evenly spaced."""
    if wanted > n:
        raise ValueError(f"{what}: there are {n} windows, {wanted} are asked for")
    return np.linspace(0, n - 1, wanted).astype(int)


def tokenised(params: Size) -> dict[str, Any]:
    """Windows of tokens: train and held, ints [n, context]; of which speech each is, ints [n]."""
    model, found = untrained(params), {}
    for name, part in zip(("train", "held"), read_speeches(params), strict=True):
        own = windows(model.tokenizer, [speech.text for speech in part], params.context, model.bos)
        found |= {name: own.ids.astype(np.int32), f"{name}_speech": own.text}
    return found


@torch.no_grad()
def randomised(model: CausalLM, rng: torch.Generator) -> CausalLM:
    """The model with every matrix drawn anew, normal with its own standard deviation; norms and biases stay."""
    for p in {id(p): p for p in model.parameters() if p.ndim > 1}.values():
        p.copy_(torch.randn(p.shape, generator=rng) * p.std().cpu())
    return model


def shuffled(x: Tensor, rng: torch.Generator) -> Tensor:
    """Activations whose dimensions are permuted over tokens, each on its own; [n, d]."""
    return torch.stack([column[torch.randperm(len(x), generator=rng)] for column in x.T], 1)
