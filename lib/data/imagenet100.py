"""ImageNet-100 from your own copy: decoded once to square uint8 images in a memory map, labels in one order.

The hundred classes and their order are those of Tian, Krishnan & Isola's list; label i means `WNIDS[i]` whatever the
copy called it. A copy is folders of images named by WordNet id, or parquet shards. Nothing is downloaded: the images
may be used for research only and are not to be passed on.

`python -m lib.data imagenet100 --path FOLDER [--size 256]` decodes a copy; `--verify` hashes what was decoded.
"""
from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from lib import files
from lib.data.registry import DataCorrupt, DataError, DatasetUnavailable
from lib.live import Progress

_LIST = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
WNIDS, NAMES = zip(*(line.split(" ", 1) for line in _LIST), strict=True)
"""WordNet ids of the classes in label order, as listed in `imagenet100.txt` of Tian et al.'s code; and their names."""

FOLDERS = {"train": "train", "test": "val"}
"""Name of each split -> of its folder. ImageNet's validation images serve as test images."""
SHARDS = {"train": "train", "test": "validation"}
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp")
FORMAT = 1
TRAIN_IMAGES, TEST_IMAGES = 126_689, 5_000
ENVIRONMENT = "BOOK_IMAGENET100"
COMMAND = "python -m lib.data imagenet100 --path FOLDER"
LAYOUT = (
    "FOLDER/train/n02869837/*.JPEG and FOLDER/val/n02869837/*.JPEG for each class, or train-*.parquet and "
    "validation-*.parquet with columns image and label in FOLDER or FOLDER/data"
)

Item = tuple[str, bytes | Path]
"""An encoded image: what to call it in a message, and its bytes or its file."""


class Part(NamedTuple):
    """One split of a copy as it lies on disk."""

    labels: np.ndarray  # int64 [n]
    items: Callable[[], Iterator[Item]]  # yields the n encoded images in the same order
    dropped: list[str]  # what is of none of the classes
    listing: list[tuple[str, int]]  # names and sizes of all files that are read


