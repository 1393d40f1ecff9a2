"""`appliance compare`: runs, trainings, submissions and benches as the rows of one table."""

from __future__ import annotations

import argparse
from pathlib import Path

from appliance.commands.arguments import (
    add_solutions_argument,
    add_tasks_argument,
)
from appliance.errors import EXIT_DONE
from appliance.names import unknown
from appliance.record.experiments.answers import Answers
from appliance.record.experiments.experiment import read_experiments
from appliance.record.figures import POOLS
from appliance.report.table import FORMATS, Comparison


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_experiments_argument(parser)
    add_solutions_argument(parser, "the answers; runs and submissions need them")
    add_tasks_argument(parser, "the tasks that count (default: those that an experiment has)")
    parser.add_argument(
        "--pool",
        choices=POOLS,
        default="all",
        help="whose predictions of a run are taken together: those of every stage, of the quick "
        "pass or of the deep pass (default: %(default)s)",
    )
    parser.add_argument(
        "--base",
        metavar="NAME",
        help="the row that the others are compared with, task by task: differences with intervals, "
        "a sign test, and the tasks newly solved and lost",
    )
    parser.add_argument("--format", choices=FORMATS, default="table", help="(default: %(default)s)")


def add_experiments_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "experiments",
        nargs="+",
        type=named_path,
        metavar="[NAME=]EXPERIMENT",
        help="the --out folder of a run or of a training, a submission.json, or a folder of "
        "figures that bench.ttt kept; a name of your own goes before it",
    )


def named_path(text: str) -> tuple[str, Path]:
    """The name, "" where none is given, and the path. What exists as it stands is a path."""
    name, is_named, path = text.partition("=")
    if is_named and name and "/" not in name and not Path(text).exists():
        text = path
    else:
        name = ""
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty path")
    return name, Path(text)


def run(args: argparse.Namespace) -> int:
    answers = Answers.of(args.solutions, args.tasks) if args.solutions else None
    rows = read_experiments(args.experiments, answers, pool=args.pool)

    # Its path names a row as well.
    base = next((row for row in rows if args.base in (row.name, str(row.path))), None)
    if args.base is not None and base is None:
        raise unknown("row", args.base, [row.name for row in rows])

    print(FORMATS[args.format](Comparison(rows, args.pool, base)))
    return EXIT_DONE
