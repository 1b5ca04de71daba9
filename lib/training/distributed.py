"""Training in several processes, one per GPU (or CPU process), that share gradients and one checkpoint.

    make = "lib.studies.topoloss_hypotheses:parts"     # **arguments -> (model, images, labels, extra loss or None)
    state, history = launch(configure(folder, make, arguments, recipe, seed), processes=4, restarts=2)

torch.distributed.run starts the processes, ends all when one dies, and starts them again from the checkpoint. On
several hosts call it on each with the same file: `torchrun --nnodes ... -m lib.training FOLDER/job.json`.
"""
from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.distributed as dist
from torch import Tensor

from lib.files import ROOT, write_atomically, write_json
from lib.tensors import device_named
from lib.training.recipe import Recipe
from lib.training.steps import History
from lib.training.trainer import train


def configure(
    folder: str | Path, make: str, arguments: Mapping[str, Any], recipe: Recipe, seed: int, **options: Any
) -> Path:
    """Write what the processes are to do to `folder`/job.json; checkpoint and result will appear beside it.

    Args:
        folder: one that all processes see.
        make: "module:function", which returns model, images, labels and extra loss (or None); every process calls it.
        arguments: its keyword arguments, as JSON has them.
        options: of `train`: log_every, checkpoint_every, device, resident.
    Raises:
        ValueError: make has another form.
        TypeError: an argument has no JSON form.
    """
    if not all(part.isidentifier() for part in make.replace(":", ".", 1).split(".")) or ":" not in make:
        raise ValueError(f"make must read module:function, got {make!r}")
    job = {"make": make, "arguments": dict(arguments), "recipe": asdict(recipe), "seed": seed, "options": options}
    return write_json(Path(folder) / "job.json", job)


def launch(job: Path, processes: int, restarts: int = 0) -> tuple[dict[str, Tensor], History]:
    """Run `job` on this machine and wait for it; call again after a kill to continue from its checkpoint.

    Args:
        job: from `configure`.
        processes: how many; on CUDA one per GPU.
        restarts: how often all are started again after one has died.
    Returns:
        The trained model's state and the History.
    Raises:
        RuntimeError: a process failed; the message ends with what the last one said.
    """
    where = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(processes)]
    command = [sys.executable, "-m", "torch.distributed.run", *where, "--max-restarts", str(restarts)]
    # A restart must not read the addresses of the processes that died (pytorch/pytorch issue 135712).
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [*command, "-m", "lib.training", str(job)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{job}: training in {processes} processes failed\n{_cause(done.stderr)}")
    return result(job)


def result(job: Path) -> tuple[dict[str, Tensor], History]:
    """What a finished job left: the model's state and the History.

    Raises:
        FileNotFoundError: it has not finished.
        ValueError: the result beside it is that of another job.
    """
    stored = torch.load(Path(job).with_name("result.pt"), map_location="cpu", weights_only=True)
    if stored.get("job") != _digest(job):
        raise ValueError(f"the result beside {job} is of another job; launch this one in a folder of its own")
    table = pd.DataFrame(stored["rows"].numpy(), columns=stored["columns"]).astype({"step": int, "epoch": int})
    return stored["model"], History(table, stored["images_per_second"], stored["steps"])


def work(job: Path) -> None:
    """One process's part of a job, as torch.distributed.run starts it; alone, all of it."""
    content = json.loads(Path(job).read_text(encoding="utf-8"))
    module, _, function = content["make"].partition(":")
    shared = "WORLD_SIZE" in os.environ
    if shared:
        _end_with_parent()
        cuda = device_named(content["options"].get("device", "auto")).type == "cuda"
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if cuda else "gloo")
    try:
        parts = getattr(importlib.import_module(module), function)(**content["arguments"])
        model, images, labels, extra_loss = parts
        history = train(
            model, images, labels, Recipe(**content["recipe"]), content["seed"], extra_loss,
            checkpoint=Path(job).with_name("checkpoint.pt"), **content["options"],
        )
        if not shared or dist.get_rank() == 0:
            _keep(Path(job), model, history)
    finally:
        if shared:
            dist.destroy_process_group()


def _keep(job: Path, model: torch.nn.Module, history: History) -> None:
    stored = {
        "job": _digest(job),
        "model": {name: value.cpu() for name, value in model.state_dict().items()},
        "columns": list(history.table.columns), "rows": torch.tensor(history.table.to_numpy(float)),
        "images_per_second": history.images_per_second, "steps": history.steps,
    }
    write_atomically(job.with_name("result.pt"), lambda file: torch.save(stored, file))


def _digest(job: Path) -> str:
    return hashlib.sha256(Path(job).read_bytes()).hexdigest()


def _end_with_parent() -> None:
    """End as soon as whoever started this process is gone, however it went."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _cause(stderr: str) -> str:
    """The last error a process told, without the launcher's own account of it."""
    errors = [line for line in stderr.splitlines() if "Error" in line and "ChildFailedError" not in line]
    return errors[-1] if errors else stderr[-2000:]
