"""`torchrun --nproc-per-node N -m lib.training JOB`: one process of a job that `lib.training.distributed` wrote."""
from __future__ import annotations

import argparse
from pathlib import Path

from lib.training.distributed import work

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m lib.training", description=__doc__)
    parser.add_argument("job", type=Path, help="job.json of lib.training.distributed.configure")
    work(parser.parse_args().job)
