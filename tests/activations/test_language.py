"""Activations of a language model: which tokens are taken, and that only those are replaced."""
import pytest
import torch
from torch import nn

from lib.activations.language import TokenSite, end_to_end, harvest, identity_of, recovered, rows, splice, token_site
from lib.activations.store import StoreError
from lib.models.causal_lm import causal_lm
from lib.rng import generator
from lib.sparse_coders import SparseCoder, fit
from lib.training import Recipe
from lib.training.language import train_language

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


def test_a_model_is_read_no_further_than_its_last_site(model):
    ran = []
    for name in ("blocks.0.mlp", "blocks.1.attn", "blocks.1.mlp", "unembed"):
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    both = [SITE._replace(name="blocks.1.attn", where="input"), SITE]
    found, _ = next(rows(model, TOKENS, both))
    assert ran[-1] == "blocks.0.mlp" and found.shape == (35, 24)
    assert ran.count("unembed") == 1  # one window is read whole
    assert torch.equal(found[:, 12:], acts_of(model)[:, 1:].flatten(0, 1)) and ran[-1] == "unembed"


def test_sites_side_by_side_are_of_the_same_tokens(model, tmp_path):
    read = token_site(model, "blocks.0.mlp", TOKENS, where="input", beyond=1.0)  # half of the tokens
    assert read.where == "input"
    store = harvest(tmp_path / "acts", model, TOKENS, [read, SITE], batch=2)
    both = store.batch(range(len(store)))
    assert both.shape[1] == 24 and len(store) < 5 * 7
    assert torch.allclose(model.blocks[0].mlp(both[:, :12]), both[:, 12:], atol=1e-5)
    again = harvest(tmp_path / "acts", model, TOKENS, [read, SITE])
    assert again.sha256 == store.sha256


def test_other_weights_or_tokens_are_another_harvest(model, tmp_path):
    store = harvest(tmp_path / "acts", model, TOKENS, [SITE])
    with pytest.raises(StoreError, match="they differ in tokens"):
        harvest(tmp_path / "acts", model, TOKENS.flip(0), [SITE])
    with torch.no_grad():
        model.blocks[0].mlp.up.weight[0, 0] += 1
    with pytest.raises(StoreError, match="they differ in weights"):
        harvest(tmp_path / "acts", model, TOKENS, [SITE])
    assert store.identity["tokens"] == identity_of(model, TOKENS, [SITE])["tokens"]


def test_a_module_that_is_called_twice_is_no_site(model, tmp_path):
    model.blocks[1].mlp = model.blocks[0].mlp
    for ask in (lambda: next(rows(model, TOKENS, [SITE])), lambda: harvest(tmp_path / "acts", model, TOKENS, [SITE]),
                lambda: splice(model, TOKENS, SITE, {}, torch.zeros(12))):
        with pytest.raises(ValueError, match="calls its module blocks.0.mlp more than once in a pass"):
            ask()


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


def test_the_gradient_of_the_loss_end_to_end_by_hand(model):
    """The last block is replaced by b_dec, and no norm stands behind it: logits are U b_dec, dKL/dlogits = q - p."""
    model.norm, model = nn.Identity(), model.double()
    clean = model(TOKENS).softmax(-1)
    coder = SparseCoder(12, 6, "relu", dtype=torch.float64)
    with torch.no_grad():
        coder.W_enc.zero_()  # so that it writes b_dec alone, whatever it reads
        coder.b_dec.copy_(torch.linspace(-1, 1, 12))
    site = TokenSite("blocks.1", "output", 1e9)
    found = end_to_end(model, TOKENS, site, 3.0, batch=5)(coder, 0)
    found.backward()
    U = model.unembed.weight
    q = (U @ coder.b_dec).softmax(0).detach().expand(5, 8, -1)
    divergence = (clean * (clean.log() - q.log())).sum(-1)
    divergence[:, 0] = 0  # the first token is as it was
    assert float(found.detach()) == pytest.approx(3 * float(divergence.mean()), rel=1e-5)
    away = (q - clean)[:, 1:]
    assert torch.allclose(coder.b_dec.grad, 3 / 40 * (away @ U).sum((0, 1)), rtol=1e-4, atol=1e-7)
    assert coder.W_dec.grad is None or not coder.W_dec.grad.any()


