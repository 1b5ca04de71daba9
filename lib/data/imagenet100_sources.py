"""A copy of ImageNet-100 as it lies on disk: folders of images named by WordNet id, or parquet shards.

Either way it becomes, per split, labels in the book's order and the encoded images in the same sequence.
"""
from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.data.registry import DataError, DatasetUnavailable
from lib.files import digest

CLASSES = """
n02869837 bonnet, n01749939 green mamba, n02488291 langur, n02107142 Doberman, n13037406 gyromitra,
n02091831 Saluki, n04517823 vacuum, n04589890 window screen, n03062245 cocktail shaker,
n01773797 garden spider, n01735189 garter snake, n07831146 carbonara, n07753275 pineapple,
n03085013 computer keyboard, n04485082 tripod, n02105505 komondor, n01983481 American lobster,
n02788148 bannister, n03530642 honeycomb, n04435653 tile roof, n02086910 papillon, n02859443 boathouse,
n13040303 stinkhorn, n03594734 jean, n02085620 Chihuahua, n02099849 Chesapeake Bay retriever, n01558993 robin,
n04493381 tub, n02109047 Great Dane, n04111531 rotisserie, n02877765 bottlecap, n04429376 throne,
n02009229 little blue heron, n01978455 rock crab, n02106550 Rottweiler, n01820546 lorikeet,
n01692333 Gila monster, n07714571 head cabbage, n02974003 car wheel, n02114855 coyote, n03785016 moped,
n03764736 milk can, n03775546 mixing bowl, n02087046 toy terrier, n07836838 chocolate sauce,
n04099969 rocking chair, n04592741 wing, n03891251 park bench, n02701002 ambulance, n03379051 football helmet,
n02259212 leafhopper, n07715103 cauliflower, n03947888 pirate, n04026417 purse, n02326432 hare,
n03637318 lampshade, n01980166 fiddler crab, n02113799 standard poodle, n02086240 Shih-Tzu, n03903868 pedestal,
n02483362 gibbon, n04127249 safety pin, n02089973 English foxhound, n03017168 chime,
n02093428 American Staffordshire terrier, n02804414 bassinet, n02396427 wild boar, n04418357 theater curtain,
n02172182 dung beetle, n01729322 hognose snake, n02113978 Mexican hairless, n03787032 mortarboard,
n02089867 Walker hound, n02119022 red fox, n03777754 modem, n04238763 slide rule, n02231487 walking stick,
n03032252 cinema, n02138441 meerkat, n02104029 kuvasz, n03837869 obelisk, n03494278 harmonica,
n04136333 sarong, n03794056 mousetrap, n03492542 hard disc, n02018207 American coot, n04067472 reel,
n03930630 pickup, n03584829 iron, n02123045 tabby, n04229816 ski mask, n02100583 vizsla, n03642806 laptop,
n04336792 stretcher, n03259280 Dutch oven, n02116738 African hunting dog, n02108089 boxer, n03424325 gasmask,
n01855672 goose, n02090622 borzoi
"""
WNIDS = tuple(part.split()[0] for part in CLASSES.split(","))
"""WordNet ids of the classes in label order, as listed in `imagenet100.txt` of Tian et al.'s code."""
NAMES = tuple(part.split(maxsplit=1)[1].strip() for part in CLASSES.split(","))
"""What the classes are called, in label order."""

SPLITS = {"train": "train", "test": "val"}
"""Name of each split -> of its folder. ImageNet's validation images serve as test images."""
SHARDS = {"train": "train", "test": "validation"}
SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp")

Item = tuple[str, bytes | Path]
"""An encoded image: what to call it in a message, and its bytes or its file."""


@dataclass(frozen=True, eq=False)
class Part:
    """One split: labels int64 [n], and `items()`, which yields n encoded images in the same order."""

    labels: np.ndarray
    items: Callable[[], Iterator[Item]]


@dataclass(frozen=True, eq=False)
class Copy:
    """A copy on disk: its kind ("folders" or "parquet"), splits, what is left out, and a digest of names and sizes."""

    root: Path
    kind: str
    splits: dict[str, Part]
    dropped: list[str]
    digest: str


def read_copy(root: Path) -> Copy:
    """What lies in `root`: folders train and val of class folders, or parquet shards in it or in its folder `data`.

    Raises:
        DatasetUnavailable: neither is there, or a split, class or shard is missing; the message names it.
        DataError: shards whose labels have no names.
    """
    if any((root / folder).is_dir() for folder in SPLITS.values()):
        return _folders(root)
    for folder in (root, root / "data"):
        if any(folder.glob("*.parquet")):
            return _shards(folder)
    raise DatasetUnavailable(f"imagenet100: {root} holds neither train and val nor parquet shards")


