"""Random programs in the DSL: functions are put together by the types they take and give, and run as they are built."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from appliance.arc.grid import as_grid, grid_fault
from appliance.arc.task import Pair
from appliance.learn.synth.catalogue import families_of
from appliance.learn.synth.family import HEADER, Cells, Rng
from appliance.learn.synth.scene import between, colour, pick
from appliance.program import dsl

# What a value can be, by the annotations of the DSL. Colours and whole numbers are drawn or computed where needed.
_CHAINED = ("Grid", "Mask", "Object", "list[Object]", "list[Grid]")
_NUMBERS = {
    "factor": (2, 3), "num": (1, 3), "rows": (1, 3), "cols": (1, 3), "num_cols": (1, 3), "height": (2, 8),
    "width": (2, 8), "row": (0, 5), "col": (0, 5), "row0": (0, 5), "col0": (0, 5), "row1": (0, 8), "col1": (0, 8),
}  # fmt: skip
_DIRECTIONS = ("UP", "DOWN", "LEFT", "RIGHT")
_WITHOUT_EFFECT = ("sort_size", "sort_along")  # in a chain nothing asks for the order of a list
_MAX_LINE = 80


@dataclass(frozen=True, eq=False)
class _Value:
    """A call and what it gives for each input grid; without arguments it is a literal or the input itself."""

    kind: str
    text: str
    arguments: tuple[_Value, ...]
    results: tuple[Any, ...]


@dataclass(frozen=True)
class Composition:
    """A program and the pairs that it makes of sampled input grids."""

    program: str
    pairs: tuple[Pair, ...]


def random_composition(rng: Rng) -> str:
    """The text of a random program that does something to grids such as the training families draw."""
    return compose(rng).program


def compose(rng: Rng, *, num_pairs: int = 4, max_calls: int = 4) -> Composition:
    """A random program of up to max_calls calls in a chain, and num_pairs pairs that show what it does.

    Every call changes something; outputs are legal, unlike their inputs, and not all the same.
    """
    while True:
        inputs = _inputs(rng, num_pairs)
        start = _Value("Grid", "grid", (), tuple(inputs))
        final = _chain(rng, start, between(rng, 1, max_calls))
        if final is not None and _is_worth_it(inputs, final.results):
            pairs = tuple(
                Pair(as_grid(a), as_grid(b)) for a, b in zip(inputs, final.results, strict=True)
            )
            return Composition(_program(final), pairs)


def _inputs(rng: Rng, num: int) -> list[Cells]:
    """Grids of one training family, with its parameters drawn once."""
    family = pick(rng, families_of("train"))
    params = family.params(rng)
    inputs: list[Cells] = []
    while len(inputs) < num:
        try:
            inputs.append(np.ascontiguousarray(family.sample_input(rng, params)))
        except ValueError:  # no room for a part: the sampler's way to say "again"
            continue
    return inputs


def _chain(rng: Rng, start: _Value, num_calls: int) -> _Value | None:
    """Calls each of which takes the value before it; None where the chain ends in nothing that is a grid."""
    values = [start]
    tries = 0
    while len(values) <= num_calls or values[-1].kind != "Grid":
        tries += 1
        if tries > 12 * num_calls:
            return None
        value = _call(rng, values)
        if value is not None:
            values.append(value)
    return values[-1]


def _call(rng: Rng, values: Sequence[_Value]) -> _Value | None:
    """A random call on the last value, or None when it fails or changes nothing."""
    last = values[-1]
    if last.kind == "Object" and rng.random() < 0.3:
        return _Value("Grid", ".grid", (last,), tuple(obj.grid for obj in last.results))
    name = pick(rng, _functions()[last.kind])
    parameters = _parameters(name)
    taking = pick(rng, [i for i, p in enumerate(parameters) if p.annotation == last.kind])
    arguments = [
        last if i == taking else _argument(rng, p, values) for i, p in enumerate(parameters)
    ]
    if any(argument is None for argument in arguments):
        return None
    return _run(name, [argument for argument in arguments if argument is not None])


def _argument(rng: Rng, parameter: inspect.Parameter, values: Sequence[_Value]) -> _Value | None:
    """A value for the parameter: an earlier one, one computed from the input, or a literal; None where none is fit."""
    grid = values[0]
    kind = str(parameter.annotation)
    if kind in _CHAINED:
        fit = [value for value in values[:-1] if value.kind == kind]
        return pick(rng, fit) if fit else None
    if kind == "Direction":
        name = pick(rng, _DIRECTIONS)
        return _literal(kind, name, getattr(dsl, name), grid)
    if rng.random() < 0.2:
        return _run(pick(rng, _functions()[f"computes {kind}"]), [grid])
    if kind == "int":
        low, high = _NUMBERS[parameter.name]
        number = between(rng, low, high)
    else:
        present = sorted(
            set(np.concatenate([cells.ravel() for cells in grid.results]).tolist()) - {0}
        )
        number = pick(rng, present) if present and rng.random() < 0.6 else colour(rng)
    return _literal(kind, repr(number), number, grid)


def _literal(kind: str, text: str, value: Any, grid: _Value) -> _Value:
    return _Value(kind, text, (), (value,) * len(grid.results))


def _run(name: str, arguments: list[_Value]) -> _Value | None:
    """The call on all inputs at once; None when it raises, gives nothing, or gives a grid back as it was."""
    function = getattr(dsl, name)
    try:
        results = tuple(
            function(*given) for given in zip(*(a.results for a in arguments), strict=True)
        )
    except (
        ValueError,
        IndexError,
    ):  # an empty list of objects, a grid too large: this call is not possible here
        return None
    kind = str(inspect.signature(function).return_annotation)
    if kind.startswith("list") and not all(results):
        return None
    if kind == "Grid" and any(_leaves(results, argument) for argument in arguments):
        return None
    return _Value(kind, name, tuple(arguments), results)


def _leaves(results: Sequence[Any], argument: _Value) -> bool:
    pairs = zip(results, argument.results, strict=True)
    return argument.kind == "Grid" and any(np.array_equal(before, after) for before, after in pairs)


def _is_worth_it(inputs: Sequence[Cells], outputs: Sequence[Cells]) -> bool:
    if any(
        grid_fault(out) or not out.any() or np.array_equal(a, out)
        for a, out in zip(inputs, outputs, strict=True)
    ):
        return False
    return any(not np.array_equal(outputs[0], out) for out in outputs[1:])


def _program(final: _Value) -> str:
    """The text: calls stand in each other, except those used twice and lines that would grow long."""
    uses: Counter[_Value] = Counter()

    def count(value: _Value) -> None:
        uses[value] += 1
        if uses[value] == 1:
            for argument in value.arguments:
                count(argument)

    lines: list[str] = []
    names: dict[_Value, str] = {}

    def text(value: _Value) -> str:
        if value in names or not value.arguments:
            return names.get(value, value.text)
        inner = [text(argument) for argument in value.arguments]
        whole = (
            inner[0] + value.text if value.text == ".grid" else f"{value.text}({', '.join(inner)})"
        )
        if value is not final and (uses[value] > 1 or len(whole) > _MAX_LINE):
            names[value] = "abcdefgh"[len(names)]
            lines.append(f"    {names[value]} = {whole}\n")
            return names[value]
        return whole

    count(final)
    result = text(final)
    return f"{HEADER}def transform(grid):\n{''.join(lines)}    return {result}\n"


def _parameters(name: str) -> list[inspect.Parameter]:
    """Those that a call must give."""
    return [
        p for p in inspect.signature(getattr(dsl, name)).parameters.values() if p.default is p.empty
    ]


@cache
def _functions() -> dict[str, list[str]]:
    """Names of functions by a kind that they take and pass on, and those that compute a number or colour of a grid."""
    known = (*_CHAINED, "int", "Colour", "Direction")
    found: dict[str, list[str]] = {
        kind: [] for kind in (*_CHAINED, "computes int", "computes Colour")
    }
    for name in dsl.__all__:
        function = getattr(dsl, name)
        if not inspect.isfunction(function) or name in _WITHOUT_EFFECT:
            continue
        kinds = [p.annotation for p in _parameters(name)]
        gives = inspect.signature(function).return_annotation
        if gives in ("int", "Colour") and kinds == ["Grid"]:
            found[f"computes {gives}"].append(name)
        if gives in _CHAINED and all(kind in known for kind in kinds):
            for kind in set(kinds) & set(_CHAINED):
                found[kind].append(name)
    return found
