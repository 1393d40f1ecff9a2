"""A file of programs in, a file of results out, line for line: the core of `appliance exec`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, InstanceOf, ValidationError

from appliance.arc.grid import as_grid, to_lists
from appliance.arc.read import refuse_device
from appliance.atomic import make_folder, open_atomic
from appliance.errors import InputError, first_line
from appliance.program.sandbox import Program, Result, Sandbox

FORM = '{"id": text, "source": Python text, "inputs": [grid, ...]}'
"""One line of a programs file, for people."""

Kind = TypeVar("Kind", bound=BaseModel)


class _Record(BaseModel):
    """One line of the programs file."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)

    id: InstanceOf[str] | int
    source: InstanceOf[str]  # no check of the text: lone surrogates are the program's own fault
    inputs: list[Any]  # grids, checked one by one so that a fault names its place


def read_programs(path: Path) -> tuple[list[str | int], list[Program]]:
    """Ids and programs of a JSON-lines file, in order; empty lines are left out.

    A source may be any text, also one that is not UTF-8. Raises InputError naming the line.
    """
    ids, programs = [], []

    for where, record in read_records(path, _Record, form=FORM):
        place = f"{where}, program {record.id}"
        grids = tuple(
            as_grid(grid, place=f"{place}, input {i}") for i, grid in enumerate(record.inputs)
        )
        ids.append(record.id)
        programs.append(Program(record.source, grids))

    return ids, programs


def write_results(
    path: Path, ids: Sequence[str | int], programs: Sequence[Program], sandbox: Sandbox
) -> Counter[str]:
    """Run the programs, write a line for each, and count how they ended.

    The file bears its name only when it is whole. Raises OutputError when it cannot be written,
    before anything runs where that can be known.
    """
    outcomes: Counter[str] = Counter()
    make_folder(path.parent)

    with open_atomic(path) as write:
        for program_id, result in zip(ids, sandbox.run(programs), strict=True):
            write((json.dumps(_as_json(program_id, result)) + "\n").encode())
            outcomes[result.outcome] += 1

    return outcomes


def read_records(path: Path, kind: type[Kind], *, form: str) -> Iterator[tuple[str, Kind]]:
    """The lines of a JSON-lines file, each with its place for people; empty ones are left out.

    Bytes that are no UTF-8 become lone surrogates. form: of a line, for people. Raises InputError
    naming the line.
    """
    for number, text in _lines(path, form):
        place = f"{path}, line {number}"
        try:
            record = kind.model_validate(json.loads(text))
        except ValidationError as error:
            first = error.errors()[0]
            fault = f"{'.'.join(map(str, first['loc'])) or 'record'}: {first['msg']}"
        except (ValueError, RecursionError) as error:
            fault = f"not JSON: {first_line(error)}"
        else:
            yield place, record
            continue
        raise InputError(f"{place}: {fault}", expected=form, remedy="correct the file")


def _lines(path: Path, form: str) -> Iterator[tuple[int, str]]:
    try:
        refuse_device(path)
        with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}",
            expected=f"a file with one program a line: {form}",
            remedy="correct --programs",
        ) from error


def _as_json(program_id: str | int, result: Result) -> dict[str, Any]:
    return {
        "id": program_id,
        "outcome": result.outcome,
        "outputs": [None if grid is None else to_lists(grid) for grid in result.outputs],
        "error": result.error,
        "cpu_s": round(result.cpu_s, 4),
        "wall_s": round(result.wall_s, 4),
    }
