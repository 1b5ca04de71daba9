"""lib.files: digests tell what differs apart; files appear whole or not at all."""
import pytest

from lib.files import digest, write_atomically, write_json, write_text


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
