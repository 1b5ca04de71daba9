"""ImageNet-100 from your own copy: decoded once to square uint8 images in a memory map, labels in one order.

    train = imagenet100("train")                     # Images: uint8 [n, 256, 256, 3] on disk, labels, class names

The hundred classes and their order are those of Tian, Krishnan & Isola's list; label i means `WNIDS[i]` whatever the
source called it. Nothing is downloaded: the images may be used for research only and are not to be passed on.

`python -m lib.data imagenet100 --path FOLDER [--size 256]` decodes a copy; `--verify` hashes what was decoded.
"""
from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from lib import files
from lib.data.imagenet100_sources import NAMES, SPLITS, WNIDS, Copy, Item, read_copy
from lib.data.images import Images, Split
from lib.data.registry import DataCorrupt, DataError, DatasetUnavailable
from lib.live import Progress

FORMAT = 1
TRAIN_IMAGES, TEST_IMAGES = 126_689, 5_000
ENVIRONMENT = "BOOK_IMAGENET100"
COMMAND = "python -m lib.data imagenet100 --path FOLDER"
LAYOUT = (
    "FOLDER/train/n02869837/*.JPEG and FOLDER/val/n02869837/*.JPEG for each class, or train-*.parquet and "
    "validation-*.parquet with columns image and label in FOLDER or FOLDER/data"
)


def imagenet100(split: Split = "train", size: int = 256, path: Path | str | None = None) -> Images:
    """ImageNet-100 as squares: the shorter side resized to `size`, the centre cut out. Decoded on first use, then kept.

    Args:
        split: "train" (126,689 images), or "test" (ImageNet's 5,000 validation images).
        size: side of the squares in pixels; the decoded copy takes 25.9 GB at 256.
        path: folder of the copy. By default what was decoded before, then the folder named by the environment
            variable BOOK_IMAGENET100, then `_build/data/imagenet100`.
    Returns:
        Images uint8 [n, size, size, 3], read-only from disk as they are used. They are sorted by class, or as the
        shards have them: take them in random order.
    Raises:
        DatasetUnavailable: there is no copy, or it lacks a class, a split or a shard; the message names it.
        DataCorrupt: an image cannot be read, or the decoded copy is damaged.
        DataError: no such split or size, or labels that cannot be put into order.
    Source: Tian, Krishnan & Isola 2020, "Contrastive Multiview Coding"; Russakovsky et al. 2015.
    """
    if split not in SPLITS:
        raise DataError(f"imagenet100 has no split {split!r}; accepted: {', '.join(SPLITS)}")
    folder = decoded_folder(size)
    if path is not None or not (folder / "manifest.json").is_file():
        decode_copy(find_copy(path), size)
    kept = _manifest(folder, size)["splits"][split]
    images, labels = _array(folder, split, "images"), _array(folder, split, "labels")
    if images.shape != (kept["n"], size, size, 3) or hashlib.sha256(labels).hexdigest() != kept["labels_sha256"]:
        raise _damaged(folder, split)
    return Images("imagenet100", images, labels, NAMES, 255)


