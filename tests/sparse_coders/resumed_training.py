"""A training long enough to be killed, run by test_trainer: `python resumed_training.py CHECKPOINT OUT [DELAY]`."""
import sys
import time

import torch

from lib.rng import generator
from lib.sparse_coders import SparseCoder, fit

STEPS, EVERY = 60, 7


class Slow:
    """A store that takes its time, so that a kill finds training under way."""

    def __init__(self, x, delay):
        self.x, self.delay = x, delay

    def __len__(self):
        return len(self.x)

    def batch(self, indices):
        time.sleep(self.delay)
        return self.x[indices]


def main(checkpoint: str, out: str, delay: float) -> None:
    """Train every kind of state there is (a table, thresholds, noise, annealing) and save all of it."""
    coders = [SparseCoder(6, 24, "topk", k=2, seed=s) for s in range(2)]
    coders += [SparseCoder(6, 24, rule, k=3) for rule in ("batch_topk", "matryoshka")]
    coders += [SparseCoder(6, 24, "abs_topk", k=4, k_min=1)]
    coders += [SparseCoder(6, 24, rule) for rule in ("p_anneal", "stochastic", "jumprelu", "gated")]
    x = torch.randn(700, 6, generator=generator(0, "x"))
    options = {"steps": STEPS, "batch_size": 64, "dead_after": 200, "progress": False, "log_every": 3}
    results = fit(coders, Slow(x, delay), checkpoint=checkpoint, checkpoint_every=EVERY, **options)
    torch.save([[*r.coder.state_dict().values(), torch.tensor(r.history.to_numpy())] for r in results], out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
