"""Every way out that a message of the library names is gone: what was refused is then accepted.

The messages are collected from the source: each that says what to do, in a clause behind a semicolon or by a verb,
must stand in one of the three tables below. A new message without a line there fails.
"""
from __future__ import annotations

import ast
import copy
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from layout import library_files
from safetensors.torch import load_file, save_file
from torch import nn

from lib import checkpoints
from lib.activations import build, open_store
from lib.activations.language import TokenSite, end_to_end
from lib.activations.sites import open_site
from lib.data import planted as planted_data
from lib.data import text
from lib.files import ROOT
from lib.metrics.mixed_effects import mixed_effects
from lib.metrics.nulls import null_distribution
from lib.metrics.selectivity import selectivity_report
from lib.metrics.sparsity import dead_fraction, samples_since_fired
from lib.metrics.statistics import bootstrap_interval
from lib.metrics.tokens import permuted_tokens_null, top_purity
from lib.metrics.topography import colocation, morans_i_null
from lib.models.causal_lm import causal_lm
from lib.models.image_models import image_model
from lib.params import parse_overrides
from lib.rng import generator, numpy_generator
from lib.sparse_coders import SparseCoder, fit, load
from lib.sparse_coders.interchange import (
    load_dictionary_learning,
    load_saelens,
    save_dictionary_learning,
    save_saelens,
)
from lib.sparse_coders.multi_input import join_sites
from lib.spd import Routed, SPDConfig, decompose
from lib.tensors import device_named, finite
from lib.topoloss import TopoLoss
from lib.training import Recipe, train
from lib.training.language import train_language

VERBS = ("give take use fetch save flatten fold train write make install choose lower raise pass load delete name call "
         "keep run download put add leave move rename start drop ask wrap sort convert divide try quote set find "
         "begin copy").split()
DOES = re.compile(rf";|remedy}}|(?:[,(:]|\bor|\band) *(?:or |and |then |so )?(?:{'|'.join(VERBS)})\b")
ROOMS = ("press", "studies")
"""Whose messages have tests of their own."""


def said(node: ast.expr) -> str:
    """A message as its source has it, placeholders in braces."""
    if isinstance(node, ast.JoinedStr):
        return "".join(said(v) if isinstance(v, ast.Constant) else f"{{{ast.unparse(v.value)}}}" for v in node.values)
    if isinstance(node, ast.Constant):
        return str(node.value)
    return said(node.left) + said(node.right) if isinstance(node, ast.BinOp) else f"{{{ast.unparse(node)}}}"


def messages(root=ROOT) -> list[tuple[str, str]]:
    """(file, message) of every error that says what to do."""
    found = []
    for path in library_files(root):
        place = path.relative_to(root / "lib")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if place.parts[0] not in ROOMS else ():
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                text = said(node.exc.args[0])
                found += [(place.as_posix(), text)] * bool(DOES.search(text))
    return found


X = torch.randn(300, 8, generator=generator(0, "remedies"))
ROWS = X.numpy().astype(np.float32)
QUIET = {"progress": False}
IMAGES, LABELS = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8), np.arange(40) % 3
FEW = {"steps": 2, "batch_size": 64, **QUIET}


def coder(rule="topk", **options):
    options = {"k": 2} | options if rule in ("topk", "batch_topk", "matching_pursuit") else options
    return SparseCoder(8, 16, rule, **options)


def classifier(*more):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3), *more)


def taught(model, recipe=None, images=IMAGES):
    return train(model, images, LABELS, recipe or Recipe(steps=2, batch=8), 0, device="cpu", **QUIET)


def parts(network, x=X, seed=0, **options):
    config = SPDConfig(3, **{"steps": 2, "batch_size": 16, "warmup_steps": 1} | options)
    return decompose(network, x, config, seed, **QUIET)


def stored(path, identity=1, rows=ROWS, dtype="float16"):
    return build(path, {"of": identity}, lambda: iter([torch.as_tensor(rows)]), dtype)


def ended(batch):
    """A loss of so many of two windows."""
    model, site = causal_lm(9, 8, 1, 2, 8).requires_grad_(False).eval(), TokenSite("blocks.0", "output", 1e9)
    return end_to_end(model, torch.zeros(2, 8, dtype=torch.int64), site, 1.0, batch=batch)


