import shutil

import pytest
from book_of_claims import BookOfClaims
from checkout import Checkout, make_checkout, until_quiet


@pytest.fixture(scope="session")
def executed_once(tmp_path_factory) -> Checkout:
    made = make_checkout(tmp_path_factory.mktemp("executed").resolve())
    done = made.run()
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A checkout with a few claims, one chapter landed and nothing run."""
    return BookOfClaims(tmp_path, monkeypatch)


@pytest.fixture
def executed(executed_once, tmp_path):
    """A miniature checkout whose page has been executed."""
    shutil.copytree(executed_once.root, tmp_path, dirs_exist_ok=True)
    yield from until_quiet(Checkout(tmp_path.resolve()))


@pytest.fixture
def checkout(tmp_path):
    """A miniature checkout in which nothing has run yet."""
    yield from until_quiet(make_checkout(tmp_path.resolve()))
