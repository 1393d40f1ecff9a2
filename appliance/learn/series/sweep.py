"""A sweep: several runs of one verb that differ in a few keys, read from one YAML file.

    verb: train
    arguments: [--recipe, recipes/qwen-lora.yaml, --model, DIR]
    grid:
      optimization.learning_rate: [1e-4, 2e-4]
      adaptation.rank: [32, 128]

`grid` has a row for each combination; `rows` names them one by one: `{NAME: {key: value}}`. A key
is what --set of that verb takes. Every row is checked before the first one starts.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.config import Layer, assignments_layer, resolve
from appliance.errors import ApplianceError, InputError, UsageError, shorten
from appliance.foreign_text import as_file_name
from appliance.learn.recipe import load_recipe
from appliance.names import a_few, unknown
from appliance.yaml_text import parse_yaml, read_yaml

SWEPT = ("train", "submit")
"""Verbs that take `--set key=value` and resume in the folder of their --out."""

KEYS = ("verb", "rows", "grid", "arguments")

MOST_ROWS = 500
"""A grid of a few long lists is soon larger than was meant."""


@dataclass(frozen=True)
class Row:
    """One run of a sweep."""

    name: str  # of its folder
    values: Mapping[str, Any]  # by key of --set

    def assignments(self) -> list[str]:
        """What a person would write behind --set, one a key."""
        return [f"{key}={_as_typed(value)}" for key, value in self.values.items()]


@dataclass(frozen=True)
class Sweep:
    verb: str
    rows: tuple[Row, ...]
    arguments: tuple[str, ...]  # of the verb, the same for all rows


def read_sweep(path: Path, more: Sequence[str] = ()) -> Sweep:
    """The sweep of a YAML file, each row checked. more: further arguments for all rows.

    Raises UsageError for a file that is no sweep, and for every unknown key of any row at once.
    """
    values = read_yaml(path, kind="sweep")
    if not isinstance(values, dict):
        raise _refused(path, f"holds a {type(values).__name__}")
    for key in values:
        if key not in KEYS:
            raise unknown("key of a sweep", str(key), KEYS)
    verb = values.get("verb")
    if verb not in SWEPT:
        raise _refused(path, f"verb {shorten(str(verb))!r}")
    if ("rows" in values) == ("grid" in values):
        raise _refused(path, "needs rows or grid, and not both")

    arguments = values.get("arguments", [])
    if not isinstance(arguments, list):
        raise _refused(path, "arguments is no list")
    rows = _named(path, values["rows"]) if "rows" in values else _grid(path, values["grid"])
    if not 0 < len(rows) <= MOST_ROWS:
        raise _refused(path, f"has {len(rows)} rows, and may have 1 to {MOST_ROWS}")

    sweep = Sweep(verb, rows, (*map(str, arguments), *more))
    _check(path, sweep)
    return sweep


def _named(path: Path, rows: Any) -> tuple[Row, ...]:
    if not isinstance(rows, dict):
        raise _refused(path, "rows is no mapping of names")
    found = []
    for name, values in rows.items():
        values = {} if values is None else values
        if not isinstance(values, dict):
            raise _refused(path, f"row {shorten(str(name))} is no mapping of keys")
        found.append(Row(as_file_name(str(name)), {str(k): v for k, v in values.items()}))
    return tuple(found)


def _grid(path: Path, grid: Any) -> tuple[Row, ...]:
    is_right = isinstance(grid, dict) and all(isinstance(v, list) and v for v in grid.values())
    if not (is_right and grid):
        raise _refused(path, "grid is no mapping of keys to lists of values")
    num_rows = 1
    for listed in grid.values():
        num_rows *= len(listed)
    if num_rows > MOST_ROWS:
        raise _refused(path, f"has {num_rows} rows, and may have 1 to {MOST_ROWS}")

    keys = [str(key) for key in grid]
    combinations = list(itertools.product(*grid.values()))
    short = _short_names(keys)
    names = [
        "_".join(f"{short[key]}-{_plain(value)}" for key, value in zip(keys, values, strict=True))
        for values in combinations
    ]
    if len(set(names)) < len(names):  # values that differ in signs alone
        names = [
            as_file_name(" ".join(f"{k}={v}" for k, v in zip(keys, values, strict=True)))
            for values in combinations
        ]
    return tuple(
        Row(as_file_name(name), dict(zip(keys, values, strict=True)))
        for name, values in zip(names, combinations, strict=True)
    )


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """For each key its last part, or all of it where others end alike."""
    ends = [key.rsplit(".", 1)[-1] for key in keys]
    return {
        key: _plain(end if ends.count(end) == 1 else key)
        for key, end in zip(keys, ends, strict=True)
    }


def _plain(value: Any) -> str:
    """The value as a part of a file name that can be read: 0.001 as 0_001."""
    text = value if isinstance(value, str) else json.dumps(value)
    return re.sub(r"[^a-z0-9-]+", "_", text.lower()).strip("_") or "none"


def _as_typed(value: Any) -> str:
    """The value as YAML in one line; a plain text goes without quotes where it stays a text."""
    if isinstance(value, str):
        try:
            is_plain = parse_yaml(value, place="") == value and value.isprintable()
        except UsageError:
            is_plain = False
        if is_plain:
            return value
    return json.dumps(value, ensure_ascii=False)


def _check(path: Path, sweep: Sweep) -> None:
    """Raise UsageError that names what is wrong with the keys and values of any row."""
    names = [row.name for row in sweep.rows]
    if len(set(names)) < len(names):
        raise _refused(path, "has two rows of one name")

    shared = assignments_layer(_values_of("--set", sweep))
    recipe = _recipe_of(path, sweep) if sweep.verb == "train" else None
    faults = []
    for row in sweep.rows:
        try:
            if recipe is None:
                resolve([shared, Layer(f"row {row.name}", row.values)])
            else:
                load_recipe(recipe, {**shared.values, **row.values})
        except InputError:
            raise
        except ApplianceError as fault:
            faults.append(f"row {row.name}: {fault.found}")
    if faults:
        lists = "appliance settings" if sweep.verb == "submit" else "recipes/arc-mini.yaml"
        raise UsageError(
            f"sweep {path}: {a_few(faults, 20)}",
            expected=f"keys and values of `appliance {sweep.verb} --set`, as in {lists}",
            remedy="correct the sweep; nothing was started",
        )


def _recipe_of(path: Path, sweep: Sweep) -> Path:
    """The recipe that the rows of a sweep over train share."""
    named = _values_of("--recipe", sweep)
    if not named:
        raise UsageError(
            f"sweep {path}: no --recipe",
            expected="the recipe that all rows share",
            remedy="write `arguments: [--recipe, FILE]` in the sweep, or pass `-- --recipe FILE`",
        )
    return Path(named[-1])


def _values_of(flag: str, sweep: Sweep) -> list[str]:
    """What the arguments give to a flag, each time that it stands there."""
    values = [b for a, b in itertools.pairwise(sweep.arguments) if a == flag]
    start = f"{flag}="
    return values + [a.removeprefix(start) for a in sweep.arguments if a.startswith(start)]


def _refused(path: Path, why: str) -> UsageError:
    return UsageError(
        f"sweep {path} {why}",
        expected=f"verb: {' or '.join(SWEPT)}; rows: {{NAME: {{key: value}}}} or grid: "
        "{key: [values]}; and arguments: [...] where all rows share some",
        remedy="correct the sweep, as in docs/experiments.md",
    )
