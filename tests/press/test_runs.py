"""lib.press.runs: a run is computed once, survives kills, and is computed again when what it depends on changes."""
import os
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest

from lib.files import digest
from lib.press import runs

MODULE = '''\
import os
from pathlib import Path

import numpy as np

MADE = Path(os.environ.get("MADE", "made"))


def square(x, die_at=None):
    if x == die_at:
        os._exit(9)
    with open(MADE, "a") as file:
        file.write(f"{x}\\n")
    return {"square": x * x, "table": np.arange(x)}


def fails(x):
    raise ValueError("asked to")
'''


@pytest.fixture
def project(tmp_path):
    """A copy of the library with one more module, and a way to run a line of Python in it."""
    import shutil

    from lib.files import PACKAGE

    shutil.copytree(PACKAGE, tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "lib/counted.py").write_text(MODULE)

    def run(code, check=True):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BOOK_")}
        environment |= {"MADE": str(tmp_path / "made"), "PYTHONPATH": str(tmp_path)}
        code = "from lib.press.runs import collect, reuse\nfrom lib import counted\n" + textwrap.dedent(code)
        script = tmp_path / "script.py"
        script.write_text(f"if __name__ == '__main__':\n{textwrap.indent(code, '    ')}")
        done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stderr
        return done

    run.made = lambda: (tmp_path / "made").read_text().split() if (tmp_path / "made").exists() else []
    run.root = tmp_path
    return run


ALL = "frame = collect(counted.square, [dict(x=i) for i in range(9)]); print(frame.attrs['reused'], list(frame.square))"


def test_killed_in_run_seven_of_nine_reuses_six(project):
    killed = project("collect(counted.square, [dict(x=i) for i in range(6)] + [dict(x=6, die_at=6)])", check=False)
    assert killed.returncode == 9 and len(project.made()) == 6
    assert project(ALL).stdout.split(maxsplit=1)[0] == "6"
    assert sorted(map(int, project.made())) == list(range(9))
    assert project(ALL).stdout.strip() == "9 [0, 1, 4, 9, 16, 25, 36, 49, 64]" and len(project.made()) == 9


def test_worker_processes_give_the_same_frame(project):
    project(ALL.replace("range(9)]", "range(9)], jobs=2"))
    assert sorted(map(int, project.made())) == list(range(9))
    assert project(ALL).stdout.startswith("9 [0, 1, 4")


def test_edited_library_file_reruns(project):
    project("reuse(counted.square, 2)")
    (project.root / "lib/counted.py").write_text(MODULE.replace("x * x", "x * x + 1"))
    assert project("print(reuse(counted.square, 2)['square'])").stdout.strip() == "5"


def test_corrupt_run_is_computed_again_with_a_warning(project):
    project("reuse(counted.square, 2)")
    [path] = project.root.glob("_build/runs/**/*.npz")
    path.write_bytes(path.read_bytes()[:50])
    again = project("print(reuse(counted.square, 2)['square'])")
    assert again.stdout.strip() == "4" and "cannot be read" in again.stderr and len(project.made()) == 2


def test_failing_run_raises_and_stores_nothing(project):
    for jobs in (1, 2):
        failed = project(f"collect(counted.fails, [dict(x=1), dict(x=2)], jobs={jobs})", check=False)
        assert failed.returncode == 1 and "ValueError: asked to" in failed.stderr
    assert not list(project.root.glob("_build/runs/**/*.npz"))


def test_arguments_of_different_types_do_not_share_a_run():
    paths = {runs.planned(digest, value).path for value in (1, 1.0, "1", True, None, [1], np.array([1]))}
    assert len(paths) == 7


def test_result_comes_back_as_it_was(tmp_path):
    frame = pd.DataFrame({"seed": [0, 1], "name": ["a", "b"], "loss": [0.5, np.nan]})
    result = {"a": np.arange(6.0).reshape(2, 3), "b": {"c": [1, 2.5, None, "x", True]}, "runs": frame, "n": np.int64(3)}
    runs._write(tmp_path / "r.npz", result)
    back = runs._read(tmp_path / "r.npz")
    assert np.array_equal(back["a"], result["a"]) and back["a"].dtype == float
    assert back["b"] == result["b"] and back["n"] == 3
    pd.testing.assert_frame_equal(back["runs"], frame)


@pytest.mark.parametrize("bad", [{1: 2}, {"x": object()}, {"x": np.array([object()])}])
def test_result_without_plain_form_is_refused(tmp_path, bad):
    with pytest.raises(TypeError, match="a run"):
        runs._write(tmp_path / "r.npz", bad)


def test_only_the_librarys_module_level_functions_are_cached():
    with pytest.raises(TypeError, match="module-level"):
        runs.reuse(lambda: {})
    with pytest.raises(TypeError, match="plain data"):
        runs.reuse(digest, object())
    with pytest.raises(TypeError, match="the press apart"):
        runs.reuse(runs.planned, 1)


PARAMS = '''\
from lib.params import Params as Base


class First(Base):
    a: int = 1
    b: int = 2


class Knobs(First):
    c: int = 3


def part(params: First):
    with open(MADE, "a") as file:
        file.write("x\\n")
    return {"sum": sum(params.model_dump().values()), "c": hasattr(params, "c")}


def whole(params: Knobs):
    return {"sum": sum(params.model_dump().values())}


def outer(params: Knobs):
    import time
    from lib.press.runs import reuse
    time.sleep(0.3)
    return {"sum": 10 * reuse(part, params)["sum"]}


def slow(x):
    import time
    time.sleep(1.0)
    with open(MADE, "a") as file:
        file.write("x\\n")
    return {}


def variadic(x, *more, sign=1, **named):
    with open(MADE, "a") as file:
        file.write("x\\n")
    return {"sum": sign * (x + sum(more) + sum(named.values()))}


def counts(n: int, checkpoints: Path | None = None):
    checkpoints.mkdir(parents=True, exist_ok=True)
    done = sorted(int(p.name) for p in checkpoints.iterdir())
    for step in range(len(done), n):
        if step == 3 and not done:
            os._exit(9)
        (checkpoints / str(step)).touch()
    return {"resumed_at": len(done)}
'''


