"""What watchers of a training are told, what the terminal shows of it, and what trackers keep."""
from __future__ import annotations

import io
import sys

import pytest
import torch

from lib import watch
from lib.rng import generator
from lib.sparse_coders import SparseCoder, fit
from lib.watch import Display, histogram, spark


class Terminal(io.StringIO):
    def isatty(self):
        return True


def data():
    return torch.randn(600, 6, generator=generator(0, "watch")).relu()


def trained(watchers=(), **options):
    coders = [SparseCoder(6, 20, "topk", k=2, seed=seed) for seed in range(2)]
    coders.append(SparseCoder(6, 20, "relu"))
    return fit(coders, data(), steps=30, batch_size=100, log_every=10, watch=watchers, progress=False, **options)


def test_watchers_are_told_the_rows_and_change_nothing(tmp_path):
    seen = []
    results = trained([lambda step, told: seen.append((step, told))], checkpoint=tmp_path / "a.pt")
    assert [step for step, _ in seen] == results[0].history.step.tolist() == [0, 10, 20, 29]
    for name in ("loss", "l0", "penalty"):
        means = sum(result.history[name] for result in results) / 3
        assert [told[name] for _, told in seen] == pytest.approx(means.tolist())
    for _, told in seen:
        assert len(told["rates"]) == 60 and sum(told["rates"]) / 3 == pytest.approx(told["l0"])
        assert sum(told["rates"][:40]) <= 4 + 1e-6 and all(0 <= rate <= 1 for rate in told["rates"])
    assert seen[0][1]["dead"] == sum(rate == 0 for rate in seen[0][1]["rates"]) / 60  # silent since the start
    alone = trained(checkpoint=tmp_path / "a.pt")  # no watcher: the same training, and all of it is there
    assert all(torch.equal(a.coder.W_dec, b.coder.W_dec) for a, b in zip(results, alone, strict=True))


def test_what_is_drawn_by_hand():
    assert spark([0, 7, 3.5, float("nan"), 1], 9) == "▁█▅ ▂"
    assert spark(range(100), 4) == "▁▃▆█" and spark([5, 5], 9) == "▁▁" and spark([float("inf")], 9) == " "
    shown = histogram([0, 0, 1e-3, 1.1e-3, 2e-1, 1e-9, 7])  # four bars a power: 1e-3 is the thirteenth, .2 the 22nd
    assert shown.startswith("1e-6 ") and shown.endswith(" 1e0, 2 of 7 are 0")
    assert shown[5:-len(" 1e0, 2 of 7 are 0")] == "▅" + 11 * "▁" + "█" + 8 * "▁" + "▅" + "▁" + "▅"
    display = Display(width=5)
    display.text(0, {"loss": 4.0, "rates": [0.5]})
    assert display.text(10, {"loss": 2.0, "rates": [0.5]}).splitlines()[:2] == ["step 10", "loss   2          █▁"]


def test_the_display_draws_over_itself_on_a_terminal_and_is_quiet_elsewhere(monkeypatch):
    terminal, elsewhere = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    display = Display()
    for step in (0, 10):
        display(step, {"loss": 1.0, "l0": 2.0})
    first, second = terminal.getvalue().split("step ")[1:]
    assert terminal.getvalue().startswith("\r\x1b[J") and first.endswith("\r\x1b[3F\x1b[J")
    assert second.startswith("10\n")
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    display(20, {"loss": 1.0})
    monkeypatch.delitem(sys.modules, "ipykernel")
    monkeypatch.setattr(sys, "stderr", elsewhere)
    display(30, {"loss": 1.0})
    assert "step 20" not in terminal.getvalue() and elsewhere.getvalue() == ""


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_tracker_that_is_not_installed_is_told(name, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, {"tensorboard": "torch.utils.tensorboard"}.get(name, name), None)
    with pytest.raises(ImportError, match=f"{name} is not installed; pip install {name}, or leave its watcher out"):
        getattr(watch, name)(tmp_path)


def test_tensorboard_keeps_what_it_was_told(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    results = trained([watch.tensorboard(tmp_path)])
    found = reader.EventAccumulator(str(tmp_path), {"histograms": 0}).Reload()
    mean = sum(result.history.loss for result in results) / 3
    assert [event.value for event in found.Scalars("loss")] == pytest.approx(mean.tolist(), rel=1e-5)
    assert [event.step for event in found.Histograms("rates")] == [0, 10, 20, 29]


def test_wandb_keeps_a_run_and_sends_nothing(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    trained([watch.wandb("mine", tmp_path)])
    wandb.finish()
    [run] = (tmp_path / "wandb").glob("offline-run-*")
    assert list(run.glob("*.wandb"))[0].stat().st_size > 500
