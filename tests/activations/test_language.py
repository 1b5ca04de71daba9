"""Activations of a language model: which tokens are taken, and that only those are replaced."""
import pytest
import torch
from torch import nn

from lib.activations.language import TokenSite, harvest, recovered, rows, splice, token_site
from lib.models.causal_lm import causal_lm
from lib.rng import generator

TOKENS = torch.randint(0, 30, (5, 8), generator=generator(0, "test", "tokens"))
SITE = TokenSite("blocks.0.mlp", "output", 1e9)


@pytest.fixture
def model():
    made = causal_lm(30, 12, 2, 2, 8).eval()
    with torch.no_grad():
        for p in made.parameters():
            p.mul_(6)  # an untrained model whose blocks matter
    return made.requires_grad_(False)


def acts_of(model, name="blocks.0.mlp"):
    kept = []
    handle = model.get_submodule(name).register_forward_hook(lambda *call: kept.append(call[-1]))
    model(TOKENS)
    handle.remove()
    return kept[0]


def test_the_first_token_and_those_beyond_the_limit_are_left_out(model):
    acts = acts_of(model)
    lengths = acts.norm(dim=-1)
    middle = float(lengths[:, 1:].median())
    site = token_site(model, "blocks.0.mlp", TOKENS, beyond=1.5)
    assert site.limit == pytest.approx(1.5 * middle)
    kept = (lengths <= site.limit) & (torch.arange(8) > 0)
    assert 0 < int((~kept[:, 1:]).sum()) < 15
    found = list(rows(model, TOKENS, [site], batch=2))
    assert torch.equal(torch.cat([x for x, _ in found]), acts[kept])
    assert torch.equal(torch.cat([mask for _, mask in found]), kept)
    with pytest.raises(ValueError, match="must name one module"):
        token_site(model, "blocks.*", TOKENS)


def test_sites_side_by_side_are_of_the_same_tokens(model, tmp_path):
    read = token_site(model, "blocks.0.mlp", TOKENS, where="input", beyond=1.0)  # half of the tokens
    assert read.where == "input"
    store = harvest(tmp_path / "acts", model, TOKENS, [read, SITE], {"model": "toy"}, batch=2)
    both = store.batch(range(len(store)))
    assert both.shape[1] == 24 and len(store) < 5 * 7
    assert torch.allclose(model.blocks[0].mlp(both[:, :12]), both[:, 12:], atol=1e-5)
    again = harvest(tmp_path / "acts", model, TOKENS, [read, SITE], {"model": "toy"})
    assert again.sha256 == store.sha256


def test_splicing_the_same_changes_nothing_and_ablations_are_what_they_say(model):
    mean = torch.full((12,), 0.3)
    losses = splice(model, TOKENS, SITE, {"same": lambda x: x, "half": lambda x: x / 2}, mean, batch=2)
    assert torch.equal(losses["same"], losses["clean"]) and losses["half"].shape == (5, 7)
    for name, value in (("zero", torch.zeros(12)), ("mean", mean)):
        with_first = acts_of(model)
        with_first[:, 1:] = value
        handle = model.blocks[0].mlp.register_forward_hook(lambda *_, new=with_first: new)
        out = model(TOKENS)
        handle.remove()
        by_hand = -out[:, :-1].log_softmax(-1).gather(2, TOKENS[:, 1:, None])[..., 0]
        assert torch.allclose(losses[name], by_hand, atol=1e-5)
    assert torch.equal(losses["zero"][:, 0], losses["clean"][:, 0])  # the first token is left as it is


def test_a_long_token_passes_through(model):
    lengths = acts_of(model).norm(dim=-1)
    longest = int(lengths[0, 1:].argmax()) + 1
    site = SITE._replace(limit=float(lengths[0, 1:].max()) - 1e-4)
    found = []
    handle = model.blocks[1].register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    splice(model, TOKENS[:1], site, {}, torch.zeros(12))
    handle.remove()
    clean, zero, _ = found
    assert torch.equal(zero[:, [0, longest]], clean[:, [0, longest]]) and not torch.equal(zero, clean)


def test_a_transcoder_reads_one_site_and_replaces_another(model):
    read = SITE._replace(where="input")
    losses = splice(model, TOKENS, SITE, {"mlp": model.blocks[0].mlp}, torch.zeros(12), [read])
    assert torch.allclose(losses["mlp"], losses["clean"], atol=1e-5)
    lengths = acts_of(model).norm(dim=-1)
    short = SITE._replace(limit=float(lengths[:, 1:].median()))  # the site's own long tokens stay, whatever is read
    nothing = {"nothing": lambda x: torch.zeros(len(x), 12)}
    losses = splice(model, TOKENS, short, nothing, torch.zeros(12), [read])
    assert torch.equal(losses["nothing"], losses["zero"]) and not torch.equal(losses["zero"], losses["clean"])
    with pytest.raises(ValueError, match="is an input"):
        splice(model, TOKENS, read, {}, torch.zeros(12))
    with pytest.raises(ValueError, match="cannot be called zero"):
        splice(model, TOKENS, SITE, {"zero": nn.Identity()}, torch.zeros(12))


def test_recovered_by_hand():
    losses = {name: torch.full((2, 3), value) for name, value in
              (("clean", 2.0), ("coder", 2.5), ("zero", 4.0), ("mean", 7.0), ("worse", 5.0))}
    assert recovered(losses, "coder", "zero") == pytest.approx(0.75)
    assert recovered(losses, "coder") == pytest.approx(0.9)
    assert recovered(losses, "worse", "zero") == pytest.approx(-0.5) and recovered(losses, "clean") == 1
    with pytest.raises(ValueError, match="does not raise the loss"):
        recovered(losses | {"mean": losses["clean"]}, "coder")
