"""The training loop of image classifiers: by-hand steps, keyed randomness, exact resume, and what it refuses."""
import copy
import math
import random
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_parts import EVERY, RECIPE, STEPS, images, parts, vit

from lib.loop import _probes
from lib.models.image_models import image_model
from lib.rng import generator
from lib.training import Recipe, evaluate, image_tensor, logits, prepare, train, weighted
from lib.training.augmentation import augment, epoch_key
from lib.training.batches import ImageBatches
from lib.training.steps import ModelTraining, adamw

SCRIPT = Path(__file__).with_name("training_parts.py")
QUIET = {"progress": False, "device": "cpu"}
CPU = torch.device("cpu")
ONE_STEP = Recipe(steps=1, batch=16)


def linear_model(seed=0):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with torch.no_grad():
        model[1].weight.copy_(0.1 * torch.randn(3, 64, generator=generator(seed, "weights")))
        model[1].bias.zero_()
    return model


def squares(model, step=0):
    return sum(p.square().sum() for p in model.parameters())


def test_a_model_learns_what_can_be_learned_and_nothing_from_shuffled_labels():
    x, labels = images(n=480)
    test = images(n=300, seed=1)
    recipe = Recipe(epochs=5, batch=16, lr=3e-3, warmup=10)
    model, fooled = vit(), vit()
    history = train(model, x, labels, recipe, 0, **QUIET)
    shuffled = labels[torch.randperm(len(labels), generator=generator(0, "shuffle"))]
    train(fooled, x, shuffled, recipe, 0, **QUIET)
    assert evaluate(model, *test) > 0.95
    assert abs(evaluate(fooled, *test) - 1 / 3) < 0.15
    assert history.steps == 150 and list(history.table["step"]) == [0, 50, 100, 149]
    assert history.table["loss"].iloc[-1] < 0.2 < history.table["loss"].iloc[0]


def test_steps_are_those_of_a_plain_loop():
    x, labels = images()
    recipe = Recipe(steps=9, batch=16, lr=1e-2, weight_decay=0.1, clip=0.5, schedule="constant")
    model, plain = linear_model(), linear_model()
    history = train(model, x, labels, recipe, 3, weighted(squares, 0.02), log_every=1, **QUIET)
    decayed = {"params": [plain[1].weight], "weight_decay": 0.1}
    optimizer = torch.optim.AdamW([decayed, {"params": [plain[1].bias], "weight_decay": 0.0}], lr=1e-2)
    for step in range(9):
        order = torch.randperm(96, generator=generator(3, "order", step // 6))
        at = order[step % 6 * 16 : step % 6 * 16 + 16]
        task = F.cross_entropy(plain(x[at] / 127.5 - 1), labels[at])
        weights = list(plain.parameters())
        grads = [torch.autograd.grad(term, weights, retain_graph=True) for term in (task, 0.02 * squares(plain))]
        norms = [math.sqrt(sum(float(g.square().sum()) for g in each)) for each in grads]
        row = history.table.iloc[step]
        assert row["loss"] == pytest.approx(task.item(), rel=1e-4)
        assert row["extra"] == pytest.approx(0.02 * squares(plain).item(), rel=1e-4)
        assert [row["grad_norm"], row["extra_grad_norm"]] == pytest.approx(norms, rel=1e-4)
        assert row["pressure"] == pytest.approx(norms[1] / norms[0], rel=1e-4)
        optimizer.zero_grad()
        (task + 0.02 * squares(plain)).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()
    assert torch.allclose(model[1].weight, plain[1].weight, atol=1e-5)


def test_learning_rates_by_hand():
    cosine = Recipe(steps=10, batch=4, lr=1.0, warmup=2)
    assert [cosine.lr_at(s, 8) for s in (0, 1, 2, 6)] == pytest.approx([0.5, 1.0, 1.0, 0.5])  # 6: half of the last 8
    assert cosine.lr_at(9, 8) == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))
    stepped = Recipe(epochs=2, batch=4, lr=1.0, schedule="cosine_per_epoch")
    assert [stepped.lr_at(s, 11) for s in range(4)] == pytest.approx([1.0, 1.0, 0.5, 0.5])  # 11 images: two batches
    assert Recipe(steps=5, batch=4, lr=0.3, schedule="constant").lr_at(4, 8) == 0.3


def test_only_matrices_and_kernels_decay():
    model = vit()
    decayed, spared = adamw(model, Recipe(steps=1, weight_decay=0.05)).param_groups
    assert decayed["weight_decay"] == 0.05 and spared["weight_decay"] == 0
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in spared["params"]} == {
        name for name in names.values() if name.endswith("bias") or "norm" in name or name in ("cls_token", "pos_embed")
    }
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


