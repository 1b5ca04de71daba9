"""A decomposition long enough to be killed, run by test_decompose: `python FILE CHECKPOINT OUT [DELAY]`."""
import sys
import time

import torch

from lib.rng import generator
from lib.spd import SPDConfig, decompose
from lib.spd.targets import ToyModel, toy_draw

EVERY = 7


def main(checkpoint: str, out: str, delay: float) -> None:
    """Two seeds side by side with every term of the loss, and all that was trained into one file."""
    rng, draw = generator(0, "target"), toy_draw(6)
    target = ToyModel(torch.randn(2, 6, generator=rng), torch.randn(6, generator=rng))

    def slowly(rng: torch.Generator, samples: int) -> torch.Tensor:
        time.sleep(delay)
        return draw(rng, samples)

    config = SPDConfig(
        n_components=5, steps=40, batch_size=64, warmup_steps=10, drop_zero_rows=True, subset=0.5, hidden=0.5,
        faithfulness=0.5, adversarial=0.5, unmasked=0.1, ci_masked=0.1, attack_steps=2, l1=1e-3, l2=1e-3,
        p=2.0, p_final=1.0,
    )
    options = {"checkpoint": checkpoint, "checkpoint_every": EVERY, "snapshot_at": (0, 20, 40), "log_every": 3}
    results = decompose(target, slowly, config, [0, 1], **options)
    kept = [[r.decomposition.arrays(), r.history.to_numpy(), r.snapshots] for r in results]
    torch.save(kept, out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
