"""Families that draw one figure at a fixed place: the rule is plain, only its numbers must be
found.

All of them are held out. Training shows such calls with fixed numbers only in random compositions,
among a hundred other functions and on other inputs. So a model has something left to learn here
while it searches.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from appliance.learn.synth.family import Cells, Family, Params
from appliance.learn.synth.scene import dots, some
from appliance.program.dsl import SIDES

THEME = "sketch"
Mask = NDArray[np.bool_]
Figure = Callable[[Cells, Cells, Params], Mask]
"""True at the cells of the figure; rows and columns are counted from the figure's own place."""


def _sketch(name: str, numbers: str, figure: Figure, **sizes: object) -> Family:
    """The family of one DSL function; sizes: what its further numbers are drawn from."""

    def rule(cells: Cells, params: Params) -> Cells:
        rows, cols = np.indices(cells.shape)
        return np.where(
            figure(rows - params.get("row", 0), cols - params.get("col", 0), params),
            params["colour"],
            cells,
        )

    places = {place: range(5) for place in ("row", "col") if f"${place}" in numbers}
    params = some(**places | sizes, colour=1)  # type: ignore[arg-type]
    return Family(
        f"sketch_{name}",
        THEME,
        params,
        dots(5, 7),
        f"return {name}(grid, {numbers}, $colour)",
        rule,
    )


def _box(rows: Cells, cols: Cells, params: Params) -> Mask:
    inside: Mask = (rows >= 0) & (rows < params["height"]) & (cols >= 0) & (cols < params["width"])
    return inside


def _frame(rows: Cells, cols: Cells, params: Params) -> Mask:
    edge: Mask = (
        (rows == 0) | (rows == params["height"] - 1) | (cols == 0) | (cols == params["width"] - 1)
    )
    return edge & _box(rows, cols, params)


def _ray(rows: Cells, cols: Cells, params: Params) -> Mask:
    down, across = params["direction"]
    ahead: Mask = (rows * across == cols * down) & (rows * down + cols * across >= 0)
    return ahead


FAMILIES = (
    _sketch("dot", "$row, $col", lambda rows, cols, p: (rows == 0) & (cols == 0)),
    _sketch("row_line", "$row", lambda rows, cols, p: rows == 0),
    _sketch("col_line", "$col", lambda rows, cols, p: cols == 0),
    _sketch("cross", "$row, $col", lambda rows, cols, p: (rows == 0) | (cols == 0)),
    _sketch("diagonals", "$row, $col", lambda rows, cols, p: abs(rows) == abs(cols)),
    _sketch("ray", "$row, $col, $direction", _ray, direction=SIDES),
    _sketch(
        "rect",
        "$row, $col, $height, $width",
        _box,
        row=range(3),
        col=range(3),
        height=(2, 3),
        width=(2, 3),
    ),
    _sketch(
        "frame",
        "$row, $col, $height, $width",
        _frame,
        row=range(2),
        col=range(2),
        height=(3, 4),
        width=(3, 4),
    ),
)
