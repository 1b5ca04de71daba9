"""One point under every way to end, and many of them: whole or not there, executed once, at little cost."""
import errno
import io
import json
import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from points import FACTS, task
from rich.console import Console

from lib.press.pages import PageError
from lib.press.sweep import drive, engines, plan, point, results
from lib.press.sweep.__main__ import Board, main
from lib.press.sweep.slots import Slots


def execute(task, work, lock, stop):
    (work / "executed.ipynb").write_text("{}")
    return {"measures": {"answer": 4}, "seconds": 1.5, "facts": {**FACTS, "environment": {"python": "3"}}}


def failing(task, work, lock, stop):
    (work / "partial.ipynb").write_text("{}")
    raise RuntimeError("cell 3: ValueError: no")


def state(home):
    return plan.state(home, "one", FACTS)


def test_a_point_is_executed_once(tmp_path):
    first, second = (point.run(task(tmp_path), execute=execute) for _ in range(2))
    assert (first.state, second.state, state(tmp_path)) == ("done", "kept", "done")
    done = json.loads((tmp_path / "points/one/done.json").read_text())
    assert done["measures"] == {"answer": 4} and done["attempts"] == 1 and done["params"] == {"seeds": 2}
    assert done["facts"] == {**FACTS, "environment": {"python": "3"}} and not (tmp_path / "work/one").exists()


def test_other_code_makes_it_stale_and_replaces_it(tmp_path):
    point.run(task(tmp_path), execute=execute)
    new = {**FACTS, "library": "edited"}
    assert plan.state(tmp_path, "one", new) == "stale"
    (tmp_path / "points/one/old").touch()
    assert point.run(task(tmp_path, facts=new), execute=execute).state == "done"
    assert plan.state(tmp_path, "one", new) == "done" and not (tmp_path / "points/one/old").exists()


def test_other_versions_or_prose_make_it_not(tmp_path):
    elsewhere = {**FACTS, "environment": {"device": "a GPU"}, "page": "other prose"}
    point.run(task(tmp_path), execute=lambda *_: {"facts": elsewhere})
    assert state(tmp_path) == "done"


def test_a_failure_keeps_the_notebook_and_its_reason_until_it_is_made_good(tmp_path):
    outcome = point.run(task(tmp_path), execute=failing)
    assert (outcome.state, outcome.told, state(tmp_path)) == ("failed", "cell 3: ValueError: no", "failed")
    assert (tmp_path / "failed/one/partial.ipynb").is_file() and not (tmp_path / "points").exists()
    assert plan.state(tmp_path, "one", {**FACTS, "code": "mended"}) == "missing"
    assert point.run(task(tmp_path), execute=execute).state == "done"
    assert state(tmp_path) == "done" and not (tmp_path / "failed/one").exists()


@pytest.mark.parametrize(
    ("deaths", "retries", "ends"), [(1, 1, "done"), (2, 1, "failed"), (2, 2, "done"), (1, 0, "failed")])
def test_a_death_is_tried_again_so_often(tmp_path, deaths, retries, ends):
    tries = []

    def dying(*arguments):
        tries.append(1)
        if len(tries) <= deaths:
            raise point.Died("its process ended with status -9")
        return execute(*arguments)

    outcome = point.run(task(tmp_path, retries=retries), execute=dying)
    assert outcome.state == ends and len(tries) == min(deaths, retries) + 1
    if ends == "done":
        assert json.loads((tmp_path / "points/one/done.json").read_text())["attempts"] == deaths + 1


@pytest.mark.parametrize("left", ["", "{\"study\": ", "[]"])
def test_a_half_written_point_is_missing_and_replaced(tmp_path, left):
    (tmp_path / "points/one").mkdir(parents=True)
    (tmp_path / "points/one/done.json").write_text(left)
    assert state(tmp_path) == "missing"
    assert point.run(task(tmp_path), execute=execute).state == "done" and state(tmp_path) == "done"


