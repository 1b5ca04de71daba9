"""The registry: what is pinned, and what is refused when it is read."""
import re
import subprocess
import sys

import pytest
from tiny_packages import TEXT

from lib.data.registry import DataError, dataset, datasets, parse
from lib.files import ROOT

HASH = re.compile(r"[0-9a-f]{64}")


def test_the_registered_names():
    assert list(datasets()) == ["digits", "mnist_5k", "mnist", "fashion_mnist", "cifar10", "sotu", "smollm2"]


@pytest.mark.parametrize("name", list(datasets()))
def test_everything_is_pinned(name):
    data = dataset(name)
    assert data.licence and data.citation and data.summary
    assert len(data.classes) == (0 if name in ("sotu", "smollm2") else 10)
    assert all(HASH.fullmatch(a.sha256) and a.dtype == "uint8" for a in data.arrays.values())
    for source in (s for s in data.sources if s.provider != "torchvision"):
        assert source.version and source.archive_bytes
        assert all(HASH.fullmatch(m.sha256) and m.bytes for m in source.members)
        assert source.archive_sha256 or source.package == "scikit-learn"  # its wheels differ by platform


def test_nothing_with_an_unclear_licence_may_be_passed_on():
    assert not any(d.redistributable for d in datasets().values() if "none stated" in d.licence)


def test_sizes_of_mnist():
    assert dataset("mnist").bytes == 70_000 * 785
    assert dataset("mnist").command == "make data DATA=mnist"


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "a\\b", "c:x", ""])
def test_member_path_that_leaves_the_archive_is_refused(path):
    text = TEXT.replace('"package/images"', repr(path))
    with pytest.raises(DataError, match="registry entry 'by_npm'.*leaves the archive"):
        parse(text)


@pytest.mark.parametrize(("old", "new", "message"), [
    ('provider = "npm"', 'provider = "ftp"', "provider 'ftp' is not one of pip, npm, apt, torchvision"),
    ('decoder = "csv"', 'decoder = "pickle"', "decoder 'pickle' is not one of"),
    ('title = "By_Npm"', 'tittle = "By_Npm"', "tittle"),
    ("[by_npm.arrays]", "[by_npm.array]", "arrays"),
])
def test_bad_entries_are_refused_by_name(old, new, message):
    assert old in TEXT
    with pytest.raises(DataError, match=message):
        parse(TEXT.replace(old, new))


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, lib.data; print([m for m in ('torch', 'numpy', 'PIL', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_every_citation_is_in_the_bibliography():
    keys = set(re.findall(r"^@\w+\{([^,]+),", (ROOT / "book" / "references.bib").read_text(), re.MULTILINE))
    assert {data.citation for data in datasets().values()} <= keys
