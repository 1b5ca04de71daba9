"""A Ray cluster; one of two nodes serves all tests of a file, since starting one takes a while."""
import os
import secrets
import socket
from contextlib import ExitStack

import pytest


class Nodes:
    """A Ray cluster on this machine: two nodes, without what sweeps do not use, of one core and a made-up GPU each.

    Ray gives up a node whose agents have not found their ports within 15 s and a process that has not begun within 60,
    as happens on a busy machine; so they are told their ports, and given time.
    """

    def __init__(self, folder):
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_TMPDIR=str(folder),
                          RAY_USAGE_STATS_ENABLED="0", RAY_prestart_worker_first_driver="0",
                          RAY_worker_register_timeout_seconds="600")
        from ray.cluster_utils import Cluster  # reads the environment once

        self.cluster = Cluster()
        for _ in range(2):
            agents = dict(zip(AGENTS, free_ports(len(AGENTS)), strict=True))
            self.cluster.add_node(include_dashboard=False, include_log_monitor=False, no_monitor=True, num_cpus=1,
                                  num_gpus=1, object_store_memory=100 * 2**20, **agents)
        self.address = self.cluster.address


AGENTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")


def free_ports(count):
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    before = dict(os.environ)
    made = Nodes(tmp_path_factory.mktemp("r"))
    yield made
    made.cluster.shutdown()
    os.environ.clear()
    os.environ.update(before)
