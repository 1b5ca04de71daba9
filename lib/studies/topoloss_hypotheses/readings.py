"""What is read of each image at the places of an image classifier."""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from lib.activations.hooks import capture
from lib.studies.topoloss_hypotheses.module_names import ModuleNames
from lib.training import image_tensor, prepare


@torch.no_grad()
def readings(model: nn.Module, images: np.ndarray, at: ModuleNames, image_size: int | None = None) -> dict[str, Tensor]:
    """What modules say of each image, [n, d] each.

    Args:
        model: in eval mode, on any device.
        images: uint8, as `lib.training` takes them.
        at: of `module_names(model)`.
        image_size: side of the middle part the model sees; None: all.
    Returns:
        Of `at.site` one token per image, image i's token i mod tokens (one place of a convolution); under "class" its
        class token, and under "codes" and "last" those of `at.codes` and `at.last` (the mean over places).
    """
    names, parts = tuple(dict.fromkeys([at.site, at.codes, at.last])), []
    device = next(model.parameters()).device
    for some in image_tensor(images).split(500):
        with capture(model, *names) as found:
            model(prepare(some.to(device), image_size))
        tokens = {name: a if a.ndim == 3 else a.flatten(2).mT for name, a in found.items()}  # [n, tokens, d]
        image = torch.arange(len(some), device=device)
        part = {at.site: tokens[at.site][image, image % tokens[at.site].shape[1]]}
        for key, name in {"class": at.site, "codes": at.codes, "last": at.last}.items():
            part[key] = tokens[name][:, 0].clone() if found[name].ndim == 3 else tokens[name].mean(1)
        parts.append(part)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
