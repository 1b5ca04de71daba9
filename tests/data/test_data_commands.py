"""The command line of the data sets."""
import re
import subprocess
import sys

from tiny_packages import ARCHIVES

from lib import files
from lib.data import __main__ as command


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