def _folders(root: Path) -> Copy:
    parts, dropped, listing = {}, [], []
    for split, folder in SPLITS.items():
        if not (root / folder).is_dir():
            raise DatasetUnavailable(f"imagenet100: {root} has no folder {folder}")
        dropped += [f"{folder}/{p.name}" for p in sorted((root / folder).iterdir()) if p.name not in WNIDS]
        files, labels = [], []
        for label, wnid in enumerate(WNIDS):
            inside = sorted((root / folder / wnid).glob("*"))
            images = [p for p in inside if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
            dropped += [f"{folder}/{wnid}/{p.name}" for p in sorted(set(inside) - set(images))]
            files += images
            labels += [label] * len(images)
        _check_classes(np.array(labels, np.int64), f"{root}/{folder}")
        parts[split] = Part(np.array(labels, np.int64), _reader(files))
        listing += [(f"{folder}/{p.parent.name}/{p.name}", p.stat().st_size) for p in files]
    return Copy(root, "folders", parts, dropped, digest(listing))


def _reader(files: list[Path]) -> Callable[[], Iterator[Item]]:
    return lambda: ((str(path), path) for path in files)


def _shards(root: Path) -> Copy:
    import pyarrow.parquet as parquet

    parts, dropped, listing = {}, [], []
    for split, prefix in SHARDS.items():
        paths = _complete(root, prefix)
        labels, foreign = [], set()
        for path in paths:
            with parquet.ParquetFile(path) as file:
                found, strange = _labels(path, file)
            labels.append(found)
            foreign |= strange
        joined = np.concatenate(labels)
        kept = joined[joined >= 0]
        _check_classes(kept, f"{root}/{prefix}-*.parquet")
        parts[split] = Part(kept, _row_reader(paths, labels))
        dropped += [f"{prefix}: {name}" for name in sorted(foreign)]
        listing += [(path.name, path.stat().st_size) for path in paths]
    return Copy(root, "parquet", parts, dropped, digest(listing))


def _complete(root: Path, prefix: str) -> list[Path]:
    """All shards of a split, in order; those named prefix-i-of-n must all be there."""
    paths = sorted(root.glob(f"{prefix}-*.parquet"))
    if not paths:
        raise DatasetUnavailable(f"imagenet100: {root} has no {prefix}-*.parquet")
    if numbered := re.search(r"-of-(\d+)\.parquet$", paths[0].name):
        count = int(numbered[1])
        wanted = [root / f"{prefix}-{i:05d}-of-{count:05d}.parquet" for i in range(count)]
        if missing := [path.name for path in wanted if not path.is_file()]:
            raise DatasetUnavailable(f"imagenet100: {root} lacks {', '.join(missing)}")
        return wanted
    return paths


def _labels(path: Path, file: Any) -> tuple[np.ndarray, set[str]]:
    """Labels of a shard in the book's order, -1 where a class is none of ours; and the names of such classes."""
    schema = file.schema_arrow
    if missing := sorted({"image", "label"} - set(schema.names)):
        raise DataError(f"imagenet100: {path} has columns {', '.join(schema.names)}, but not {', '.join(missing)}")
    column = file.read(columns=["label"]).column("label").to_pylist()
    if column and isinstance(column[0], str):
        called = column
    else:
        listed = _class_names(path, schema)
        called = [listed[label] if 0 <= label < len(listed) else str(label) for label in column]
    known = {key: label for pair in (WNIDS, map(_first, NAMES)) for label, key in enumerate(pair)}
    label_of = {name: known.get(name, known.get(_first(name), -1)) for name in set(called)}
    return np.array([label_of[name] for name in called], np.int64), {k for k, v in label_of.items() if v < 0}


def _class_names(path: Path, schema: Any) -> list[str]:
    """Class names of integer labels, from the features that Hugging Face writes into a shard's schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return features["label"]["names"]
    except KeyError as error:
        raise DataError(
            f"imagenet100: {path} numbers its classes without naming them, so none can be placed; "
            "write WordNet ids as labels, or keep Hugging Face's features in the schema"
        ) from error


def _first(name: str) -> str:
    """The first of a class's names: "bonnet, poke bonnet" -> "bonnet"."""
    return name.split(",")[0].strip().replace("_", " ").casefold()


def _row_reader(paths: list[Path], labels: list[np.ndarray]) -> Callable[[], Iterator[Item]]:
    import pyarrow.parquet as parquet

    def rows() -> Iterator[Item]:
        for path, known in zip(paths, labels, strict=True):
            row = 0
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=256, columns=["image"]):
                    for image in batch.column("image").to_pylist():
                        if known[row] >= 0:
                            data = image["bytes"] if isinstance(image, dict) else image
                            yield f"{path}, row {row}", data or b""
                        row += 1

    return rows


def _check_classes(labels: np.ndarray, where: str) -> None:
    counts = np.bincount(labels, minlength=len(WNIDS))
    missing = [f"{WNIDS[i]} ({NAMES[i]})" for i in np.flatnonzero(counts == 0)]
    if missing:
        some = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise DatasetUnavailable(f"imagenet100: {where} lacks {len(missing)} of {len(WNIDS)} classes: {some}")