def test_the_callers_generators_stay_and_do_not_matter():
    x, labels = images()
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed), random.seed(seed), np.random.seed(seed)
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
        model = vit(dropout=0.3, drop_path=0.2)
        train(model, x, labels, RECIPE, 0, **QUIET)
        assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
        assert np.array_equal(np.random.get_state()[1], before[2])
        ends.append(model.head.weight)
    assert torch.equal(*ends)
    other = vit(dropout=0.3, drop_path=0.2)
    train(other, x, labels, RECIPE, 1, **QUIET)
    assert not torch.equal(other.head.weight, ends[0])


def test_an_epoch_takes_each_image_once():
    x, labels = images(n=40)
    recipe = Recipe(epochs=2, batch=8)
    batches = ImageBatches(x, labels, recipe, 0, CPU, True)
    epochs = [[i for step in range(e * 5, e * 5 + 5) for i in batches.order[step].tolist()] for e in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40)) and epochs[0] != epochs[1]


def test_batches_are_the_images_of_their_order_changed_for_their_epoch():
    x, labels = images()
    batches = ImageBatches(x, labels, RECIPE, 5, CPU, True)
    for step in (1, 8):  # of epochs 0 and 1
        found, its_labels = batches[step]
        at = batches.order[step]
        assert torch.equal(found, augment(x[at], at, RECIPE.augment, epoch_key(5, step // 6)))
        assert torch.equal(its_labels, labels[at])


def test_batches_fetched_ahead_are_the_same(tmp_path):
    x, labels = images()
    np.save(tmp_path / "images.npy", x.numpy())
    ends = []
    for data, resident in ((x, True), (np.load(tmp_path / "images.npy", mmap_mode="r"), False)):
        ends.append(linear_model())
        train(ends[-1], data, labels, RECIPE, 0, resident=resident, **QUIET)
    assert torch.equal(ends[0][1].weight, ends[1][1].weight)


def test_a_scaled_loss_takes_the_same_steps_and_skips_those_that_overflow():
    x, labels = images()
    ends = []
    for scale in (None, 2.0**10, math.inf):
        model = linear_model()
        training = ModelTraining(model, ImageBatches(x, labels, ONE_STEP, 0, CPU, True), weighted(squares, 0.1))
        if scale:
            training.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        with torch.random.fork_rng(devices=[]):
            row = training.update(0, prepare(x[:16]), labels[:16], True)
        ends.append((model[1].weight.detach(), row))
        assert math.isnan(training.table([(0, row)])["pressure"][0]) == (scale == math.inf)
    (plain, row), (scaled, its_row), (skipped, last) = ends
    assert torch.allclose(scaled, plain, atol=1e-6) and torch.allclose(its_row, row, rtol=1e-4)
    assert torch.equal(skipped, linear_model()[1].weight) and torch.isfinite(last).all() and last[2] == 0


def test_evaluate_counts_and_leaves_the_modes_as_they_were():
    x, labels = images()
    model = vit(dropout=0.5)
    model.train(), model.blocks[0].eval()
    out = logits(model, x, batch=17)
    assert model.training and not model.blocks[0].training and model.blocks[1].training
    with torch.no_grad():
        assert torch.allclose(out, copy.deepcopy(model).eval()(prepare(x)), atol=1e-5)
    hits = sum(int(row.argmax() == label) for row, label in zip(out, labels, strict=True))
    assert evaluate(model, x.numpy()[:, 0], labels.numpy()) == hits / 96


def test_images_come_in_the_forms_data_sets_have(tmp_path):
    x, _ = images(channels=3)
    stored = np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())
    assert torch.equal(image_tensor(stored), x) and torch.equal(image_tensor(x), x)
    assert torch.equal(image_tensor(stored[..., 0]), x[:, :1])
    np.save(tmp_path / "images.npy", stored)
    assert torch.equal(image_tensor(np.load(tmp_path / "images.npy", mmap_mode="r")), x)


def finished(path, out, delay=0.0):
    subprocess.run([sys.executable, SCRIPT, str(path), str(out), str(delay)], check=True)
    return torch.load(out, weights_only=True)


@pytest.mark.slow
def test_a_training_killed_and_resumed_is_the_training_undisturbed_bit_for_bit(tmp_path):
    whole = finished(tmp_path / "a.pt", tmp_path / "whole.pt")
    path = tmp_path / "b.pt"
    process = subprocess.Popen([sys.executable, SCRIPT, str(path), str(tmp_path / "never.pt"), "0.2"])
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "never.pt").exists()
    stored = torch.load(path, weights_only=True)
    assert EVERY <= stored["step"] < STEPS
    [state] = stored["states"]
    assert {"model", "optimizer", "scaler"} <= set(state)
    resumed = finished(path, tmp_path / "resumed.pt")
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


def test_a_finished_training_is_not_repeated(tmp_path):
    path = tmp_path / "checkpoint.pt"
    for _ in range(2):
        model, x, labels, extra = parts()
        history = train(model, x, labels, RECIPE, 0, extra, checkpoint=path, **QUIET)
    assert len(history.table) == 2
    first, *_ = parts()
    train(first, x, labels, RECIPE, 0, extra, **QUIET)
    assert torch.equal(model.head.weight, first.head.weight)


def test_a_finished_training_is_extended_where_nothing_depends_on_its_end(tmp_path):
    plain, path = RECIPE.replace(schedule="constant"), tmp_path / "checkpoint.pt"
    ends = []
    for recipe, own in ((plain, {"checkpoint": path}), (plain.replace(epochs=6), {"checkpoint": path}),
                        (plain.replace(epochs=None, steps=36), {})):
        model, x, labels, extra = parts()
        ends.append((model, train(model, x, labels, recipe, 0, extra, log_every=7, **own, **QUIET).table))
    (longer, table), (whole, its_table) = ends[1:]
    assert all(map(torch.equal, longer.state_dict().values(), whole.state_dict().values()))
    assert table.equals(its_table) and table["step"].tolist() == [0, 7, 14, 21, 28, 35]
    model, x, labels, _ = parts()
    other = {"extra_loss": weighted(squares, 0.1), "log_every": 7, "checkpoint": path}
    with pytest.raises(ValueError, match=r"differs in extra loss .*, steps \(36 there\); .* give the rest as it is"):
        train(model, x, labels, plain.replace(epochs=8), 0, **other, **QUIET)


def test_a_cosine_keeps_a_training_from_being_extended(tmp_path):
    for epochs in (1, 2):
        with pytest.raises(ValueError, match="schedule spreads over all") if epochs == 2 else nullcontext():
            train(linear_model(), *images(), Recipe(epochs=epochs, batch=16), 0, checkpoint=tmp_path / "c.pt", **QUIET)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"recipe": RECIPE.replace(lr=1e-3)}, "lr (0.003 there)"),
        ({"recipe": RECIPE.replace(augment=("flip",))}, "augment"),
        ({"seed": 1}, "seed (0 there)"),
        ({"images": "other"}, "data"),
        ({"topo_weight": 0.6}, "extra loss"),
        ({"topo_steps": 9}, "extra loss"),
        ({"model": 1}, "initial weights"),
        ({"dropout": 0.5}, "architecture"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, change, field):
    model, x, labels, extra = parts()
    path = tmp_path / "checkpoint.pt"
    train(model, x, labels, RECIPE, 0, extra, checkpoint=path, **QUIET)
    options = {name: change[name] for name in ("topo_weight", "topo_steps", "dropout") if name in change}
    model, x, labels, extra = parts(**options)
    model = vit(seed=1) if "model" in change else model
    x = x + 1 if "images" in change else x
    with pytest.raises(ValueError, match="belongs to another run: it differs in .*") as error:
        train(model, x, labels, change.get("recipe", RECIPE), change.get("seed", 0), extra, checkpoint=path, **QUIET)
    assert field in str(error.value)


