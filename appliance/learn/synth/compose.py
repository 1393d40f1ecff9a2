"""Random programs in the DSL: calls are joined by the types they take and give, and run while
built."""

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
from appliance.models.tiny import PROGRAM_WORDS
from appliance.program import dsl

_CHAINED = ("Grid", "Mask", "Object", "list[Object]", "list[Grid]")
"""Types, as the DSL annotates them, that one call hands to the next.

Colours and numbers are not handed on: they are drawn or computed where a call needs them.
"""

_NUMBERS = {
    "factor": (2, 3), "num": (1, 3), "rows": (1, 3), "cols": (1, 3), "num_cols": (1, 3),
    "height": (2, 8), "width": (2, 8), "row": (0, 5), "col": (0, 5), "row0": (0, 5),
    "col0": (0, 5), "row1": (0, 8), "col1": (0, 8),
}  # fmt: skip
"""Range of a number, by the name of its parameter."""

_DIRECTIONS = ("UP", "DOWN", "LEFT", "RIGHT")
"""Names of the values that a direction is drawn from."""

_WITHOUT_EFFECT = ("sort_size", "sort_along")
"""Functions that are left out: in a chain nothing depends on the order of a list."""

_MAX_LINE = 80
"""Characters of an expression, from which on it gets a line of its own."""


@dataclass(frozen=True, eq=False)
class _Value:
    """A call and its results; without arguments, a literal or the input itself."""

    kind: str  # its type, as the DSL annotates it
    text: str  # name of the function, or the literal
    arguments: tuple[_Value, ...]
    results: tuple[Any, ...]  # one for each input grid


@dataclass(frozen=True)
class Composition:
    """A program, and pairs that show what it does."""

    program: str
    pairs: tuple[Pair, ...]


def random_composition(rng: Rng) -> str:
    """The text of a random program that changes grids such as the training families draw."""
    return compose(rng).program


def compose(rng: Rng, *, num_pairs: int = 4, max_calls: int = 4) -> Composition:
    """A random program of up to max_calls calls in a chain, with num_pairs pairs.

    Every call changes something. Outputs are legal, unlike their inputs, and not all the same.
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
        except ValueError:  # no room for a part: the sampler's way to ask for another draw
            continue
    return inputs


def _chain(rng: Rng, start: _Value, num_calls: int) -> _Value | None:
    """Calls that each take the value before; None where too many tries did not end in a grid."""
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

    given = [argument for argument in arguments if argument is not None]
    return _run(name, given) if len(given) == len(arguments) else None


def _argument(rng: Rng, parameter: inspect.Parameter, values: Sequence[_Value]) -> _Value | None:
    """A value for the parameter: an earlier one, one computed from the input, or a literal.

    None where no earlier value has the type.
    """
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
    else:  # a colour, more often one that is there
        cells = np.concatenate([cells.ravel() for cells in grid.results])
        present = sorted(set(cells.tolist()) - {0})
        number = pick(rng, present) if present and rng.random() < 0.6 else colour(rng)
    return _literal(kind, repr(number), number, grid)


def _literal(kind: str, text: str, value: Any, grid: _Value) -> _Value:
    return _Value(kind, text, (), (value,) * len(grid.results))


def _run(name: str, arguments: list[_Value]) -> _Value | None:
    """The call on all inputs; None when it raises, gives nothing, or gives a grid back
    unchanged."""
    function = getattr(dsl, name)
    try:
        results = tuple(
            function(*given) for given in zip(*(a.results for a in arguments), strict=True)
        )
    except (ValueError, IndexError):  # an empty list of objects, a grid that is too large
        return None

    kind = str(inspect.signature(function).return_annotation)
    if kind.startswith("list") and not all(results):
        return None
    if kind == "Grid" and any(_leaves(results, argument) for argument in arguments):
        return None

    return _Value(kind, name, tuple(arguments), results)


def _leaves(results: Sequence[Any], argument: _Value) -> bool:
    """Whether a result is the grid that was given."""
    pairs = zip(results, argument.results, strict=True)
    return argument.kind == "Grid" and any(np.array_equal(before, after) for before, after in pairs)


def _is_worth_it(inputs: Sequence[Cells], outputs: Sequence[Cells]) -> bool:
    """Whether the outputs are legal, not empty, unlike their inputs, and not all the same."""
    if any(
        grid_fault(out) or not out.any() or np.array_equal(a, out)
        for a, out in zip(inputs, outputs, strict=True)
    ):
        return False

    return any(not np.array_equal(outputs[0], out) for out in outputs[1:])


def _program(final: _Value) -> str:
    """The text: calls are nested, but those used twice or grown long get a name and a line."""
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
        if value.text == ".grid":
            whole = inner[0] + value.text
        else:
            whole = f"{value.text}({', '.join(inner)})"

        if value is not final and (uses[value] > 1 or len(whole) > _MAX_LINE):
            names[value] = "abcdefgh"[len(names)]
            lines.append(f"    {names[value]} = {whole}\n")
            return names[value]

        return whole

    count(final)
    result = text(final)
    return f"{HEADER}def transform(grid):\n{''.join(lines)}    return {result}\n"


def _parameters(name: str) -> list[inspect.Parameter]:
    """The parameters that a call must give."""
    parameters = inspect.signature(getattr(dsl, name)).parameters.values()
    return [p for p in parameters if p.default is p.empty]


@cache
def _functions() -> dict[str, list[str]]:
    """Names of functions by a type that they take.

    "computes int" and "computes Colour" hold those that compute one from a grid.
    """
    known = (*_CHAINED, "int", "Colour", "Direction")
    found: dict[str, list[str]] = {
        kind: [] for kind in (*_CHAINED, "computes int", "computes Colour")
    }

    for name in dsl.__all__:
        function = getattr(dsl, name)
        if not inspect.isfunction(function) or name in _WITHOUT_EFFECT:
            continue
        if name not in PROGRAM_WORDS:
            continue  # our models have no word for it, so they could not learn to write it

        kinds = [p.annotation for p in _parameters(name)]
        gives = inspect.signature(function).return_annotation
        if gives in ("int", "Colour") and kinds == ["Grid"]:
            found[f"computes {gives}"].append(name)
        if gives in _CHAINED and all(kind in known for kind in kinds):
            for kind in set(kinds) & set(_CHAINED):
                found[kind].append(name)

    return found
