"""`appliance report`: a run as one HTML page that needs no other file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from appliance.arc.source import load_solutions, load_tasks
from appliance.arc.submission import form_faults, read_submission, task_faults
from appliance.arc.task import TaskSet
from appliance.atomic import write_atomic
from appliance.commands.arguments import add_solutions_argument, add_tasks_argument
from appliance.errors import EXIT_DONE, ApplianceError, InputError
from appliance.foreign_text import as_shown
from appliance.record.experiments.answers import Answers
from appliance.record.experiments.read_run import open_run_record
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from appliance.report.pictures.album import named_run, pictures_html
from appliance.report.run_page import render


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="the --out folder of a run")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE.html", help="the page to write"
    )
    add_tasks_argument(parser, "the tasks (default: those that the run was started with)")
    add_solutions_argument(
        parser, "the answers, to show them, which tasks were solved, and pictures of the run"
    )


def run(args: argparse.Namespace) -> int:
    folder = RunFolder(args.run)
    journal = Journal(folder.existing_journal())
    try:
        tasks, note = _tasks(args.tasks, journal)
        _check(folder, tasks)
        solutions = load_solutions(args.solutions, tasks) if args.solutions and tasks else {}
        pictures = _pictures(folder, Answers(args.solutions, solutions, tasks)) if solutions else ""
        page = render(folder, journal, tasks, solutions, note=note, pictures=pictures)
    finally:
        journal.close()

    for found in journal.notes():
        print(f"appliance: note: {as_shown(found)}", file=sys.stderr)
    write_atomic(args.out, page.encode("utf-8", "replace"))
    print(f"{args.out}: {len(page) / 1024:.0f} KiB")
    return EXIT_DONE


def _pictures(folder: RunFolder, answers: Answers) -> str:
    run = open_run_record(folder.out, answers)
    return pictures_html(named_run(folder.out.resolve().name, run))


def _check(folder: RunFolder, tasks: TaskSet | None) -> None:
    """Raises InputError for a submission that is not valid, or of other versions of the tasks."""
    submission = read_submission(folder.submission)
    faults = form_faults(submission)
    if not faults:
        faults = [
            fault
            for task in tasks or ()
            if task.task_id in submission
            for fault in task_faults(task.task_id, submission[task.task_id], len(task.test))
        ]
    if faults:
        raise InputError(
            f"{folder.submission}: {faults[0]}",
            expected="the submission of the run, as it wrote it",
            remedy="start the run again: it writes a valid one at once",
        )


def _tasks(source: str | None, journal: Journal) -> tuple[TaskSet | None, str]:
    """The tasks, from --tasks or from where the run read them, and a note for the page.

    Tasks of the run that can no longer be read are no fault: None, and the note says why.
    """
    if source is not None:
        return load_tasks(source), ""

    advice = "pass --tasks to see what the attempts answer."
    source = journal.fact("tasks", str | None)
    if source is None:
        return None, f"The run does not say where its tasks are: {advice}"
    try:
        return load_tasks(source), ""
    except ApplianceError as fault:
        return None, f"The tasks cannot be read ({fault}): {advice}"
