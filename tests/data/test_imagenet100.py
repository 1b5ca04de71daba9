"""ImageNet-100 from made-up copies: tiny images in folders by WordNet id, and in parquet shards."""
from __future__ import annotations

import hashlib
import io
import json
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from lib import files
from lib.data import imagenet100 as data
from lib.data.__main__ import main
from lib.data.imagenet100 import NAMES, WNIDS, read_copy
from lib.data.images import load
from lib.data.registry import DataCorrupt, DataError, DatasetUnavailable
from lib.rng import numpy_generator
from lib.torchvision_import import import_torchvision
from lib.training.batches import ImageBatches, labelled
from lib.training.recipe import Recipe

SIZE = 8


def loaded(split, path=None):
    return load("imagenet100", split, size=SIZE, path=path)


@pytest.fixture(autouse=True)
def build(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BUILD", tmp_path / "build")
    monkeypatch.delenv(data.ENVIRONMENT, raising=False)
    return tmp_path / "build"


def picture(label: int, i: int = 0, mode: str = "RGB", kind: str = "PNG") -> bytes:
    """A flat image, 12 x 10, whose red is its label and whose green is i: both survive resizing."""
    image = Image.new("RGB", (12, 10), (label, i, 77)).convert(mode)
    image.save(file := io.BytesIO(), kind)
    return file.getvalue()


@pytest.fixture
def folders(tmp_path):
    """Two training images and a validation image of each class."""
    root = tmp_path / "copy"
    for label, wnid in enumerate(WNIDS):
        for folder, n in (("train", 2), ("val", 1)):
            (root / folder / wnid).mkdir(parents=True)
            for i in range(n):
                (root / folder / wnid / f"{wnid}_{i}.JPEG").write_bytes(picture(label, i))
    return root


def write_shard(path, labels, images, names=None):
    column = pa.array([{"bytes": b, "path": None} for b in images])
    table = pa.table({"image": column, "label": labels})
    if names is not None:
        features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def write_shards(root, names, n_shards=2):
    """Class-sorted shards as Hugging Face writes them: two training images per class over the shards, one to validate.

    The shards number classes as `names` does.
    """
    labels = np.repeat(np.arange(len(names)), 2)
    known = {name.split(",")[0]: label for label, name in enumerate(NAMES)}
    color = [known.get(name.split(",")[0], 200) for name in names]
    for k, part in enumerate(np.array_split(labels, n_shards)):
        path = root / "data" / f"train-{k:05d}-of-{n_shards:05d}.parquet"
        write_shard(path, part, [picture(color[label], 9) for label in part], names)
    single = np.arange(len(names))
    write_shard(root / "data" / "validation-00000-of-00001.parquet", single, [picture(color[i]) for i in single], names)
    return root


# The list


def test_the_order_is_that_of_the_published_list():
    assert len(WNIDS) == len(set(WNIDS)) == len(set(NAMES)) == 100
    assert WNIDS[:3] == ("n02869837", "n01749939", "n02488291") and WNIDS[-1] == "n02090622"
    listed = "".join(f"{wnid}\n" for wnid in WNIDS)  # the file imagenet100.txt, byte by byte
    assert hashlib.sha256(listed.encode()).hexdigest().startswith("79f3f1552ccc478c")


def test_names_are_those_of_imagenet_and_no_other_class_begins_alike():
    info = import_torchvision("timm").data.ImageNetInfo()
    first = {wnid: info.label_name_to_description(wnid).split(",")[0] for wnid in info.label_names()}
    assert tuple(first[wnid] for wnid in WNIDS) == NAMES
    lowered = [name.casefold() for name in first.values()]
    assert all(lowered.count(name.casefold()) == 1 for name in NAMES)


# Folders


def test_folders_become_sorted_squares(folders):
    train, test = (loaded(split, folders) for split in ("train", "test"))
    assert train.images.shape == (200, SIZE, SIZE, 3) and test.images.shape == (100, SIZE, SIZE, 3)
    assert train.labels.tolist() == np.repeat(np.arange(100), 2).tolist() and test.labels.tolist() == list(range(100))
    assert isinstance(train.images, np.memmap) and train.images.dtype == np.uint8 and not train.images.flags.writeable
    assert (train.images[:, 4, 4, 0] == train.labels).all() and (train.images[:, 0, 0, 1] == [0, 1] * 100).all()
    assert train.classes == NAMES and train.peak == 255


def test_squares_are_what_torchvision_makes(tmp_path):
    transforms = import_torchvision("torchvision.transforms")
    rng = numpy_generator(0, "test imagenet100")
    for width, height in ((30, 21), (21, 30), (17, 17), (6, 9), (8, 40)):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        image.save(tmp_path / "image.png")
        pixels = data.square(("image", tmp_path / "image.png"), SIZE)
        theirs = transforms.Compose([transforms.Resize(SIZE), transforms.CenterCrop(SIZE)])(image)
        assert np.array_equal(pixels, np.asarray(theirs))


@pytest.mark.parametrize(
    ("mode", "kind", "rgb"),
    [("L", "JPEG", (60, 60, 60)), ("CMYK", "JPEG", (200, 60, 20)), ("RGBA", "PNG", (200, 60, 20)),
     ("P", "PNG", (204, 51, 0)), ("LA", "PNG", (60, 60, 60)), ("1", "PNG", (255, 255, 255))],
)
def test_every_colour_mode_becomes_rgb(folders, mode, kind, rgb):
    color = {"L": 60, "LA": (60, 128), "1": 1, "RGBA": (200, 60, 20, 128)}.get(mode)
    image = Image.new(mode, (12, 10), color) if color else Image.new("RGB", (12, 10), rgb).convert(mode)
    image.save(folders / "train" / WNIDS[3] / f"{WNIDS[3]}_0.JPEG", kind)
    train = loaded("train", folders)
    assert np.abs(train.images[6].astype(int) - rgb).max() <= 6  # JPEG loses a little


def test_foreign_folders_are_left_out_and_named(folders):
    (folders / "train" / "n01440764").mkdir()
    (folders / "train" / "n01440764" / "tench.JPEG").write_bytes(picture(7))
    (folders / "val" / WNIDS[0] / "Thumbs.db").write_bytes(b"x")
    with pytest.warns(UserWarning, match=f"left out 2 things of no class: train/n01440764, val/{WNIDS[0]}/Thumbs.db"):
        assert len(loaded("train", folders)) == 200
    manifest = json.loads((data.decoded_folder(SIZE) / "manifest.json").read_text())
    assert manifest["dropped"] == ["train/n01440764", f"val/{WNIDS[0]}/Thumbs.db"]


def test_a_missing_class_is_named(folders):
    for path in (folders / "val" / WNIDS[41]).iterdir():
        path.unlink()
    with pytest.raises(DatasetUnavailable, match=rf"copy/val lacks 1 of 100 classes: {WNIDS[41]} \(milk can\)"):
        loaded("train", folders)
    assert not data.decoded_folder(SIZE).exists()


def test_a_damaged_image_is_named_and_nothing_is_kept(folders):
    whole = picture(5, kind="JPEG")
    broken = folders / "train" / WNIDS[50] / f"{WNIDS[50]}_1.JPEG"
    for bad in (whole[:-200], b"no image", b""):
        broken.write_bytes(bad)
        with pytest.raises(DataCorrupt, match=rf"{broken.name} is not a readable image"):
            loaded("train", folders)
    assert not data.decoded_folder(SIZE).exists()
    broken.write_bytes(whole)
    assert len(loaded("train", folders)) == 200  # mended, and begun anew


# What was decoded


def test_decoding_happens_once_and_needs_no_source_later(folders, monkeypatch):
    first = loaded("train", folders)
    monkeypatch.setattr(data, "square", None)
    assert np.array_equal(loaded("train", folders).images, first.images)
    folders.rename(folders.with_name("gone"))
    assert len(loaded("test")) == 100


def test_a_changed_copy_is_decoded_again(folders):
    loaded("train", folders)
    (folders / "train" / WNIDS[0] / "more.png").write_bytes(picture(0, 5))
    assert len(loaded("train", folders)) == 201


def test_what_a_kill_leaves_is_never_used(folders, monkeypatch):
    calls = 0
    square = data.square

    def killed(item, size):
        nonlocal calls
        calls += 1
        if calls > 150:
            raise KeyboardInterrupt
        return square(item, size)

    monkeypatch.setattr(data, "square", killed)
    with pytest.raises(KeyboardInterrupt):
        loaded("train", folders)
    with pytest.raises(DatasetUnavailable):
        loaded("train")
    monkeypatch.setattr(data, "square", square)
    again = loaded("train", folders)
    assert (again.images[:, 0, 0, 0] == again.labels).all()
    assert not list(data.decoded_folder(SIZE).parent.glob("*.partial"))
    data.verify(SIZE)


def test_images_of_a_decoded_copy_are_fetched_as_stored(folders):
    train = loaded("train", folders)
    images, labels = labelled(train.images, train.labels)
    batches = ImageBatches(images, labels, Recipe(steps=1, batch=64), 0, torch.device("cpu"), resident=False)
    fetched, its_labels, index = batches._fetch(0)
    assert torch.equal(fetched, images[index]) and fetched.stride() == images[index].stride()
    assert torch.equal(fetched[:, 0, 4, 4].long(), its_labels)
    batches.close()


@pytest.mark.parametrize("spoil", [lambda b: b[:-500], lambda b: b"xx", lambda b: b"", None])
def test_a_torn_or_missing_array_is_told_in_one_line(folders, spoil):
    loaded("train", folders)
    reads = [(loaded, ("train",)), (data.verify, (SIZE,))]
    for name, readers in (("train_images.npy", reads), ("train_labels.npy", reads[:1])):
        path = data.decoded_folder(SIZE) / name
        whole = path.read_bytes()
        path.unlink() if spoil is None else path.write_bytes(spoil(whole))
        for read, arguments in readers:
            with pytest.raises(DataCorrupt, match="is damaged .train.; remove it and run") as error:
                read(*arguments)
            assert "\n" not in str(error.value)
        path.write_bytes(whole)


@pytest.mark.parametrize("size", [0, -1, 2.5, "8", True])
def test_a_size_that_cannot_be_is_refused_first(size, tmp_path):
    with pytest.raises(DataError, match="size must be a whole number of at least 1, got"):
        load("imagenet100", "train", size=size, path=tmp_path / "nowhere")


def test_damage_is_found(folders):
    loaded("train", folders)
    folder = data.decoded_folder(SIZE)
    image = folder / "train_images.npy"
    content_before = image.read_bytes()
    image.write_bytes(content_before[:-1] + bytes([content_before[-1] ^ 1]))
    with pytest.raises(DataCorrupt, match="is damaged"):
        data.verify(SIZE)
    image.write_bytes(content_before)
    data.verify(SIZE)
    np.save(folder / "train_labels.npy", np.zeros(200, np.int64))
    with pytest.raises(DataCorrupt, match="is damaged"):
        loaded("train")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["wnids"].reverse()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataCorrupt, match="another order of classes"):
        loaded("test")
    assert len(loaded("train", folders)) == 200  # with the copy at hand it is made anew


