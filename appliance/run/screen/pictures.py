"""A task in colour on a terminal: its test input, what stands for it, and the program behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.arc.grid import Grid

if TYPE_CHECKING:
    from rich.text import Text

PALETTE = (
    "#303030",
    "#0074D9",
    "#FF4136",
    "#2ECC40",
    "#FFDC00",
    "#AAAAAA",
    "#F012BE",
    "#FF851B",
    "#7FDBFF",
    "#870C25",
)
"""Colours 0 to 9 of the ARC web pages; only 0 is dark grey, because their black would not stand out
from a dark terminal."""


def side_by_side(left: Grid, right: Grid) -> list[Text]:
    """Two grids as coloured lines with an arrow between them.

    A character is half a block and so shows two cells, one above the other.
    """
    from rich.text import Text

    lines = []
    num_lines = (max(left.shape[0], right.shape[0]) + 1) // 2
    for line in range(num_lines):
        text = Text(no_wrap=True, end="")
        _half_block_line(text, left, line)
        text.append("  ->  " if line == num_lines // 2 else "      ")
        _half_block_line(text, right, line)
        lines.append(text)
    return lines


def _half_block_line(text: Text, grid: Grid, line: int) -> None:
    """Append the rows 2 x line and 2 x line + 1 of the grid; blanks where it has no more rows."""
    rows, columns = grid.shape
    for c in range(columns):
        top = PALETTE[grid[2 * line, c]] if 2 * line < rows else None
        low = PALETTE[grid[2 * line + 1, c]] if 2 * line + 1 < rows else None
        if top is None:
            text.append(" ")
        else:
            text.append("\u2580", style=f"{top} on {low}" if low else top)
