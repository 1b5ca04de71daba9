"""What a short fine-tuning on later speeches changes: the model's losses, and the latents of its activations."""
from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from lib.activations.language import rows
from lib.metrics.recovery import match_features
from lib.metrics.tokens import TOP
from lib.models.causal_lm import CausalLM, cross_entropy
from lib.params import Count
from lib.press.runs import reuse
from lib.rng import numpy_generator, stream_seed
from lib.studies.transformer_saes.follow import TOPK
from lib.studies.transformer_saes.low_rank import low_rank, merged
from lib.studies.transformer_saes.measure import encoded, rank_correlation, reading, trained
from lib.studies.transformer_saes.train import Arm, Coders, acts, fitted, harvested, made
from lib.studies.transformer_saes.train_lm import Language, model_of
from lib.studies.transformer_saes.world import SLUG, evenly, read_speeches, tokenised
from lib.tensors import as_array
from lib.training import Recipe
from lib.training.language import train_language


class Tuning(Coders):
    """How adapters are trained."""

    rank: Count = Field(description="of the adapters of every linear layer of the blocks")
    tuned_steps: Count = Field(description="steps that train adapters on the later half of the speeches")


def adapted(params: Tuning, late: bool, seed: int, checkpoints: Path | None = None) -> dict[str, Any]:
    """Tune the model on windows of speeches that it was trained on, of the later years or of any.

    Args:
        late: of the later years; else as many windows drawn from all of them.
        checkpoints: folder in which training continues after a kill.
    Returns:
        state: the tuned model's tensors by name; before, after: held-out loss on later and earlier speeches, nats a
        token, [2].
    """
    model, tokens = model_of(params.view(Language), False), reuse(tokenised, params)
    chosen = np.flatnonzero(_is_late(params, 0, tokens["train_speech"]))
    if not late:
        rng = numpy_generator(params.seed, SLUG, "windows of any year", seed)
        chosen = rng.choice(len(tokens["train"]), len(chosen), replace=False)
    tuned = low_rank(copy.deepcopy(model), params.rank, stream_seed(params.seed, SLUG, "adapters", seed))
    recipe = Recipe(steps=params.tuned_steps, batch=params.lm_batch, lr=params.lm_lr, weight_decay=0.0,
                    warmup=params.tuned_steps // 20)
    order = stream_seed(params.seed, SLUG, "order of tuning", seed)
    train_language(tuned, tokens["train"][chosen], recipe, order, progress=False, device=params.device,
                   checkpoint=checkpoints and checkpoints / "adapters.pt",
                   checkpoint_every=max(1, params.tuned_steps // 4))
    later = _is_late(params, 1, tokens["held_speech"])
    parts = [torch.as_tensor(tokens["held"][part][::16]).long() for part in (later, ~later)]
    losses = [[float(cross_entropy(own.eval(), part).mean()) for part in parts] for own in (model, merged(tuned))]
    return {"state": {name: as_array(value) for name, value in tuned.state_dict().items()},
            "before": np.array(losses[0]), "after": np.array(losses[1])}


def after_tuning(params: Tuning, late: bool, seed: int) -> dict[str, Any]:
    """What tuning does to latents: those of the untuned model's TopK coder, and those of a coder trained anew.

    Returns:
        before, after: as `adapted` has them. rates, tuned: of firing on held-out tokens of both models, of the
        coder's latents that fire often enough to be read, [n]; lean: of each, log of its rate on later over earlier
        speeches before the tuning, [n]; towards: rank correlation of log(tuned / rates) with lean. found, again: mean
        cosine of the coder's living latents with their partners in a coder of the tuned model, and in one more of the
        untuned model, both with the next seed.
    """
    done, own = reuse(adapted, params, late, seed), acts(params, False, "residual")
    model = _tuned(params, done["state"])
    coder, read = trained(params, TOPK, seed), reading(params, False, "residual")
    held = torch.cat([x for x, _ in rows(model, own.tokens, own.sites)])
    before, after = (encoded(coder, x) != 0 for x in (own.held, held))
    on_later = read["late"][read["window"]].astype(bool)
    often = before.sum(0) >= TOP  # as often as latents are read
    rates, tuned, on_late, on_early = ((part[:, often].sum(0) + 1) / (len(part) + 1)
                                       for part in (before, after, before[on_later], before[~on_later]))
    lean = np.log(on_late / on_early)
    living = coder.W_dec.cpu().numpy()[before.any(0)]
    other = _coder_of(params, model, seed + 1)
    cosines = {name: float(match_features(living, W).similarity.mean()) for name, W in (
        ("found", other), ("again", trained(params, TOPK, seed + 1).W_dec.cpu().numpy()))}
    return {"before": done["before"], "after": done["after"], "rates": rates, "tuned": tuned, "lean": lean,
            "towards": rank_correlation(np.log(tuned / rates), lean)} | cosines


def _tuned(params: Tuning, state: dict[str, np.ndarray]) -> CausalLM:
    model = copy.deepcopy(model_of(params.view(Language), False))
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return model.eval().requires_grad_(False)


def _coder_of(params: Tuning, model: CausalLM, seed: int) -> np.ndarray:
    """Decoder of a TopK coder trained as the study's are, on a model's activations, [n_latents, width]."""
    tokens, sites = reuse(tokenised, params)["train"], acts(params, False, "residual").sites
    windows = torch.as_tensor(tokens[evenly(len(tokens), params.train_windows, "train_windows")]).long()
    coder = made(params, Arm("topk"), seed)
    fitted(params, coder, harvested(model, windows.to(model.unembed.weight.device), sites), seed)
    return coder.W_dec.detach().cpu().numpy()


def _is_late(params: Tuning, part: int, speech: np.ndarray) -> np.ndarray:
    """Of windows of training (0) or held-out (1) speeches, whether their year is in the later half of the held-out."""
    both = read_speeches(params)
    years = np.array([one.year for one in both[part]])
    return (years > np.median([one.year for one in both[1]]))[speech]
