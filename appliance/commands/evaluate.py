"""`appliance evaluate`: scores of a submission; of a run also figures of its candidates."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.arc.submission import form_faults, read_submission, score, task_faults, validate
from appliance.commands.arguments import (
    add_json_argument,
    add_solutions_argument,
    add_tasks_argument,
)
from appliance.errors import EXIT_DONE, EXIT_INPUT, InputError
from appliance.foreign_text import as_shown
from appliance.record.experiments.answers import Answers
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

    answers = Answers.of(args.solutions, args.tasks)
    solutions = answers.solutions
    faults = _faults(submission, answers)
    figures: dict[str, Any] = {"score": score(submission, solutions), "num_tasks": len(solutions)}
    answered = {i: grids for i, grids in solutions.items() if i in submission}
    if len(answered) < len(solutions):
        figures["answered"] = {**score(submission, answered), "num_tasks": len(answered)}

    notes = answers.differences(str(path), submission)
    if folder and folder.journal.is_file():
        journal = Journal(folder.existing_journal())
        try:
            answers.check_versions(journal.tasks())
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


def _faults(submission: Any, answers: Answers) -> list[str]:
    """What is not valid in the submission. With --tasks also the tasks that it must have."""
    answers.check_known(submission)
    if answers.is_chosen and answers.tasks is not None:
        return validate(submission, answers.tasks)

    solutions = answers.solutions
    return [
        fault
        for task_id, entries in submission.items()
        for fault in task_faults(
            task_id, entries, len(solutions[task_id]) if task_id in solutions else None
        )
    ]


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
