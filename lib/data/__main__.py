"""Data sets from a shell: `python -m lib.data list | fetch NAME... [--path FILE] | verify | imagenet100`."""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from lib.data import imagenet100, registry
from lib.data.registry import DataError, Dataset, DatasetUnavailable, dataset, megabytes
from lib.data.resolve import cache_path, resolve


def main(argv: list[str] | None = None) -> int:
    """Run one command; exit status 1 when a data set could not be had or verified."""
    parser = argparse.ArgumentParser(prog="python -m lib.data", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every data set: size, licence, whether it is here")
    getter = commands.add_parser("fetch", help="get data sets that are not here yet (all of them when none is named)")
    getter.add_argument("names", nargs="*", metavar="NAME")
    getter.add_argument("--path", type=Path, help="a downloaded archive, or a folder of its members, to read instead")
    commands.add_parser("verify", help="hash everything that is here against the registry")
    own = commands.add_parser("imagenet100", help="decode your own copy of ImageNet-100, which nothing downloads")
    own.add_argument("--path", type=Path, help=f"folder with {imagenet100.LAYOUT}")
    own.add_argument("--size", type=int, default=256, help="side of the square images in pixels (256)")
    own.add_argument("--verify", action="store_true", help="hash what was decoded instead")
    args = parser.parse_args(argv)
    if args.command == "list":
        return _list()
    if args.command == "imagenet100":
        return _imagenet100(args.path, args.size, args.verify)
    if args.command == "verify":
        known = registry.datasets().values()
        here = [data for data in known if data.comes_installed or cache_path(data.name).exists()]
        return _each(here, None, download=False)
    try:
        chosen = [dataset(name) for name in args.names] or list(registry.datasets().values())
    except DataError as error:
        parser.error(str(error))
    if args.path and len(chosen) != 1:
        parser.error("--path needs exactly one NAME")
    return _each(chosen, args.path, download=None)


def _list() -> int:
    for data in registry.datasets().values():
        try:
            resolve(data, download=False)
            state = "here"
        except DatasetUnavailable:
            state = data.command
        print(f"{data.name:14} {megabytes(data.bytes):>7}  {state:30} {data.licence}")
    return 0


def _each(chosen: list[Dataset], path: Path | None, download: bool | None) -> int:
    failed = 0
    for data in chosen:
        start = time.perf_counter()
        try:
            resolve(data, path, download)
            print(f"{data.name}: verified, {megabytes(data.bytes)}, {time.perf_counter() - start:.1f} s")
        except DataError as error:
            failed += 1
            print(f"{data.name}: {error}", file=sys.stderr)
    return int(failed > 0)


def _imagenet100(path: Path | None, size: int, is_verifying: bool) -> int:
    try:
        if is_verifying:
            imagenet100.verify(size)
        else:
            imagenet100.decode_copy(imagenet100.find_copy(path), size)
        print(f"imagenet100: {'verified' if is_verifying else 'decoded'}, {imagenet100.summary(size)}")
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
