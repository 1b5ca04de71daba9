"""The data page's fragment and the command line."""
import re
import struct
import subprocess
import sys

import pytest
from tiny_packages import ARCHIVES

from lib import files
from lib.data import __main__ as command
from lib.data.registry import datasets
from lib.press.site import catalogue


@pytest.fixture
def fragment(tmp_path, monkeypatch) -> str:
    monkeypatch.setattr(files, "BUILD", tmp_path / "build")
    path = catalogue.write_fragments(tmp_path / "_generated")
    assert path == tmp_path / "_generated" / "data_catalogue.md"
    return path.read_text()


def test_every_data_set_has_its_section_with_licence_and_source(fragment):
    for data in datasets().values():
        section = fragment.split(f"## {data.title}\n")[1].split("\n## ")[0]
        assert data.licence in section and f"{{cite}}`{data.citation}`" in section
        assert data.sources[0].package in section
        assert all(a.sha256[:16] in section for a in data.arrays.values())


def test_what_is_not_fetched_shows_the_command_and_what_is_here_a_picture(fragment, tmp_path):
    for name in ("mnist", "fashion_mnist", "cifar10"):
        assert f"`make data DATA={name}`" in fragment
        assert not (tmp_path / "_generated" / f"data_{name}.png").exists()
    shown = re.findall(r"\{figure\} /_generated/(\S+)\n:name: \S+\n:alt: .+\n:width: (\d+)px", fragment)
    assert [name for name, _ in shown] == ["data_sparse_features.png", "data_digits.png", "data_mnist_5k.png"]
    for name, width in shown:
        png = (tmp_path / "_generated" / name).read_bytes()
        assert struct.unpack(">I", png[16:20])[0] // 2 == int(width)


def test_writing_the_fragment_leaves_the_cache_as_it_was(fragment, tmp_path):
    assert not (tmp_path / "build").exists()


def test_fetch_list_and_verify(clients, capsys):
    assert command.main(["fetch", "by_npm"]) == 0
    assert "by_npm: verified" in capsys.readouterr().out
    assert command.main(["list"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"by_npm .* here", out) and re.search(r"by_apt .* make data DATA=by_apt", out)
    clients.deliver("apt", ARCHIVES["apt"][:-1])
    assert command.main(["fetch", "by_apt"]) == 1
    assert "registry pins" in capsys.readouterr().err


def test_unknown_name_and_misplaced_path_are_refused():
    for words, message in ((["mnst"], "accepted names: cifar10, digits"), (["--path", "x"], "exactly one NAME")):
        words = [sys.executable, "-m", "lib.data", "fetch", *words]
        done = subprocess.run(words, capture_output=True, text=True, cwd=files.ROOT)
        assert done.returncode == 2 and message in done.stderr
