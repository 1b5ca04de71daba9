"""The study's stages on a toy: what may move moves, what may not stays, and every part returns what it promises."""
from __future__ import annotations

import ast
import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from lib.files import ROOT
from lib.models.causal_lm import causal_lm
from lib.params import ParameterError, load
from lib.press.pages import Page, Request
from lib.press.runs import planned, reuse
from lib.rng import generator, numpy_generator
from lib.sparse_coders.multi_input import join_sites
from lib.studies.transformer_saes import charts, follow, measure, published, train, train_lm, tuning, world
from lib.studies.transformer_saes import protocol as study
from lib.studies.transformer_saes.low_rank import low_rank, merged
from lib.studies.transformer_saes.train import Arm

PROFILES = ROOT / "params" / "transformer_saes"
ROOM = Path(study.__file__).parent


@cache
def params(profile: str = "smoke", **changes) -> study.Params:
    return load(study.Params, PROFILES / f"{profile}.yaml").replace(**changes)


def small(**changes) -> train.Coders:
    return params(steps=8, **changes).view(train.Coders)


@pytest.fixture(scope="module", autouse=True)
def built(tmp_path_factory):
    """One place for the runs of all tests here."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        for module in ("lib.press.runs", "lib.files"):
            patch.setattr(f"{module}.BUILD", folder)
        yield folder
    for cached in (world.untrained, train_lm.model_of, train.acts, train.samples, measure.reading, measure.ablated):
        cached.cache_clear()


def test_rows_that_leave_the_cone_are_turned_back_to_its_edge_and_no_further():
    origin = torch.tensor([[1.0, 0, 0]]).expand(3, 3)
    rows = torch.tensor([[1.0, 0, 0], [0.8, 0.6, 0], [0, 0.6, 0.8]])
    found = train.tethered(rows, origin)
    assert torch.allclose(found[:2], rows[:2])
    assert torch.allclose(found[2], torch.tensor([0.8, 0.36, 0.48]))  # .8 along, .6 of the direction aside
    assert torch.allclose(found.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize(("decoder", "least"), [("frozen", 1.0), ("soft", 0.8), ("free", -1.0)])
def test_a_decoder_moves_as_far_as_it_may(decoder, least):
    own = small(lr=0.3)
    arm = Arm("topk", decoder=decoder)
    before = train.made(own, arm, 0).W_dec.detach().clone()
    state = train.coder(own, list(arm), 0)["state"]
    cosine = (torch.from_numpy(state["W_dec"]) * before).sum(1)
    assert float(cosine.min()) >= least - 1e-5
    assert (decoder == "frozen") == bool((cosine > 1 - 1e-6).all())
    assert decoder != "free" or float(cosine.min()) < 0.8  # so that the tether has something to hold
    assert not np.array_equal(state["W_enc"], train.made(own, arm, 0).W_enc.detach().numpy())


def test_a_model_drawn_anew_keeps_the_size_of_its_matrices_and_nothing_else():
    model, own = (causal_lm(300, 32, 2, 2, 16, seed=1).requires_grad_(False) for _ in range(2))
    with torch.no_grad():
        own.blocks[0].mlp.up.weight.mul_(7)
    world.randomised(own, generator(0, "test"))
    assert float(own.blocks[0].mlp.up.weight.std()) == pytest.approx(0.14, rel=0.1)
    both = torch.stack([each.blocks[0].mlp.up.weight.flatten() for each in (own, model)])
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.1
    assert own.unembed.weight is own.embed.token.weight and torch.equal(own.norm.weight, model.norm.weight)


def test_shuffled_activations_keep_every_dimension_and_lose_what_binds_them():
    x = torch.randn(2000, 1, generator=generator(0, "x")) * torch.tensor([1.0, -2.0])
    found = world.shuffled(x, generator(0, "order"))
    assert torch.equal(found.sort(0).values, x.sort(0).values) and not torch.equal(found, x)
    assert float(torch.corrcoef(x.T)[0, 1]) < -0.99 < abs(float(torch.corrcoef(found.T)[0, 1])) < 0.1


def test_sites_are_read_as_they_are_called():
    own = small()
    model = train_lm.model_of(own.view(train_lm.Language), False)
    x, y, held_x, held_y = train.samples(own, Arm("topk", site="mlp"))
    rows = torch.arange(50)
    assert torch.allclose(model.blocks[1].mlp(x.batch(rows)), y.batch(rows), atol=1e-5)
    assert torch.allclose(model.blocks[1].mlp(held_x), held_y, atol=1e-5) and len(x) == len(y) == 100 * 31
    joined, _, held, _ = train.samples(own, Arm("topk", site="joined"))
    other, _, _, _ = train.samples(own, Arm("topk", site="joined_shuffled"))
    before, _, _, _ = train.samples(own, Arm("topk", site="before"))
    raw = train.acts(own, False, "joined").train.batch(torch.arange(len(before)))
    assert torch.allclose(joined, join_sites(*raw.split(16, 1)), rtol=1e-4) and held.shape[1] == 48
    assert torch.equal(joined[:, :16], before.batch(torch.arange(len(before))))
    assert torch.equal(other[:, :16], joined[:, :16])
    assert not torch.equal(other[:, 16:], joined[:, 16:])
    assert torch.equal(other[:, 16:].sort(0).values, joined[:, 16:].sort(0).values)


def test_strengths_are_set_so_that_rules_have_as_many_active_latents():
    for rule, direction in (("relu", -1), ("jumprelu", 1)):
        found = train.matched(params().view(train.Coders), rule)
        assert found["l0"] == pytest.approx(params().active, rel=0.15) and len(found["tried"]) <= 5
        rising = np.diff(found["tried"][found["tried"][:, 0].argsort(), 1])
        assert (direction * rising > 0).all()  # a larger weight, fewer latents; a larger aim, more


def test_metadata_auroc_by_hand():
    """Two tokens a window; latent 0 tells late from early, latent 1 nothing, latent 2 the party, backwards."""
    latents = np.array([[1, 0, 0], [0, 0, 0], [3, 0, 1], [1, 0, 1], [0, 0, 9], [0, 0, 1], [5, 0, 0], [5, 0, 0.0]])
    read = {"window": np.repeat([0, 1, 2, 3], 2), "late": np.array([0, 1, 0, 1]), "party": np.array([1, 0, 0, -1])}
    # means over windows: .5 2 0 5; 0; 0 1 5 0. Late are windows 1 and 3, of party 1 is window 0, of party 0 are 1 and 2
    party_0, party_2 = 0.5, 1.0  # of latent 0: 2 and 0 against .5; of latent 2: 1 and 5 against 0
    late_2 = 0.5 + abs((1 + 0 + 0.5 + 0) / 4 - 0.5)  # of latent 2, 1 and 0 against 0 and 5: over, under, tie, under
    assert measure.metadata_auroc(latents, read).tolist() == pytest.approx(
        [(1 + party_0) / 2, 0.5, (late_2 + party_2) / 2])


def test_labels_of_whole_speeches_are_permuted():
    read = {"speech": np.array([3, 3, 5, 7, 7, 7]), "late": np.array([1, 1, 0, 2, 2, 2]),
            "party": np.array([0, 0, 1, -1, -1, -1])}
    seen = set()
    for seed in range(20):
        found = measure._relabelled(read, numpy_generator(seed, "test"))
        pairs = list(zip(found["late"].tolist(), found["party"].tolist(), strict=True))
        assert len({pairs[0], pairs[2], pairs[3]}) == 3 and pairs[0] == pairs[1] and pairs[3] == pairs[4] == pairs[5]
        assert {pairs[0], pairs[2], pairs[3]} == {(1, 0), (0, 1), (2, -1)}
        seen.add(tuple(pairs))
    assert len(seen) == 6


def test_what_changes_nothing_is_worth_everything_and_the_mean_nothing():
    own, arm = small(), Arm("topk")
    assert measure.worth(own, arm, lambda x: x) == pytest.approx({"ce_zero": 1, "ce_mean": 1}, abs=1e-4)
    mean = train.acts(own, False, "residual").train.statistics.mean.float()
    assert measure.worth(own, arm, lambda x: mean.expand(len(x), -1))["ce_mean"] == pytest.approx(0, abs=1e-4)


def test_a_coder_is_judged_by_what_the_docstring_says():
    own, arm = small(), list(Arm("topk"))
    found = measure.judged(own, arm, 0)
    said = {"fvu", "l0", "dead", "ce_zero", "ce_mean", "purity", "entropy", "auroc", "rho_purity", "rho_entropy",
            "rho_auroc", "rates", "purities", "read"}
    assert set(found) == said and found["l0"] == pytest.approx(own.active) and found["rates"].shape == (own.n_latents,)
    assert found["dead"] == (found["rates"] == 0).mean() and 0 < found["fvu"] < 1
    assert np.nanmean(found["purities"]) == pytest.approx(found["purity"])
    null = measure.chance(own, arm, 0, 6)
    assert {name: np.shape(value) for name, value in null.items()} == {
        "purity": (6,), "entropy": (6,), "auroc": (6,), "rho": (6,), "length_cv": ()}
    assert null["purity"].max() < found["purity"] and null["entropy"].min() > found["entropy"]
    index = measure.polysemanticity(own, arm, 0, 4)
    shares = {"geometry", "tokens", "tokens_null", "years", "years_null"}
    assert set(index) == shares | {"n"} and all(0 <= index[name] <= 1 for name in shares) and index["n"] == 4


def test_latents_that_fire_too_rarely_have_no_index(monkeypatch):
    own, arm = small(), list(Arm("topk"))
    latents = measure.encoded(measure.trained(own, arm, 0), train.samples(own, Arm(*arm))[2])
    often = int(((latents != 0).sum(0) >= measure.TOP).sum())
    found = measure.polysemanticity(own, arm, 0, latents.shape[1])
    assert 0 < found["n"] == often < latents.shape[1]
    monkeypatch.setattr(measure, "TOP", len(latents))
    found = measure.polysemanticity(own, arm, 0, 4)
    assert found.pop("n") == 0 and np.isnan(list(found.values())).all()


def test_a_site_that_costs_nothing_has_nothing_recovered_and_no_other_error_is_hidden(monkeypatch):
    own, coder = small(), measure.trained(small(), list(Arm("topk")), 0)
    flat = {name: torch.zeros(2, 3) for name in ("coder", "clean", "zero")} | {"mean": torch.ones(2, 3)}
    monkeypatch.setattr(measure, "splice", lambda *_, **__: flat)
    monkeypatch.setattr(measure, "ablated", lambda *_: flat)
    assert measure.worth(own, Arm("topk"), coder) == pytest.approx({"ce_zero": np.nan, "ce_mean": 1.0}, nan_ok=True)
    monkeypatch.setattr(measure, "recovered", lambda *_: int("no number"))
    with pytest.raises(ValueError, match="no number"):
        measure.worth(own, Arm("topk"), coder)


def test_a_latent_is_followed_to_its_end():
    own = small(moments=4, lr=0.05)
    done = train.watched(own, list(Arm("topk")), 0)
    assert done["steps"] == [1, 2, 4, 8] and len(done["moments"]) == 4
    last = done["moments"][-1]
    assert all(np.array_equal(last[name], done["state"][name]) for name in ("W_enc", "W_dec", "b_enc"))
    assert not np.array_equal(done["moments"][0]["W_enc"], done["state"]["W_enc"])
    found = follow.births(own, 0, 5)
    born = ~np.isnan(found["births"])
    assert 0 < born.sum() and (found["rates"][born] > 0).all() and set(found["births"][born]) <= {1, 2, 4, 8}
    assert found["nulls"].shape == (5, 2) and -1 <= found["variance"] <= 1


def test_seeds_sizes_and_scores_are_compared():
    own = small()
    agreed = follow.cluster_agreement(own, list(Arm("topk")), 0, 1, 5)
    assert -1 <= agreed["rand"] <= 1 and agreed["permuted"].shape == (5,)
    same = follow.cluster_agreement(own, list(Arm("topk")), 0, 0, 5)
    assert same["rand"] == 1 and same["cosine"] == pytest.approx(1)
    split = follow.split(own, list(Arm("batch_topk")), 0, 5)
    assert 0 <= split["share"] <= 1 and split["null"].shape == (5,) and 0 <= split["inherited"] <= 1
    worth = follow.attributed(own, 0, 5, 4)
    assert set(worth["agreement"]) >= {"gradient x activation", "importance", "firing rate"}
    assert len(worth["effects"]) == 5
    told = follow.as_the_source_says(own, 0)
    assert told["theirs"]["clusters"] == 3 and told["theirs"]["frequent"] == 0 != told["ours"]["above"]


def test_every_table_has_its_arms_and_seeds():
    own = params(steps=5, seeds=2, few_seeds=1, other_rules=("matryoshka",))
    table = study.main(own)
    compared = list(study.MAIN)[:3]
    counts = table.groupby(["rule", "data"]).size().to_dict()
    assert counts == {cell: 1 + (cell in compared) for cell in study.MAIN} and {d for _, d in compared} == {study.RAW}
    assert set(study.controls(own).control) == set(study.CONTROLS) and set(study.others(own).rule) == {"matryoshka"}
    sites = study.sites(own).groupby("site").ce_mean.apply(lambda v: v.isna().all())
    assert dict(sites[sites]) == dict.fromkeys(
        ["layer before, with context", "layer before, shuffled context"], True)
    page = study.latent_page(own).read_text()
    assert page.startswith("<!") and "Latents of a TopK coder" in page


def test_a_seed_may_have_a_language_model_of_its_own():
    own = params(steps=5, seeds=2, few_seeds=1)
    varied = own.replace(model_per_seed=True)
    assert study.with_model(own, 1) == own == study.with_model(varied, 0).replace(model_per_seed=False)
    states = [reuse(train_lm.language_model, study.with_model(varied, s))["state"] for s in (0, 1)]
    assert not np.allclose(*(state["blocks.0.mlp.up.weight"] for state in states))
    alike, apart = study.main(own), study.main(varied)
    same = [alike[(alike.rule == "relu") & (alike.seed == s)].fvu.item()
            == apart[(apart.rule == "relu") & (apart.seed == s)].fvu.item() for s in (0, 1)]
    assert same == [True, False]
    turned = study.once_more(own)  # on one model, the next seed's coder is the one that the main table has
    assert turned[turned.seed == 0].fvu.tolist() == [
        alike[(alike.rule == rule) & (alike.seed == 1)].fvu.iloc[0] for rule in turned[turned.seed == 0].rule]
    elsewhere = study.once_more(varied)
    assert set(elsewhere.fvu).isdisjoint(apart.fvu)
    assert study.others(varied).equals(study.others(own))


def test_an_adapter_changes_a_matrix_by_its_rank_and_begins_with_nothing():
    model, tokens = causal_lm(11, 8, 1, 2, 6), torch.arange(6)[None]
    before, matrix = model(tokens), model.blocks[0].mlp.up.weight.detach().clone()
    tuned = low_rank(model, 2, 0)
    assert torch.equal(tuned(tokens), before)
    wanted = [name for name, p in tuned.named_parameters() if p.requires_grad]
    assert len(wanted) == 2 * 6 and all("parametrizations.weight.0" in name for name in wanted)  # of six matrices
    with torch.no_grad():
        for name in wanted:
            tuned.get_parameter(name).normal_(generator=generator(1, name))
    changed = tuned(tokens)
    plain = merged(tuned)
    assert torch.allclose(plain(tokens), changed) and not torch.allclose(changed, before)
    assert torch.linalg.matrix_rank(plain.blocks[0].mlp.up.weight - matrix) == 2
    assert plain.state_dict().keys() == causal_lm(11, 8, 1, 2, 6).state_dict().keys()
    with pytest.raises(ValueError, match="rank must be 1 to 8"):
        low_rank(plain, 9, 0)


def test_tuning_moves_the_losses_and_the_latents_of_the_activations():
    own = params().view(tuning.Tuning)
    later, mixed = (reuse(tuning.after_tuning, own, late, 0) for late in (True, False))
    assert np.array_equal(later["before"], mixed["before"])
    assert len({tuple(losses) for losses in (later["before"], later["after"], mixed["after"])}) == 3
    assert later["rates"].shape == later["tuned"].shape == later["lean"].shape
    assert -1 <= later["towards"] <= 1 and abs(later["found"]) <= 1 and later["again"] == mixed["again"]
    tokens, both = world.tokenised(own), world.read_speeches(own)
    late = [tuning._is_late(own, part, tokens[f"{name}_speech"]) for part, name in enumerate(("train", "held"))]
    first = {bool(flag): both[1][number].year for flag, number in zip(late[1], tokens["held_speech"], strict=True)}
    assert first[True] > first[False] and 0 < late[0].mean() < 1


def test_the_sources_samples_are_sequences_end_to_end_and_its_losses_those_of_three_activations():
    own = params().view(published.Recipe)
    x, held = published.flattened(own, False, 0)
    assert x.shape == (own.published_samples, 20 * own.width) and held.shape[0] == published.HELD
    assert torch.allclose(x.mean(0), torch.zeros(x.shape[1]), atol=1e-4)
    assert torch.allclose(x.std(0), torch.ones(x.shape[1]), atol=1e-3)
    assert not torch.allclose(x, published.flattened(own, True, 0)[0])
    found = published.comparison(own, False, 0)
    assert found["loss"].shape == (3,)
    assert found["inactive"][2] == pytest.approx(1 - 5 / own.published_latents, abs=0.01)


def test_the_sources_program_ends_as_it_would_have_only_where_it_begins_again():
    found = published.interrupted(params().view(published.Recipe), 0)
    assert found["same"].tolist() == [True, True, False] and found["trainings"].tolist() == [4, 5, 5]


@pytest.mark.parametrize(("name", "value", "same"), [
    ("profile", "quick", True), ("seeds", 3, True), ("null_draws", 11, True), ("steps", 21, False),
    ("lm_steps", 5, False)])
def test_a_trained_coder_depends_on_its_own_parameters_alone(name, value, same):
    arm = list(study.MAIN["topk", study.RAW])
    paths = {planned(train.coder, own, arm, 0).path for own in (params(), params().replace(**{name: value}))}
    assert (len(paths) == 1) == same


def test_activations_are_kept_and_belong_to_their_model():
    own = small()
    first, again = train.acts(own, False, "residual"), train.acts(own, False, "residual")
    other = train.acts(own, True, "residual")
    assert first is again and first.train.path != other.train.path and len(first.train) == len(other.train) == 100 * 31
    assert not bool(first.ordinary[:, 0].any()) and bool(first.ordinary[:, 1:].all())
    assert first.held.shape == (own.held_windows * 31, own.width)


def test_a_model_may_come_from_the_hub(monkeypatch):
    monkeypatch.setattr(world, "gpt2", lambda source, revision: SimpleNamespace(name=source, revision=revision))
    world.untrained.cache_clear()
    model = world.untrained(params(model="an/owner@607a30d7").view(world.Size))
    assert (model.name, model.revision) == ("an/owner", "607a30d7")
    world.untrained.cache_clear()


def test_a_models_folder_is_one_however_it_is_written_and_no_other_value_is_a_folder(tmp_path, monkeypatch):
    def facts(device="cpu", **changes):
        return Request(Page("transformer_saes"), "smoke", {"device": device} | changes).facts_of_values

    plain = facts()
    monkeypatch.setattr("lib.files.ROOT", tmp_path)
    for name in ("cpu", "smoke", "own", "m"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "m")
    assert facts() == plain
    written = ("m", "m/", "./m", str(tmp_path / "m"))
    assert len({params(model=name).model for name in written}) == len({facts(model=name) for name in written}) == 1
    before = facts(model="m")
    (tmp_path / "m" / "config.json").write_text("{ }")
    assert before != facts(model="m") != plain


@pytest.mark.parametrize("name", [
    "./tiny", "/tiny", "../tiny", "a/b/tiny", "tests/tiny", "tiny/", "tiny#0123456789abcdef"])
def test_a_folder_that_is_not_there_is_refused_at_the_door(name):
    with pytest.raises(ParameterError, match=r"model: there is no folder .*tiny.*, seen from .*; give the folder that"):
        params(model=name)
    assert params(model="openai-community/gpt2@main").model == "openai-community/gpt2@main"


def test_a_name_on_the_hub_needs_a_revision():
    for name in ("gpt2", "own@main", "lib@main", "lib/gpt2@main"):  # lib is a folder here
        with pytest.raises(ParameterError, match="a name on the hub and a revision of it, such as gpt2@main"):
            params(model=name)


def test_another_content_of_a_models_folder_is_another_run_and_another_harvest(tmp_path):
    """One weight changes, in place."""
    tokenizer = world.untrained(params().view(world.Size)).tokenizer
    folder, weights = tmp_path / "tiny", written_gpt2(tmp_path / "tiny", tokenizer)
    own = params(model=str(folder)).view(train.Coders)
    before, loss = planned(train_lm.language_model, own).path, reuse(train_lm.language_model, own)["loss"]
    store, small = train.acts(own, False, "residual").train, params()
    assert study.described(params(model=str(folder))) == (str(folder), 2, 16)
    assert study.described(small) == ("the book's own model", small.depth, small.width)
    assert planned(train_lm.language_model, params(model=str(folder))).path == before
    weights["h.0.mlp.c_fc.weight"][0, 0] += 1.0
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match="has changed since the parameters were read: run the parameters cell again"):
        world.untrained.cache_clear()
        world.untrained(own.view(world.Size))
    again = own.replace()
    assert planned(train_lm.language_model, again).path != before
    assert reuse(train_lm.language_model, again)["loss"] != loss
    assert train.acts(again, False, "residual").train.sha256 != store.sha256
    for cached in (world.untrained, train_lm.model_of, train.acts, train.samples):
        cached.cache_clear()


def written_gpt2(folder, tokenizer) -> dict[str, torch.Tensor]:
    """A small GPT-2 as `save_pretrained` lays it, and its tensors."""
    folder.mkdir()
    sizes = {"attn.c_attn": (16, 48), "attn.c_proj": (16, 16), "mlp.c_fc": (16, 64), "mlp.c_proj": (64, 16),
             "ln_1": (16,), "ln_2": (16,)}
    shapes = {"wte.weight": (params().vocabulary, 16), "wpe.weight": (32, 16), "ln_f.weight": (16,), "ln_f.bias": (16,)}
    for i in range(2):
        shapes |= {f"h.{i}.{name}.weight": shape for name, shape in sizes.items()}
        shapes |= {f"h.{i}.{name}.bias": shape[-1:] for name, shape in sizes.items()}
    weights = {name: 0.3 * torch.randn(shape, generator=generator(0, "gpt2", name)) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    said = {"model_type": "gpt2", "vocab_size": params().vocabulary, "n_embd": 16, "n_layer": 2, "n_head": 2,
            "n_positions": 32, "layer_norm_epsilon": 1e-5}
    (folder / "config.json").write_text(json.dumps(said))
    tokenizer.save(str(folder / "tokenizer.json"))
    return weights


def test_a_model_from_a_file_is_measured_and_not_trained(monkeypatch):
    tokenizer = world.untrained(params().view(world.Size)).tokenizer
    there = causal_lm(params().vocabulary, 16, 2, 2, 32, tokenizer=tokenizer).eval().requires_grad_(False)
    monkeypatch.setattr(world, "gpt2", lambda source, revision: there)
    own, before = params(model="a/name@main").view(train_lm.Language), there.embed.token.weight.clone()
    found = train_lm.language_model(own)
    assert found["state"] == {} and 0 < found["unigram"] < found["loss"]
    assert torch.equal(there.embed.token.weight, before)
    assert train_lm.model_of(own, False) is there
    train_lm.model_of.cache_clear()


def test_no_window_is_read_twice():
    assert world.evenly(5, 3, "windows").tolist() == [0, 2, 4]
    with pytest.raises(ValueError, match="held_windows: there are 5 windows, 6 are asked for"):
        world.evenly(5, 6, "held_windows")


@pytest.mark.parametrize("path", sorted(PROFILES.glob("[!s]*.yaml")) + [PROFILES / "smoke.yaml"], ids=lambda p: p.stem)
def test_profile_is_accepted(path: Path):
    own = load(study.Params, path)
    assert own.profile == path.stem and own.few_seeds <= own.seeds and 2 <= own.few_seeds


@pytest.mark.parametrize(("changes", "said"), [
    ({"layer": 2}, "layer below depth"), ({"context": 10}, "context of 20"), ({"few_seeds": 3}, "few_seeds up to"),
    ({"other_rules": ("top",)}, "other_rules among abs_topk"), ({"active": 65}, "active up to n_latents"),
    ({"null_draws": 9}, "null_draws: input should be greater than or equal to 10"),
    ({"steps": 3, "moments": 3, "batch": 1}, "steps times batch of 4")])
def test_what_cannot_be_is_refused_before_anything_runs(changes, said):
    with pytest.raises(ValueError, match=said):
        params(**changes)
    assert params(model="a/name@main", layer=2).layer == 2  # whose depth nobody knows yet


def test_every_parameter_is_used():
    trees = [ast.parse(path.read_text()) for path in ROOM.glob("*.py")]
    used = {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    in_chapter = (ROOT / "book" / "studies" / "transformer_saes.md").read_text()
    assert [name for name in study.Params.model_fields if name not in used and f"params.{name}" not in in_chapter] == [
        "profile"]


def test_figures_show_every_seed():
    rows = pd.DataFrame({"fvu": [0.1, 0.2, 0.3], "purity": [0.5, np.nan, 0.7]}, index=["a", "a", "b"])
    fig = charts.by_arm([rows], {"fvu": "unexplained", "purity": "purity"}, ["b"], {"purity": 0.2})
    counts = [[len(line.get_xdata()) for line in ax.lines if line.get_marker() == "o"] for ax in fig.axes]
    assert counts == [[1, 2], [1, 1]]  # from below: b, a
    assert [text.get_text() for text in fig.axes[0].get_yticklabels()] == ["b", "a"]
    table = pd.DataFrame({"rates": [np.array([0.0, 0.1, 0.2])], "purities": [np.array([0.5, np.nan, 0.4])]})
    [ax] = charts.against_rate({"trained": table}, "purities", "purity").axes
    assert [line.get_xdata().tolist() for line in ax.lines] == [[0.2]]
    found = {"births": np.array([1, 10, np.nan]), "rates": np.array([0.1, 0.2, 0.3]),
             "shares": np.array([0.1, -1, 0.2])}
    left, right = charts.births(found).axes
    assert len(left.lines[0].get_xdata()) == 2 and len(right.lines[0].get_xdata()) == 1


def test_a_model_learns_more_than_frequencies():
    assert reuse(train_lm.language_model, params())["loss"] < np.log(params().vocabulary)
