"""Hooks that always go, and a store that is there whole or not at all."""
import json
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from lib.activations import (
    Statistics,
    StoreError,
    build,
    capture,
    match_modules,
    open_store,
    patch,
)
from lib.files import ROOT
from lib.rng import generator

WHO = {"model": "toy", "module": "blocks.1", "seed": 0}


class Block(nn.Module):
    """Returns a tuple, as transformer blocks do."""

    def __init__(self, d: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(d, d), nn.ReLU())

    def forward(self, x):
        return x + self.mlp(x), "cache"


class Model(nn.Module):
    def __init__(self, d: int = 4):
        super().__init__()
        self.blocks, self.head = nn.ModuleList([Block(d), Block(d)]), nn.Linear(d, 2)
        for p in self.parameters():
            nn.init.normal_(p, generator=generator(0, "test", "model"))

    def forward(self, x):
        for block in self.blocks:
            x, _ = block(x)
        return self.head(x)


def rows(n: int = 100, d: int = 6, label: str = "rows") -> torch.Tensor:
    return torch.randn(n, d, generator=generator(0, "test", label))


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.fixture
def model() -> Model:
    return Model()


def test_globs_match_parts_of_dotted_names(model):
    assert list(match_modules(model, "blocks.*")) == ["blocks.0", "blocks.1"]
    assert list(match_modules(model, "blocks.*.mlp.[01]")) == [f"blocks.{i}.mlp.{j}" for i in (0, 1) for j in (0, 1)]
    assert list(match_modules(model, "**.mlp", "head")) == ["blocks.0.mlp", "blocks.1.mlp", "head"]
    assert len(match_modules(model, "**")) == len(list(model.modules())) - 1


def test_a_glob_without_a_match_lists_the_names_nearest_first(model):
    with pytest.raises(ValueError, match=r"no module matches 'block.0.mlp'; there are blocks.0.mlp, .*head"):
        match_modules(model, "head", "block.0.mlp")
    with pytest.raises(ValueError, match="no module matches"), capture(model, "nothing"):
        pass
    assert hooks(model) == 0


def test_capture_outputs_and_inputs(model):
    x = rows(3, 4)
    with capture(model, "blocks.*", "head") as found:
        y = model(x)
    assert list(found) == ["blocks.0", "blocks.1", "head"] and torch.equal(found["head"], y)
    assert not found["head"].requires_grad and hooks(model) == 0
    with capture(model, "blocks.1", "head", where="input") as received:
        model(x)
    assert torch.equal(received["blocks.1"], found["blocks.0"]) and not received["head"].requires_grad


@pytest.mark.parametrize("where", ["output", "input"])
def test_what_is_copied_is_safe_from_in_place_operations(where):
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True))
    x, name = rows(30, 4), "0" if where == "output" else "1"
    with capture(model, name, where=where) as shared, capture(model, name, where=where, copy=True) as copied:
        model(x)
    assert torch.equal(copied[name], model[0](x)) and (copied[name] < 0).any() and not (shared[name] < 0).any()


def test_patch_replaces_a_tensor_or_the_first_of_a_tuple(model):
    x = rows(3, 4)
    with patch(model, {"blocks.*": lambda t, name: torch.zeros_like(t)}):
        assert torch.equal(model(x), model.head.bias.expand(3, 2))
    with patch(model, {"head": rows(3, 4)}, where="input"):
        assert torch.equal(model(7 * x), model.head(x))
    with capture(model, "blocks.0") as clean:
        expected = model(x)
    with patch(model, {"blocks.0": clean["blocks.0"]}):
        assert torch.equal(model(-x), expected)
    assert not torch.equal(model(-x), expected)


def test_patches_nest_and_gradients_pass_through_them(model):
    x = torch.ones(2, 4, requires_grad=True)
    with patch(model, {"head": lambda t, _: 2 * t}), patch(model, {"head": lambda t, _: t + 1}):
        y = model(x)
    y.sum().backward()
    assert torch.allclose(y, 2 * model(x) + 1) and x.grad.abs().sum() > 0


