"""`appliance report`: a run as one HTML page that needs no other file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from appliance.arc.source import load_solutions, load_tasks, read_solutions
from appliance.arc.submission import form_faults, read_submission, task_faults
from appliance.arc.task import Solutions, TaskSet
from appliance.atomic import write_atomic
from appliance.commands.arguments import add_solutions_argument, add_tasks_argument
from appliance.errors import EXIT_DONE, ApplianceError, InputError
from appliance.foreign_text import as_shown
from appliance.record.experiments.answers import Answers
from appliance.record.experiments.read_run import open_run_record
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from appliance.report.pictures.album import named_run, pictures_html
from appliance.report.run_page import Shown, render

OWN_TASKS = "the journal"
"""Name of the tasks that a run kept itself."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="the --out folder of a run")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE.html", help="the page to write"
    )
    add_tasks_argument(parser, "the tasks (default: those that the run was started with)")
    add_solutions_argument(
        parser,
        "the answers, to show them, which tasks were solved, and pictures of the run (default: "
        "those that lie beside the tasks)",
    )


def run(args: argparse.Namespace) -> int:
    folder = RunFolder(args.run)
    journal = Journal(folder.existing_journal())
    try:
        tasks, notes = _tasks(args.tasks, journal)
        _check(folder, tasks)
        solutions = _solutions(args.solutions, tasks, journal)
        pictures = _pictures(folder, args.solutions, solutions, tasks) if solutions else ""
        page = render(folder, journal, Shown(tasks, solutions, notes, pictures))
    finally:
        journal.close()

    for found in journal.notes():
        print(f"appliance: note: {as_shown(found)}", file=sys.stderr)
    write_atomic(args.out, page.encode("utf-8", "replace"))
    print(f"{args.out}: {len(page) / 1024:.0f} KiB")
    return EXIT_DONE


def _solutions(source: str | None, tasks: TaskSet | None, journal: Journal) -> Solutions:
    """From --solutions, else those that lie beside the tasks: the run showed its marks by these."""
    if tasks is None:
        return {}
    if source is None:
        found = tasks.solutions
    elif tasks.name == OWN_TASKS:  # they may be a part of those that the answers are for
        found = read_solutions(source)
    else:
        found = load_solutions(source, tasks)
    own = {row.task_id for row in journal.tasks()}
    return {task_id: answers for task_id, answers in found.items() if task_id in own}


def _pictures(
    folder: RunFolder, source: str | None, solutions: Solutions, tasks: TaskSet | None
) -> str:
    """Of the whole run. Raises InputError for answers to other versions of its tasks."""
    answers = Answers(source or "the tasks of the run", solutions, tasks)
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


def _tasks(source: str | None, journal: Journal) -> tuple[TaskSet | None, tuple[str, ...]]:
    """The tasks, from --tasks, from where the run read them, or as its journal keeps them, and
    sentences for the page.

    Tasks of the run that can no longer be read are no fault.
    """
    if source is not None:
        return load_tasks(source), ()

    kept = tuple(journal.contents())
    source = journal.fact("tasks", str | None)
    if source is None:
        trouble = "The run does not say where its tasks are"
    else:
        try:
            loaded = load_tasks(source)
        except ApplianceError as fault:
            trouble = f"The tasks cannot be read ({fault})"
        else:
            if _are_of_run(loaded, journal):
                return loaded, ()
            trouble = f"{source} does not hold the tasks of the run any more"
    if kept:
        told = "the page shows them as the run kept them, without answers; --solutions gives these."
        return TaskSet(OWN_TASKS, kept), (f"{trouble}: {told}",)
    return None, (f"{trouble}: pass --tasks to see what the attempts answer.",)


def _are_of_run(tasks: TaskSet, journal: Journal) -> bool:
    """Whether these are the versions that the run worked on."""
    found = {task.task_id: task.digest() for task in tasks}
    return all(found.get(row.task_id) in (row.digest, None) for row in journal.tasks())