def arrays(split: str, size: int = 256, path: Path | str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Squares, the shorter side resized to `size` and the centre cut out, and labels. Decoded on first use, then kept.

    Args:
        split, size: "train" or "test", and side in pixels; the decoded copy takes 25.9 GB at 256.
        path: folder of the copy. By default what was decoded before, then what `find_copy` looks at.
    Returns:
        Images uint8 [n, size, size, 3], read-only from disk as they are used, and labels int64 [n]. They are sorted by
        class, or as the shards have them: take them in random order.
    Raises:
        DatasetUnavailable, DataCorrupt: as `lib.data.images.load`.
    Source: Tian, Krishnan & Isola 2020, "Contrastive Multiview Coding"; Russakovsky et al. 2015.
    """
    folder = decoded_folder(size)
    if path is not None or not (folder / "manifest.json").is_file():
        decode_copy(find_copy(path), size)
    kept = _manifest(folder, size)["splits"][split]
    images, labels = _array(folder, split, "images"), _array(folder, split, "labels")
    if images.shape != (kept["n"], size, size, 3) or hashlib.sha256(labels).hexdigest() != kept["labels_sha256"]:
        raise _damaged(folder, split)
    return images, labels


def decoded_folder(size: int) -> Path:
    """Where the decoded copy with squares of `size` pixels is kept; DataError where no size is given."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise DataError(f"imagenet100: size must be a whole number of at least 1, got {size!r}")
    return files.BUILD / "data" / f"imagenet100-{size}"


def decode_copy(source: Path, size: int = 256) -> None:
    """Decode the copy in folder `source`, unless that was done already; whole or not at all.

    A kill leaves a hidden partial folder, which the next call starts anew. What is not of the hundred classes is left
    out, with a warning that names it.
    """
    target = decoded_folder(size)
    parts = read_copy(source)
    copy = files.digest([file for part in parts.values() for file in part.listing])
    with files.only_one(target.with_name(f".{target.name}.lock")):  # a second process finds the work done
        with suppress(DataCorrupt):  # without a readable manifest it is made anew
            if _manifest(target, size)["source"] == copy:
                return
        _make(target, parts, {"format": FORMAT, "wnids": WNIDS, "size": size, "source": copy})


def _make(target: Path, parts: dict[str, Part], facts: dict[str, Any]) -> None:
    """Fill a hidden folder and put it at `target`, with a manifest of `facts` and of what was decoded and left out."""
    work, size = target.with_name(f".{target.name}.partial"), facts["size"]
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    needed = sum(len(part.labels) for part in parts.values()) * size * size * 3
    if needed > (free := shutil.disk_usage(work).free):
        raise DataError(f"imagenet100 needs {needed / 1e9:.1f} GB in {target.parent}, {free / 1e9:.1f} GB are free")
    if dropped := [name for part in parts.values() for name in part.dropped]:
        warnings.warn(f"imagenet100: left out {len(dropped)} things of no class: {_some(dropped)}", stacklevel=3)
    splits = {split: _decode(work, split, part, size) for split, part in parts.items()}
    files.write_json(work / "manifest.json", facts | {"dropped": dropped, "splits": splits})
    shutil.rmtree(target, ignore_errors=True)
    os.replace(work, target)


def summary(size: int = 256) -> str:
    """What was decoded, in a line; and whether that is all of ImageNet-100."""
    train, test = (_manifest(decoded_folder(size), size)["splits"][split]["n"] for split in FOLDERS)
    whole = "" if (train, test) == (TRAIN_IMAGES, TEST_IMAGES) else f" of {TRAIN_IMAGES:,} and {TEST_IMAGES:,}"
    return f"{train:,} training and {test:,} test images{whole} in {decoded_folder(size)}"


def verify(size: int = 256) -> None:
    """Hash the decoded images against the manifest; DataCorrupt if a pixel changed."""
    folder = decoded_folder(size)
    if not (folder / "manifest.json").is_file():
        raise DatasetUnavailable(f"imagenet100: nothing is decoded in {folder}; run `{COMMAND}`")
    for split, kept in _manifest(folder, size)["splits"].items():
        if hashlib.sha256(_array(folder, split, "images")).hexdigest() != kept["images_sha256"]:
            raise _damaged(folder, split)


def find_copy(path: Path | str | None = None) -> Path:
    """The folder `path`, or the one the environment names, or `_build/data/imagenet100`; else DatasetUnavailable."""
    named = os.environ.get(ENVIRONMENT)
    looked = [Path(path)] if path is not None else [Path(named)] if named else [files.BUILD / "data" / "imagenet100"]
    if looked[0].is_dir():
        return looked[0]
    where = f"{looked[0]} (no such folder)" + ("" if path or named else f", {ENVIRONMENT} is not set")
    raise DatasetUnavailable(
        f"ImageNet-100 (imagenet100) is not available; looked: {where}. Nothing downloads it: get ImageNet (ILSVRC "
        f"2012) from image-net.org and run `{COMMAND}` with {LAYOUT} ({TRAIN_IMAGES:,} + {TEST_IMAGES:,} images, about "
        f"17 GB as JPEG, 25.9 GB decoded at 256 pixels; licence: non-commercial research, not to be passed on)"
    )


def read_copy(root: Path) -> dict[str, Part]:
    """The splits of the copy in `root`: folders train and val of class folders, or parquet shards in it or `data`."""
    one = SHARDS["train"]  # names begin with the split's, or a folder has it
    shards = [folder for folder in (root, root / "data", root / "default")
              if any(folder.glob("*.parquet")) or any(folder.glob(f"{one}/*.parquet"))]
    if shards:
        read = partial(_shards, shards[0])
    elif any((root / folder).is_dir() for folder in FOLDERS.values()):
        read = partial(_folder, root)
    else:
        raise DatasetUnavailable(f"imagenet100: {root} holds neither train and val nor parquet shards")
    return {split: read(split) for split in FOLDERS}


def _folder(root: Path, split: str) -> Part:
    folder = root / FOLDERS[split]
    if not folder.is_dir():
        raise DatasetUnavailable(f"imagenet100: {root} has no folder {folder.name}")
    dropped = [path for path in sorted(folder.iterdir()) if path.name not in WNIDS]
    images, labels = [], []
    for label, wnid in enumerate(WNIDS):
        for path in sorted((folder / wnid).glob("*")):
            is_image = path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
            (images if is_image else dropped).append(path)
            labels += [label] * is_image
    return Part(
        _all_classes(np.array(labels, np.int64), folder), lambda: ((str(path), path) for path in images),
        [path.relative_to(root).as_posix() for path in dropped],
        [(path.relative_to(root).as_posix(), path.stat().st_size) for path in images],
    )


def _shards(root: Path, split: str) -> Part:
    prefix = SHARDS[split]
    paths = sorted([*root.glob(f"{prefix}-*.parquet"), *root.glob(f"{prefix}/*.parquet")])
    if not paths:
        raise DatasetUnavailable(f"imagenet100: {root} has no {prefix}-*.parquet")
    if missing := _missing(paths):
        raise DatasetUnavailable(f"imagenet100: {root} lacks {_some(missing)}; fetch the rest of the split")
    labels, foreign = zip(*map(_labels, paths), strict=True)
    kept = np.concatenate([some[some >= 0] for some in labels])
    return Part(
        _all_classes(kept, root / f"{prefix}-*.parquet"), partial(_rows, paths, labels),
        [f"{prefix}: {name}" for name in sorted(set().union(*foreign))],
        [(path.name, path.stat().st_size) for path in paths],
    )


_NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d+)(?P<of>-of-(?P<total>\d+))?(?P<hash>-[0-9a-f]{16})?")
"""train-00000-of-00003, the same with a digest behind it, train-0, and 0000 in a folder of the split's name."""