def test_what_changes_nothing_diverges_by_nothing_and_windows_are_drawn_by_seed_and_step(model):
    loss = end_to_end(model, TOKENS, SITE, 1.0, batch=2)
    assert abs(float(loss(lambda x: x, 0))) < 1e-6 < float(loss(lambda x: x / 2, 0))
    halves = [float(loss(lambda x: x / 2, step)) for step in (0, 1, 0)]
    assert halves[0] == halves[2] != halves[1]
    read = SITE._replace(where="input")
    assert abs(float(end_to_end(model, TOKENS, SITE, 1.0, sources=[read])(model.blocks[0].mlp, 0))) < 1e-6


def test_what_no_end_can_be_asked_of_is_refused(model):
    with pytest.raises(ValueError, match="the site blocks.0.mlp is an input"):
        end_to_end(model, TOKENS, SITE._replace(where="input"), 1.0)
    with pytest.raises(ValueError, match="there are 5 windows, 6 are asked for at a step: give a smaller batch"):
        end_to_end(model, TOKENS, SITE, 1.0, batch=6)
    with pytest.raises(ValueError, match=r"in training mode, so that dropout would draw anew .*: model.eval\(\)"):
        end_to_end(model.train(), TOKENS, SITE, 1.0)
    model.eval().unembed.requires_grad_(True)
    with pytest.raises(ValueError, match=r"would be given gradients: model.requires_grad_\(False\)"):
        end_to_end(model, TOKENS, SITE, 1.0)


def test_a_checkpoint_knows_the_windows_of_its_loss_end_to_end(model, tmp_path):
    store = harvest(tmp_path / "acts", model, TOKENS, [SITE])
    options = {"steps": 6, "batch_size": 8, "held_out": 4, "checkpoint": tmp_path / "coder.pt", "progress": False}

    def trained(tokens, weight=1.0):
        loss = end_to_end(model, tokens, SITE, weight, batch=1)
        return fit(SparseCoder(12, 6, k=2), store, extra_loss=loss, **options)

    first = end_to_end(model, TOKENS, SITE, 1.0, batch=1)
    half = [first(lambda x: x / 2, step) for step in range(6)]
    trained(TOKENS)
    trained(TOKENS)
    for change in range(5):
        tokens = TOKENS.clone()
        tokens[change, 3] += 1
        other = end_to_end(model, tokens, SITE, 1.0, batch=1)
        assert sum(float(other(lambda x: x / 2, step)) != float(half[step]) for step in range(6)) <= 2
        with pytest.raises(ValueError, match="differs in extra loss"):
            trained(tokens)
    with pytest.raises(ValueError, match="differs in extra loss"):
        trained(TOKENS, 2.0)


def test_a_coder_trained_end_to_end_costs_the_model_less_at_equal_l0(tmp_path):
    counting = (torch.arange(12)[None] + torch.arange(40)[:, None]) % 7  # the next token is one more
    model = causal_lm(7, 16, 1, 2, 12)
    train_language(model, counting.numpy(), Recipe(steps=60, batch=20, lr=2e-2), 0, device="cpu", progress=False)
    model.eval().requires_grad_(False)
    site = token_site(model, "blocks.0", counting)
    store = harvest(tmp_path / "acts", model, counting, [site])
    options = {"steps": 150, "batch_size": 64, "lr": 1e-2, "progress": False}
    coders = {name: SparseCoder(16, 12, k=1) for name in ("alone", "end to end")}
    fit(coders["alone"], store, **options)
    history = fit(coders["end to end"], store, extra_loss=end_to_end(model, counting, site, 20.0), **options).history
    assert (history.loss > history[["reconstruction", "penalty", "aux"]].sum(axis=1) + 1e-3).all()
    losses = splice(model, counting, site, coders, None)
    l0 = [float((coder.encode(store.batch(range(100))) != 0).sum(1).float().mean()) for coder in coders.values()]
    assert l0 == pytest.approx([1, 1], abs=0.05)
    clean, alone, together = (float(losses[name].mean()) for name in ("clean", *coders))
    assert together - clean < 0.7 * (alone - clean), (clean, alone, together)
