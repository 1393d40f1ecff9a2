"""`appliance evaluate`: scores of a submission; of a run also figures of its candidates."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.arc.source import load_solutions, load_tasks, read_solutions
from appliance.arc.submission import read_submission, score, validate
from appliance.arc.task import Solutions
from appliance.commands.arguments import (
    add_json_argument,
    add_solutions_argument,
    add_tasks_argument,
)
from appliance.errors import EXIT_DONE, InputError
from appliance.foreign_text import as_shown
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
    add_tasks_argument(parser, "the tasks that count (default: those of the run or submission)")
    add_json_argument(parser, "print all figures as JSON")


def run(args: argparse.Namespace) -> int:
    folder = RunFolder(args.submission) if args.submission.is_dir() else None
    path = folder.submission if folder else args.submission
    submission = read_submission(path)
    journal = Journal(folder.journal) if folder and folder.journal.is_file() else None

    solutions = _solutions(args, submission, journal)
    figures: dict[str, Any] = {"score": score(submission, solutions), "num_tasks": len(solutions)}
    if journal is not None:
        figures |= run_figures(journal, solutions)
        journal.close()

    if args.json:
        print(json.dumps(figures, indent=1))
    else:
        _print(figures, path)
    return EXIT_DONE


def _solutions(args: argparse.Namespace, submission: Any, journal: Journal | None) -> Solutions:
    """The answers to the tasks of --tasks, else of the run, else of the submission."""
    if args.tasks:
        tasks = load_tasks(args.tasks)
        faults = validate(submission, tasks)
        if faults:
            print(
                f"appliance: note: the submission has {len(faults)} faults, "
                f"the first: {as_shown(faults[0])}",
                file=sys.stderr,
            )
        return load_solutions(args.solutions, tasks)

    ids: list[str] = []
    if journal is not None:
        ids = list(journal.num_tests())
    elif isinstance(submission, dict):
        ids = list(submission)

    known = read_solutions(args.solutions)
    missing = [i for i in ids if i not in known]
    if missing or not ids:
        raise InputError(
            f"{args.solutions}: no answers for {', '.join(missing[:5]) or 'any task'}",
            expected="the answers to the tasks of the submission",
            remedy="pass the solutions file of the same challenges",
        )
    return {i: known[i] for i in ids}


def _print(figures: dict[str, Any], path: Path) -> None:
    scores = figures["score"]
    print(f"{path}: {figures['num_tasks']} tasks")
    print(f"  score by test output (Kaggle)   {scores['by_output']:.4f}")
    print(f"  score by task (notebooks)       {scores['by_task']:.4f}")

    for name, value in figures.get("votes", {}).items():
        print(f"  {name:30}  {value:.4f}")

    for stage, values in figures.get("stages", {}).items():
        print(
            f"  stage {stage}: {values['num_tasks']:.0f} tasks, "
            f"{values['num_candidates']:.0f} candidates"
        )
        _print_values(values)

    for stage, values in figures.get("programs", {}).items():
        print(
            f"  programs of stage {stage}: {values['num_tasks']:.0f} tasks, "
            f"{values['num_programs']:.0f} programs"
        )
        _print_values(values)

    for error, count in figures.get("program_errors", {}).items():
        print(f"  {count:>6} programs: {error}")


def _print_values(values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if not name.startswith("num_"):
            print(f"    {name:28}  {value:.4f}")