def _missing(paths: list[Path]) -> list[str]:
    """Shards that the names of the others count and that are not there; a hole, where they tell no total."""
    found = [match for path in paths if (match := _NUMBERED.fullmatch(path.stem))]
    there, totals = {int(match["number"]) for match in found}, {int(match["total"] or 0) for match in found}
    if len(found) < len(paths) or len(there) < len(paths) or len(totals) > 1:
        raise DataError(f"imagenet100: {_some([path.name for path in paths])} are not numbered as one set of shards; "
                        "keep one copy, named as published")
    first, width = found[0], len(found[0]["number"])
    rest = f"{first['of'] or ''}{'-*' if first['hash'] else ''}.parquet"
    return [f"{first['before']}{i:0{width}d}{rest}" for i in range(max(totals) or max(there) + 1) if i not in there]


def _labels(path: Path) -> tuple[np.ndarray, set[str]]:
    """Labels of a shard in the book's order, -1 where a class is none of ours; and the names of such classes."""
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        if missing := sorted({"image", "label"} - set(schema.names)):
            raise DataError(f"imagenet100: {path} has columns {', '.join(schema.names)}, but not {', '.join(missing)}")
        called = file.read(columns=["label"]).column("label").to_pylist()
    if not (called and isinstance(called[0], str)):
        listed = _class_names(path, schema)
        called = [listed[label] if 0 <= label < len(listed) else str(label) for label in called]
    known = {key: label for pair in (WNIDS, map(_first, NAMES)) for label, key in enumerate(pair)}
    label_of = {name: known.get(name, known.get(_first(name), -1)) for name in set(called)}
    return np.array([label_of[name] for name in called], np.int64), {k for k, v in label_of.items() if v < 0}