def test_nested_hooks_are_gone_after_an_exception(model):
    def fail(tensor, name):
        raise RuntimeError(f"in {name}")

    with pytest.raises(RuntimeError, match="in blocks.1.mlp"):
        with capture(model, "**"), patch(model, {"blocks.0": lambda t, _: t}), patch(model, {"blocks.1.mlp": fail}):
            assert hooks(model) > 3
            model(rows(3, 4))
    assert hooks(model) == 0


def test_impossible_patches_name_the_module(model):
    with pytest.raises(ValueError, match=r"for module head must be a tensor \(3, 2\), got \(2,\)"):
        with patch(model, {"head": torch.zeros(2)}):
            model(rows(3, 4))
    with pytest.raises(ValueError, match="for module head .* got NoneType"), patch(model, {"head": lambda t, n: None}):
        model(rows(3, 4))
    odd = nn.ModuleDict({"a": nn.Identity()})
    with pytest.raises(TypeError, match="module a deals in str"), capture(odd, "a"):
        odd["a"]("text")
    with pytest.raises(ValueError, match="where must be"), capture(model, "head", where="between"):
        pass
    assert hooks(model) == 0


def test_rows_come_back_as_they_were_to_three_digits(tmp_path):
    x = rows()
    store = build(tmp_path / "s", WHO, lambda: x.view(5, 4, 5, 6))
    assert len(store) == 100 and store.shape == (100, 6) and store.identity == WHO
    some = torch.tensor([7, 0, 99, 7])
    assert torch.equal(store.batch(some), x[some].half().float()) and store.batch(some).dtype == torch.float32
    assert torch.equal(store.batch([1, 2]), store.batch(np.array([1, 2]))) and store.batch([]).shape == (0, 6)
    exact = build(tmp_path / "exact", WHO, lambda: [x[:30], x[30:]], dtype="float32")
    assert torch.equal(exact.batch(some), x[some])
    assert (tmp_path / "s/activations.bin").stat().st_size == 100 * 6 * 2


def test_a_store_is_built_once(tmp_path):
    store = build(tmp_path / "s", WHO, lambda: rows(40, 4).split(16))
    again = build(tmp_path / "s", WHO, lambda: pytest.fail("built again"))
    assert again.sha256 == store.sha256


def test_statistics_are_those_of_the_stored_rows(tmp_path):
    x = 300 + rows(1000) * torch.tensor([1.0, 2, 3, 4, 5, 0.5])
    store = build(tmp_path / "s", WHO, lambda: x.split(77))
    for found in (store.statistics, open_store(tmp_path / "s").statistics):
        kept = x.half().double()
        assert torch.allclose(found.mean, kept.mean(0), rtol=1e-12) and found.count == 1000
        assert torch.allclose(found.var, kept.var(0, correction=0), rtol=1e-10)


def test_statistics_keep_their_digits_where_sums_of_squares_lose_them():
    x = 1e8 + rows(3000, 2).double()
    one, uneven = Statistics(2), Statistics(2)
    for part in x.split(7):
        one.update(part)
    for part in (x[:1], x[1:], x[:0]):
        uneven.update(part)
    true = (x - 1e8).var(0, correction=0)
    assert torch.allclose(one.var, true, rtol=1e-6) and torch.allclose(uneven.var, true, rtol=1e-6)
    naive = x.square().mean(0) - x.mean(0).square()
    assert not torch.allclose(naive, true, rtol=0.1)
    assert Statistics.from_plain(json.loads(json.dumps(one.plain()))).plain() == one.plain()


WRITER = """
    import sys, time, torch
    from lib.activations import build
    def chunks():
        for i in range({count}):
            yield torch.full((1000, 8), float(i))
            print(i, flush=True)
            time.sleep({pause})
    build(sys.argv[1], {who!r}, chunks)
"""


def writer(path, count: int, pause: float) -> subprocess.Popen:
    """Another process that is building a store, past its first chunk."""
    code = textwrap.dedent(WRITER.format(count=count, pause=pause, who=WHO))
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "0\n"
    return process


def test_a_writer_killed_midway_leaves_no_store_and_the_next_builds_it(tmp_path):
    path = tmp_path / "s"
    process = writer(path, 1000, 0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / ".s.partial").is_dir() and not path.exists()
    with pytest.raises(FileNotFoundError, match="no activation store at"):
        open_store(path)
    store = build(path, WHO, lambda: [rows()])
    assert len(store) == 100 and not (tmp_path / ".s.partial").exists()


