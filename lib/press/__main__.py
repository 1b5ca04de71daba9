"""Command line of the press; see `lib.press`."""
from __future__ import annotations

import argparse
import sys

from lib import params
from lib.files import BUILD
from lib.press import provenance
from lib.press.claims import ClaimError
from lib.press.display import clock, left
from lib.press.drafts import Drafts
from lib.press.jobs import Job, Press, Stopped, broken_text
from lib.press.pages import DEFAULT_PROFILE, Page, PageError, Request, all_pages, find_page, made_as, profiles


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.command(arguments)
    except (PageError, params.ParameterError, ClaimError) as error:
        print(error, file=sys.stderr)
        return 2
    except Stopped as stop:
        print(f"press: {stop}; finished pages are kept, nothing half-written is", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib.press", description="Run the book's pages.")
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="execute pages whose last execution no longer stands")
    run.add_argument("pages", nargs="*", metavar="PAGE", help="study or instrument; all when none is given")
    run.add_argument("--profile", default=DEFAULT_PROFILE, help="name of a parameter file (default: quick)")
    run.add_argument("-p", dest="overrides", action="append", default=[], metavar="NAME=VALUE", help="change a value")
    run.add_argument("--force", action="store_true", help="execute even if the last execution stands")
    run.add_argument("--site", action="store_true", help="render the site whenever a page is done")
    run.add_argument("--jobs", type=int, default=provenance.cores(), help="pages side by side (default: cores)")
    run.set_defaults(command=run_command)
    keep = commands.add_parser("keep", help="copy the records of runs into the tree")
    keep.add_argument("label", help="name to keep them under: long, full, other_model, fresh_seeds")
    keep.add_argument("pages", nargs="*", metavar="STUDY", help="all that have been run when none is given")
    keep.add_argument("--run", help="label of the runs, as `status` prints it (default: the name to keep them under)")
    keep.set_defaults(command=keep_command)
    confirm = commands.add_parser("confirm", help="run the studies on fresh seeds and keep their records")
    confirm.add_argument("pages", nargs="*", metavar="STUDY", help="all when none is given")
    confirm.add_argument("--jobs", type=int, default=provenance.cores(), help="pages side by side (default: cores)")
    confirm.set_defaults(command=confirm_command)
    commands.add_parser("list", help="pages and their profiles").set_defaults(command=list_command)
    commands.add_parser("status", help="which executions still stand").set_defaults(command=status_command)
    return parser


def list_command(_: argparse.Namespace) -> int:
    """Print every page with its profiles."""
    for page in all_pages():
        print(f"{page.name:34s} {' '.join(page.profiles())}")
    return 0


def status_command(_: argparse.Namespace) -> int:
    """Print, for every page and profile label executed, whether its execution still stands."""
    for page in all_pages():
        for output in sorted((BUILD / "executed").glob(f"*/{page.name}.ipynb")):
            label = output.relative_to(BUILD / "executed").parts[0]
            request = made_as(page, label)
            book = (request.stored() or {"metadata": {"book": {}}})["metadata"]["book"]
            state = _state(request)
            print(f"{page.name:34s} {label:24s} {state:7s} {book.get('finished', '?')}  {book.get('seconds', '?')} s")
    return 0


def _state(request: Request) -> str:
    try:
        changed = request.changed()
        return "stands" if changed == [] else f"stale ({', '.join(changed or ['no execution'])})"
    except (PageError, params.ParameterError, ClaimError) as error:
        return f"broken ({error})"


