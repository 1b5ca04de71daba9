"""Models from files: a made-up Llama in GGUF and a made-up GPT-2 folder, against logits that transformers gave."""
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lib.data.text import byte_pairs
from lib.models.causal_lm import gpt2_shaped
from lib.models.lm_files import gpt2, llama
from lib.rng import generator
from lib.torchvision_import import import_torchvision

VOCABULARY, WIDTH, HIDDEN, HEADS, KV_HEADS = 20, 16, 24, 4, 2
IDS = torch.arange(10)[None]
SHAPES = {"attn_norm": (16,), "attn_q": (16, 16), "attn_k": (8, 16), "attn_v": (8, 16), "attn_output": (16, 16),
          "ffn_norm": (16,), "ffn_gate": (24, 16), "ffn_up": (24, 16), "ffn_down": (16, 24)}
THEIRS = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
          "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
          "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}

LLAMA = [[0.04682, -0.37393, 0.34458, 1.24169, -0.47162, 0.04052],
         [0.4942, -0.06274, -0.78027, 1.33968, -1.09236, -0.31069]]
GPT2 = [[0.11266, -0.67819, 0.22339, 0.12065, 0.28167, -0.69849],
        [0.05782, -0.88172, 0.29362, 0.30459, 0.27426, -0.89944]]
"""The first six logits after tokens 9 and 3 of `IDS`, by transformers 5.24."""


def drawn(name: str, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator(0, "gguf", name)) * 0.5


def weights() -> dict[str, torch.Tensor]:
    """Of a Llama of two blocks, under the names and in the order of rows that GGUF files have."""
    found = {"token_embd.weight": drawn("embed", VOCABULARY, WIDTH), "output_norm.weight": drawn("norm", WIDTH)}
    return found | {f"blk.{i}.{part}.weight": drawn(f"{part} {i}", *shape)
                    for i in range(2) for part, shape in SHAPES.items()}


