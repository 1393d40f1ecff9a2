"""The calls that a search may make: the marked functions of the DSL, with values for arguments.

A call takes one value, of the type of the function's main argument: the first one that is an object
or a list of objects, else the first of all. An argument named `grid` beside it is the program's
input.
"""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from appliance.program import dsl
from appliance.program.dsl.base import COLOURS, FORMS, Form

GRID, OBJECT, OBJECTS, FIELD = "Grid", "Object", "list[Object]", "Field"
"""The types of values, as annotations name them."""

COSTS_FILE = Path(__file__).parent / "costs.json"
"""What is added to the cost of a function where states are put in order, learnt from training tasks
by `python -m bench.search_costs`."""

DIRECTIONS = {
    direction: name
    for name in dsl.__all__
    if isinstance(direction := getattr(dsl, name), tuple) and isinstance(direction[0], int)
}


@dataclass(frozen=True, eq=False)
class Call:
    """A function with all arguments but its main one."""

    function: str
    takes: str  # type of its main argument
    gives: str
    cost: float  # as the mark of the function says; it makes up the weight of an answer
    order: float  # as was learnt; the cheaper, the earlier its result has its turn
    text: str  # with {} for the main argument, such as keep({}, 3)
    run: Callable[[Any, Any], Any]  # from the main argument and the program's input


@cache
def learnt_changes() -> Mapping[str, float]:
    """By the name of a function, what is added to the cost in its mark to get its order."""
    changes: dict[str, float] = json.loads(COSTS_FILE.read_text(encoding="utf-8"))
    return changes


def catalogue(colours: Sequence[int]) -> dict[str, list[Call]]:
    """All calls by the type that they take, the cheapest first.

    colours: those that are tried as arguments.
    """
    found: dict[str, list[Call]] = {kind: [] for kind in (GRID, OBJECT, OBJECTS, FIELD)}
    for function, forms in FORMS.items():
        change = learnt_changes().get(function.__name__, 0.0)
        for form in forms:
            for call in _calls(function, form, colours, form.cost + change):
                found[call.takes].append(call)

    return {kind: sorted(calls, key=lambda c: c.order) for kind, calls in found.items()}


def _calls(
    function: Callable[..., Any], form: Form, colours: Sequence[int], order: float
) -> Iterator[Call]:
    name = function.__name__
    parameters = inspect.signature(function).parameters
    main = _main(parameters)
    takes, gives = (
        str(parameters[main].annotation),
        str(inspect.signature(function).return_annotation),
    )
    takes_input = "grid" in parameters and main != "grid"

    values = [colours if choice is COLOURS else choice for choice in form.choices.values()]
    for chosen in itertools.product(*values):
        arguments = dict(zip(form.choices, chosen, strict=True))
        text = _text(name, parameters, main, arguments)
        run = _run(function, main, arguments, takes_input=takes_input)
        yield Call(name, takes, gives, form.cost, order, text, run)

        if form.is_per_object:
            short = name if not arguments else f"lambda g: {text.format('g')}"
            each = _each(function, main, arguments)
            yield Call(name, OBJECTS, OBJECTS, form.cost, order, f"each({{}}, {short})", each)


def _main(parameters: Mapping[str, inspect.Parameter]) -> str:
    of_objects = [n for n, p in parameters.items() if p.annotation in (OBJECT, OBJECTS)]
    return next(iter([*of_objects, *parameters]))


def _run(
    function: Callable[..., Any], main: str, arguments: Mapping[str, Any], *, takes_input: bool
) -> Callable[[Any, Any], Any]:
    if takes_input:
        return lambda value, grid: function(**{main: value, "grid": grid}, **arguments)
    if arguments:
        return lambda value, _: function(value, **arguments)
    return lambda value, _: function(value)


def _each(
    function: Callable[..., Any], main: str, arguments: Mapping[str, Any]
) -> Callable[[Any, Any], Any]:
    return lambda value, _: dsl.each(value, lambda grid: function(**{main: grid}, **arguments))


def _text(
    name: str,
    parameters: Mapping[str, inspect.Parameter],
    main: str,
    arguments: Mapping[str, Any],
) -> str:
    """The call as a program writes it; an argument after a gap gets its name."""
    shown = []
    has_gap = False
    for parameter in parameters:
        if parameter == main:
            shown.append("{}")
        elif parameter == "grid":
            shown.append("grid")
        elif parameter in arguments:
            value = _value(arguments[parameter])
            shown.append(f"{parameter}={value}" if has_gap else value)
        else:
            has_gap = True

    return f"{name}({', '.join(shown)})"


def _value(value: Any) -> str:
    """As a program writes it."""
    if inspect.isfunction(value):
        return value.__name__
    if value in DIRECTIONS:
        return DIRECTIONS[value]
    if value == dsl.SIDES:
        return "SIDES"
    if value == dsl.CORNERS:
        return "CORNERS"
    if isinstance(value, tuple):
        return f"({', '.join(map(_value, value))}{',' if len(value) == 1 else ''})"
    return repr(value)