def _class_names(path: Path, schema: Any) -> list[str]:
    """Class names of integer labels, from the features that Hugging Face writes into a shard's schema."""
    try:
        return json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]["label"]["names"]
    except KeyError as error:
        remedy = "write WordNet ids as labels, or keep Hugging Face's features in the schema"
        raise DataError(f"imagenet100: {path} numbers its classes without naming them; {remedy}") from error


def _first(name: str) -> str:
    """The first of a class's names: "bonnet, poke bonnet" -> "bonnet"."""
    return name.split(",")[0].strip().replace("_", " ").casefold()


def _rows(paths: list[Path], labels: list[np.ndarray]) -> Iterator[Item]:
    """The images of all rows whose label is one of ours."""
    import pyarrow.parquet as parquet

    for path, known in zip(paths, labels, strict=True):
        with parquet.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=256, columns=["image"])
            images = (image for batch in batches for image in batch.column("image").to_pylist())
            for row, (image, label) in enumerate(zip(images, known, strict=True)):
                if label >= 0:
                    yield f"{path}, row {row}", (image["bytes"] if isinstance(image, dict) else image) or b""


def _all_classes(labels: np.ndarray, where: Path) -> np.ndarray:
    """`labels` unchanged; DatasetUnavailable unless every class is among them."""
    counts = np.bincount(labels, minlength=len(WNIDS))
    if missing := [f"{WNIDS[i]} ({NAMES[i]})" for i in np.flatnonzero(counts == 0)]:
        raise DatasetUnavailable(f"imagenet100: {where} lacks {len(missing)} of 100 classes: {_some(missing)}")
    return labels


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")


def _manifest(folder: Path, size: int) -> dict:
    try:
        manifest = files.read_json(folder / "manifest.json")
        found = manifest["format"], tuple(manifest["wnids"]), manifest["size"]
    except (OSError, ValueError, KeyError) as error:
        raise DataCorrupt(f"imagenet100: {folder} has no readable manifest ({error}); remove it") from error
    if found != (FORMAT, WNIDS, size):
        raise DataCorrupt(f"imagenet100: {folder} has another order of classes, size or format; remove it")
    return manifest


def _array(folder: Path, split: str, what: str) -> np.ndarray:
    """Images as a memory map, or labels."""
    try:
        return np.load(folder / f"{split}_{what}.npy", mmap_mode="r" if what == "images" else None)
    except (OSError, ValueError, EOFError) as error:  # missing, cut short or not an array
        raise _damaged(folder, split) from error


def _damaged(folder: Path, split: str) -> DataCorrupt:
    return DataCorrupt(f"imagenet100: {folder} is damaged ({split}); remove it and run `{COMMAND}`")


def _decode(folder: Path, split: str, part: Part, size: int) -> dict[str, Any]:
    """Decode one split into `folder`; its part of the manifest."""
    n, done, digest = len(part.labels), 0, hashlib.sha256()
    out = np.lib.format.open_memmap(folder / f"{split}_images.npy", "w+", np.uint8, (n, size, size, 3))
    with ThreadPoolExecutor() as pool, Progress(n, f"imagenet100 {split}") as progress:
        items = part.items()
        while block := list(islice(items, 256)):  # a pool would take all of them into memory at once
            for pixels in pool.map(square, block, [size] * len(block)):
                out[done] = pixels
                digest.update(pixels)
                done += 1
                progress.advance()
    out.flush()
    np.save(folder / f"{split}_labels.npy", part.labels)
    labels_sha256 = hashlib.sha256(part.labels).hexdigest()
    return {"n": n, "images_sha256": digest.hexdigest(), "labels_sha256": labels_sha256}


def square(item: Item, size: int) -> np.ndarray:
    """One image in RGB, its shorter side resized to `size` (bilinear, antialiased) and its centre cut out.

    uint8 [size, size, 3].
    """
    name, data = item
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as stored:
            image = stored.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise DataCorrupt(f"imagenet100: {name} is not a readable image ({type(error).__name__}: {error})") from error
    short = min(image.size)
    width, height = (size if side == short else int(size * side / short) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    image = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    return np.asarray(image)