def written(path, spoil):
    """A coder's file with metadata and tensors changed by `spoil`; what saving it again leaves is whole."""
    made = coder()
    made.save(path)
    from safetensors import safe_open
    with safe_open(path, "pt") as file:
        metadata, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}
    spoil(metadata, tensors)
    save_file(tensors, path, metadata)
    return lambda: load(path), lambda: load(made.save(path))


def reconfigured(change):
    def spoil(metadata, tensors):
        metadata["config"] = change(metadata["config"])
    return spoil


def cut(path, n=30):
    path.write_bytes(path.read_bytes()[:n])


def damaged(path, name):
    """A store with one of its files cut; deleted and built again."""
    stored(path)
    cut(next(file for file in path.iterdir() if name in file.name))
    return lambda: open_store(path), lambda: (shutil.rmtree(path), stored(path))


def flipped(path):
    stored(path)
    file = max(path.iterdir(), key=lambda file: file.stat().st_size)
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)
    return lambda: open_store(path), lambda: (shutil.rmtree(path), stored(path))


def training_file(path, spoil):
    """A checkpoint that was spoiled; deleted, so that training starts from its start."""
    def go():
        return fit(coder(), X, checkpoint=path, **FEW)
    go()
    spoil(path)
    return go, lambda: (path.unlink(), go())


def another_version(path):
    content = torch.load(path, weights_only=True)
    torch.save(content | {"version": 1}, path)


def another_step(path):
    content = torch.load(path, weights_only=True)
    torch.save(content | {"step": 1}, path)


def run_of(path, steps, **options):
    return decompose(Routed(LAYER), X, SPDConfig(3, steps=steps, batch_size=16, warmup_steps=1, **options),
                     checkpoint=path, **QUIET)


LAYER = nn.Linear(8, 4)


class Twice(nn.Module):
    """A layer that runs twice, under one name or two."""

    def __init__(self, *names):
        super().__init__()
        self.layer, self.names = nn.Linear(8, 8), names

    def forward(self, x, op=lambda name, module, x: module(x)):
        for name in self.names:
            x = op(name, self.layer, x)
        return x


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = classifier()

    def forward(self, x):
        return self.inner(x), x


class First(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)[0]


def foreign(folder, config=(), **more):
    """A SAELens folder of another making; and the file, so that a remedy can change it."""
    folder.mkdir(exist_ok=True)
    shapes = {"W_enc": (8, 16), "W_dec": (16, 8), "b_enc": (16,), "b_dec": (8,)}
    tensors = {name: torch.ones(shape) for name, shape in shapes.items()} | more
    save_file(tensors, folder / "sae_weights.safetensors")
    base = {"architecture": "standard", "d_in": 8, "d_sae": 16, "apply_b_dec_to_input": True}
    (folder / "cfg.json").write_text(json.dumps(base | dict(config)))
    return folder


def folded(folder):
    """Finetuning factors folded into the decoder, as the message says."""
    foreign(folder, {"finetuning_scaling_factor": True}, scaling_factor=torch.full((16,), 2.0))

    def fold():
        tensors = load_file(folder / "sae_weights.safetensors")
        tensors["W_dec"] *= tensors.pop("scaling_factor")[:, None]
        save_file(tensors, folder / "sae_weights.safetensors")
        (folder / "cfg.json").write_text(json.dumps(json.loads((folder / "cfg.json").read_text())
                                                    | {"finetuning_scaling_factor": False}))
        assert load_saelens(folder).W_dec[0, 0] == 2
    return lambda: load_saelens(folder), fold


def thresholded(folder):
    made = coder("batch_topk")
    fit(made, X, **FEW)
    save_dictionary_learning(made, folder)
    whole = torch.load(folder / "ae.pt", weights_only=True)
    torch.save({name: t for name, t in whole.items() if name != "threshold"}, folder / "ae.pt")

    def give():
        torch.save(whole, folder / "ae.pt")
        load_dictionary_learning(folder)
    return lambda: load_dictionary_learning(folder), give


def torn(folder):
    made = coder()
    save_saelens(made, folder)
    cut(folder / "cfg.json", 5)
    return lambda: load_saelens(folder), lambda: load_saelens(save_saelens(made, folder))


def inside(make):
    with torch.inference_mode():
        return make()


def uneven():
    made = coder()
    made.trained_on += 1
    made.W_dec.data *= torch.linspace(0.5, 2, 16)[:, None]
    return made


