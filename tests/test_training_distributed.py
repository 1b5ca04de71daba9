"""Two processes on CPU train what one trains, and what they train undisturbed after one of them was killed."""
import os

import pytest
import torch
from training_parts import RECIPE, images, parts, vit

from lib.training import Recipe, train
from lib.training.distributed import configure, launch, result, work

OPTIONS = {"log_every": 3, "checkpoint_every": 4, "device": "cpu", "progress": False}
MAKE = "training_parts:parts"


@pytest.fixture(autouse=True)
def found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", os.path.dirname(__file__))
    folder = tmp_path_factory.mktemp("undisturbed")
    yield {
        dropout: launch(configure(folder / str(dropout), MAKE, {"dropout": dropout}, RECIPE, 0, **OPTIONS), processes=2)
        for dropout in (0.0, 0.1)
    }
    patch.undo()


@pytest.mark.slow
def test_two_processes_train_what_one_trains(undisturbed):
    state, history = undisturbed[0.0]
    model, x, labels, extra = parts(dropout=0.0)
    alone = train(model, x, labels, RECIPE, 0, extra, log_every=3, device="cpu", progress=False)
    assert (history.table - alone.table).abs().to_numpy().max() < 1e-3
    assert max(float((state[name] - value).abs().max()) for name, value in model.state_dict().items()) < 1e-3
    assert max(float((vit().state_dict()[name] - state[name]).abs().max()) for name in state) > 1e-2  # it moved


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_after_a_process_is_killed_all_resume_bit_for_bit(undisturbed, tmp_path, rank):
    mark = tmp_path / "killed"
    arguments = {"dropout": 0.1, "die": [rank, 10, str(mark)]}
    state, history = launch(configure(tmp_path, MAKE, arguments, RECIPE, 0, **OPTIONS), processes=2, restarts=1)
    assert mark.exists()
    assert all(torch.equal(state[name], value) for name, value in undisturbed[0.1][0].items())
    assert history.table.equals(undisturbed[0.1][1].table)


@pytest.mark.slow
def test_a_job_killed_for_good_says_so_and_goes_on_when_called_again(undisturbed, tmp_path):
    arguments = {"dropout": 0.1, "die": [1, 10, str(tmp_path / "killed")]}
    job = configure(tmp_path, MAKE, arguments, RECIPE, 0, **OPTIONS)
    with pytest.raises(RuntimeError, match="training in 2 processes failed"):
        launch(job, processes=2)
    with pytest.raises(FileNotFoundError):
        result(job)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 8
    state, _ = launch(job, processes=2)
    assert all(torch.equal(state[name], value) for name, value in undisturbed[0.1][0].items())


def test_a_job_runs_in_one_process_too(tmp_path):
    job = configure(tmp_path, MAKE, {"dropout": 0.1}, RECIPE, 0, **OPTIONS)
    work(job)
    state, history = result(job)
    model, x, labels, extra = parts(dropout=0.1)
    alone = train(model, x, labels, RECIPE, 0, extra, log_every=3, device="cpu", progress=False)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert history.table.equals(alone.table)


def test_the_result_of_another_job_is_refused(tmp_path):
    work(configure(tmp_path, MAKE, {"dropout": 0.1}, Recipe(steps=1, batch=16), 0, **OPTIONS))
    job = configure(tmp_path, MAKE, {"dropout": 0.1}, Recipe(steps=1, batch=16), 1, **OPTIONS)
    with pytest.raises(ValueError, match="job.json is of another job; launch this one in a folder of its own"):
        result(job)


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 3)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 0)
    with pytest.raises(ValueError, match="a batch of 16 cannot be shared evenly by 3 processes"):
        train(vit(), *images(), Recipe(steps=1, batch=16), 0, device="cpu", progress=False)


@pytest.mark.parametrize("make", ["parts", "a:b:c", "a b:c", "a.b"])
def test_a_job_names_a_function(tmp_path, make):
    with pytest.raises(ValueError, match="make must read module:function"):
        configure(tmp_path, make, {}, RECIPE, 0)