# Parquet


def test_shards_give_the_same_images_as_folders(folders, tmp_path):
    long_names = [f"{name}, another name" for name in NAMES]
    test = loaded("test", folders)
    other = loaded("test", write_shards(tmp_path / "shards", long_names))
    assert np.array_equal(other.images, test.images) and np.array_equal(other.labels, test.labels)
    train = loaded("train")
    assert (train.images[:, 0, 0, 0] == train.labels).all() and len(train) == 200


def test_other_numbers_of_the_same_classes_are_put_in_order_and_others_left_out(tmp_path):
    names = ["tench, Tinca tinca", *sorted(NAMES), "crane"]
    with pytest.warns(UserWarning, match="left out 4 things of no class: train: crane, train: tench"):
        train = loaded("train", write_shards(tmp_path / "shards", names))
    assert len(train) == 200 and set(train.labels) == set(range(100))
    assert (train.images[:, 0, 0, 0] == train.labels).all()  # by name, whatever number the shard gave it
    assert train.labels.tolist() != sorted(train.labels)


def test_labels_may_be_wordnet_ids(tmp_path):
    images = [picture(label) for label in range(100)]
    for split in ("train", "validation"):
        write_shard(tmp_path / "shards" / f"{split}-0.parquet", list(WNIDS), images)
    assert loaded("train", tmp_path / "shards").labels.tolist() == list(range(100))


