"""The command line: `python -m lib.press.site build|pdf [--profile quick] [--draft] [--book DIR]`."""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from lib.files import ROOT
from lib.press.site import Site, SiteError, build


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lib.press.site", description="Render the book.")
    parser.add_argument("command", choices=["build", "pdf"])
    parser.add_argument("--profile", default="quick", help="whose executions to show (default: quick)")
    parser.add_argument("--draft", action="store_true", help="pages not executed yet show their headings")
    parser.add_argument("--book", type=Path, default=ROOT / "book", help="folder with _toc.yml and the pages")
    asked, started = parser.parse_args(arguments), time.perf_counter()
    site = Site(asked.book.resolve(), asked.profile, is_draft=asked.draft)
    try:
        if asked.command == "pdf":
            from lib.press.site.pdf import write_pdf  # reads the claims: not needed where the site stands

            print(f"site: printed: {write_pdf(site)}")
            return 0
        rendered = build(site)
    except SiteError as error:
        print(f"site: {error}", file=sys.stderr)
        return 1
    seconds = time.perf_counter() - started
    state = f"{len(site.pages())} pages rendered in {seconds:.1f} s" if rendered else "up to date"
    print(f"site: {state}: {site.html / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