def written(path, **changes):
    from gguf import GGUFWriter

    writer = GGUFWriter(path, changes.pop("architecture", "llama"))
    writer.add_context_length(32)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(2)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100.0)
    writer.add_tokenizer_model(changes.pop("tokenizer", "gpt2"))
    writer.add_tokenizer_pre(changes.pop("pre", "smollm"))
    if scaling := changes.pop("scaling", None):
        writer.add_rope_scaling_factor(scaling)
    writer.add_token_list(["<s>", *"abcdefghij0123", "Ġ", "ab", "abc", "Ġa", "12"])
    writer.add_token_types([3] + [1] * 19)
    writer.add_token_merges(["a b", "ab c", "Ġ a", "1 2"])
    writer.add_bos_token_id(0)
    writer.add_add_bos_token(True)
    for name, value in (weights() | changes).items():
        writer.add_tensor(name, value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def halves(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of queries or keys from pairs side by side, as in GGUF, to first halves and second halves."""
    return rows.view(heads, len(rows) // heads // 2, 2, -1).transpose(1, 2).reshape(rows.shape)


def reference(own: dict[str, torch.Tensor]):
    """The same model in transformers."""
    import_torchvision()
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=HIDDEN, num_hidden_layers=2,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, rms_norm_eps=1e-5, rope_theta=100.0,
        max_position_embeddings=32, tie_word_embeddings=True)).eval()
    ends = {"model.embed_tokens.weight": own["token_embd.weight"], "lm_head.weight": own["token_embd.weight"],
            "model.norm.weight": own["output_norm.weight"]}
    turned = {"attn_q": HEADS, "attn_k": KV_HEADS}
    model.load_state_dict(ends | {
        f"model.layers.{i}.{name}.weight": halves(own[f"blk.{i}.{part}.weight"], turned[part])
        if part in turned else own[f"blk.{i}.{part}.weight"] for i in range(2) for part, name in THEIRS.items()})
    return model


def test_a_made_up_llama_gives_the_logits_that_transformers_gave(tmp_path):
    model = llama(written(tmp_path / "two.gguf"))
    found = model(IDS)[0]
    assert found.shape == (10, VOCABULARY) and model.bos == 0 and model.context == 32 and len(model.blocks) == 2
    assert found[9, :6].tolist() == pytest.approx(LLAMA[0], abs=2e-5)
    assert found[3, :6].tolist() == pytest.approx(LLAMA[1], abs=2e-5)


def test_its_tokenizer_is_the_one_in_the_file(tmp_path):
    made = llama(written(tmp_path / "two.gguf")).tokenizer
    assert made.encode("abc a1").tokens == ["abc", "Ġa", "1"] and made.encode("12").tokens == ["1", "2"]  # digits apart
    assert made.encode("<s>ab").tokens == ["<s>", "ab"] and made.decode(made.encode("abc a").ids) == "abc a"


def test_weights_in_fewer_bits_are_read_as_numbers(tmp_path):
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
    from gguf.quants import quantize

    from lib.models import lm_files

    table, path = np.linspace(-2, 2, 20 * 32, dtype=np.float32).reshape(20, 32), tmp_path / "bits.gguf"
    writer = GGUFWriter(path, "llama")
    kind = GGMLQuantizationType.Q4_1
    writer.add_tensor("token_embd.weight", quantize(table, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = lm_files._weights(GGUFReader(path))["embed.weight"].numpy()
    assert found.shape == (20, 32) and 0 < np.abs(found - table).max() < 0.01  # a block of 32 spans .2 in 15 steps


def parts(folder, whole, n):
    """`whole` as gguf-split lays it: all that is said in the first part, and tensors in turn in all of them."""
    from gguf import GGUFReader, GGUFWriter

    names, own = [folder / f"two-{i + 1:05d}-of-{n:05d}.gguf" for i in range(n)], GGUFReader(whole).tensors
    for i, path in enumerate(names):
        writer = GGUFWriter(path, "llama")
        for field in GGUFReader(whole).fields.values() if i == 0 else ():
            if not field.name.startswith("GGUF.") and field.name != "general.architecture":
                writer.add_key_value(field.name, field.contents(), field.types[0],
                                     field.types[-1] if len(field.types) > 1 else None)
        for tensor in own[i::n]:
            writer.add_tensor(tensor.name, tensor.data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return names


def test_a_file_in_parts_is_read_by_any_of_them_and_a_missing_part_is_named(tmp_path):
    whole = llama(written(tmp_path / "two.gguf"))
    names = parts(tmp_path, tmp_path / "two.gguf", 3)
    for name in names:
        found = llama(name)
        assert torch.equal(found(IDS), whole(IDS)) and found.tokenizer.encode("ab").ids == [16]
    for name in names:
        kept = name.read_bytes()
        name.unlink()
        with pytest.raises(FileNotFoundError, match=f"lacks {name.name}; fetch the rest of the model"):
            llama(names[0])
        name.write_bytes(kept)


def test_another_architecture_tokenizer_or_place_is_refused(tmp_path):
    with pytest.raises(ValueError, match="architecture gpt2, not llama"):
        llama(written(tmp_path / "other.gguf", architecture="gpt2"))
    with pytest.raises(ValueError, match="a tokenizer 'llama'"):
        llama(written(tmp_path / "pieces.gguf", tokenizer="llama"))
    with pytest.raises(ValueError, match="splits texts as 'llama-bpe' does"):
        llama(written(tmp_path / "pre.gguf", pre="llama-bpe"))
    with pytest.raises(ValueError, match="scales positions"):
        llama(written(tmp_path / "scaled.gguf", scaling=4.0))
    with pytest.raises(ValueError, match="a tensor rope_freqs.weight, which no plain Llama has"):
        llama(written(tmp_path / "freqs.gguf", **{"rope_freqs.weight": torch.ones(2)}))
    with pytest.raises(FileNotFoundError, match="no GGUF file"):
        llama(tmp_path / "nowhere.gguf")


def saved(folder, **config):
    """A GPT-2 of two blocks as `save_pretrained` lays it: [in, out] matrices, queries, keys and values in one."""
    own = {f"transformer.{name}": drawn(name, *shape) for name, shape in (
        ("wte.weight", (300, 12)), ("wpe.weight", (16, 12)), ("ln_f.weight", (12,)), ("ln_f.bias", (12,)))}
    for i in range(2):
        for name, shape in (("attn.c_attn", (12, 36)), ("attn.c_proj", (12, 12)), ("mlp.c_fc", (12, 48)),
                            ("mlp.c_proj", (48, 12)), ("ln_1", (12,)), ("ln_2", (12,))):
            own[f"transformer.h.{i}.{name}.weight"] = drawn(f"{name} {i}", *shape)
            own[f"transformer.h.{i}.{name}.bias"] = drawn(f"{name} bias {i}", shape[-1])
    folder.mkdir()
    save_file(own, folder / "model.safetensors")
    said = {"model_type": "gpt2", "activation_function": "gelu_new", "vocab_size": 300, "n_embd": 12, "n_layer": 2,
            "n_head": 3, "n_positions": 16, "layer_norm_epsilon": 1e-5, "bos_token_id": 0} | config
    (folder / "config.json").write_text(json.dumps(said))
    byte_pairs(["some text and some more text"], 270).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def build(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.files.BUILD", tmp_path / "build")


def test_a_made_up_gpt2_gives_the_logits_that_transformers_gave(tmp_path, build):
    model = gpt2(saved(tmp_path / "tiny"))
    found = model(IDS)[0]
    assert found.shape == (10, 300) and model.bos == 0 and model.tokenizer.get_vocab_size() == 270
    assert found[9, :6].tolist() == pytest.approx(GPT2[0], abs=2e-5)
    assert found[3, :6].tolist() == pytest.approx(GPT2[1], abs=2e-5)


def test_a_folder_of_shards_is_read_and_a_missing_one_is_named(tmp_path, build):
    whole, folder = gpt2(saved(tmp_path / "tiny")), tmp_path / "tiny"
    own, names = load_file(folder / "model.safetensors"), [f"model-{i:05d}-of-00003.safetensors" for i in (1, 2, 3)]
    (folder / "model.safetensors").unlink()
    places = {key: names[i % 3] for i, key in enumerate(own)}
    for name in names:
        save_file({key: own[key] for key in own if places[key] == name}, folder / name)
    with pytest.raises(FileNotFoundError, match="lacks model.safetensors; fetch the rest"):  # no index, no model
        gpt2(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    for lost in (names[1], "config.json", "tokenizer.json"):
        kept = (folder / lost).read_bytes()
        (folder / lost).unlink()
        with pytest.raises(FileNotFoundError, match=f"tiny lacks {lost}; fetch the rest of the model"):
            gpt2(folder)
        (folder / lost).write_bytes(kept)  # the remedy
    (folder / "config.json").write_bytes((folder / "config.json").read_text().encode("utf-8-sig"))
    assert torch.equal(gpt2(folder)(IDS), whole(IDS))


def test_a_folder_of_another_model_is_refused(tmp_path, build):
    with pytest.raises(ValueError, match="holds a llama with gelu_new"):
        gpt2(saved(tmp_path / "other", model_type="llama"))
    with pytest.raises(ValueError, match="heads do not divide"):
        gpt2_shaped(10, 16, 1, 3, 8)


def test_transformers_agrees_where_it_is_installed(tmp_path, build):
    pytest.importorskip("transformers", exc_type=ImportError)
    own = llama(written(tmp_path / "two.gguf"))
    with torch.no_grad():
        assert torch.allclose(reference(weights())(IDS).logits, own(IDS), atol=1e-5)
        from transformers import GPT2LMHeadModel

        theirs = GPT2LMHeadModel.from_pretrained(saved(tmp_path / "tiny")).eval()
        assert torch.allclose(theirs(IDS).logits, gpt2(tmp_path / "tiny")(IDS), atol=1e-4)
