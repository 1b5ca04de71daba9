"""lib.press.keys: what code reaches, and digests that prose does not change."""
import os

import pytest

from lib.files import PACKAGE
from lib.press import keys
from lib.press.keys import closure_digest, source_closure


@pytest.fixture
def package(tmp_path, monkeypatch):
    root = tmp_path / "lib"
    files = {
        "__init__.py": "",
        "alone.py": "",
        "top.py": "import numpy\nfrom lib.sub import leaf\n",
        "sub/__init__.py": "",
        "sub/leaf.py": "from . import sibling\nfrom ..other import thing\n",
        "sub/sibling.py": "from .deep.bottom import x\n",
        "sub/late.toml": "",
        "sub/unread.toml": "",
        "sub/unread.py": "",
        "sub/deep/__init__.py": "from .. import late\n",
        "sub/deep/bottom.py": "def f():\n    import lib.lazy\n",
        "sub/late.py": "",
        "other.py": "",
        "lazy.py": "",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(keys, "PACKAGE", root)
    return root


def closure(root, code):
    return {p.relative_to(root).as_posix() for p in source_closure(code)}


def test_closure_follows_absolute_relative_and_late_imports(package):
    expected = {"__init__.py", "top.py", "other.py", "lazy.py", "sub/__init__.py", "sub/leaf.py", "sub/sibling.py",
                "sub/late.toml", "sub/deep/__init__.py", "sub/deep/bottom.py", "sub/late.py"}
    assert closure(package, "from lib.top import anything") == expected
    assert closure(package, "import lib.alone as a") == {"__init__.py", "alone.py"}
    assert closure(package, "import numpy, lib2") == set()


def test_closure_of_the_real_library_reaches_through_packages():
    names = {p.relative_to(PACKAGE).as_posix() for p in source_closure("from lib.press.runs import collect")}
    assert {"press/runs.py", "files.py", "live.py", "press/provenance.py"} <= names and "params.py" not in names


def test_a_folder_left_out_is_not_followed(package):
    (package / "alone.py").write_text("import lib.sub.leaf\n")
    reached = {p.relative_to(package).as_posix() for p in source_closure("import lib.alone", without="sub")}
    assert reached == {"__init__.py", "alone.py"}


@pytest.mark.parametrize(
    ("text", "is_same"),
    [
        ('"""A."""\n# why\ndef f(x):\n    """B."""\n    return x  # so\n\nA = 1\n"""An attribute."""\n', True),
        ("def f(x): return x\nA = 1\n", True),
        ("def f(x): return x\nA = 1.0\n", False),
        ("def f(x, y=0): return x\nA = 1\n", False),
        ("def f(x): return 'x'\nA = 1\n", False),
    ],
)
def test_only_what_a_file_does_counts(package, text, is_same):
    (package / "alone.py").write_text("def f(x):\n    return x\nA = 1\n")
    before = closure_digest("import lib.alone")
    (package / "alone.py").write_text(text)
    assert (closure_digest("import lib.alone") == before) is is_same


def test_data_beside_code_counts_to_the_byte(package):
    before = closure_digest("import lib.sub.late")
    (package / "sub/late.toml").write_text("# a comment\n")
    assert closure_digest("import lib.sub.late") != before


@pytest.mark.parametrize("appears", ["alone/helper.py", "alone.toml", "alone.txt", "sub/leaf/__init__.py"])
def test_a_file_that_appears_counts_at_once_and_no_longer_when_it_goes(package, appears):
    code = "from lib.alone import helper\nimport lib.sub.leaf"
    before, path = closure_digest(code), package / appears
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    assert closure_digest(code) != before
    path.unlink()
    assert closure_digest(code) == before


def test_imports_are_read_again_from_a_file_of_another_size_and_the_same_time(package):
    then, path = (package / "alone.py").stat(), package / "alone.py"
    before = closure(package, "import lib.alone")
    path.write_text("import lib.lazy\n")
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert closure(package, "import lib.alone") == before | {"lazy.py"}
