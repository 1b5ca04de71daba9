"""A language model, a coder and texts so small that what a dashboard must show can be said by hand."""
from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lib import files
from lib.data.text import byte_pairs
from lib.models.causal_lm import CausalLM, causal_lm
from lib.sparse_coders import SparseCoder

TEXTS = ["the war was long and the peace was short " * 6, "in peace and in war <b>the</b> law </script> holds " * 6]
WORDS = (" war", " peace", " the")
NEVER = 3


def made(folder: Path) -> tuple[SparseCoder, CausalLM]:
    """A model whose stream holds the token's embedding and nothing else, and latents that read one word each.

    Latent 3 never fires; latent 4 fires on " war" and, half as strongly, on " peace".
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BUILD", folder)
        tokenizer = byte_pairs(TEXTS * 20, 300)
    model = causal_lm(300, width=32, depth=1, context=32, tokenizer=tokenizer)
    coder = SparseCoder(32, 5, "relu")
    ids = [tokenizer.token_to_id(word.replace(" ", "Ġ")) for word in WORDS]
    with torch.no_grad():
        embedding = model.embed.token.weight
        embedding.copy_(torch.nn.functional.normalize(embedding, dim=1))
        for name, parameter in model.named_parameters():
            if name.startswith("blocks") and name.endswith(("out.weight", "down.weight")) or "position" in name:
                parameter.zero_()
        war, peace, the = embedding[ids]
        coder.W_dec.copy_(torch.stack([war, peace, the, -the, torch.nn.functional.normalize(war + peace, dim=0)]))
        coder.W_enc[:4] = torch.stack([war, peace, the, -the])
        coder.b_enc.copy_(torch.tensor([-0.8, -0.8, -0.8, -2.0, -0.8]))
        coder.W_enc[4] = torch.linalg.pinv(torch.stack([war, peace])) @ torch.tensor([1, 0.9])  # its two products
    return coder, model
