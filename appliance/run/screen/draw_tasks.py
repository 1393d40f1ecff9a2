"""The tasks of a run as lines of a terminal: each as a letter, as a row of a table, and the latest
one in colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from appliance.clock import format_duration
from appliance.program.source import DSL_HEADER
from appliance.record.attempts import program_of
from appliance.record.standing import SOURCES
from appliance.run.screen.lines import joined, line_of, shortened
from appliance.run.screen.pictures import side_by_side
from appliance.run.screen.view import RunView, TaskView

if TYPE_CHECKING:
    from rich.text import Text

LETTERS = {"program": "P", "search": "S", "cells": "C", "trained": "T", "plain": "M", "guess": "."}
"""Of a task in the mosaic, by the source of its answer."""

LEGEND = "S search  C search, no program  P model's program  T trained  M plain  . nothing"

SURE, UNSURE = 0.8, 0.3
"""From the first chance on an answer is bright, below the second one it is dim."""

TASK_WIDTH = 70
"""Of a column of tasks, with the gap behind it."""

SOLVED, MISSED = "\u2713", "\u2717"


def mosaic_of(view: RunView, width: int) -> list[Text]:
    """Every task as a letter, in the order of the tasks file."""
    if len(view.tasks) < 2:
        return []
    working = view.working_on()
    cells = [
        (LETTERS[t.standing.source], _style(t) + (" reverse" if t.task_id in working else ""))
        for t in view.tasks.values()
    ]
    lines = [line_of(LEGEND, "dim")]
    for first in range(0, len(cells), width - 1):
        runs = groupby(cells[first : first + width - 1], key=lambda cell: cell[1])
        lines.append(joined(*(("".join(c for c, _ in run), style) for style, run in runs)))
    return lines


def _style(task: TaskView) -> str:
    if task.is_solved:
        return "bold green"
    if task.is_solved is False and task.standing.source != "guess":
        return "red"
    if task.standing.chance >= SURE:
        return "bold cyan"
    return "cyan" if task.standing.chance >= UNSURE else "dim"


def tasks_of(view: RunView, width: int, num_lines: int, page: int) -> list[Text]:
    """Those at work first, then the latest. Beside them a picture, or more columns."""
    num_rows = num_lines - 1
    working, ahead = view.working_on(), view.working_on()
    if len(ahead) > num_rows // 2:  # many are searched at once: they would hide the rest
        ahead = view.working_on("device")
    order = {task_id: number for number, task_id in enumerate(view.tasks)}
    tasks = sorted(
        view.tasks.values(),
        key=lambda t: (t.task_id not in ahead, -t.changed_s, order[t.task_id]),
    )
    picture = _picture(view, width - TASK_WIDTH, num_lines)
    num_columns = 1 if picture else max(1, width // TASK_WIDTH)
    num_columns = max(1, min(num_columns, math.ceil(len(tasks) / num_rows)))
    num_pages = max(1, math.ceil(len(tasks) / (num_rows * num_columns)))
    first = page % num_pages * num_rows * num_columns
    shown = tasks[first : first + num_rows * num_columns]

    head = f"{'task':12} {'state':18} {'answer':18} {'sure':>4}   {'time':>10}"
    lines = [line_of("".join(head.ljust(TASK_WIDTH) for _ in range(num_columns)).rstrip(), "dim")]
    for row in range(min(num_rows, len(shown))):
        line = line_of("")
        for task in shown[row::num_rows]:
            line.append_text(_task(task, working.get(task.task_id, "")))
        lines.append(line)
    return _beside(lines, picture)


def _picture(view: RunView, room: int, num_lines: int) -> list[Text]:
    """A task in colour with its program, no wider and no longer than that; nothing where it does
    not fit."""
    if view.pictured is None or room < TASK_WIDTH or view.pictured.task_id not in view.tasks:
        return []
    shown, task = view.pictured, view.tasks[view.pictured.task_id]
    attempts = task.standing.attempts
    if not task.is_worth_showing or not attempts[0]:
        return []

    attempt = attempts[0][0]
    mark = ""
    if task.is_solved is not None:
        mark = f", solved {SOLVED}" if task.is_solved else f", not solved {MISSED}"
    told = f"{SOURCES[task.standing.source]}, {task.standing.chance:.0%} sure{mark}"
    lines = [joined((shown.task_id, "bold"), (f"  {told}", "dim"))]
    lines += side_by_side(shown.test[0], attempt)
    answers = [c for found in task.found.values() for c in found if c.test_index == 0]
    program = program_of(attempt, answers).removeprefix(DSL_HEADER).strip().splitlines()
    if max(line.cell_len for line in lines) > room or len(lines) > num_lines:
        return []
    return [*lines, *(line_of(line, "dim") for line in program)][:num_lines]


def _beside(left: Sequence[Text], right: Sequence[Text]) -> list[Text]:
    lines = []
    for row in range(max(len(left), len(right))):
        line = left[row] if row < len(left) else line_of("")
        if row < len(right):
            line.pad_right(max(0, TASK_WIDTH - line.cell_len))
            line.append_text(right[row])
        lines.append(line)
    return lines


def _task(task: TaskView, doing: str) -> Text:
    standing = task.standing
    is_there = standing.source != "guess"
    source = SOURCES[standing.source] if is_there else ""
    sure = f"{standing.chance:.0%}" if is_there else ""
    mark, style = "", ""
    if task.is_solved is not None and is_there:
        mark, style = (SOLVED, "bold green") if task.is_solved else (MISSED, "red")
    state = shortened(doing or task.state, 18)
    took = format_duration(task.seconds) if task.rows else ""
    line = joined(
        (f"{shortened(task.task_id, 12):12} ", "bold" if doing else ""),
        (f"{state:18} ", "yellow" if doing else "dim" if state == "waiting" else ""),
        (f"{source:18} ", ""),
        (f"{sure:>4} ", _style(task) if is_there and task.is_solved is None else ""),
        (f"{mark:1} ", style),
        (f"{took:>10}", "dim"),
    )
    line.pad_right(max(0, TASK_WIDTH - line.cell_len))
    return line
