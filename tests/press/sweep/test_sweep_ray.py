"""Sweeps on a Ray cluster: `make test-sweep`."""
import importlib.util
import json
import os
import secrets
import sys
import time

import psutil
import pytest
from points import FACTS, begun, sweep, sweeping, table, task

from lib.press.pages import PageError
from lib.press.sweep import cluster, plan, point

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: make test-sweep"),
]


def noting(asked):
    """Stands for a point: tells which GPUs it was given, and a pause."""
    def execute(task, work, lock, stop):
        time.sleep(task.overrides.get("pause", 0))
        return {"measures": {"gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "pid": os.getpid()}, "facts": FACTS}

    return point.run(asked, execute=execute)


@pytest.fixture
def without_chapter(monkeypatch):
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import the tests
    monkeypatch.setattr(cluster, "_run", noting)


def pausing(made):
    """Points that sleep in their long cell."""
    return list(made.root.glob("_build/sweeps/tiny/work/*/partial.results.json"))


def done(home):
    return {path.parent.name: json.loads(path.read_text())["measures"] for path in home.glob("points/*/done.json")}


def test_points_share_gpus_and_the_twelve_take_little_more_than_six(nodes, tmp_path, without_chapter):
    """Halves of a GPU; 12 points of 2 s on 2 workers are promised in 21 s of an ideal 12. Then a whole GPU each."""
    with cluster.Ray(plan.Resources(cpus=1, gpus=0.5), nodes.address) as engine:
        assert engine.width == 2
        for warm in [engine.submit(task(tmp_path, f"warm{i}", overrides={"pause": 1})) for i in range(2)]:
            warm.result(120)
        started = time.monotonic()
        tasks = [task(tmp_path, f"p{i}", overrides={"pause": 2}) for i in range(12)]
        states = [future.result(90).state for future in [engine.submit(each) for each in tasks]]
    assert states == ["done"] * 12 and time.monotonic() - started < 21
    assert {measure["gpus"] for measure in done(tmp_path).values()} <= {"0", "1"}


def test_a_killed_task_is_begun_again_elsewhere(nodes, tmp_path, without_chapter):
    with cluster.Ray(plan.Resources(), nodes.address, deaths=1) as engine:
        future = engine.submit(task(tmp_path, "killed", overrides={"pause": 3}))
        begun = tmp_path / "work/killed" / point.BEGUN
        end = time.monotonic() + 60
        while not begun.is_file() or not begun.read_text().strip():
            assert time.monotonic() < end
            time.sleep(0.05)
        psutil.Process(int(begun.read_text().split()[1])).kill()
        assert future.result(90).state == "done"
    assert json.loads((tmp_path / "points/killed/done.json").read_text())["attempts"] == 2
    assert done(tmp_path)["killed"]["gpus"] in ("", None)


@pytest.mark.parametrize(("needs", "told"), [({"gpus": 3}, "1 cores and 3"), ({"cpus": 2}, "2 cores and 0")])
def test_a_point_that_no_node_holds_is_told(nodes, needs, told):
    nodes_have = "the nodes of the cluster have 1 and 1, 1 and 1"
    with pytest.raises(PageError, match=f"^a point takes {told} of a GPU; {nodes_have}"):
        cluster.Ray(plan.Resources(**needs), nodes.address).__enter__()


@pytest.mark.parametrize("address", ["127.0.0.1:9", "127.0.0.1", "127.0.0.1:99999"])
def test_an_address_where_nobody_is_says_so_at_once(address):
    with pytest.raises(PageError, match=f"cluster at {address} cannot be used: .*; start one: ray start --head"):
        cluster.Ray(plan.Resources(), address).__enter__()


def test_a_wrong_token_is_told_in_a_line(nodes, checkout, monkeypatch):
    sweeping(checkout)
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    refused = sweep(checkout, "run", "--address", nodes.address)
    assert refused.returncode == 2 and len(refused.stderr.strip().splitlines()) == 1, refused.stderr
    assert f"the Ray cluster at {nodes.address} cannot be used" in refused.stderr
    assert "it refuses the token in RAY_AUTH_TOKEN" in refused.stderr


def test_a_killed_driver_leaves_no_point_behind_and_goes_on_with_what_is_missing(nodes, checkout):
    sweeping(checkout, points=[{"list": [{"seeds": 2}, {"seeds": 3, "pause": 5.0}]}])
    driver = checkout.start("run", "params/tiny/sweep_mine.yaml", "--address", nodes.address,
                            module=("-m", "lib.press.sweep"))
    checkout.wait_for(lambda: list(checkout.root.glob("_build/sweeps/tiny/points/*/done.json"))
                      and pausing(checkout), "the first point done, the second begun", 240)
    driver.kill()
    driver.communicate(timeout=30)
    checkout.wait_for(lambda: not checkout.processes(), "the end of the point", 60)
    resumed = sweep(checkout, "run", "--address", nodes.address)
    assert resumed.returncode == 0 and "1 done, 0 stale, 0 failed, 1 missing; 1 to execute" in resumed.stdout


def test_a_lost_node_costs_its_points_an_attempt_and_the_table_equals_the_serial_one(nodes, checkout):
    """One of two nodes is killed while both execute; all points end on the other, bit for bit as without Ray."""
    sweeping(checkout, points=[{"list": [{"seeds": 2, "pause": 3.0}, {"seeds": 3, "pause": 3.0}, {"seeds": 4}]}])
    driver = checkout.start("run", "params/tiny/sweep_mine.yaml", "--address", nodes.address,
                            module=("-m", "lib.press.sweep"))
    checkout.wait_for(lambda: len(pausing(checkout)) == 2, "two points side by side", 240)
    nodes.cluster.remove_node(next(iter(nodes.cluster.worker_nodes)), allow_graceful=False)
    said, wrong = driver.communicate(timeout=180)
    assert driver.returncode == 0 and "3 done" in said, said + wrong
    assert sorted(begun(checkout)) == [1, 1, 2]
    by_ray = table(checkout)
    (checkout.root / "_build/sweeps").rename(checkout.root / "_build/other")
    assert sweep(checkout, "run", "--workers", "2").returncode == 0
    assert by_ray.equals(table(checkout))
