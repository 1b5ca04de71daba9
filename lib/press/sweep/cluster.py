"""Points executed by a Ray cluster that runs already. The only module that imports Ray.

On one machine the slots of `lib.press.sweep.engines` do the same without a cluster; Ray is for several hosts.
"""
from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Self

from lib.files import BUILD, ROOT
from lib.press.pages import PageError
from lib.press.sweep import plan, point


class Ray:
    """Tasks of a Ray cluster, a task per point; `with` joins it, and leaving it ends what still runs.

    Args:
        needs: what one point takes.
        address: the cluster, `host:port` or "auto"; its nodes see this checkout and `_build` under the same paths.
        deaths: how often Ray begins a task again whose process or host was lost.
    Raises:
        PageError: no Ray, no cluster there, a token it refuses, or no room in it for a point.
    """

    def __init__(self, needs: plan.Resources, address: str, deaths: int = 1) -> None:
        self.needs, self.address, self.deaths = needs, address, deaths

    def __enter__(self) -> Self:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        try:
            import ray

            self._knock()
            with _silenced():
                ray.init(self.address, log_to_driver=False, configure_logging=False,
                         runtime_env={"env_vars": {"PYTHONPATH": path, "BOOK_BUILD": str(BUILD)}})
            self.width = self._room([node["Resources"] for node in ray.nodes() if node["Alive"]])
            takes = dict(num_cpus=self.needs.cpus, num_gpus=self.needs.gpus, max_retries=self.deaths)
            self.task = ray.remote(max_calls=0, **takes)(_run)  # a worker serves many points, with a GPU too
        except ImportError as error:
            told = f"Ray cannot be imported ({error}): pip install -e '.[sweep]', or leave --address out"
            raise PageError(told) from None
        except PageError:
            self.__exit__()
            raise
        except (RuntimeError, ConnectionError, ValueError) as error:
            self.__exit__()
            told = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            told += "; it refuses the token in RAY_AUTH_TOKEN" * ("AuthToken" in f"{error}{error.__cause__}")
            raise PageError(f"the Ray cluster at {self.address} cannot be used: {told}") from None
        finally:
            for number, handler in handlers.items():  # Ray puts its own in their place
                signal.signal(number, handler)
        return self

    def __exit__(self, *error: object) -> None:
        import ray

        ray.shutdown()

    def submit(self, task: point.Task) -> Future[point.Outcome]:
        hidden = {} if self.needs.gpus else {"CUDA_VISIBLE_DEVICES": ""}
        variables = {**task.variables, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", **hidden}
        return self.task.remote(task._replace(variables=variables)).future()

    def _knock(self) -> None:
        """Ray itself asks an address where nobody is for minutes."""
        host, _, port = self.address.rpartition(":")
        if self.address != "auto":
            try:
                socket.create_connection((host, int(port)), timeout=10).close()
            except (OSError, ValueError, OverflowError) as error:
                raise ConnectionError(f"{error}; start one: ray start --head --port 6379") from None

    def _room(self, nodes: list[dict[str, float]]) -> int:
        """How many points the nodes hold side by side; a point lies on one of them."""
        needs = {name: takes for name, takes in (("CPU", self.needs.cpus), ("GPU", self.needs.gpus)) if takes}
        rooms = [int(min(node.get(name, 0) / takes for name, takes in needs.items()) + 1e-9) for node in nodes]
        if not any(rooms):
            there = ", ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
            raise PageError(f"a point takes {self.needs.cpus} cores and {self.needs.gpus:g} of a GPU; the nodes of the "
                            f"cluster have {there}")
        return sum(rooms)


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
