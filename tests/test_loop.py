"""The training loop on a training made by hand, and what stands in `schedules`."""
from __future__ import annotations

import os
import re
import signal
import sys

import pytest
import torch
from torch.testing import assert_close

from lib import checkpoints, loop
from lib.live import Progress
from lib.loop import Keeping, Training, run
from lib.rng import generator
from lib.schedules import SCHEDULES, EpochOrder, warm_down, warm_up


class Walk(Training):
    """Three models that drift to drawn places, as fast as a schedule says; a row is [models, (loss, place)]."""

    samples = 5

    def __init__(self, steps, schedule="constant", lr=0.1, bad=None, killed=None):
        self.steps, self.schedule, self.lr, self.bad, self.killed = steps, schedule, lr, bad, killed
        self.place, self.rng, self.taken = torch.zeros(3, dtype=torch.float64), generator(0, "walk"), []

    def step(self, step, log):
        if step == self.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        self.taken.append(step)
        gap = torch.randn(3, dtype=torch.float64, generator=self.rng) - self.place
        self.place = self.place + self.lr * SCHEDULES[self.schedule](step, self.steps) * gap
        loss = gap.square() * (torch.tensor([1.0, torch.nan, 1.0]) if step == self.bad else 1.0)
        return torch.stack([loss, self.place], 1) if log else loss[:, None]

    def identity(self, steps):
        return {"schedule": self.schedule, "lr": self.lr}

    def spread(self, steps):
        return ["schedule"] * (self.schedule != "constant")

    def kept(self):
        return [{"place": self.place, "rng": self.rng}]


@pytest.fixture
def keep(tmp_path):
    return Keeping(log_every=4, checkpoint=tmp_path / "walk.pt", checkpoint_every=5, progress=False)


def walked(steps, keep=loop.SILENT, **options):
    """The walk after so many steps, and its rows."""
    walk = Walk(steps, **options)
    return walk, run(walk, steps, keep)


def same(one, other):
    (walk, rows), (its, other_rows) = one, other
    rows_alike = [step for step, _ in rows] == [step for step, _ in other_rows]
    values = zip(rows, other_rows, strict=True)
    return torch.equal(walk.place, its.place) and rows_alike and all(torch.equal(a, b) for (_, a), (_, b) in values)


def test_rows_are_of_every_nth_step_and_the_last_or_of_those_asked_for():
    walk, rows = walked(11, Keeping(log_every=4, progress=False))
    assert [step for step, _ in rows] == [0, 4, 8, 10] and walk.taken == list(range(11))
    assert rows[0][1].shape == (3, 2) and torch.equal(rows[-1][1][:, 1], walk.place)
    assert [step for step, _ in run(Walk(11), 11, log_at=[2, 10])] == [2, 10]
    assert [step for step, _ in run(Walk(6), 6, Keeping(log_every=4, progress=False), first=-3)] == [0, 4, 5]


@pytest.mark.parametrize(("schedule", "shorter"), [
    ("cosine", r"differs in steps \(23 there\), and schedule spreads over all of them"),
    ("constant", r"differs in steps \(23 there\), of which 10 are done; ask for more")])
def test_a_killed_training_goes_on_bit_for_bit(keep, schedule, shorter):
    whole = walked(23, keep.replace(checkpoint=None), schedule=schedule)
    child = os.fork()
    if not child:
        walked(23, keep, schedule=schedule, killed=13)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert checkpoints.read(keep.checkpoint)["step"] == 10
    with pytest.raises(ValueError, match=shorter):  # the row of step 9 is not among those kept
        walked(10, keep, schedule=schedule)
    resumed = walked(23, keep, schedule=schedule)
    assert resumed[0].taken == list(range(10, 23)) and same(resumed, whole)


def test_checkpoints_are_written_on_the_way_and_at_the_end_and_a_finished_training_is_not_repeated(keep, monkeypatch):
    written, write = [], checkpoints.write
    monkeypatch.setattr(checkpoints, "write", lambda path, step, *rest, **named: (
        written.append(step), write(path, step, *rest, **named)))
    first = walked(12, keep)
    assert written == [5, 10, 12]
    again = walked(12, keep)
    assert again[0].taken == [] and written == [5, 10, 12] and same(again, first)


def test_a_finished_training_is_extended_to_the_training_of_that_length(keep):
    walked(11, keep)  # logs its last step, 10, which is none of the longer training's
    longer, whole = walked(23, keep), walked(23, keep.replace(checkpoint=None))
    assert longer[0].taken == list(range(11, 23)) and same(longer, whole)
    assert checkpoints.read(keep.checkpoint)["identity"]["steps"] == 23


def test_what_cannot_be_extended_says_why_and_how_to_go_on(keep):
    walked(11, keep, schedule="cosine")
    told = r"differs in steps \(11 there\), and schedule spreads over all of them; to train longer, start anew"
    with pytest.raises(ValueError, match=told):
        walked(23, keep, schedule="cosine")
    with pytest.raises(ValueError, match=r"differs in lr \(0.1 there\), steps .*; for more steps of it, give the rest"):
        walked(23, keep, schedule="cosine", lr=0.2)