def decoded_folder(size: int) -> Path:
    """Where the decoded copy with squares of `size` pixels is kept.

    Raises:
        DataError: no such size.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise DataError(f"imagenet100: size must be a whole number of at least 1, got {size!r}")
    return files.BUILD / "data" / f"imagenet100-{size}"


def decode_copy(source: Path, size: int = 256, threads: int | None = None) -> Path:
    """Decode the copy in folder `source`, unless that was done already; whole or not at all.

    A kill leaves a hidden partial folder, which the next call starts anew. What is not of the hundred classes is left
    out, with a warning that names it.

    Returns:
        The folder, with a manifest of counts, colour modes, digests and what was left out.
    Raises:
        As `imagenet100`.
    """
    target = decoded_folder(size)
    target.parent.mkdir(parents=True, exist_ok=True)
    copy = read_copy(source)
    with open(target.with_name(f".{target.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time; a second process finds the work done
        if _decoded_from(target, size) == copy.digest:
            return target
        if copy.dropped:
            some = ", ".join(copy.dropped[:5]) + (" ..." if len(copy.dropped) > 5 else "")
            warnings.warn(f"imagenet100: left out {len(copy.dropped)} things of no class: {some}", stacklevel=2)
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        _check_space(partial, sum(len(part.labels) for part in copy.splits.values()) * size * size * 3)
        splits = {split: _decode_split(partial, split, copy, size, threads) for split in SPLITS}
        facts = {"format": FORMAT, "wnids": WNIDS, "size": size, "source": copy.digest, "kind": copy.kind}
        files.write_json(partial / "manifest.json", {**facts, "dropped": copy.dropped, "splits": splits})
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
    return target


def summary(size: int = 256) -> str:
    """What was decoded, in a line; and whether that is all of ImageNet-100.

    Raises:
        DataCorrupt: the manifest is damaged.
    """
    splits = _manifest(decoded_folder(size), size)["splits"]
    n = {split: splits[split]["n"] for split in SPLITS}
    whole = "" if list(n.values()) == [TRAIN_IMAGES, TEST_IMAGES] else f" of {TRAIN_IMAGES:,} and {TEST_IMAGES:,}"
    return f"{n['train']:,} training and {n['test']:,} test images{whole} in {decoded_folder(size)}"


def verify(size: int = 256) -> None:
    """Hash the decoded images against the manifest.

    Raises:
        DatasetUnavailable: nothing was decoded; DataCorrupt: a pixel or a label changed.
    """
    folder = decoded_folder(size)
    if not (folder / "manifest.json").is_file():
        raise DatasetUnavailable(f"imagenet100: nothing is decoded in {folder}; run `{COMMAND}`")
    for split, kept in _manifest(folder, size)["splits"].items():
        digest = hashlib.sha256()
        for block in _blocks(iter(_array(folder, split, "images"))):
            digest.update(np.stack(block))
        if digest.hexdigest() != kept["images_sha256"]:
            raise _damaged(folder, split)


def find_copy(path: Path | str | None = None) -> Path:
    """The folder `path`, or the one the environment names, or `_build/data/imagenet100`.

    Raises:
        DatasetUnavailable: there is none; the message tells where it looked and how a copy must lie.
    """
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


def _manifest(folder: Path, size: int) -> dict:
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
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


def _decoded_from(folder: Path, size: int) -> str | None:
    """Digest of the copy that `folder` was decoded from; None where it must be decoded anew."""
    try:
        return _manifest(folder, size)["source"]
    except DataCorrupt:
        return None


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f"imagenet100 needs {needed / 1e9:.1f} GB in {folder.parent}, {free / 1e9:.1f} GB are free")


def _decode_split(folder: Path, split: str, copy: Copy, size: int, threads: int | None) -> dict:
    """Decode one split into `folder`; its part of the manifest."""
    part = copy.splits[split]
    n, digest, modes, enlarged = len(part.labels), hashlib.sha256(), {}, 0
    shape = (n, size, size, 3)
    out = np.lib.format.open_memmap(folder / f"{split}_images.npy", mode="w+", dtype=np.uint8, shape=shape)
    with ThreadPoolExecutor(threads) as pool, Progress(n, f"imagenet100 {split}") as progress:
        done = 0
        for block in _blocks(part.items()):
            for pixels, mode, is_small in pool.map(square, block, [size] * len(block)):
                out[done] = pixels
                digest.update(pixels)
                modes[mode], enlarged, done = modes.get(mode, 0) + 1, enlarged + is_small, done + 1
                progress.advance()
    if done != n:
        raise DataCorrupt(f"imagenet100: {copy.root} has {done} images of {n} labels ({split})")
    out.flush()
    np.save(folder / f"{split}_labels.npy", part.labels)
    counts = np.bincount(part.labels, minlength=len(WNIDS)).tolist()
    return {"n": n, "images_sha256": digest.hexdigest(), "labels_sha256": hashlib.sha256(part.labels).hexdigest(),
            "modes": modes, "enlarged": enlarged, "counts": counts}


def square(item: Item, size: int) -> tuple[np.ndarray, str, bool]:
    """One image in RGB, its shorter side resized to `size` (bilinear, antialiased) and its centre cut out.

    Returns:
        uint8 [size, size, 3]; the colour mode it was stored in; whether it had to be enlarged.
    Raises:
        DataCorrupt: it is no readable image; the message names it.
    """
    name, data = item
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as stored:
            mode, image = stored.mode, stored.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise DataCorrupt(f"imagenet100: {name} is not a readable image ({type(error).__name__}: {error})") from error
    short = min(image.size)
    width, height = (size if side == short else int(size * side / short) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    image = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    return np.asarray(image), mode, short < size


def _blocks(items: Iterator, length: int = 256) -> Iterator[list]:
    while block := list(islice(items, length)):
        yield block
