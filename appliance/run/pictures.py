"""Grids in colour on a terminal, with the program that gives them."""

from __future__ import annotations

from typing import Any

from appliance.arc.grid import Grid
from appliance.program.source import DSL_HEADER
from appliance.run.task_text import CELLS, best_program, first_attempts
from appliance.run.worker_state import TaskReport

PROGRAM_CHARS = 50
"""A program with fewer characters of room than this is shown below its grids, not beside them."""

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


def side_by_side(left: Grid, right: Grid) -> Any:
    """Two grids as coloured text with an arrow between them.

    A character is half a block and so shows two cells, one above the other.
    """
    from rich.text import Text

    text = Text()
    num_lines = (max(left.shape[0], right.shape[0]) + 1) // 2

    for line in range(num_lines):
        text.append("    ")
        _half_block_line(text, left, line)
        text.append("  ->  " if line == num_lines // 2 else "      ")
        _half_block_line(text, right, line)
        text.append("\n")

    return text


def grids_and_program(report: TaskReport, width: int) -> Any:
    """Every test input with its first attempt, and the program that gives them beside it; below it
    where the terminal has no room.

    width: of the terminal, in characters.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    pairs = zip(report.task.test, first_attempts(report), strict=True)
    pictures = [side_by_side(grid, attempts[0]) for grid, attempts in pairs if attempts]
    program = Text(best_program(report).removeprefix(DSL_HEADER).strip() or CELLS, style="dim")

    picture_chars = max(line.cell_len for picture in pictures for line in picture.split())
    if picture_chars + PROGRAM_CHARS > width:
        return Group(*pictures, program)

    table = Table.grid(padding=(0, 4))
    table.add_column(no_wrap=True)
    for number, picture in enumerate(pictures):
        table.add_row(picture, program if number == 0 else "")
    return table


def _half_block_line(text: Any, grid: Grid, line: int) -> None:
    """Append the rows 2 x line and 2 x line + 1 of the grid; blanks where it has no more rows."""
    rows, columns = grid.shape
    for c in range(columns):
        top = PALETTE[grid[2 * line, c]] if 2 * line < rows else None
        low = PALETTE[grid[2 * line + 1, c]] if 2 * line + 1 < rows else None
        if top is None:
            text.append(" ")
        else:
            text.append("\u2580", style=f"{top} on {low}" if low else top)
