"""Sparse coders of the library on the study's networks, beside which the published autoencoder is read."""
from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.metrics.sparsity import fvu
from lib.press.runs import reuse
from lib.sparse_coders import SparseCoder
from lib.studies.incidental_polysemanticity import decoder_overlap as geometry
from lib.studies.incidental_polysemanticity.leaky_sae import scaled
from lib.studies.incidental_polysemanticity.network import PUBLISHED, trained
from lib.studies.incidental_polysemanticity.report import matched_cosine
from lib.studies.incidental_polysemanticity.train_coders import Coders, coders_of, states


def coders(params: Coders) -> dict:
    """Library coders on the first networks of `strengths`: JumpReLU, ReLU, ProLU, ReLU + resampling, TopK, TopK + AuxK.

    runs: DataFrame, one row per (arm, setting, seed): l0, fvu, dead, recovery, interference.
    """
    seeds, rows = params.first(params.coder_seeds), []
    network, found = trained(params, [PUBLISHED[7]], seeds), reuse(states, params)["states"]
    acts, val = scaled(network.acts), scaled(network.acts, network.val_acts)
    for s, seed in enumerate(seeds):
        dictionary = geometry.feature_directions(network.features[s], acts[0, s]).cpu().numpy()
        for (arm, setting, coder), state in zip(coders_of(params, seed), found[s], strict=True):
            coder.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
            rows.append({"arm": arm, "setting": setting, "seed": seed} | _coder_report(coder, val[0, s], dictionary))
    return {"runs": pd.DataFrame(rows)}


@torch.no_grad()
def _coder_report(coder: SparseCoder, val: Tensor, dictionary: np.ndarray) -> dict[str, float]:
    latents, decoder = coder.encode(val), coder.W_dec.detach()
    found = {"l0": float((latents > 0).sum(1).float().mean()), "fvu": fvu(val.cpu(), coder(val).cpu())}
    return found | {"dead": float((~(latents > 0).any(0)).float().mean()),
                    "recovery": matched_cosine(dictionary, decoder.cpu().numpy()),
                    "interference": float(geometry.weighted_overlap(decoder.T))}