def test_numbers_without_names_are_refused(tmp_path):
    for split in ("train", "validation"):
        write_shard(tmp_path / "shards" / f"{split}-0.parquet", list(range(100)), [picture(i) for i in range(100)])
    with pytest.raises(DataError, match=r"train-0.parquet numbers its classes without naming them"):
        loaded("train", tmp_path / "shards")


def test_missing_shards_columns_and_classes_are_named(tmp_path):
    root = write_shards(tmp_path / "shards", list(NAMES), n_shards=3)
    moved = root / "data" / "train-00001-of-00003.parquet"
    moved.rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetUnavailable, match="lacks train-00001-of-00003.parquet"):
        loaded("train", root)
    (tmp_path / "elsewhere").rename(moved)
    write_shard(moved, [0], [picture(0)], list(NAMES))
    with pytest.raises(DatasetUnavailable, match=rf"lacks 3\d of 100 classes: {WNIDS[34]}"):
        loaded("train", root)
    pq.write_table(pa.table({"picture": [b""], "label": [0]}), moved)
    with pytest.raises(DataError, match="has columns picture, label, but not image"):
        loaded("train", root)
    (root / "data" / "validation-00000-of-00001.parquet").unlink()
    write_shards(tmp_path / "half", list(NAMES))
    (tmp_path / "half" / "data" / "validation-00000-of-00001.parquet").unlink()
    with pytest.raises(DatasetUnavailable, match="has no validation-"):
        loaded("train", tmp_path / "half")


