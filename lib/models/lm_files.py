"""Language models from files: Llama from GGUF, GPT-2 from a folder that transformers' `save_pretrained` wrote.

Both are read without the packages that made them: no code of a model runs, nothing is imported from its package.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.files import read_json
from lib.models.causal_lm import MLP, Attention, Block, CausalLM, Rotary, gpt2_shaped

if TYPE_CHECKING:
    from gguf import GGUFReader
    from tokenizers import Tokenizer


def llama(path: str | Path) -> CausalLM:
    """A Llama model from a GGUF file, weights as float32 whatever their type there.

    Args:
        path: of the file, or of any of its parts, NAME-00001-of-00003.gguf.
    Raises:
        ImportError: the package `gguf` is not installed. ValueError: the file is of another architecture or tokenizer,
            or holds a tensor or a scaling of positions that is not computed here.
    """
    readers = _opened(Path(path))
    said = {name: field.contents() for name, field in readers[0].fields.items()}  # all but tensors is in the first
    if said["general.architecture"] != "llama":
        raise ValueError(f"{path} holds a model of architecture {said['general.architecture']}, not llama")
    if scaled := [name for name in said if name.startswith("llama.rope.scaling") and said[name] not in ("none", 1.0)]:
        raise ValueError(f"{path} scales positions ({scaled[0]}), which is not computed here")
    width, depth, heads, eps, base = (said.get(f"llama.{name}", default) for name, default in (
        ("embedding_length", None), ("block_count", None), ("attention.head_count", None),
        ("attention.layer_norm_rms_epsilon", 1e-5), ("rope.freq_base", 1e4)))
    kv_heads, hidden = said.get("llama.attention.head_count_kv", heads), said["llama.feed_forward_length"]
    weights = {name: value for reader in readers for name, value in _weights(reader).items()}
    vocabulary, rotary = len(weights["embed.weight"]), Rotary(width // heads, base)
    blocks = [Block((nn.RMSNorm(width, eps), nn.RMSNorm(width, eps)), Attention(width, heads, kv_heads, False, rotary),
                    MLP(width, hidden, True)) for _ in range(depth)]
    tokenizer = _tokenizer(said, path)
    bos = said.get("tokenizer.ggml.bos_token_id") if said.get("tokenizer.ggml.add_bos_token") else None
    unembed = nn.Linear(width, vocabulary, False)
    model = CausalLM(nn.Embedding(vocabulary, width), blocks, nn.RMSNorm(width, eps), unembed,
                     said["llama.context_length"], tokenizer, bos)
    model.load_state_dict(weights | {"unembed.weight": weights.get("unembed.weight", weights["embed.weight"])})
    return model.eval().requires_grad_(False)


def _opened(path: Path) -> list[GGUFReader]:
    """The file, or all its parts in their order."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ImportError("reading a GGUF file needs the package gguf: pip install -e '.[lm]'") from error
    names = [path.name]
    if part := re.fullmatch(r"(.*-)\d{5}(-of-(\d{5})\.gguf)", path.name):
        names = [f"{part[1]}{i + 1:05d}{part[2]}" for i in range(int(part[3]))]
    elif not path.is_file():
        raise FileNotFoundError(f"there is no GGUF file {path}")
    return [GGUFReader(path.parent / name) for name in _all_there(path.parent, names)]


def _all_there(folder: Path, names: list[str]) -> list[str]:
    """`names` unchanged; FileNotFoundError unless the folder has every file."""
    if lost := [name for name in names if not (folder / name).is_file()]:
        raise FileNotFoundError(f"{folder} lacks {', '.join(lost)}; fetch the rest of the model")
    return names


_PARTS = {"attn_norm": "norm1", "attn_q": "attn.q", "attn_k": "attn.k", "attn_v": "attn.v", "attn_output": "attn.out",
          "ffn_norm": "norm2", "ffn_gate": "mlp.gate", "ffn_up": "mlp.up", "ffn_down": "mlp.down"}
_ENDS = {"token_embd.weight": "embed.weight", "output_norm.weight": "norm.weight", "output.weight": "unembed.weight"}


