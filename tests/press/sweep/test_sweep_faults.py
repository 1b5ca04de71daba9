"""Sweeps under kills, with real kernels: finished points stay, missing ones run, nothing is left running."""
import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading

import psutil
import pytest
from points import begun, sweep, sweeping, table


def running(made):
    """Points that sleep in their long cell."""
    return list(made.root.glob("_build/sweeps/tiny/work/*/partial.results.json"))


def finished(made):
    return sorted(made.root.glob("_build/sweeps/tiny/points/*/done.json"))


def start(made, *options):
    module = ("-m", "lib.press.sweep")
    return made.start("run", "params/tiny/sweep_mine.yaml", *options, module=module)


def test_a_sweep_runs_shows_and_keeps_its_points(checkout):
    sweeping(checkout, points=[{"grid": {"seeds": [2, 3]}}, {"list": [{"mode": "fail", "seeds": 2}]}])
    planned = sweep(checkout, "run", "--dry-run", "--limit", "2")
    assert planned.returncode == 0 and "3 missing; 2 to execute" in planned.stdout and "no time known" in planned.stdout
    done = sweep(checkout, "run", "--workers", "2")
    assert done.returncode == 1 and "3 points: 2 done, 0 stale, 1 failed, 0 missing" in done.stdout, done.stderr
    assert 'failed in' in done.stdout and 'mode="fail" seeds=2  cell 7: AssertionError: asked to fail' in done.stdout
    [partial] = checkout.root.glob("_build/sweeps/tiny/failed/*/partial.ipynb")
    assert "asked to fail" in partial.read_text()
    found = table(checkout)
    assert found["answer"].tolist()[:2] == [4 / 3, 2.0] and found["answer"].isna().tolist() == [False, False, True]
    again = sweep(checkout, "run")
    assert again.returncode == 1 and "0 to execute" in again.stdout and sweep(checkout, "status").returncode == 1
    planned = sweep(checkout, "run", "--dry-run", "--retry-failed")
    assert "1 to execute" in planned.stdout and "the median of 2 points" in planned.stdout
    checkout.chapter.write_text(checkout.chapter.read_text().replace("print(", "print('edited', "))
    assert "0 done, 2 stale, 0 failed, 1 missing" in sweep(checkout, "status").stdout
    kept = sweep(checkout, "run", "--dry-run", "--keep-stale")
    assert "1 to execute" in kept.stdout


def test_a_killed_driver_goes_on_with_what_is_missing(checkout):
    """Killed with one point done and one asleep; the table at the end equals that of a clean run, bit for bit."""
    sweeping(checkout, points=[{"list": [{"seeds": 2}, {"seeds": 3, "pause": 4}, {"seeds": 4}]}])
    driver = start(checkout, "--workers", "1")
    checkout.wait_for(lambda: finished(checkout) and running(checkout), "the second point", 120)
    driver.kill()
    driver.communicate(timeout=30)
    checkout.wait_for(lambda: not checkout.processes(), "every process to end", 15)
    first = [path.stat().st_mtime_ns for path in finished(checkout)]
    resumed = sweep(checkout, "run", "--workers", "2")
    assert resumed.returncode == 0 and "1 done, 0 stale, 0 failed, 2 missing; 2 to execute" in resumed.stdout
    assert first[0] in [path.stat().st_mtime_ns for path in finished(checkout)] and sorted(begun(checkout)) == [1, 1, 2]
    killed = table(checkout)
    (checkout.root / "_build/sweeps").rename(checkout.root / "_build/other")
    assert sweep(checkout, "run", "--workers", "2").returncode == 0
    assert killed.equals(table(checkout)) and killed.answer.tolist() == [4 / 3, 2.0, 8 / 3]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_driver_and_leaves_no_process(checkout, number):
    sweeping(checkout, points=[{"grid": {"pause": [600.0], "seeds": [2, 3]}}])
    driver = start(checkout, "--workers", "2")
    checkout.wait_for(lambda: len(running(checkout)) == 2, "both points", 120)
    driver.send_signal(number)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 130 and f"stopped by {number.name}" in said and "Traceback" not in said
    checkout.wait_for(lambda: not checkout.processes(), "every process to end", 15)
    assert "2 missing" in sweep(checkout, "status").stdout


def test_a_killed_worker_is_begun_again_and_a_point_too_slow_has_failed(checkout):
    sweeping(checkout, points=[{"list": [{"pause": 5.0}, {"pause": 600.0, "seeds": 3}]}], timeout_minutes=1.5)
    driver = start(checkout, "--workers", "2")
    checkout.wait_for(lambda: len(running(checkout)) == 2, "both points", 120)
    jobs = {worker: json.loads(open(worker.cmdline()[-1]).read())["values"]["pause"]
            for worker in psutil.Process(driver.pid).children() if "lib.press.worker" in worker.cmdline()}
    next(worker for worker, pause in jobs.items() if pause == 5.0).kill()
    said, _ = driver.communicate(timeout=300)
    assert driver.returncode == 1 and "took longer than 1.5 minutes" in said and "1 done, 0 stale, 1 failed" in said
    assert begun(checkout) == [2] and len(finished(checkout)) == 1


def test_a_terminal_shows_the_points_that_run_and_is_left_as_it_was(checkout):
    """One point done, whose line stays, and one asleep when Ctrl-C is typed."""
    sweeping(checkout, points=[{"list": [{"seeds": 2}, {"seeds": 3, "pause": 600.0}]}])
    ours, theirs = pty.openpty()
    before, shown = termios.tcgetattr(theirs), bytearray()
    driver = subprocess.Popen(
        [sys.executable, "-m", "lib.press.sweep", "run", "params/tiny/sweep_mine.yaml", "--workers", "1"],
        cwd=checkout.root, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "150"}, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    threading.Thread(target=lambda: [shown.extend(os.read(ours, 4096)) for _ in iter(int, 1)], daemon=True).start()
    asleep = rb"1 done, 1 running, 0 stale, 0 failed, 0 missing(?s:.*)\spause=600.0 seeds=3  running .* \d/7 cells"
    checkout.wait_for(lambda: running(checkout) and re.search(asleep, shown), "the second point", 180)
    assert b"[1/2] " in shown
    os.write(ours, b"\x03")
    assert driver.wait(60) == 130
    checkout.wait_for(lambda: b"stopped by SIGINT" in shown, "the last line", 10)
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l") > 0, "the cursor is hidden"
    assert termios.tcgetattr(theirs) == before and b"Traceback" not in shown
    checkout.wait_for(lambda: not checkout.processes(), "every process to end", 15)