FORMS = {  # as the hub has them: now, up to 2023, by its converter, and by hand
    "total": ("data/{split}-{k:05d}-of-{n:05d}.parquet", "train-00001-of-00003.parquet"),
    "total and digest": ("data/{split}-{k:05d}-of-{n:05d}-{k:016x}.parquet", "train-00001-of-00003-*.parquet"),
    "folder": ("default/{split}/{k:04d}.parquet", "0001.parquet"),
    "folder in hand": ("{split}/{k:04d}.parquet", "0001.parquet"),
    "number": ("{split}-{k}.parquet", "train-1.parquet"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_published_name_is_read_and_a_missing_shard_is_named(form, tmp_path):
    name, missing = FORMS[form]
    for k, part in enumerate(np.array_split(np.repeat(np.arange(100), 2), 3)):
        write_shard(tmp_path / name.format(split="train", k=k, n=3), part, [picture(i) for i in part], list(NAMES))
    single = np.arange(100)
    write_shard(tmp_path / name.format(split="validation", k=0, n=1), single, map(picture, single), list(NAMES))
    assert np.bincount(read_copy(tmp_path)["train"].labels).tolist() == [2] * 100
    lost = tmp_path / name.format(split="train", k=1, n=3)
    kept = lost.read_bytes()
    lost.unlink()
    with pytest.raises(DatasetUnavailable) as error:
        read_copy(tmp_path)
    assert f"lacks {missing}; fetch the rest" in str(error.value) and "\n" not in str(error.value)
    lost.write_bytes(kept)  # the remedy
    assert len(read_copy(tmp_path)["train"].labels) == 200


def test_shards_of_two_copies_are_not_mixed(tmp_path):
    for n in (2, 3):
        write_shards(tmp_path, list(NAMES), n)
    with pytest.raises(DataError, match="not numbered as one set of shards"):
        read_copy(tmp_path)


def test_a_damaged_row_is_named(tmp_path):
    root = write_shards(tmp_path / "shards", list(NAMES), n_shards=1)
    images = [picture(i // 2) for i in range(200)]
    images[123] = b"torn"
    write_shard(root / "data" / "train-00000-of-00001.parquet", np.repeat(np.arange(100), 2), images, list(NAMES))
    with pytest.raises(DataCorrupt, match=r"train-00000-of-00001.parquet, row 123 is not a readable image"):
        loaded("train", root)


def test_class_sorted_shards_reach_training_shuffled(tmp_path):
    train = loaded("train", write_shards(tmp_path / "shards", list(NAMES)))
    assert train.labels.tolist() == sorted(train.labels)
    images, labels = labelled(train.images, train.labels)
    batches = ImageBatches(images, labels, Recipe(steps=6, batch=50), 0, torch.device("cpu"), resident=True)
    first = [batches[step][1] for step in range(4)]  # an epoch
    assert all(len(set(batch.tolist())) > 30 for batch in first)  # in stored order a batch would hold 25 classes
    assert sorted(torch.cat(first).tolist()) == train.labels.tolist()


# Errors at the door


def test_absence_says_where_it_looked_and_how_it_must_lie(tmp_path, build, monkeypatch):
    with pytest.raises(DatasetUnavailable) as error:
        loaded("train")
    message = str(error.value)
    for part in (str(build / "data" / "imagenet100"), data.ENVIRONMENT, data.COMMAND, "train/n02869837/*.JPEG",
                 "validation-*.parquet", "126,689", "17 GB", "non-commercial"):
        assert part in message
    assert "\n" not in message
    monkeypatch.setenv(data.ENVIRONMENT, str(tmp_path / "nowhere"))
    with pytest.raises(DatasetUnavailable, match=r"nowhere \(no such folder\)"):
        loaded("train")
    with pytest.raises(DatasetUnavailable, match="holds neither train and val nor parquet shards"):
        loaded("train", tmp_path)
    with pytest.raises(DataError, match="no split 'val'; accepted: train, test"):
        loaded("val")


def test_the_environment_names_the_copy(folders, monkeypatch):
    monkeypatch.setenv(data.ENVIRONMENT, str(folders))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(loaded("train")) == 200


def test_too_little_room_is_said_before_decoding(folders, monkeypatch):
    monkeypatch.setattr(data.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(DataError, match="imagenet100 needs 0.0 GB in .*, 0.0 GB are free"):
        loaded("train", folders)


def test_command_line(folders, capsys):
    size = ["--size", str(SIZE)]
    assert main(["imagenet100", "--path", str(folders / "none"), *size]) == 1
    assert "is not available" in capsys.readouterr().err
    assert main(["imagenet100", "--verify", *size]) == 1
    assert "nothing is decoded" in capsys.readouterr().err
    assert main(["imagenet100", "--path", str(folders), *size]) == 0
    assert "decoded, 200 training and 100 test images of 126,689 and 5,000 in" in capsys.readouterr().out
    assert main(["imagenet100", "--verify", *size]) == 0
