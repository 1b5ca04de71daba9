"""A training long enough to be killed: `python training_parts.py CKPT OUT DELAY`.

Every kind of state is in it: batch norm, dropout, augmentation, an extra loss with a schedule, more than one epoch.
"""
from __future__ import annotations

import sys
import time

import torch

from lib.models.image_models import image_model
from lib.rng import generator
from lib.topoloss import TopoLoss
from lib.training import Recipe, train, weighted

RECIPE = Recipe(epochs=4, batch=16, lr=3e-3, warmup=3, augment=("shift", "flip", "colour_jitter"), clip=1.0)
STEPS, EVERY = 24, 4
"""96 images make six steps of an epoch, four epochs 24."""


def images(n=96, side=8, classes=3, channels=1, seed=0):
    """Images of bright bars whose place is their class, with noise, uint8 [n, channels, side, side]; labels [n]."""
    rng = generator(seed, "bars")
    labels = torch.randint(classes, (n,), generator=rng)
    x = torch.randint(0, 80, (n, channels, side, side), generator=rng, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        x[i, :, 2 * label : 2 * label + 2] += 150
    return x, labels


def vit(seed=0, **options):
    """A transformer of two blocks for 8 x 8 images."""
    sizes = {"patch": 4, "width": 16, "depth": 2, "heads": 2, **options}
    return image_model("tiny_vit", 8, 1, 3, seed, **sizes)


def parts(delay=0.0, dropout=0.1, topo_weight=0.5, topo_steps=12):
    """Model, images, labels and extra loss, its weight growing for `topo_steps`; a step takes `delay` seconds more."""
    model, asked = vit(dropout=dropout), []
    model.fc_norm = torch.nn.BatchNorm1d(16)
    topo = TopoLoss(model, "blocks.*.mlp.fc1", factor=2)
    ramped = weighted(topo, lambda step: topo_weight * min(step / topo_steps, 1))

    def extra_loss(module, step):
        asked.append(step)
        is_step = asked.count(step) > 1  # the checkpoint asks once for each of these few steps, before the first
        time.sleep(delay * is_step)
        return ramped(module, step)

    return model, *images(), extra_loss


def main(checkpoint: str, out: str, delay: float) -> None:
    """Train with a checkpoint and save weights and record."""
    torch.set_num_threads(1)
    model, x, labels, extra_loss = parts(delay)
    history = train(
        model, x, labels, RECIPE, 0, extra_loss, checkpoint=checkpoint, checkpoint_every=EVERY, log_every=3,
        device="cpu", progress=False,
    )
    torch.save([*model.state_dict().values(), torch.tensor(history.table.to_numpy(float))], out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
