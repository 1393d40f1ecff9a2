"""`appliance evaluate`: scores of a submission; of a run also figures of its candidates."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.arc.source import IDS_TOLD, load_solutions, load_tasks, read_answers
from appliance.arc.submission import form_faults, read_submission, score, task_faults, validate
from appliance.arc.task import Solutions, TaskSet
from appliance.commands.arguments import (
    add_json_argument,
    add_solutions_argument,
    add_tasks_argument,
)
from appliance.errors import EXIT_DONE, EXIT_INPUT, InputError
from appliance.foreign_text import as_shown
from appliance.names import a_few
from appliance.record.figures import run_figures
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "submission",
        type=Path,
        metavar="SUBMISSION_OR_RUN",
        help="submission.json, or the --out folder of a run",
    )
    add_solutions_argument(parser, "the answers", required=True)
    add_tasks_argument(parser, "the tasks that count (default: all that --solutions answers)")
    add_json_argument(parser, "print all figures as JSON")


def run(args: argparse.Namespace) -> int:
    folder = RunFolder(args.submission) if args.submission.is_dir() else None
    path = folder.submission if folder else args.submission
    submission = read_submission(path)
    if not isinstance(submission, dict):
        raise InputError(
            f"{path}: {form_faults(submission)[0]}",
            expected='{task id: [{"attempt_1": grid, "attempt_2": grid}, ...]}',
            remedy="pass a submission",
        )

    solutions, tasks = _solutions(args)
    faults = _faults(args, submission, solutions, tasks)
    figures: dict[str, Any] = {"score": score(submission, solutions), "num_tasks": len(solutions)}
    answered = {i: grids for i, grids in solutions.items() if i in submission}
    if len(answered) < len(solutions):
        figures["answered"] = {**score(submission, answered), "num_tasks": len(answered)}

    notes = _differences(path, submission, solutions)
    if folder and folder.journal.is_file():
        journal = Journal(folder.existing_journal())
        try:
            _compare(journal, args.solutions, solutions, tasks)
            figures |= run_figures(journal, solutions)
            notes += journal.notes()
        finally:
            journal.close()

    for note in notes:
        print(f"appliance: note: {as_shown(note)}", file=sys.stderr)
    if args.json:
        print(json.dumps(figures, indent=1))
    else:
        _print(figures, path)

    # Said last, where it is not overlooked.
    if faults:
        print(
            f"appliance: {path} is not valid, and what is wrong in it counts as not solved: "
            f"{len(faults)} faults, the first: {as_shown(faults[0])}",
            file=sys.stderr,
        )
    return EXIT_INPUT if faults else EXIT_DONE


def _solutions(args: argparse.Namespace) -> tuple[Solutions, TaskSet | None]:
    """The answers that count, and their tasks where these are known: those of --tasks, else all
    that --solutions holds."""
    if args.tasks:
        tasks = load_tasks(args.tasks)
        return load_solutions(args.solutions, tasks), tasks

    return read_answers(args.solutions)


def _faults(
    args: argparse.Namespace, submission: Any, solutions: Solutions, tasks: TaskSet | None
) -> list[str]:
    """What is not valid in the submission. With --tasks also the tasks that it must have."""
    known = [task_id for task_id in submission if task_id in solutions]
    if not known:
        ids = ", ".join(list(submission)[:5])
        raise InputError(
            f"{args.solutions}: no answers for {ids or 'any task: the submission is empty'}",
            expected="the answers to the tasks of the submission",
            remedy="pass the solutions file of the same challenges",
        )
    if args.tasks and tasks is not None:
        return validate(submission, tasks)
    return [
        fault
        for task_id, entries in submission.items()
        for fault in task_faults(
            task_id, entries, len(solutions[task_id]) if task_id in solutions else None
        )
    ]


def _differences(path: Path, submission: Any, solutions: Solutions) -> list[str]:
    """Tasks that only one of the two has."""
    absent = [i for i in solutions if i not in submission]
    extra = [i for i in submission if i not in solutions]
    notes = []
    if absent:
        notes.append(
            f"{len(absent)} of {len(solutions)} tasks of the solutions are not in the submission, "
            f"and count as not solved: {a_few(absent, IDS_TOLD)}"
        )
    if extra:
        notes.append(
            f"{len(extra)} of {len(submission)} tasks of {path} have no answer in the solutions, "
            f"and do not count: {a_few(extra, IDS_TOLD)}"
        )
    return notes


def _compare(journal: Journal, source: str, solutions: Solutions, tasks: TaskSet | None) -> None:
    """Answers to another version of a task say nothing about a run.

    Raises InputError naming the task.
    """
    digests = {task.task_id: task.digest() for task in tasks or ()}
    for row in journal.tasks():
        answers = solutions.get(row.task_id)
        if answers is None:
            continue
        differs = ""
        if len(answers) != row.num_tests:
            differs = f"{len(answers)} answers, and {row.num_tests} test inputs in the run"
        elif row.digest and digests.get(row.task_id, row.digest) != row.digest:
            differs = "other grids than in the run"
        if differs:
            raise InputError(
                f"{source}, task {row.task_id}: {differs}",
                expected="the version of the task that the run was started with",
                remedy="pass the answers, and with --tasks the tasks, of that version",
            )


def _print(figures: dict[str, Any], path: Path) -> None:
    scores = figures["score"]
    print(f"{path}: {figures['num_tasks']} tasks")
    print(f"  score by test output (Kaggle)   {scores['by_output']:.4f}")
    print(f"  score by task (notebooks)       {scores['by_task']:.4f}")

    answered = figures.get("answered")
    if answered:
        print(
            f"  of the {answered['num_tasks']} tasks in the submission: "
            f"by test output {answered['by_output']:.4f}, by task {answered['by_task']:.4f}"
        )

    for name, value in figures.get("votes", {}).items():
        print(f"  {name:30}  {value:.4f}")

    for stage, values in figures.get("stages", {}).items():
        print(
            f"  stage {stage}: {values['num_tasks']:.0f} tasks, "
            f"{values['num_candidates']:.0f} candidates, {_n(values)} for each test output"
        )
        _print_values(values)

    for stage, values in figures.get("programs", {}).items():
        print(
            f"  programs of stage {stage}: {values['num_tasks']:.0f} tasks, "
            f"{values['num_programs']:.0f} programs, {_n(values)} for each task"
        )
        _print_values(values)

    for error, count in figures.get("program_errors", {}).items():
        print(f"  {count:>6} programs: {error}")


def _n(values: Mapping[str, float]) -> str:
    """How many predictions the figures of a stage are of."""
    least, most = values["num_least"], values["num_most"]
    return f"n = {most:.0f}" if least == most else f"n = {least:.0f} to {most:.0f}"


def _print_values(values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if not name.startswith("num_"):
            print(f"    {name:28}  {value:.4f}")