def test_a_checkpoint_of_another_training_is_refused_and_kept(keep):
    walked(11, keep)
    before = keep.checkpoint.read_bytes()
    with pytest.raises(ValueError, match=r"belongs to another run: it differs in lr \(0.1 there\); use another"):
        walked(11, keep, lr=0.2)
    with pytest.raises(ValueError, match=r"differs in log_every \(4 there\)"):
        walked(11, keep.replace(log_every=3))
    with pytest.raises(ValueError, match=r"differs in steps \(11 there\), of which 11 are done; ask for more"):
        walked(7, keep)
    assert keep.checkpoint.read_bytes() == before
    walked(11, keep.replace(checkpoint_every=2))  # this changes nothing that is trained


def test_a_loss_that_is_not_finite_names_its_step_and_keeps_the_last_good_checkpoint(keep):
    with pytest.raises(ValueError, match="1 of 3 models diverged: the loss of step 7 is nan, so that .*walk.pt was"):
        walked(23, keep, bad=7)  # step 7 has no row
    assert checkpoints.read(keep.checkpoint)["step"] == 5
    with pytest.raises(ValueError, match="the loss of step 7 is nan; lower lr"):
        walked(23, bad=7)
    long = Walk(1000, bad=7)
    with pytest.raises(ValueError, match="the loss of step 7 is nan"):
        run(long, 1000, log_at=[999])
    assert len(long.taken) == loop.UNCHECKED  # losses do not wait for the next row


def test_a_state_that_is_not_finite_is_not_written(keep):
    class Broken(Walk):
        def kept(self):
            return [{"place": self.place / 0}]

    with pytest.raises(ValueError, match="NaN or infinite values in its state, so that .*walk.pt was not written"):
        run(Broken(5), 5, keep)
    assert not keep.checkpoint.exists()


def test_progress_is_shown_where_it_is_wanted_and_silent_else(keep, monkeypatch):
    shown = []
    monkeypatch.setattr(Progress, "show", lambda self, last=False: shown.append(self.text))
    monkeypatch.setattr("lib.live.time.monotonic", iter(range(10**6)).__next__)
    walked(11, keep)
    assert shown == []
    walked(23, keep.replace(progress=True))
    assert shown[0].startswith("training: 12 of 23 (11 reused)") and shown[-1].startswith("training: 23 of 23")
    assert shown[-1].endswith("samples/s")


def test_a_long_run_whose_output_goes_to_a_file_says_a_line_a_minute(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # nbval has it
    monkeypatch.setattr("lib.live.time.monotonic", iter(range(0, 10**6, 10)).__next__)
    with Progress(40, "runs") as progress:
        for _ in range(40):
            progress.advance()
    lines = capsys.readouterr().err.splitlines()
    assert 5 <= len(lines) <= 20 and all(re.fullmatch(r"runs: \d+ of 40, \d+ s(, \d+ s left)?", line) for line in lines)
    with Progress(4, "a short run") as progress:
        progress.show()
    assert capsys.readouterr().err == ""


def test_options_of_the_loop_are_checked():
    with pytest.raises(ValueError, match="Keeping: checkpoint_every: input should be greater than .*, got 0"):
        Keeping(checkpoint_every=0)


def test_an_epoch_visits_every_sample_once_in_an_order_of_its_own_and_any_step_can_come_first():
    order = EpochOrder(11, 3, 0, "epoch")
    epochs = [[order[step].tolist() for step in range(e * 3, e * 3 + 3)] for e in range(2)]
    flat = [sum(epoch, []) for epoch in epochs]
    assert order.per_epoch == 3 and all(len(set(epoch)) == 9 and set(epoch) <= set(range(11)) for epoch in flat)
    assert flat[0] != flat[1] and EpochOrder(11, 3, 0, "epoch")[4].tolist() == epochs[1][1]
    assert EpochOrder(11, 3, 1, "epoch")[0].tolist() != epochs[0][0] != EpochOrder(11, 3, 0, "order")[0].tolist()


def test_schedules_by_hand():
    assert SCHEDULES["cosine"](0, 10) == 1 and SCHEDULES["cosine"](10, 10) == pytest.approx(0)
    assert SCHEDULES["cosine"](5, 10) == pytest.approx(0.5) and SCHEDULES["constant"](7, 10) == 1
    assert [warm_up(step, 4) for step in (0, 1, 3, 9)] == [0.25, 0.5, 1, 1] and warm_up(0, 0) == 1
    assert_close([warm_down(step, 10, 0.2) for step in (0, 7, 8, 9)], [1.0, 1.0, 1.0, 0.5])
    assert warm_down(9, 10, 0.0) == 1