def test_numpy_numbers_resume_too(tmp_path):
    recipe = Recipe(steps=2, batch=16, lr=np.float64(1e-3))
    for _ in range(2):
        model = linear_model()
        train(model, *images(), recipe, np.int64(0), checkpoint=tmp_path / "checkpoint.pt", **QUIET)
    plain = linear_model()
    train(plain, *images(), Recipe(steps=2, batch=16), 0, checkpoint=tmp_path / "checkpoint.pt", **QUIET)
    assert torch.equal(model[1].weight, plain[1].weight)


def test_schedules_are_told_apart_wherever_they_differ_among_the_first_steps():
    assert _probes(1) == [0] and _probes(24) == list(range(24))
    assert len(_probes(10_000)) <= 64 and {*range(32), 9999} <= set(_probes(10_000))


def test_every_module_keeps_its_mode_also_after_a_failure():
    model = vit(dropout=0.1)
    model.train(), model.blocks[0].eval()
    modes = [module.training for module in model.modules()]
    train(model, *images(), ONE_STEP, 0, **QUIET)
    assert [module.training for module in model.modules()] == modes
    model.eval()
    with pytest.raises(ValueError, match="training diverged"):
        train(model, *images(), ONE_STEP, 0, lambda module, step: squares(module) * math.inf, **QUIET)
    assert not any(module.training for module in model.modules())