def even():
    made = uneven()
    made.W_dec.data = F.normalize(made.W_dec.data, dim=1)
    return made


def with_nan(row=3):
    bad = X.clone()
    bad[row] = torch.nan
    return bad


def mapped(path, x):
    """A memory map, which is not searched for NaN before its rows are read."""
    np.save(path.with_suffix(".npy"), x.numpy())
    return np.load(path.with_suffix(".npy"), mmap_mode="r")


TABLE = pd.DataFrame({"loss": np.arange(8.0) ** 1.5, "a": [0.0, 1] * 4, "seed": [0, 0, 1, 1, 2, 2, 3, 3]})
HOLE = TABLE.assign(a=[np.nan, *TABLE.a[1:]])


def many_samples(monkeypatch):
    monkeypatch.setattr(planted_data, "_DENSE_LIMIT", 100)
    law = planted_data.planted(torch.eye(8), 0.2)
    rng = generator(0, "law")
    return lambda: law.sample(50, rng), lambda: (law.sample(50, rng, sparse=True), law.sample(10, rng))


def no_gpu(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return lambda: device_named(name), lambda: (device_named("auto"), device_named("cpu"))


TRIED = {  # (file, what the message says) -> (tmp_path, monkeypatch) -> what is refused, what is accepted
    ("activations/language.py", "give a smaller batch"): lambda t, m: (lambda: ended(9), lambda: ended(2)),
    ("activations/sites.py", "call model.eval()"): lambda t, m: (
        lambda: open_site(classifier(), "1", torch.ones(4, 64), torch.arange(4) % 3),
        lambda: open_site(classifier().eval(), "1", torch.ones(4, 64), torch.arange(4) % 3)),
    ("activations/store.py", "use another path, or delete this folder"): lambda t, m: (
        lambda: (stored(t / "s"), stored(t / "s", 2)),
        lambda: (stored(t / "other", 2), shutil.rmtree(t / "s"), stored(t / "s", 2))),
    ("activations/store.py", "find out where the model makes them"): lambda t, m: (
        lambda: stored(t / "s", rows=with_nan()), lambda: stored(t / "s")),
    ("activations/store.py", "divide the activations by a constant, or store dtype='float32'"): lambda t, m: (
        lambda: stored(t / "s", rows=1e6 * ROWS),
        lambda: (stored(t / "s", rows=1e6 * ROWS / 1e6), stored(t / "w", rows=1e6 * ROWS, dtype="float32"))),
    ("activations/store.py", "does not describe a store"): lambda t, m: damaged(t / "s", "json"),
    ("activations/store.py", "bytes, its description"): lambda t, m: damaged(t / "s", "bin"),
    ("activations/store.py", "has changed since it was written"): lambda t, m: flipped(t / "s"),
    ("checkpoints.py", "lower lr, or look for NaN in the data"): lambda t, m: (
        lambda: checkpoints.write(t / "c", 1, [{"w": torch.tensor(torch.nan)}]),
        lambda: checkpoints.write(t / "c", 1, [{"w": torch.tensor(1.0)}])),
    ("checkpoints.py", "is not a whole checkpoint"): lambda t, m: training_file(t / "c", cut),
    ("checkpoints.py", "is no checkpoint of version"): lambda t, m: training_file(t / "c", another_version),
    ("checkpoints.py", "has changed since it was written"): lambda t, m: training_file(t / "c", another_step),
    ("data/planted.py", "ask for sparse=True, or for fewer samples at a time"): lambda t, m: many_samples(m),
    ("files.py", "give the name of a file in it"): lambda t, m: (
        lambda: coder().save(t), lambda: coder().save(t / "coder")),
    ("loop.py", "to train longer, start anew, from its result or with a course that ignores the end"): lambda t, m: (
        lambda: (run_of(t / "c", 3), run_of(t / "c", 5)),
        lambda: (run_of(t / "d", 3, schedule="constant"), run_of(t / "d", 5, schedule="constant"))),
    ("loop.py", "ask for more"): lambda t, m: (
        lambda: (run_of(t / "c", 5, schedule="constant"), run_of(t / "c", 3, schedule="constant")),
        lambda: (run_of(t / "c", 5, schedule="constant"), run_of(t / "d", 3, schedule="constant"))),
    ("loop.py", "{another}; {remedy}{longer}"): lambda t, m: (
        lambda: (run_of(t / "c", 3), run_of(t / "c", 3, lr=0.1)),
        lambda: (run_of(t / "d", 3, lr=0.1), (t / "c").unlink(), run_of(t / "c", 3, lr=0.1))),
    ("loop.py", "diverged: the loss of step"): lambda t, m: (
        lambda: parts(Routed(LAYER), lr=1e25, steps=5), lambda: parts(Routed(LAYER), lr=1e-3, steps=5)),
    ("metrics/mixed_effects.py", "decide what they mean first"): lambda t, m: (
        lambda: mixed_effects(HOLE, "loss ~ a", ["seed"]),
        lambda: mixed_effects(HOLE.dropna(), "loss ~ a", ["seed"])),
    ("metrics/nulls.py", "randomise something it measures"): lambda t, m: (
        lambda: null_distribution(len, lambda rng: rng.permutation(5), 5, numpy_generator(0)),
        lambda: null_distribution(np.mean, lambda rng: rng.normal(size=5), 5, numpy_generator(0))),
    ("metrics/selectivity.py", "give latents"): lambda t, m: (
        lambda: selectivity_report(ROWS, np.arange(300) % 3, 5, rng=numpy_generator(0)),
        lambda: selectivity_report(coder().encode(X).detach(), np.arange(300) % 3, 5, rng=numpy_generator(0))),
    ("metrics/sparsity.py", "give samples_since_fired(latents)"): lambda t, m: (
        lambda: dead_fraction(X.relu().mean(0), 300), lambda: dead_fraction(samples_since_fired(X.relu()), 300)),
    ("metrics/statistics.py", "try method='percentile'"): lambda t, m: (
        lambda: bootstrap_interval([0.0, 0, 0, 0, 1], np.median, rng=numpy_generator(0)),
        lambda: bootstrap_interval([0.0, 0, 0, 0, 1], np.median, rng=numpy_generator(0), method="percentile")),
    ("metrics/topography.py", "take fewer"): lambda t, m: (
        lambda: colocation([[0, 1, 2, 3]], (2, 2), 20, rng=numpy_generator(0)),
        lambda: colocation([[0, 1]], (2, 2), 20, rng=numpy_generator(0))),
    ("metrics/topography.py", "are they constant?"): lambda t, m: (
        lambda: morans_i_null(np.ones((2, 12)), (3, 4), 5, numpy_generator(0)),
        lambda: morans_i_null(numpy_generator(1).normal(size=(2, 12)), (3, 4), 5, numpy_generator(0))),
    ("models/image_models.py", "give a divisor"): lambda t, m: (
        lambda: image_model("tiny_vit", 8, 1, 3, 0, patch=3), lambda: image_model("tiny_vit", 8, 1, 3, 0, patch=4)),
    ("params.py", "quote it for the shell"): lambda t, m: (
        lambda: parse_overrides(["a=[1, 2"]), lambda: parse_overrides(["a=[1, 2]"])),
    ("rng.py", "use lib.rng.numpy_generator(seed, label)"): lambda t, m: (
        lambda: null_distribution(np.mean, lambda rng: rng.normal(size=5), 5, 0),
        lambda: null_distribution(np.mean, lambda rng: rng.normal(size=5), 5, numpy_generator(0, "label"))),
    ("sparse_coders/coder.py", "give d_out to make a skip-transcoder"): lambda t, m: (
        lambda: coder(skip=True), lambda: coder(skip=True, d_out=8)),
    ("sparse_coders/coder.py", "dtype must be float32 or float64"): lambda t, m: (
        lambda: coder("relu", dtype=torch.bfloat16), lambda: fit(coder("relu"), X, precision="bf16", **FEW)),
    ("sparse_coders/coder.py", "coder.float().save(path) writes float32"): lambda t, m: (
        lambda: coder().half().save(t / "c"), lambda: load(coder().half().float().save(t / "c"))),
    ("sparse_coders/coder.py", "has a configuration no coder can have"): lambda t, m: written(
        t / "c", reconfigured(lambda config: config.replace('"k": 2', '"k": 99'))),
    ("sparse_coders/files.py", "SparseCoder.save(path) writes one"): lambda t, m: (
        lambda: load(t / "c"), lambda: load(coder().save(t / "c"))),
    ("sparse_coders/files.py", "has an unreadable configuration"): lambda t, m: written(
        t / "c", reconfigured(lambda config: config[:10])),
    ("sparse_coders/files.py", "in its configuration; save the coder again"): lambda t, m: written(
        t / "c", reconfigured(lambda config: "{}")),
    ("sparse_coders/files.py", "{path}: {'; '.join(sorted(problems))}; save the coder again"): lambda t, m: written(
        t / "c", lambda metadata, tensors: tensors.pop("b_dec")),
    ("sparse_coders/files.py", "is not a whole safetensors file"): lambda t, m: (
        lambda: (coder().save(t / "c"), cut(t / "c"), load(t / "c")), lambda: load(coder().save(t / "c"))),
    ("sparse_coders/files.py", "lib.sparse_coders.interchange reads other layouts"): lambda t, m: (
        lambda: load(save_saelens(coder(), t) / "sae_weights.safetensors"), lambda: load_saelens(t)),
    ("sparse_coders/inputs.py", "{name} must be [B, {width}], got {tuple(x.shape)}{remedy}"): lambda t, m: (
        lambda: coder()(X.reshape(3, 100, 8)), lambda: coder()(X.reshape(3, 100, 8).reshape(-1, 8))),
    ("sparse_coders/inputs.py", "convert with .astype or .float()"): lambda t, m: (
        lambda: coder()(X.long()), lambda: coder()(X.long().float())),
    ("sparse_coders/inputs.py", "convert it with .astype or .float()"): lambda t, m: (
        lambda: fit(coder(), X.long(), **FEW), lambda: fit(coder(), X.long().float(), **FEW)),
    ("sparse_coders/inputs.py", "divide it by a constant"): lambda t, m: (
        lambda: coder()(1e39 * X.double()), lambda: coder()(1e39 * X.double() / 1e39)),
    ("sparse_coders/inputs.py", "samples may be given too"): lambda t, m: (
        lambda: fit(coder(), X, held_out=300, **FEW), lambda: fit(coder(), X, held_out=X[:50], **FEW)),
    ("sparse_coders/inputs.py", "leave such rows out"): lambda t, m: (
        lambda: fit(coder(), mapped(t / "x", with_nan()), **FEW),
        lambda: fit(coder(), mapped(t / "x", with_nan()[4:]), **FEW)),
    ("sparse_coders/interchange.py", "use coder.save(path)"): lambda t, m: (
        lambda: save_saelens(coder("stochastic"), t / "s"), lambda: load(coder("stochastic").save(t / "c"))),
    ("sparse_coders/interchange.py", "train it before writing it"): lambda t, m: (
        lambda: save_saelens(coder("batch_topk"), t / "s"),
        lambda: save_saelens(fit(coder("batch_topk"), X, **FEW).coder, t / "s")),
    ("sparse_coders/interchange.py", "give the folder that holds it"): lambda t, m: (
        lambda: load_saelens(save_saelens(coder(), t / "s") / "cfg.json"), lambda: load_saelens(t / "s")),
    ("sparse_coders/interchange.py", "give the file a threshold"): lambda t, m: thresholded(t),
    ("sparse_coders/interchange.py", "fetch or save it again"): lambda t, m: torn(t),
    ("sparse_coders/interchange.py", "is not supported here ({remedy})"): lambda t, m: folded(t / "s"),
    ("sparse_coders/losses.py", "use precision='float32'"): lambda t, m: (
        lambda: fit(coder("matching_pursuit"), X, precision="bf16", **FEW),
        lambda: fit(coder("matching_pursuit"), X, precision="float32", **FEW)),
    ("sparse_coders/starts.py", "leave it out, or train a new coder"): lambda t, m: (
        lambda: (fit(c := coder(), X, steps=2, progress=False), fit(c, X, steps=2, normalise="sample", progress=False)),
        lambda: (fit(c := coder(), X, steps=2, progress=False), fit(c, X, steps=2, progress=False),
                 fit(coder(), X, steps=2, normalise="sample", progress=False))),
    ("sparse_coders/multi_input.py", "leave it out"): lambda t, m: (
        lambda: join_sites(X, 0 * X, X), lambda: join_sites(X, X)),
    ("sparse_coders/rules.py", "give k and penalty='target_l0', or neither"): lambda t, m: (
        lambda: coder("jumprelu", k=3),
        lambda: (coder("jumprelu", k=3, penalty="target_l0"), coder("jumprelu"))),
    ("sparse_coders/starts.py", "give a coder whose rows are of length 1"): lambda t, m: (
        lambda: fit(uneven(), X, **FEW), lambda: fit(even(), X, **FEW)),
    ("sparse_coders/trainer.py", "make another SparseCoder with the same arguments"): lambda t, m: (
        lambda: fit([coder()] * 2, X, **FEW), lambda: fit([coder(), coder()], X, **FEW)),
    ("sparse_coders/trainer.py", "make it float32 with coder.float()"): lambda t, m: (
        lambda: fit(coder().half(), X, **FEW), lambda: fit(coder().half().float(), X, **FEW)),
    ("sparse_coders/trainer.py", "coder.requires_grad_() lets it train"): lambda t, m: (
        lambda: fit(coder().requires_grad_(False), X, **FEW),
        lambda: fit(coder().requires_grad_(False).requires_grad_(), X, **FEW)),
    ("sparse_coders/trainer.py", "give others with held_out"): lambda t, m: (
        lambda: fit(coder(), X, held_out=torch.ones(9, 8), **FEW), lambda: fit(coder(), X, held_out=X[:9], **FEW)),
    ("sparse_coders/trainer.py", "give d_out to make a transcoder"): lambda t, m: (
        lambda: fit(coder(), X, target=X, **FEW), lambda: fit(coder(d_out=8), X, target=X, **FEW)),
    ("spd/components.py", 'use gate "mlp" or "linear"'): lambda t, m: (
        lambda: parts(Routed(nn.Embedding(9, 4)), torch.arange(9), gate="vector_mlp"),
        lambda: [parts(Routed(nn.Embedding(9, 4)), torch.arange(9), gate=gate) for gate in ("mlp", "linear")]),
    ("spd/decomposition.py", "decompose with one seed at a time"): lambda t, m: (
        lambda: parts(Routed(nn.Embedding(9, 4)), torch.arange(9), seed=[0, 1]),
        lambda: [parts(Routed(nn.Embedding(9, 4)), torch.arange(9), seed=seed) for seed in (0, 1)]),
    ("spd/decomposition.py", "give each use a name of its own"): lambda t, m: (
        lambda: parts(Twice("a", "a")), lambda: parts(Twice("a", "b"))),
    ("tensors.py", "finds no CUDA device here; write device: auto or cpu"): lambda t, m: no_gpu(m, "cuda"),
    ("tensors.py", "finds no Apple GPU here; write device: auto or cpu"): lambda t, m: no_gpu(m, "mps"),
    ("tensors.py", "decide what they mean first"): lambda t, m: (
        lambda: finite([1.0, np.nan], "x"), lambda: finite(np.nan_to_num([1.0, np.nan]), "x")),
    ("topoloss.py", "choose another layer"): lambda t, m: (
        lambda: TopoLoss(nn.Sequential(nn.Linear(1, 16), nn.Linear(16, 16)), "0", factor=2),
        lambda: TopoLoss(nn.Sequential(nn.Linear(1, 16), nn.Linear(16, 16)), "1", factor=2)),
    ("topoloss.py", "a cortical sheet needs a Linear or a Conv2d"): lambda t, m: (
        lambda: TopoLoss(classifier(), "0", factor=2),
        lambda: TopoLoss(nn.Sequential(nn.Conv2d(2, 16, 3)), "0", factor=2)),
    ("training/batches.py", "they are scaled on the device"): lambda t, m: (
        lambda: taught(classifier(), images=IMAGES / 255), lambda: taught(classifier(), images=IMAGES)),
    ("training/evaluation.py", "wrap it in a module whose forward returns the logits alone"): lambda t, m: (
        lambda: taught(Both()), lambda: taught(First(Both()))),
    ("training/recipe.py", "which both choose the place; take one"): lambda t, m: (
        lambda: Recipe(steps=1, augment=("random_resized_crop", "shift")), lambda: Recipe(steps=1, augment=("shift",))),
    ("training/recipe.py", "lower batch"): lambda t, m: (
        lambda: taught(classifier(), Recipe(steps=2, batch=64)),
        lambda: taught(classifier(), Recipe(steps=2, batch=40))),
    ("training/recipe.py", "give steps or epochs"): lambda t, m: (
        lambda: Recipe(), lambda: (Recipe(steps=1), Recipe(epochs=1))),
    ("training/trainer.py", "give one that is not frozen throughout"): lambda t, m: (
        lambda: taught(classifier().requires_grad_(False)), lambda: taught(classifier())),
    ("training/trainer.py", "make it outside"): lambda t, m: (
        lambda: taught(inside(classifier)), lambda: taught(classifier())),
    ("sparse_coders/trainer.py", "copy it outside"): lambda t, m: (
        lambda: fit(inside(lambda: copy.deepcopy(coder())), X, **FEW), lambda: fit(copy.deepcopy(coder()), X, **FEW)),
    ("metrics/tokens.py", "give more tokens"): lambda t, m: (
        lambda: permuted_tokens_null(top_purity, np.eye(60)[:, :1], np.arange(60), 3, numpy_generator(0)),
        lambda: permuted_tokens_null(top_purity, np.ones((60, 1)), np.arange(60) % 3, 9, numpy_generator(0))),
    ("data/text.py", "leaves one part empty; give 2"): lambda t, m: (
        lambda: text.split(text.speeches(), 1),
        lambda: (text.split(text.speeches(), 2), text.split(text.speeches()[:3], 2))),
    ("data/text.py", "one token before a text; give more"): lambda t, m: (
        lambda: text.byte_pairs(["a"], 256), lambda: (m.setattr("lib.files.BUILD", t), text.byte_pairs(["a"], 257))),
    ("data/text.py", "give longer texts or a smaller length"): lambda t, m: (
        lambda: windowed(t, m, "ab", 9), lambda: (windowed(t, m, "ab" * 9, 9), windowed(t, m, "ab", 3))),
    ("training/language.py", "leave augment and image_size out"): lambda t, m: (
        lambda: counting(Recipe(steps=1, batch=2, image_size=4)), lambda: counting(Recipe(steps=1, batch=2))),
}


def windowed(folder, monkeypatch, line, length):
    monkeypatch.setattr("lib.files.BUILD", folder)
    return text.windows(text.byte_pairs(["abc"], 257), [line], length)


def counting(recipe):
    tokens = np.arange(12).reshape(4, 3) % 5
    return train_language(causal_lm(5, 4, 1, 1, 3), tokens, recipe, 0, device="cpu", **QUIET)


ELSEWHERE = {  # tried where the rest of the case stands
    ("activations/hooks.py", "those inside the wrapper: write {inner}"):
        "tests/test_at_the_door.py::test_a_name_that_counts_the_wrapper_is_told_without_it",
    ("data/imagenet100.py", "lacks {_some(missing)}; fetch the rest of the split"):
        "tests/data/test_imagenet100.py::test_every_published_name_is_read_and_a_missing_shard_is_named",
    ("models/lm_files.py", "fetch the rest of the model"):
        "tests/models/test_lm_files.py::test_a_folder_of_shards_is_read_and_a_missing_one_is_named",
    ("data/imagenet100.py", "numbers its classes without naming them"):
        "tests/data/test_imagenet100.py::test_labels_may_be_wordnet_ids",
    ("data/imagenet100.py", "keep one copy, named as published"):
        "tests/data/test_imagenet100.py::test_every_published_name_is_read_and_a_missing_shard_is_named",
    ("activations/language.py", "the site {site.name} is an input"):
        "tests/activations/test_language.py::test_a_transcoder_reads_one_site_and_replaces_another",
    ("data/fetch.py", "{remedy}"): "tests/data/test_resolve.py::"
        "test_missing_package_lists_are_named_with_their_remedy",
    ("dashboard/records.py", "set model.tokenizer"):
        "tests/dashboard/test_dashboard.py::test_what_belongs_together_is_asked_for_and_then_shown",
    ("dashboard/records.py", "give other texts or latents"):
        "tests/dashboard/test_dashboard.py::test_what_belongs_together_is_asked_for_and_then_shown",
    ("dashboard/records.py", "give the model that it was trained on"):
        "tests/dashboard/test_dashboard.py::test_what_belongs_together_is_asked_for_and_then_shown",
    ("watch.py", "is not installed; pip install"):
        "tests/test_watch.py::test_a_tracker_that_is_not_installed_is_told",
    ("models/lm_files.py", "byte pairs ('gpt2') are read"):
        "tests/models/test_lm_files.py::test_another_architecture_tokenizer_or_place_is_refused",
    ("loop.py", "begin from the weights that it began from"):
        "tests/test_at_the_door.py::test_a_refused_fit_can_be_made_as_it_says",
    ("sparse_coders/files.py", "go on with fit(coder, data, checkpoint=path)"):
        "tests/test_at_the_door.py::test_a_checkpoint_of_training_is_called_so_and_goes_on",
    ("spd/components.py", "write op("): "tests/test_at_the_door.py::"
        "test_a_plain_sequential_and_an_array_are_decomposed_and_a_forward_without_op_is_told_how",
    ("topoloss.py", "{remedy} or less"): "tests/test_at_the_door.py::test_the_remedy_for_a_factor_too_large_works",
}

WITHOUT = {  # why nothing is tried
    "it lists what is accepted, and the tests of each entry use that": [
        ("activations/hooks.py", "there are"), ("data/images.py", "accepted"), ("data/registry.py", "accepted names"),
        ("metrics/mixed_effects.py", "there are"), ("models/image_models.py", "there are"), ("params.py", "here are"),
        ("spd/decomposition.py", "the sites are"), ("spd/components.py", "there is no module"),
        ("spd/options.py", "the sites are"), ("spd/decomposition.py", "it has {"),
    ],
    "it says what must hold": [
        ("data/planted.py", "there are {n_features}"),
        ("data/planted.py", "a feature's own share"), ("data/planted.py", "a child cannot be more frequent"),
        ("data/shapes_colours.py", "a class that is left"),
        ("metrics/mixed_effects.py", "two or more levels and fewer"), ("metrics/topography.py", "must be different"),
        ("models/toy_superposition.py", "must be positive"), ("sparse_coders/inputs.py", "they must be pairs"),
        ("sparse_coders/rule.py", "is outside 1 to n_latents"), ("training/batches.py", "they must be as many"),
    ],
    "it says what was found": [
        ("data/archives.py", "refused"), ("data/registry.py", "not used"),
        ("metrics/selectivity.py", "nothing to move"), ("sparse_coders/interchange.py", "; '.join(sorted(problems))"),
        ("sparse_coders/starts.py", "nothing to reconstruct"),
    ],
    "it takes the images themselves, or the network": [
        ("data/imagenet100.py", "run `{COMMAND}`"), ("data/imagenet100.py", "remove it"),
        ("data/resolve.py", "Get it with `{data.command}`"),
    ],
    "it takes a second device": [("data/planted.py", "move it with .to()")],
    "it takes another version of this library": [("sparse_coders/files.py", "update one")],
    "no data are known on which the search does not converge": [("metrics/mixed_effects.py", "use fewer components")],
    "it sends the caller to another library": [("metrics/mixed_effects.py", "without one use least squares")],
}


def entries():
    return [*TRIED, *ELSEWHERE, *(entry for listed in WITHOUT.values() for entry in listed)]


def test_every_message_has_its_line_and_every_line_its_message():
    found = messages()
    assert len(found) > 100
    unlisted = [f"{file}: {text}" for file, text in found
                if not any(file == where and part in text for where, part in entries())]
    gone = [entry for entry in entries() if not any(entry[0] == file and entry[1] in text for file, text in found)]
    assert unlisted == [] and gone == []


def test_a_message_that_says_what_to_do_is_found(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "new.py").write_text('raise ValueError(f"{x} is odd; halve it")\nraise ValueError("odd")\n'
                                             'raise ValueError("x is odd" f", take {x + 1}")\n')
    assert messages(tmp_path) == [("new.py", "{x} is odd; halve it"), ("new.py", "x is odd, take {x + 1}")]


@pytest.mark.parametrize("place", ELSEWHERE.values(), ids=str)
def test_what_is_tried_elsewhere_is_there(place):
    file, name = place.split("::")
    assert f"def {name}(" in (ROOT / file).read_text()


@pytest.mark.parametrize("entry", TRIED, ids=lambda entry: f"{entry[0]}: {entry[1]}")
def test_the_way_out_leads_out(entry, tmp_path, monkeypatch):
    refused, accepted = TRIED[entry](tmp_path, monkeypatch)
    with pytest.raises((ValueError, TypeError, OSError)) as error:
        refused()
    plain = max(re.split(r"\{[^}]*\}", entry[1]), key=len)  # without what the source fills in
    assert plain in str(error.value) and "\n" not in str(error.value)
    accepted()
