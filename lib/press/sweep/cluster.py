"""Points executed by Ray, on this machine or on a cluster that runs already. The only module that imports Ray.

The local cluster is Ray's own `Cluster` without dashboard, monitors and prestarted workers. A node whose agents do not
start within 15 s gives up, which happens on a busy machine; so it is tried again. It has a token of its own, which no
file keeps, and ends with this process.
"""
from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from lib.files import ROOT
from lib.press import provenance
from lib.press.pages import PageError
from lib.press.sweep import plan, point
from lib.press.sweep.slots import gpus as seen_gpus

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_prestart_worker_first_driver": "0", "RAY_worker_niceness": "0"}
"""Tells nobody, starts no worker before it is needed, and takes as much of a processor as the serial engine."""
STORE = 100 * 2**20
"""Bytes of Ray's object store: a point's task and outcome are a few hundred bytes."""
AGENTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
STARTS = 3


class Ray:
    """Tasks of a Ray cluster, a task per point; `with` starts or joins it, and leaving it ends what still runs.

    Args:
        needs: what one point takes.
        workers: cores that a local cluster hands out; default all.
        gpus: GPUs that a local cluster hands out; default those that are seen.
        address: a running cluster, `host:port`; its nodes see this checkout and `_build` under the same paths.
        deaths: how often Ray begins a task again whose process or host was lost.
    Raises:
        PageError: no Ray, no cluster there, a token it refuses, or no node with what a point takes.
    """

    def __init__(
        self, needs: plan.Resources, workers: int | None = None, gpus: int | None = None, address: str | None = None,
        deaths: int = 1,
    ) -> None:
        self.needs, self.address, self.deaths = needs, address, deaths
        self.cores = (workers or provenance.cores() // needs.cpus) * needs.cpus
        self.gpus = len(seen_gpus()) if gpus is None else gpus
        self.width = workers or max(1, self.cores // needs.cpus)

    def __enter__(self) -> Self:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        try:
            with ExitStack() as leaving:
                os.environ.update(QUIET if self.address else {**QUIET, **_alone(leaving, path)})
                import ray  # reads its environment once

                address = self.address
                if not address:
                    local = started(num_cpus=self.cores, num_gpus=self.gpus)
                    leaving.callback(local.shutdown)
                    address = local.address
                environment = {"env_vars": {"PYTHONPATH": path}} if self.address else None
                with _silenced():
                    ray.init(address, log_to_driver=False, configure_logging=False, runtime_env=environment)
                leaving.callback(ray.shutdown)
                self.width = self._room(ray.cluster_resources())
                takes = dict(num_cpus=self.needs.cpus, num_gpus=self.needs.gpus, max_retries=self.deaths)
                self.task = ray.remote(max_calls=0, **takes)(_run)  # a worker serves many points, with a GPU too
                self.leaving = leaving.pop_all()
        except ImportError as error:
            told = f"Ray cannot be imported ({error}): pip install -e '.[sweep]', or --engine serial"
            raise PageError(told) from None
        except (RuntimeError, ConnectionError, ValueError) as error:
            told = next(line for line in str(error).splitlines() if line.strip())
            told += "; it refuses the token in RAY_AUTH_TOKEN" * ("AuthToken" in f"{error}{error.__cause__}")
            where = f"the Ray cluster at {self.address}" if self.address else "a Ray cluster on this machine"
            raise PageError(f"{where} cannot be used: {told}") from None
        finally:
            for number, handler in handlers.items():  # Ray puts its own in their place
                signal.signal(number, handler)
        return self

    def __exit__(self, *error: object) -> None:
        self.leaving.close()

    def submit(self, task: point.Task) -> Future[point.Outcome]:
        hidden = {} if self.needs.gpus else {"CUDA_VISIBLE_DEVICES": ""}
        variables = {**task.variables, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", **hidden}
        return self.task.remote(task._replace(variables=variables)).future()

    def _room(self, there: dict[str, float]) -> int:
        needs = {"CPU": self.needs.cpus, "GPU": self.needs.gpus}
        rooms = [there.get(name, 0) / takes for name, takes in needs.items() if takes]
        if min(rooms) < 1:
            raise PageError(f"a point takes {self.needs.cpus} cores and {self.needs.gpus:g} of a GPU; the cluster has "
                            f"{there.get('CPU', 0):g} and {there.get('GPU', 0):g}")
        return int(min(rooms) + 1e-9)


def _run(task: point.Task) -> point.Outcome:
    return point.run(task)


@contextmanager
def _silenced() -> Iterator[None]:
    """No line on the standard error inside the block, not even of a library in C: what goes wrong is raised."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _alone(leaving: ExitStack, path: str) -> dict[str, str]:
    """The environment of a cluster of one's own: a folder that goes with it, and a token, where none is wished for."""
    folder = tempfile.mkdtemp(prefix="sweep-")  # short: sockets lie in it
    command = [sys.executable, "-c", GUARD, folder, str(os.getpid())]
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    leaving.callback(guard.communicate)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return {"RAY_TMPDIR": folder, "PYTHONPATH": path, **({} if "RAY_AUTH_MODE" in os.environ else token)}


GUARD = """
import psutil, select, shutil, sys
driver, own, family = psutil.Process(int(sys.argv[2])), psutil.Process(), set()
try:
    while not select.select([0], [], [], 1)[0]:
        family |= set(driver.children(recursive=True)) - {own}
except psutil.NoSuchProcess:
    pass
for process in family:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        pass
psutil.wait_procs(family, 10)
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""
"""Ends what is left of a cluster as soon as its driver is gone, however it went: some of Ray's own processes linger."""


def started(**resources: int) -> Any:
    """A cluster of one node on this machine; a start that a busy machine makes too slow is tried again.

    Raises:
        RuntimeError: Ray did not start.
    """
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    add_node(cluster, **resources)
    return cluster


def add_node(cluster: Any, **resources: int) -> None:
    """Start a node of a cluster on this machine, without what sweeps do not use."""
    for left in range(STARTS - 1, -1, -1):
        agents = dict(zip(AGENTS, _free_ports(len(AGENTS)), strict=True))
        try:
            cluster.add_node(include_dashboard=False, include_log_monitor=False, no_monitor=True,
                             object_store_memory=STORE, **agents, **resources)
            return
        except Exception as error:  # Ray raises that class itself where a node is slow to start
            if not left or "timed out" not in str(error):
                raise RuntimeError(str(error)) from None


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