def _weights(reader: GGUFReader) -> dict[str, Tensor]:
    """Every tensor of the file under the adapter's name, float32."""
    from gguf.quants import dequantize

    found = {}
    for tensor in reader.tensors:
        name = _ENDS.get(tensor.name)
        part = tensor.name.split(".")
        if part[0] == "blk" and part[2] in _PARTS and part[3:] == ["weight"]:
            name = f"blocks.{part[1]}.{_PARTS[part[2]]}.weight"
        if name is None:
            raise ValueError(f"the file holds a tensor {tensor.name}, which no plain Llama has")
        values = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        found[name] = torch.from_numpy(values)
    return found


def _tokenizer(said: Mapping[str, Any], path: str | Path) -> Tokenizer:
    """The byte-pair tokenizer in a GGUF file's metadata; digits stand alone where it says "smollm"."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    if said.get("tokenizer.ggml.model") != "gpt2":
        raise ValueError(f"{path} has a tokenizer {said.get('tokenizer.ggml.model')!r}; byte pairs ('gpt2') are read")
    tokens, merges = said["tokenizer.ggml.tokens"], said["tokenizer.ggml.merges"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[tuple(pair.split(" ")) for pair in merges]))
    if (pre := said.get("tokenizer.ggml.pre")) not in (None, "default", "gpt-2", "smollm"):
        raise ValueError(f"{path} splits texts as {pre!r} does, not as gpt-2 or smollm")
    digits = [pre_tokenizers.Digits(individual_digits=True)] * (pre == "smollm")
    made.pre_tokenizer = pre_tokenizers.Sequence([*digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    made.decoder = decoders.ByteLevel()
    kinds = said.get("tokenizer.ggml.token_type", [1] * len(tokens))
    special = [AddedToken(token, special=True) for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    made.add_special_tokens(special)
    return made


def gpt2(source: str | Path, revision: str | None = None) -> CausalLM:
    """GPT-2 from a folder with config.json, model.safetensors and tokenizer.json, or from the hub by name.

    Args:
        source: in the folder model.safetensors.index.json and the files it names may stand for model.safetensors.
        revision: of the hub's repository.
    Raises:
        FileNotFoundError: the folder lacks a file. ValueError: it holds another kind of model.
    """
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    folder = Path(source)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        wanted = ["config.json", "tokenizer.json", "model.safetensors*", "model-*.safetensors"]
        folder = Path(snapshot_download(str(source), revision=revision, allow_patterns=wanted))
    names = ["model.safetensors"]
    if not (folder / names[0]).is_file() and (folder / (index := f"{names[0]}.index.json")).is_file():
        names = sorted(set(read_json(folder / index)["weight_map"].values()))
    _all_there(folder, ["config.json", "tokenizer.json", *names])
    config = read_json(folder / "config.json")
    if config.get("model_type") != "gpt2" or config.get("activation_function", "gelu_new") != "gelu_new":
        raise ValueError(f"{folder} holds a {config.get('model_type')} with {config.get('activation_function')}, not a "
                         "gpt2 with gelu_new")
    model = gpt2_shaped(config["vocab_size"], config["n_embd"], config["n_layer"], config["n_head"],
                        config["n_positions"], config.get("n_inner"), config["layer_norm_epsilon"])
    model.load_state_dict(_from_gpt2({k: t for name in names for k, t in load_file(folder / name).items()}))
    model.tokenizer, model.bos = Tokenizer.from_file(str(folder / "tokenizer.json")), config.get("bos_token_id")
    return model.eval().requires_grad_(False)


def _from_gpt2(there: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Its tensors under the adapter's names: matrices transposed, queries, keys, values apart, buffers left out."""
    ends = {"wte": "embed.token", "wpe": "embed.position", "ln_f": "norm"}
    parts = {"ln_1": "norm1", "ln_2": "norm2", "attn.c_proj": "attn.out", "mlp.c_fc": "mlp.up",
             "mlp.c_proj": "mlp.down"}
    found = {}
    for name, value in there.items():
        place, _, kind = name.removeprefix("transformer.").rpartition(".")
        if place in ends:
            found[f"{ends[place]}.{kind}"] = value
        elif place.startswith("h."):
            _, number, part = place.split(".", 2)
            value = value.T.contiguous() if value.ndim == 2 else value
            if part == "attn.c_attn":
                for own, rows in zip("qkv", value.chunk(3), strict=True):
                    found[f"blocks.{number}.attn.{own}.{kind}"] = rows.clone()
            elif part in parts:
                found[f"blocks.{number}.{parts[part]}.{kind}"] = value
    return found | {"unembed.weight": found["embed.token.weight"]}
