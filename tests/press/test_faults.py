"""The press under kills: nothing half-written is reused, no kernel is left, the previous output stays."""
import os
import signal

import psutil
import pytest


@pytest.fixture
def pausing(executed):
    """A checkout with one good execution, whose next one is in the middle of a long cell."""
    executed.quick.write_text(executed.quick.read_text().replace("pause: 0.0", "pause: 600.0"))
    executed.good = executed.output.read_bytes(), executed.results.read_bytes()
    executed.running = executed.start("run", "tiny")
    executed.wait_until_pausing()
    return executed


def settle(checkout):
    """Wait for the press to end; then everything it started must end too, and the good output still stand."""
    out, err = checkout.running.communicate(timeout=30)
    checkout.wait_for(lambda: not checkout.processes(), "every process to end", 15)
    assert (checkout.output.read_bytes(), checkout.results.read_bytes()) == checkout.good
    return out + err


def rerun_works(checkout):
    checkout.quick.write_text(checkout.quick.read_text().replace("pause: 600.0", "pause: 0.01"))
    done = checkout.run()
    assert done.returncode == 0 and "done" in done.stdout, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_press_and_its_kernel(pausing, number):
    pausing.running.send_signal(number)
    said = settle(pausing)
    assert pausing.running.returncode == 130 and f"stopped by {number.name}" in said and "Traceback" not in said
    rerun_works(pausing)


def test_kill_of_the_press_takes_worker_and_kernel_along(pausing):
    pausing.running.kill()
    settle(pausing)
    rerun_works(pausing)


def test_kill_of_the_worker_is_reported_and_its_kernel_ended(pausing):
    worker = psutil.Process(pausing.running.pid).children()[0]
    worker.kill()
    said = settle(pausing)
    assert pausing.running.returncode == 1 and "ended with status -9" in said
    rerun_works(pausing)


def test_kill_of_the_kernel_is_a_failing_cell(pausing):
    worker = psutil.Process(pausing.running.pid).children()[0]
    [kernel] = [p for p in worker.children(recursive=True) if "ipykernel" in " ".join(p.cmdline())]
    kernel.kill()
    said = settle(pausing)
    assert pausing.running.returncode == 1 and "FAILED" in said and "died" in said.lower()
    rerun_works(pausing)


def test_kill_of_press_and_worker_at_once_leaves_no_kernel(pausing):
    family = psutil.Process(pausing.running.pid).children(recursive=True)
    for pid in [pausing.running.pid, family[0].pid]:
        os.kill(pid, signal.SIGKILL)
    settle(pausing)
    rerun_works(pausing)


def test_second_press_on_the_same_page_is_refused(pausing):
    other = pausing.run()
    assert other.returncode == 1 and "another press is executing this page" in other.stderr
    pausing.running.send_signal(signal.SIGTERM)
    settle(pausing)
