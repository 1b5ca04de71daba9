"""timm and torchvision can be imported on any build of torch, in a process of their own."""
import subprocess
import sys

import pytest

CODE = """
from lib.torchvision_import import import_torchvision
module = import_torchvision({name!r})
print(module.__name__, module.__version__)
"""


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_imports(name):
    done = subprocess.run([sys.executable, "-c", CODE.format(name=name)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == name


def test_other_failures_pass_through():
    code = CODE.format(name="torchvision.no_such_module")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "no_such_module" in done.stderr