def test_a_loss_that_is_not_finite_names_its_step_and_keeps_the_last_good_checkpoint(tmp_path):
    x, labels = images()
    path = tmp_path / "checkpoint.pt"

    def extra(model, step):
        return squares(model) * (math.inf if step == 9 else 0.0)

    with pytest.raises(ValueError, match="the loss of step 9 is inf"):
        train(linear_model(), x, labels, RECIPE, 0, extra, checkpoint=path, checkpoint_every=4, log_every=7, **QUIET)
    stored = torch.load(path, weights_only=True)
    assert stored["step"] == 8 and torch.isfinite(stored["states"][0]["model"]["1.weight"]).all()


X, LABELS = images()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X, LABELS + 1), "label 3 needs 4 classes, the model has 3"),
        ((X, LABELS - 1), "labels must lie in 0 .. classes - 1, got -1"),
        ((X, LABELS[:-1]), "96 images and 95 labels"),
        ((X, LABELS / 2), "labels must be whole numbers"),
        ((X.float(), LABELS), "images must be uint8 as stored, got torch.float32"),
        ((X[:, :, :6], LABELS), "the model cannot take images of"),
        ((X[0, 0], LABELS), "images must be .n, H, W."),
        ((X[:8], LABELS[:8]), "a batch of 16 needs as many images, there are 8"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        train(vit(), *arguments, ONE_STEP, 0, **QUIET)


def test_other_things_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="logits .B, classes.*, it gives .2, 1, 8, 8."):
        train(nn.Conv2d(1, 1, 1), X, LABELS, ONE_STEP, 0, **QUIET)
    with pytest.raises(ValueError, match="no parameter to train"):
        train(vit().requires_grad_(False), X, LABELS, ONE_STEP, 0, **QUIET)
    with pytest.raises(ValueError, match="train: log_every: input should be greater than or equal to 1, got 0"):
        train(vit(), X, LABELS, ONE_STEP, 0, log_every=0, **QUIET)
    with pytest.raises(ValueError, match="label 3 needs 4 classes"):
        evaluate(vit(), X, LABELS + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give steps or epochs"),
        ({"steps": 1, "epochs": 1}, "give steps or epochs"),
        ({"steps": 0}, "Recipe: steps: input should be greater than or equal to 1, got 0"),
        ({"steps": 2.5}, "steps: input should be a valid integer"),
        ({"steps": 1, "batch": True}, "batch: input should be a valid integer, got True"),
        ({"steps": 1, "lr": -1.0}, "lr: input should be greater than or equal to 0"),
        ({"steps": 1, "lr": math.nan}, "lr: input should be .*, got nan"),
        ({"steps": 1, "lr": math.inf}, "lr: input should be a finite number, got inf"),
        ({"steps": 1, "augment": "flip"}, "augment: input should be a valid tuple"),
        ({"steps": 1, "clip": 0}, "clip: input should be greater than 0"),
        ({"steps": 1, "schedule": "linear"}, "schedule: input should be 'cosine', .*, got 'linear'"),
        ({"steps": 1, "precision": "tf32"}, "precision: input should be 'bf16', .*, got 'tf32'"),
        ({"steps": 1, "augment": ("flip", "blur")}, "augment.1.: input should be 'random_.*, got 'blur'"),
        ({"steps": 1, "augment": ("shift", "random_resized_crop")}, "both choose the place"),
    ],
)
def test_recipes_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["bf16", "fp16", "float32"])
def test_a_gpu_learns_the_same(precision):
    x, labels = images(n=480)
    recipe = Recipe(epochs=5, batch=16, lr=3e-3, warmup=10, precision=precision, augment=("shift",))
    for resident in (True, False):
        model = vit()
        before = torch.cuda.get_rng_state()
        train(model, x, labels, recipe, 0, weighted(squares, 1e-4), device="cuda", resident=resident, progress=False)
        assert evaluate(model, *images(n=300, seed=1)) > 0.9 and torch.equal(torch.cuda.get_rng_state(), before)


def test_an_extra_loss_can_tell_what_is_asked_before_the_first_step_from_a_step(tmp_path):
    x, labels = images()
    model, asked = image_model("resnet18", 8, 1, 3, 0), []

    def extra(model, step):
        asked.append((step, model.training))
        return model(x[:4].float() / 255).square().mean()  # in training this would move the running statistics

    recipe = Recipe(steps=3, batch=16)
    train(model, x, labels, recipe, 0, extra, checkpoint=tmp_path / "model.pt", **QUIET)
    assert [step for step, training in asked if training] == [0, 1, 2]
    assert {step for step, training in asked if not training} == {0, 1, 2}
    again = image_model("resnet18", 8, 1, 3, 0)
    train(again, x, labels, recipe.replace(schedule="constant"), 0, extra, checkpoint=tmp_path / "other.pt", **QUIET)
    longer = image_model("resnet18", 8, 1, 3, 0)
    more = recipe.replace(schedule="constant", steps=4)
    assert train(longer, x, labels, more, 0, extra, checkpoint=tmp_path / "other.pt", **QUIET).steps == 4
