"""`appliance exec`: a file of programs in, a file of results out, line for line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, InstanceOf, ValidationError

from appliance.arc.grid import as_grid, to_lists
from appliance.errors import EXIT_DONE, InputError
from appliance.program.sandbox import SEVERITY, Limits, Program, Result, Sandbox

_FORM = '{"id": text, "source": Python text, "inputs": [grid, ...]}'


class _Record(BaseModel):
    """One line of the programs file."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)

    id: InstanceOf[str] | int
    source: InstanceOf[str]  # no check of the text: lone surrogates are the program's own fault
    inputs: list[Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `exec`."""
    defaults = Limits()
    parser.add_argument(
        "--programs",
        type=Path,
        required=True,
        metavar="IN.jsonl",
        help=f"one program a line: {_FORM}",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="OUT.jsonl",
        help="one result a line, in the same order",
    )
    parser.add_argument(
        "--cpu-s", type=float, default=defaults.cpu_s, metavar="S", help="CPU seconds per program"
    )
    parser.add_argument(
        "--memory-mb",
        type=int,
        default=defaults.memory_mb,
        metavar="MIB",
        help="memory per program",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="programs at the same time (default: one per core)"
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="folder that keeps results from run to run"
    )
    parser.add_argument(
        "--preload", default="", metavar="A,B", help="further modules that programs may import"
    )
    parser.add_argument(
        "--accept-level",
        choices=["no-seccomp"],
        help="go on although a wall is missing: named by hand",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the programs; 0 however badly they behave.

    Raises InputError for a bad record or grid before anything runs, PrerequisiteError where the sandbox cannot stand.
    """
    ids, programs = read_programs(args.programs)
    outcomes: Counter[str] = Counter()
    with Sandbox(
        Limits(args.cpu_s, args.memory_mb),
        workers=args.workers,
        preload=tuple(name for name in args.preload.split(",") if name),
        cache=args.cache,
        accept_level=args.accept_level,
    ) as sandbox:
        partial = args.out.with_name(args.out.name + ".partial")
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as out:
            for program_id, result in zip(ids, sandbox.run(programs), strict=True):
                out.write(json.dumps(_as_json(program_id, result)) + "\n")
                outcomes[result.outcome] += 1
            out.flush()
            os.fsync(out.fileno())
        partial.replace(args.out)
    counts = ", ".join(f"{name} {outcomes[name]}" for name in SEVERITY if outcomes[name])
    print(f"{len(ids)} programs at level {sandbox.level}: {counts or 'none'}", file=sys.stderr)
    return EXIT_DONE


def read_programs(path: Path) -> tuple[list[str | int], list[Program]]:
    """Ids and programs of a JSON-lines file, in order; empty lines are left out.

    A source may be any text, also one that is not UTF-8. Raises InputError naming the line.
    """
    ids, programs = [], []
    for number, text in _lines(path):
        record = _record(text, f"{path}, line {number}")
        place = f"{path}, line {number}, program {record.id}"
        ids.append(record.id)
        grids = tuple(
            as_grid(grid, place=f"{place}, input {i}") for i, grid in enumerate(record.inputs)
        )
        programs.append(Program(record.source, grids))
    return ids, programs


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}",
            expected=f"a file with one program a line: {_FORM}",
            remedy="correct --programs",
        ) from error


def _record(text: str, place: str) -> _Record:
    try:
        return _Record.model_validate(json.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        fault = f"{'.'.join(map(str, first['loc'])) or 'record'}: {first['msg']}"
    except (ValueError, RecursionError) as error:
        fault = f"not JSON: {error}"
    raise InputError(f"{place}: {fault}", expected=_FORM, remedy="correct the file")


def _as_json(program_id: str | int, result: Result) -> dict[str, Any]:
    return {
        "id": program_id,
        "outcome": result.outcome,
        "outputs": [None if grid is None else to_lists(grid) for grid in result.outputs],
        "error": result.error,
        "cpu_s": round(result.cpu_s, 4),
        "wall_s": round(result.wall_s, 4),
    }
