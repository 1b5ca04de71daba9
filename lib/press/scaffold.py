"""Lays the rooms of a new study: `make study NAME=my_study`, or `python -m lib.press.scaffold my_study`.

The tree under `lib/press/template` is a small working study called my_study; a new study is a copy under its
own name, which runs before anything in it has been changed. Nothing is written unless everything can be.
"""
from __future__ import annotations

import argparse
import keyword
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml

from lib.files import PACKAGE, ROOT, write_text

TEMPLATE = PACKAGE / "press" / "template"
TEMPLATE_NAME = "my_study"


class ScaffoldError(ValueError):
    """The study cannot be laid; the message names what is in the way and the remedy."""


def rooms(name: str) -> dict[str, str]:
    """File of a new study, as a path in the checkout -> its text."""
    sources = {p.relative_to(TEMPLATE).as_posix(): p for p in sorted(TEMPLATE.rglob("*")) if p.is_file()}
    return {
        file.replace(TEMPLATE_NAME, name): path.read_text(encoding="utf-8").replace(TEMPLATE_NAME, name)
        for file, path in sources.items() if "__pycache__" not in path.parts
    }


def lay(name: str, root: Path = ROOT) -> list[Path]:
    """Write every room of a new study and enter its chapter in the table of contents, all or nothing.

    Args:
        name: slug of the study, a lowercase Python identifier.
        root: the checkout.
    Returns:
        The files written, the table of contents last.
    Raises:
        ScaffoldError: the name is no slug or is taken, or the table of contents has no place for it.
    """
    _check_name(name)
    _check_free(name, root)
    files = {root / file: text for file, text in rooms(name).items()}
    toc = root / "book" / "_toc.yml"
    entered = with_chapter(toc.read_text(encoding="utf-8"), name)
    try:
        for path, text in files.items():
            write_text(path, text)
        write_text(toc, entered)
    except BaseException:
        _take_back(files)
        raise
    return [*files, toc]


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or keyword.iskeyword(name):
        raise ScaffoldError(
            f"{name!r}: not a slug; use lowercase letters, digits and underscores, a letter first, at most 40, "
            "for example sparse_coders_recovery"
        )


def _check_free(name: str, root: Path) -> None:
    taken = {root / file for file in rooms(name)}
    taken = [path.parent if path.parent.name == name else path for path in taken]
    taken.append(root / "tests" / "reference" / f"{name}.ipynb")
    taken += (root / "tests").rglob(f"test_{name}.py")  # pytest wants one test module per name
    for path in sorted(taken):
        if path.exists():
            raise ScaffoldError(f"{name}: {path.relative_to(root)} exists; choose another name or remove it first")


def with_chapter(toc: str, name: str) -> str:
    """A table of contents (the text of `_toc.yml`) with `studies/<name>` after the last chapter under Studies.

    Raises:
        ScaffoldError: the chapter is there already, or no part is captioned Studies.
    """
    page = f"studies/{name}"
    if re.search(rf"^\s*- file: {page}\s*$", toc, re.MULTILINE):
        raise ScaffoldError(f"{name}: book/_toc.yml lists {page}; choose another name or remove the line first")
    part = re.search(r"^ *- caption: Studies *\n +chapters: *\n(?P<chapters>(?: +- file: .*\n?)+)", toc, re.MULTILINE)
    if part is None:
        raise ScaffoldError("book/_toc.yml: no part `caption: Studies` with `chapters:` and a `- file:` line; add one")
    chapters = part["chapters"].rstrip("\n")
    indent = re.match(" +", chapters.rsplit("\n", 1)[-1])[0]
    entered = f"{toc[: part.start('chapters')]}{chapters}\n{indent}- file: {page}\n{toc[part.end('chapters') :]}"
    yaml.safe_load(entered)
    return entered


def _take_back(files: Iterable[Path]) -> None:
    """Remove what was written of a study that could not be laid whole, and the folders made for it."""
    for path in files:
        path.unlink(missing_ok=True)
        if path.parent.name != "studies" and path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lib.press.scaffold", description="Lay the rooms of a new study.")
    parser.add_argument("name", help="slug: lowercase letters, digits and underscores")
    name = parser.parse_args(argv).name
    try:
        written = lay(name)
    except (ScaffoldError, OSError) as error:
        print(f"study: {error}", file=sys.stderr)
        return 2
    for path in written:
        print(f"  {path.relative_to(ROOT)}")
    print(f"It runs as it is: make run STUDY={name} PROFILE=smoke, then make reference STUDY={name}, then make test.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
