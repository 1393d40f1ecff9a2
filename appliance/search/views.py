"""Colour views: a task shown with other names for its colours, so that simpler programs fit it.

Every task is searched in up to three views. In the first, 0 is the background. In the second, by
ranks, the colours of each grid are renamed by how frequent they are: one program then fits grids
that show the same thing in different colours. Where no input has a 0, the first view may take for
a background what is none, so the third shows the colours as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from appliance.arc import grid as arc
from appliance.arc.task import Task
from appliance.program import dsl

Grid = dsl.Grid

RARE_SHARE = 0.02
"""A colour that covers less than this share of every grid is no background."""


@dataclass(frozen=True, eq=False)
class ColourView:
    """A task with its colours renamed, and the lines that do and undo it in a program."""

    name: str  # plain, background or ranks
    inputs: tuple[Grid, ...]  # of the demonstrations, then of the tests
    outputs: tuple[Grid, ...]  # of the demonstrations
    originals: tuple[Grid, ...]  # the inputs as they are
    undo: Callable[[Grid, Grid], Grid]  # from an output and an original input
    do_line: str  # the renaming of `grid` in a program; empty for none
    undo_text: str  # an expression with {} for the output

    def program(self, lines: list[str], output: str) -> str:
        """A module with `transform(grid)`: these lines, then the output that they lead to."""
        body = [*([f"original, grid = grid, {self.do_line}"] if self.do_line else []), *lines]
        body.append(f"return {self.undo_text.format(output)}")
        text = "\n".join(f"    {line}" for line in body)
        return f"from dsl import *\n\n\ndef transform(grid):\n{text}\n"

    @property
    def colours(self) -> list[int]:
        """Those of the inputs besides 0, in rising order."""
        return sorted({int(c) for grid in self.inputs for c in np.unique(grid)} - {0})


def colour_views(task: Task) -> Iterator[ColourView]:
    """The views of a task, without one that would show the same as another."""
    inputs = tuple(_plain(g) for g in (*[p.input for p in task.train], *task.test))
    outputs = tuple(_plain(p.output) for p in task.train)

    plain = _plain_view(inputs, outputs)
    grounds = {dsl.background(grid) for grid in inputs}
    is_zero_unused = _is_zero_unused(inputs, grounds)
    first = _background_view(inputs, outputs) if is_zero_unused else plain
    yield first

    second = _ranks_view(inputs, outputs)
    shown = zip((*first.inputs, *first.outputs), (*second.inputs, *second.outputs), strict=True)
    if not all(np.array_equal(a, b) for a, b in shown):
        yield second
    if is_zero_unused and len(grounds) > 1:
        yield plain


def _plain_view(inputs: tuple[Grid, ...], outputs: tuple[Grid, ...]) -> ColourView:
    return ColourView("plain", inputs, outputs, inputs, lambda grid, _: grid, "", "{}")


def _background_view(inputs: tuple[Grid, ...], outputs: tuple[Grid, ...]) -> ColourView:
    """The most frequent colour of each input and 0 change places."""

    def rename(grid: Grid, original: Grid) -> Grid:
        return dsl.swap(grid, dsl.background(original), 0)

    return ColourView(
        "background",
        tuple(rename(grid, grid) for grid in inputs),
        tuple(rename(grid, original) for grid, original in zip(outputs, inputs, strict=False)),
        inputs,
        rename,
        "swap(grid, background(grid), 0)",
        "swap({}, background(original), 0)",
    )


def _ranks_view(inputs: tuple[Grid, ...], outputs: tuple[Grid, ...]) -> ColourView:
    """Colours by rank. Those that an output brings in keep their names: they mean themselves."""
    pairs = list(zip(inputs, outputs, strict=False))
    new = {int(c) for a, b in pairs for c in np.setdiff1d(b, a)}
    fixed = tuple(sorted(new))
    told = f", {fixed}" if fixed else ""

    def rename_output(grid: Grid, original: Grid) -> Grid:
        # The names are those of the input: its ranks are undone on a grid of all ten colours.
        names = dsl.from_ranks(np.arange(10)[None], original, fixed)[0]
        return np.argsort(names)[grid]

    return ColourView(
        "ranks",
        tuple(dsl.to_ranks(grid, fixed) for grid in inputs),
        tuple(rename_output(b, a) for a, b in pairs),
        inputs,
        partial(dsl.from_ranks, fixed=fixed),
        f"to_ranks(grid{told})",
        f"from_ranks({{}}, original{told})",
    )


def _is_zero_unused(inputs: tuple[Grid, ...], grounds: set[int]) -> bool:
    """Whether other colours than 0 are the backgrounds. grounds: the most frequent colours."""
    shares = [float((grid == 0).mean()) for grid in inputs]
    if len(grounds) > 1:
        return max(shares) == 0
    return 0 not in grounds and max(shares) < RARE_SHARE


def _plain(grid: arc.Grid) -> Grid:
    return grid.astype(np.int64)