KEEPING = """
    import os, signal, sys, torch
    from lib.activations import build, store
    store.KEEP_EVERY = 0.0
    def chunk(i):
        if i == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return (torch.arange(800.0).view(100, 8) * (i + 1)).sin()
    build(sys.argv[1], {who!r}, lambda: (lambda i=i: chunk(i) for i in range(10)))
"""


def test_a_killed_writer_is_gone_on_from_and_one_of_other_rows_is_refused(tmp_path):
    path, made = tmp_path / "s", []

    def chunk(i: int, factor: float = 1.0) -> torch.Tensor:
        made.append(i)
        return (torch.arange(800.0).view(100, 8) * (i + 1)).sin() * factor

    def chunks(factor: float = 1.0):
        return lambda: (partial(chunk, i, factor) for i in range(10))

    def kill() -> None:
        code = textwrap.dedent(KEEPING.format(who=WHO))
        assert subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT).returncode == -signal.SIGKILL

    whole = build(tmp_path / "whole", WHO, chunks())
    kill()
    with open(tmp_path / ".s.partial/activations.bin", "ab") as file:
        file.write(b"half a row")  # what was not noted yet
    made.clear()
    with pytest.raises(StoreError, match="they differ in seed .0 there, 1 asked for.; use another path, or delete"):
        build(path, WHO | {"seed": 1}, chunks())
    assert made == []
    store = build(path, WHO, chunks())
    assert made == [6, 7, 8, 9]  # the last of those that were there to see that it is the same
    assert store.sha256 == whole.sha256 and store.statistics.plain() == whole.statistics.plain()
    assert sorted(p.name for p in path.iterdir()) == ["activations.bin", "store.json"]
    shutil.rmtree(path)
    kill()
    made.clear()
    other = build(path, WHO, chunks(2.0))  # not what it was: begun anew
    assert made == [6, *range(10)] and len(other) == 1000 and other.sha256 != whole.sha256


def test_a_second_writer_waits_and_takes_the_first_ones_store(tmp_path):
    process = writer(tmp_path / "s", 5, 0.1)
    begun = time.monotonic()
    store = build(tmp_path / "s", WHO, lambda: pytest.fail("built twice"))
    assert process.wait() == 0 and len(store) == 5000 and time.monotonic() - begun > 0.2
    assert store.batch([4999])[0].tolist() == [4.0] * 8


def failing(path):
    """A writer whose third chunk cannot be made; how often each was asked for."""
    asked = []

    def chunk(i):
        asked.append(i)
        if i == 2 and asked.count(2) == 1:
            raise OSError("the disk is full")
        return rows() * i

    def chunks():
        return (partial(chunk, i) for i in range(4))

    with pytest.raises(OSError, match="the disk is full"):
        build(path, WHO, chunks)
    return asked, chunks


