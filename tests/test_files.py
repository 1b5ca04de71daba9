"""lib.files: keys tell what differs apart; files appear whole or not at all."""
import pytest

from lib.files import PACKAGE, digest, write_atomically, write_json, write_text
from lib.press.keys import source_closure


def test_digest_tells_types_and_boundaries_apart():
    seen = [digest(*parts) for parts in [(0,), (0.0,), ("0",), (False,), (None,), (1, 2), ([1, 2],), ("12",)]]
    assert len(set(seen)) == len(seen)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = write_text(tmp_path / "x.txt", "old")

    def half(p):
        p.write_text("ha")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, half)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


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
        "sub/table.toml": "",
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
    monkeypatch.setattr(files, "PACKAGE", root)
    return root


def closure(root, code):
    return {p.relative_to(root).as_posix() for p in source_closure(code)}


def test_closure_follows_absolute_relative_and_late_imports(package):
    expected = {"__init__.py", "top.py", "other.py", "lazy.py", "sub/__init__.py", "sub/leaf.py", "sub/sibling.py",
                "sub/table.toml", "sub/deep/__init__.py", "sub/deep/bottom.py", "sub/late.py"}
    assert closure(package, "from lib.top import anything") == expected
    assert closure(package, "import lib.alone as a") == {"__init__.py", "alone.py"}
    assert closure(package, "import numpy, lib2") == set()


def test_closure_of_the_real_library_reaches_through_packages():
    names = {p.relative_to(PACKAGE).as_posix() for p in source_closure("from lib.press.runs import collect")}
    assert {"runs.py", "content.py", "live.py", "provenance.py"} <= names and "params.py" not in names