def test_only_the_parameters_a_run_takes_are_its_arguments(project):
    (project.root / "lib/counted.py").write_text(MODULE + PARAMS)
    tell = "; ".join(
        f"r = reuse(counted.part, counted.Knobs({values})); print(r['sum'], r['c'], end=' ')"
        for values in ("a=1", "a=1, c=9", "a=7", "b=5, c=0")
    )
    assert project(tell).stdout.split() == ["3", "False", "3", "False", "9", "False", "6", "False"]
    assert len(project.made()) == 3
    assert project("print(reuse(counted.part, params=counted.Knobs(a=7, c=5))['sum'])").stdout.strip() == "9"
    assert len(project.made()) == 3


def test_a_collection_counts_the_same_parameters(project):
    (project.root / "lib/counted.py").write_text(MODULE + PARAMS)
    code = "print(list(collect(counted.part, [dict(params=counted.Knobs(c=c)) for c in (3, 4)])['sum']))"
    assert project(code).stdout.strip() == "[3, 3]"
    assert project("print(reuse(counted.part, counted.Knobs(c=8))['sum'])").stdout.strip() == "3"
    assert len(project.made()) == 1  # the second run of the collection is the first


def test_a_run_that_takes_its_parameters_whole_depends_on_them_all(project):
    (project.root / "lib/counted.py").write_text(MODULE + PARAMS)
    done = project("print(*[reuse(counted.whole, counted.Knobs(c=c))['sum'] for c in (3, 4)])")
    assert done.stdout.split() == ["6", "7"]


def test_a_run_may_call_another_with_its_parameters(project):
    (project.root / "lib/counted.py").write_text(MODULE + PARAMS)
    done = project("print(*[reuse(counted.outer, counted.Knobs(c=c))['sum'] for c in (1, 2, 1)])")
    assert done.stdout.split() == ["30", "30", "30"] and len(project.made()) == 1


def test_seconds_of_a_run_are_its_own(project):
    (project.root / "lib/counted.py").write_text(MODULE + PARAMS)
    code = """
        from lib.press.runs import calls
        reuse(counted.outer, counted.Knobs(c=1))
        print(calls().to_csv(index=False))
    """
    rows = [line.split(",") for line in project(code).stdout.split()[1:]]
    assert [row[0] for row in rows] == ["counted.part", "counted.outer"]
    assert float(rows[0][1]) < 0.25 < float(rows[1][1]) < 5


def test_two_processes_make_a_run_once(project):
    (project.root / "lib/counted.py").write_text(MODULE + PARAMS)
    code = """
        import subprocess, sys
        one = "from lib.press.runs import reuse; from lib import counted; reuse(counted.slow, 1)"
        both = [subprocess.Popen([sys.executable, "-c", one]) for _ in range(2)]
        print([process.wait() for process in both])
    """
    assert project(code).stdout.strip() == "[0, 0]" and len(project.made()) == 1
    assert [p.suffix for p in (project.root / "_build/runs/counted.slow").iterdir()] == [".npz"]


def test_checkpoints_a_kill_left_behind_a_result_are_swept(project):
    project("reuse(counted.square, 2)")
    [path] = project.root.glob("_build/runs/**/*.npz")
    path.with_suffix(".checkpoints").mkdir()
    project("reuse(counted.square, 2)")
    assert not path.with_suffix(".checkpoints").exists() and len(project.made()) == 1


def test_a_killed_run_finds_its_checkpoints_again_and_leaves_none(project):
    (project.root / "lib/counted.py").write_text(MODULE + PARAMS)
    assert project("reuse(counted.counts, 5)", check=False).returncode == 9
    [folder] = project.root.glob("_build/runs/counted.counts/*.checkpoints")
    assert len(list(folder.iterdir())) == 3
    assert project("print(reuse(counted.counts, 5)['resumed_at'])").stdout.strip() == "3" and not folder.exists()


def test_arguments_that_a_signature_gathers_are_handed_on(project):
    (project.root / "lib/counted.py").write_text(MODULE + PARAMS)
    calls = ("1", "x=1, sign=1", "1, 2, 3, sign=-1, a=4", "1, a=4, b=5", "1, b=5, a=4")
    done = project("print(*[" + ", ".join(f"reuse(counted.variadic, {call})['sum']" for call in calls) + "])")
    assert done.stdout.split() == ["1", "1", "-10", "10", "10"] and len(project.made()) == 3


def test_prose_and_the_press_are_in_no_key(project):
    project("reuse(counted.square, 2)")
    told = '"""Said otherwise."""\n' + MODULE.replace("def square", "# why\ndef square")
    (project.root / "lib/counted.py").write_text(told)
    (project.root / "lib/press/prose.py").write_text("x = 1\n")
    assert project("print(reuse(counted.square, 2)['square'])").stdout.strip() == "4" and len(project.made()) == 1


def test_calls_are_listed_with_their_seconds(project):
    done = project(
        """
        from lib.press.runs import calls
        reuse(counted.square, 2), reuse(counted.square, 2)
        print(list(calls().reused), list(calls().run))
        """
    )
    assert done.stdout.strip() == "[False, True] ['counted.square', 'counted.square']"