def test_a_full_disk_leaves_nothing_that_looks_done(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(point, "write_json", full)
        outcome = point.run(task(tmp_path), execute=execute)
    assert outcome.state == "failed" and "No space left on device" in outcome.told
    assert state(tmp_path) == "missing" and not (tmp_path / "points").exists()
    assert point.run(task(tmp_path), execute=execute).state == "done"


def test_a_point_that_another_executes_is_busy_and_executed_once(tmp_path):
    inside, go, ends = threading.Event(), threading.Event(), []

    def slow(*arguments):
        inside.set()
        assert go.wait(10)
        return execute(*arguments)

    thread = threading.Thread(target=lambda: ends.append(point.run(task(tmp_path), execute=slow).state))
    thread.start()
    assert inside.wait(10) and point.run(task(tmp_path), execute=execute).state == "busy"
    go.set()
    thread.join()
    assert [*ends, point.run(task(tmp_path), execute=execute).state] == ["done", "kept"]


def test_what_was_asked_to_stop_is_missing(tmp_path):
    def stopped(*_):
        raise KeyboardInterrupt

    assert point.run(task(tmp_path), execute=stopped).state == "stopped" and state(tmp_path) == "missing"


def a_sweep(home, count, cpus=1, gpus=0.0):
    """So many points of nothing."""
    points = tuple(plan.Point(f"p{i:05d}", {"seeds": i}, {}, {"seeds": i}) for i in range(count))
    made = SimpleNamespace(
        page=SimpleNamespace(name="tiny"), points=points, facts=FACTS, home=home, table=home / "made",
        plan=SimpleNamespace(base="quick", timeout_minutes=1.0, retries=0),
        resources=plan.Resources(cpus=cpus, gpus=gpus))
    made.states = lambda: plan.Sweep.states(made)
    return made


def driven(sweep, engine, **options):
    lines = []
    with engine:
        counts = drive.drive(sweep, sweep.points, engine, lambda of, outcome: lines.append((of.id, outcome.state)))
    return counts, lines


def test_twelve_points_on_two_workers_take_little_more_than_six_of_them(tmp_path, monkeypatch):
    """17 s of an ideal 12 is the promise; here a quarter of a second stands for two."""
    monkeypatch.setattr(point, "in_worker", lambda *a: time.sleep(0.25) or execute(*a))
    sweep, started = a_sweep(tmp_path, 12), time.monotonic()
    counts, lines = driven(sweep, engines.Local(sweep.resources, workers=2))
    assert time.monotonic() - started < 6 * 0.25 * 17 / 12
    assert counts == {"done": 12} and sorted(lines) == [(of.id, "done") for of in sweep.points]


def test_bookkeeping_costs_little(tmp_path, monkeypatch):
    """At most 20 ms a point; 5 s to find 1,000 done and make their table; of the processor, whatever the load."""
    monkeypatch.setattr(point, "in_worker", execute)
    sweep, started = a_sweep(tmp_path, 1000), time.process_time()
    assert driven(sweep, engines.Local(sweep.resources, workers=2))[0] == {"done": 1000}
    assert (time.process_time() - started) / 1000 < 0.02
    started = time.process_time()
    assert set(sweep.states().values()) == set(results.collect(sweep)["run.state"]) == {"done"}
    assert time.process_time() - started < 5


def test_a_terminal_is_told_how_many_stand_how_and_for_how_long(monkeypatch):
    """Four points on two slots: one has ended, one has run for 20 of its 30 s, two of them need 15 s each per slot."""
    points = [plan.Point(f"p{i}", {"seeds": i}, {}, {}) for i in range(4)]
    board = Board(points, {"other": "stale"} | {of.id: "missing" for of in points}, 2, [20.0, 30.0])
    board.show(points[0], point.Outcome("p0", "done", 40.0))
    job = SimpleNamespace(state="running", cell=3, cells=8, elapsed=20.0)
    monkeypatch.setattr(point, "RUNNING", {"p2": job})

    def told():
        console = Console(file=io.StringIO(), width=80)
        console.print(board.table())
        return console.file.getvalue().splitlines()

    first, row = told()
    assert first == "1 done, 1 running, 1 stale, 0 failed, 2 missing; about 0:35 left"  # (10 + 30 + 30) / 2
    assert row.startswith("seeds=2  running") and "2/8 cells  0:20" in row
    point.RUNNING.clear()  # as a cluster, which does not tell: as many run as it has room for
    assert [line.rstrip() for line in told() if line] == [
        "1 done, up to 2 running, 1 stale, 0 failed, 1 missing; about 0:45 left"]


def test_on_a_narrow_terminal_points_are_told_apart_and_lines_of_ended_ones_are_left_whole(monkeypatch):
    names = ("rule", "n_latents", "k", "samples_of_the_training_set")
    values = [("batch_topk", 4096, k, 100_000 + k) for k in (16, 32, 64)]
    points = [plan.Point(f"p{k}", dict(zip(names, each, strict=True)), {}, {}) for k, each in enumerate(values)]
    job = SimpleNamespace(state="running", cell=13, cells=28, elapsed=620.0)
    board = Board(points, {of.id: "missing" for of in points}, 2, [])
    monkeypatch.setattr(point, "RUNNING", {of.id: job for of in points[1:]})

    def told(width):
        console = Console(file=io.StringIO(), width=width)
        console.print(board.table())
        return [line.split("  ")[0] for line in console.file.getvalue().splitlines()[-2:]], console.file.getvalue()

    whole = [f"k={k} samples_of_the_training_set={100_000 + k}" for k in (32, 64)]
    assert told(100)[0] == whole and "━" in told(100)[1]
    assert told(80)[0] == whole and "━" not in told(80)[1]
    assert told(60)[0] == [f"…{text[-30:]}" for text in whole]
    out = io.StringIO()
    board.live = SimpleNamespace(console=Console(file=out, width=40))
    board.show(points[0], point.Outcome("p0", "failed", 1.0, "[why] " + 60 * "x"))
    assert out.getvalue().splitlines() == [f"[1/3] 0:00 p0 failed in 0:01  {points[0].text}  [why] {60 * 'x'}"]


def test_two_drivers_share_the_points(tmp_path, monkeypatch):
    executed, counts, sweep = [], [], a_sweep(tmp_path, 10)

    def slow(task, *rest):
        executed.append(task.id)
        time.sleep(0.05)
        return execute(task, *rest)

    def drives():
        counts.append(driven(sweep, engines.Local(sweep.resources, workers=2))[0])

    monkeypatch.setattr(point, "in_worker", slow)
    monkeypatch.setattr(drive, "AGAIN", 0.05)
    drivers = [threading.Thread(target=drives) for _ in range(2)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert sorted(executed) == [of.id for of in sweep.points]
    assert sum(counts, start=type(counts[0])()) == {"done": 10, "kept": 10}


class Losing(engines.Local):
    """An engine whose worker is lost with its host."""

    def submit(self, task):
        lost = Future()
        lost.set_exception(ConnectionError("its node died"))
        return lost


def test_a_point_that_was_lost_is_missing_and_the_run_has_failed(tmp_path, monkeypatch, capsys):
    sweep = a_sweep(tmp_path, 1)
    sweep.name = "mine"
    monkeypatch.setattr(plan, "read", lambda path: sweep)
    monkeypatch.setattr("lib.press.sweep.__main__._engine", lambda sweep, asked: Losing(sweep.resources, 1))
    assert main(["run", "sweep_mine.yaml"]) == 1
    said = capsys.readouterr().out
    assert "its node died" in said and "0 done, 0 stale, 0 failed, 1 missing" in said.splitlines()[-1]


def test_wanted_points_follow_the_options(tmp_path):
    sweep = a_sweep(tmp_path, 4)
    states = dict(zip((of.id for of in sweep.points), plan.STATES, strict=True))
    found = [[of.id[-1] for of in drive.wanted(sweep, states, *options)] for options in (
        (False, False), (True, False), (False, True), (True, True))]
    assert found == [["1", "3"], ["1", "2", "3"], ["3"], ["2", "3"]]


@pytest.mark.parametrize(
    ("share", "count", "most", "room"),
    [(0.0, 0, 5, 5), (0.25, 1, 16, 4), (0.25, 8, 64, 32), (0.3, 1, 16, 3), (1.0, 8, 64, 8), (2.0, 8, 64, 4),
     (0.1, 1, 4, 4)])
def test_room_on_gpus_by_hand(share, count, most, room):
    assert Slots(share, count).room(most) == room


def test_gpus_are_given_to_the_least_busy_and_never_beyond_one():
    """Three halves on two GPUs: one each, then a second on the first; a fourth fills, a fifth would wait."""
    slots = Slots(0.5, 2)
    holds = [slots.taken() for _ in range(4)]
    given = [hold.__enter__()["CUDA_VISIBLE_DEVICES"] for hold in holds]
    assert given == ["0", "1", "0", "1"] and slots._free(0.5, 1) == []
    holds[1].__exit__(None, None, None)
    assert slots._free(0.5, 1) == ["1"]
    with Slots(2, 3).taken() as two:
        assert two == {"CUDA_VISIBLE_DEVICES": "0,1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    with Slots(0, 8).taken() as none:
        assert none == {"CUDA_VISIBLE_DEVICES": ""}


def test_points_run_on_the_gpus_of_their_slots(tmp_path, monkeypatch):
    """Eight halves on two GPUs that are made up: never more than two on one, and both are used."""
    lock, now, most, seen = threading.Lock(), {"0": 0, "1": 0}, [0], set()

    def on_a_gpu(task, *rest):
        own = task.variables["CUDA_VISIBLE_DEVICES"]
        with lock:
            now[own] += 1
            most[0] = max(most[0], now[own])
            seen.add(own)
        time.sleep(0.05)
        with lock:
            now[own] -= 1
        return execute(task, *rest)

    monkeypatch.setattr(point, "in_worker", on_a_gpu)
    sweep = a_sweep(tmp_path, 8, gpus=0.5)
    assert driven(sweep, engines.Local(sweep.resources, workers=4, gpus=2))[0] == {"done": 8}
    assert most == [2] and seen == {"0", "1"}


def test_a_machine_without_what_a_point_needs_says_so():
    with pytest.raises(PageError, match="takes 1 of a GPU, and none are seen here; write gpus: 0 under resources"):
        engines.Local(plan.Resources(gpus=1), gpus=0)
    with pytest.raises(PageError, match="a point needs 1000 cores, this machine has"):
        engines.Local(plan.Resources(cpus=1000))
