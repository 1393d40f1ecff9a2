"""`appliance report`: a run as one HTML page that needs no other file."""

from __future__ import annotations

import argparse
from pathlib import Path

from appliance.arc.source import load_solutions, load_tasks
from appliance.arc.task import TaskSet
from appliance.atomic import write_atomic
from appliance.commands.arguments import add_solutions_argument, add_tasks_argument
from appliance.errors import EXIT_DONE, ApplianceError
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from appliance.report.run_page import render


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="the --out folder of a run")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE.html", help="the page to write"
    )
    add_tasks_argument(parser, "the tasks (default: those that the run was started with)")
    add_solutions_argument(parser, "the answers, to show them and which tasks were solved")


def run(args: argparse.Namespace) -> int:
    folder = RunFolder(args.run)
    journal = Journal(folder.existing_journal())
    try:
        tasks, note = _tasks(args.tasks, journal)
        solutions = load_solutions(args.solutions, tasks) if args.solutions and tasks else {}
        page = render(folder, journal, tasks, solutions, note=note)
    finally:
        journal.close()

    write_atomic(args.out, page.encode())
    print(f"{args.out}: {len(page) / 1024:.0f} KiB")
    return EXIT_DONE


def _tasks(source: str | None, journal: Journal) -> tuple[TaskSet | None, str]:
    """The tasks, from --tasks or from where the run read them, and a note for the page.

    Tasks of the run that can no longer be read are no fault: None, and the note says why.
    """
    if source is not None:
        return load_tasks(source), ""

    advice = "pass --tasks to see what the attempts answer."
    source = journal.fact("tasks")
    if source is None:
        return None, f"The run does not say where its tasks are: {advice}"
    try:
        return load_tasks(source), ""
    except ApplianceError as fault:
        return None, f"The tasks cannot be read ({fault}): {advice}"