def run_command(arguments: argparse.Namespace) -> int:
    """Bring the pages up to date; 0 only if every one now stands."""
    overrides = params.parse_overrides(arguments.overrides)
    if arguments.jobs < 1:
        raise PageError(f"--jobs {arguments.jobs}: at least 1")
    pages = [find_page(name) for name in dict.fromkeys(arguments.pages)] or all_pages()
    if overrides and not arguments.pages:
        raise PageError("-p changes one study's parameters: name the study")
    requests = [Request(page, arguments.profile, overrides) for page in pages]
    if not arguments.pages:
        if arguments.profile not in profiles():
            raise PageError(f"no study has a profile {arguments.profile!r}; there are: {', '.join(profiles())}")
        requests = [Request(page, page.standing(arguments.profile)) for page in pages]
        for request in requests:
            if request.page.is_study and request.profile != arguments.profile:
                print(f"{request.page.name}: has no profile {arguments.profile}; {request.profile} stands in")
    jobs = plan(requests, arguments.force)
    if not jobs:
        return 0
    slots = min(arguments.jobs, len(jobs))
    _foretell(jobs, slots)
    new = any(not request.output.is_file() for request in requests)  # else the site that stands is whole
    return Press(jobs, slots, Drafts(arguments.profile) if arguments.site and new else None).run()


def _foretell(jobs: list[Job], slots: int) -> None:
    """Say how long the jobs will take, by earlier runs here, else by those kept in the tree."""
    from lib.press import kept

    for job in jobs:
        stored = job.request.stored()
        job.expected = stored["metadata"]["book"]["seconds"] if stored else kept.seconds(job.request)
    known = sum(job.expected > 0 for job in jobs)
    told = f", {known} of them in about {clock(left(jobs, slots))} by earlier runs" if known else ""
    print(f"press: {len(jobs)} page{'s'[:len(jobs) > 1]} to run{told}", flush=True)


def keep_command(arguments: argparse.Namespace) -> int:
    """Copy records with their provenance into `book/kept/<label>`."""
    from lib.press import kept  # imports pandas and scipy: a page that stands should take no second

    run = arguments.run or arguments.label
    for page in _studies(arguments.pages):
        if arguments.pages or (BUILD / "executed" / run / f"{page.name}.ipynb").is_file():
            print(f"{page.name} [{run}]: kept as {kept.keep(page, run, arguments.label)}")
    return 0


def confirm_command(arguments: argparse.Namespace) -> int:
    """Run studies at the default profile on seeds that no rule has seen, and keep what they find."""
    from lib.press import kept

    requests = [kept.fresh(page) for page in _studies(arguments.pages)]
    jobs = plan(requests, force=False)
    status = Press(jobs, min(arguments.jobs, len(jobs))).run() if jobs else 0
    for request in requests:
        if not status or request.changed() == []:
            path = kept.keep(request.page, request.label, kept.FRESH)
            print(f"{request.page.name} [{request.label}]: kept as {path}")
    return status


def _studies(names: list[str]) -> list[Page]:
    pages = [find_page(name) for name in dict.fromkeys(names)] or [page for page in all_pages() if page.is_study]
    if strange := [page.name for page in pages if not page.is_study]:
        raise PageError(f"{', '.join(strange)}: no study, so it has no records")
    return pages


def plan(requests: list[Request], force: bool) -> list[Job]:
    """The executions needed; pages that stand are kept, changed prose is merged here and now.

    Raises:
        ParameterError: some request's parameters are refused; nothing has been started.
    """
    asked = [(request, None if force else request.changed()) for request in requests]
    values = [{} if changed == [] else request.checked_values() for request, changed in asked]
    jobs = []
    for (request, changed), checked in zip(asked, values, strict=True):
        if changed and "values" in changed and checked == request.stored()["metadata"]["book"]["params"]:
            changed = [*(name for name in changed if name != "values"), "spelling"]  # of a value: 1 for 1.0
        if changed is None or set(changed) - {"page", "spelling"}:
            jobs.append(Job(request, checked))
            continue
        if changed:
            from lib.press.worker import refresh  # imports papermill: not needed when everything is kept

            refresh(request)
        else:
            request.write_results(request.stored()["metadata"]["book"])
        renewed = ", with its new prose" if "page" in changed else ""
        broken = request.stored()["metadata"]["book"].get("broken")
        print(f"{request.page.name} [{request.label}]: kept{renewed}{f'; {broken_text(broken)}' if broken else ''}")
    return jobs


if __name__ == "__main__":
    sys.exit(main())
