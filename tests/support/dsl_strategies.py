"""Hypothesis strategies for what the functions of the DSL take, by the name of the annotation."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from appliance.program import dsl

colours = st.integers(0, 9)


def grids(
    max_side: int = 8, num_colours: int = 4, *, square: bool = False
) -> st.SearchStrategy[np.ndarray]:
    """Grids of few colours, so that neighbours are often equal and objects appear."""

    def filled(shape: tuple[int, int]) -> st.SearchStrategy[np.ndarray]:
        height, width = shape[0], shape[0] if square else shape[1]
        cells = st.lists(
            st.integers(0, num_colours - 1), min_size=height * width, max_size=height * width
        )
        return cells.map(lambda values: np.array(values, dtype=np.int64).reshape(height, width))

    return st.tuples(st.integers(1, max_side), st.integers(1, max_side)).flatmap(filled)


def _mask_like(grid: np.ndarray) -> st.SearchStrategy[np.ndarray]:
    return colours.map(lambda colour: grid == colour)


_objects = grids().map(
    lambda grid: dsl.shapes(np.maximum(grid, np.eye(*grid.shape, dtype=np.int64)))
)

_strips = grids().map(lambda grid: dsl.strips_h(np.tile(grid, 2), 2))  # equal in size

BY_ANNOTATION: dict[str, st.SearchStrategy[Any]] = {
    "Grid": grids(),
    "Field": grids(),
    "list[Grid]": st.lists(grids(max_side=4), min_size=1, max_size=4),
    "Colour": colours,
    "int": st.integers(-1, 6),
    "bool": st.booleans(),
    "Direction": st.sampled_from(dsl.SIDES + dsl.CORNERS),
    "Sequence[Direction]": st.lists(
        st.sampled_from(dsl.SIDES + dsl.CORNERS), min_size=1, max_size=3
    ).map(tuple),
    "Object": _objects.map(lambda found: found[0]),
    "list[Object]": st.one_of(_objects, _strips),
    "Mapping[Colour, Colour]": st.dictionaries(colours, colours, max_size=3),
    "Collection[Colour]": st.lists(colours, max_size=2).map(tuple),
    "Mapping[tuple[int, int], Colour]": st.dictionaries(
        st.tuples(colours, colours), colours, max_size=3
    ),
    "Callable[[Grid], Grid]": st.sampled_from([dsl.grow, dsl.flip_h, dsl.trim, dsl.rot90]),
    "Callable[[Object], float]": st.sampled_from([dsl.area, dsl.fullness, dsl.num_mirrors]),
    "Callable[[Object, Object], bool]": st.sampled_from([dsl.same_shape, dsl.same_colour]),
    "Callable[[Object], Object]": st.sampled_from([dsl.box, lambda obj: dsl.move(obj, dsl.UP)]),
}

FUNCTIONS: list[Callable[..., Any]] = [
    getattr(dsl, n) for n in dsl.__all__ if inspect.isfunction(getattr(dsl, n))
]


@st.composite
def calls(draw: st.DrawFn, function: Callable[..., Any]) -> list[Any]:
    """Legal arguments for the function; its second grid has the shape of the first."""
    arguments: list[Any] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.annotation == "Mask":
            arguments.append(draw(_mask_like(arguments[0])))
        elif parameter.name == "other":
            arguments.append(np.roll(arguments[0], draw(st.integers(0, 3))))
        else:
            arguments.append(draw(BY_ANNOTATION[parameter.annotation]))
    return arguments