def test_what_is_noted_outlives_a_failing_source(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.activations.store.KEEP_EVERY", 0.0)
    asked, chunks = failing(tmp_path / "s")
    assert not (tmp_path / "s").exists() and len(build(tmp_path / "s", WHO, chunks)) == 400
    assert asked == [0, 1, 2, 1, 2, 3] and not (tmp_path / ".s.partial").exists()


@pytest.mark.parametrize("damage", [
    lambda folder: (folder / "store.json").write_text("{"),
    lambda folder: (folder / "store.json").write_text((folder / "store.json").read_text().replace("chunks", "parts")),
    lambda folder: (folder / "activations.bin").unlink(),
    lambda folder: (folder / "activations.bin").write_bytes(b"short")])
def test_a_damaged_beginning_is_begun_anew(damage, tmp_path, monkeypatch):
    monkeypatch.setattr("lib.activations.store.KEEP_EVERY", 0.0)
    asked, chunks = failing(tmp_path / "s")
    damage(tmp_path / ".s.partial")
    assert len(build(tmp_path / "s", WHO, chunks)) == 400 and asked == [0, 1, 2, 0, 1, 2, 3]


def test_a_store_appears_by_one_rename(tmp_path, monkeypatch):
    def crash(source, target):
        raise OSError("the machine went down")

    monkeypatch.setattr("os.rename", crash)
    with pytest.raises(OSError, match="went down"):
        build(tmp_path / "s", WHO, lambda: [rows()])
    assert not (tmp_path / "s").exists()


def flip(path):
    data = bytearray(path.read_bytes())
    data[501] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(("damage", "message"), [
    (lambda s: flip(s / "activations.bin"), r"has changed since it was written \(SHA-256 differs\); delete .* and"),
    (lambda s: (s / "activations.bin").write_bytes((s / "activations.bin").read_bytes()[:-2]),
     r"has 1198 bytes, its description \(format 1\) says 1200"),
    (lambda s: (s / "activations.bin").unlink(), "does not describe a store"),
    (lambda s: (s / "store.json").unlink(), "does not describe a store"),
    (lambda s: (s / "store.json").write_text('{"rows": 100'), "does not describe a store"),
    (lambda s: (s / "store.json").write_text("{}"), "does not describe a store"),
    (lambda s: (s / "store.json").write_text((s / "store.json").read_text().replace('"format": 1', '"format": 2')),
     r"\(format 2\)"),
])
def test_a_damaged_store_is_refused_by_opening_and_building(tmp_path, damage, message):
    build(tmp_path / "s", WHO, lambda: [rows()])
    damage(tmp_path / "s")
    with pytest.raises(StoreError, match=message):
        open_store(tmp_path / "s")
    with pytest.raises(StoreError, match=message):
        build(tmp_path / "s", WHO, lambda: pytest.fail("rebuilt over it"))


def test_without_verification_only_the_shape_is_checked(tmp_path):
    build(tmp_path / "s", WHO, lambda: [rows()])
    flip(tmp_path / "s" / "activations.bin")
    assert len(open_store(tmp_path / "s", verify=False)) == 100


def test_another_identity_is_refused(tmp_path):
    build(tmp_path / "s", WHO, lambda: [rows()])
    with pytest.raises(StoreError, match="differ in seed .0 there, 1 asked for.; use another path"):
        build(tmp_path / "s", WHO | {"seed": 1}, lambda: [rows()])
    with pytest.raises(StoreError, match="differ in type of the rows .'float16' there, 'float32' asked for"):
        build(tmp_path / "s", WHO, lambda: [rows()], dtype="float32")


def one(value: float) -> torch.Tensor:
    x = rows()
    x[13, 2] = value
    return x


@pytest.mark.parametrize(("chunks", "message"), [
    ([rows(), one(7e4)], "row 113 reaches 7e.04, beyond float16's 65504; divide .* or store dtype='float32'"),
    ([one(torch.nan)], "row 13 has NaN or infinite activations"),
    ([one(torch.inf)], "row 13 has NaN or infinite activations"),
    ([rows(), rows(3, 5)], "a chunk is 5 wide, the ones before it 6"),
    ([], "there were no rows to store"),
    ([rows(0)], "there were no rows to store"),
])
def test_what_cannot_be_stored_is_refused_and_leaves_no_store(tmp_path, chunks, message):
    with pytest.raises(StoreError, match=message):
        build(tmp_path / "s", WHO, lambda: chunks)
    assert not (tmp_path / "s").exists()


def test_float32_takes_what_float16_cannot(tmp_path):
    assert float(build(tmp_path / "s", WHO, lambda: [one(7e4)], dtype="float32").batch([13])[0, 2]) == 7e4
    with pytest.raises(ValueError, match="dtype must be one of float16, float32, got 'bfloat16'"):
        build(tmp_path / "t", WHO, lambda: [rows()], dtype="bfloat16")


@pytest.mark.parametrize("indices", [[100], [-1], [0.5], [[1, 2]], torch.ones(100, dtype=torch.bool)])
def test_rows_outside_are_refused(tmp_path, indices):
    store = build(tmp_path / "s", WHO, lambda: [rows()])
    with pytest.raises(IndexError, match="rows .* asked of a store of 100|must be a list of row numbers"):
        store.batch(indices)
