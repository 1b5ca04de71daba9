"""Here so that pytest puts this folder, and with it `keys_in_a_copy`, on the import path of every study's tests."""
import pytest
from keys_in_a_copy import copied


@pytest.fixture
def copy(tmp_path):
    """The root of a copy of the library and its parameter files, free to be edited."""
    return copied(tmp_path)
