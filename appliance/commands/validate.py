"""`appliance validate`: every fault of a submission file with its place."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from appliance.arc.source import load_tasks, select_tasks
from appliance.arc.submission import read_submission, validate
from appliance.commands.arguments import (
    add_json_argument,
    add_selection_arguments,
    add_tasks_argument,
)
from appliance.errors import EXIT_DONE, EXIT_INPUT
from appliance.foreign_text import as_shown
from appliance.record.run_folder import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "submission",
        type=Path,
        metavar="SUBMISSION_OR_RUN",
        help="submission.json, or the --out folder of a run",
    )
    add_tasks_argument(parser, "the tasks that it must answer", required=True)
    add_selection_arguments(parser)
    add_json_argument(parser, "print {valid, faults} as JSON")


def run(args: argparse.Namespace) -> int:
    tasks = select_tasks(load_tasks(args.tasks), only=args.only, limit=args.limit, shard=None)
    path = RunFolder(args.submission).submission if args.submission.is_dir() else args.submission
    faults = validate(read_submission(path), tasks)

    if args.json:
        print(json.dumps({"valid": not faults, "faults": faults}, indent=1))
    elif faults:
        for fault in faults:
            print(as_shown(fault), file=sys.stderr)
        print(
            f"appliance: {path} has {len(faults)} faults; "
            f"expected a valid submission for {len(tasks)} tasks",
            file=sys.stderr,
        )
    else:
        num_outputs = sum(len(t.test) for t in tasks)
        print(f"{path} is valid: {len(tasks)} tasks, {num_outputs} test outputs")

    return EXIT_INPUT if faults else EXIT_DONE
