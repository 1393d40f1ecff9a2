"""What a person sees of a run: four displays with one interface.

plain prints one line for each task and message, json the same as JSON objects, rich adds progress
bars and the grids in colour, none prints nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from appliance.arc.grid import Grid, same_grid, to_lists
from appliance.arc.task import Solutions
from appliance.arc.tuning_tasks import remark
from appliance.arc.vote import DEFAULT_SELECTOR, SECOND, is_proven, least_weight
from appliance.clock import Clock, format_duration
from appliance.program.source import DSL_HEADER
from appliance.record.attempts import attempts_of, program_of
from appliance.run.worker_state import TaskReport

CELLS = "cells (no program)"
"""What answers of trees that learn cells are called: no program stands behind them."""


class Display(Protocol):
    """Where the orchestrator says what happens."""

    def tell(self, text: str) -> None:
        """One line about the run."""

    def show(self, report: TaskReport) -> None:
        """What a job found out about one task."""

    def close(self) -> None: ...


def make_display(
    name: str | None, *, clock: Clock, deadline_s: float, num_tasks: int, solutions: Solutions
) -> Display:
    """The named display; by default rich on a terminal and plain elsewhere.

    solutions: used only to say whether a task is solved; empty where they are not known.
    """
    if name is None:
        name = "rich" if sys.stdout.isatty() else "plain"

    if name == "rich":
        return RichDisplay(
            clock=clock, deadline_s=deadline_s, num_tasks=num_tasks, solutions=solutions
        )
    if name == "json":
        return JsonDisplay(sys.stdout, solutions)
    if name == "plain":
        return PlainDisplay(sys.stdout, num_tasks, solutions)
    return NoDisplay()


class NoDisplay:
    """Shows nothing; the other displays replace what they show."""

    def tell(self, text: str) -> None:
        pass

    def show(self, report: TaskReport) -> None:
        pass

    def close(self) -> None:
        pass


class JsonDisplay(NoDisplay):
    """One JSON object a line: {"event": "message", "text": ...} or {"event": "task", ...}."""

    def __init__(self, stream: TextIO, solutions: Solutions) -> None:
        self._stream = stream
        self._solutions = solutions

    def tell(self, text: str) -> None:
        self._put({"event": "message", "text": text})

    def show(self, report: TaskReport) -> None:
        facts = task_facts(report, self._solutions)
        facts["attempts"] = [[to_lists(g) for g in grids] for grids in first_attempts(report)]
        self._put({"event": "task", **facts})

    def _put(self, value: Mapping[str, Any]) -> None:
        print(json.dumps(value), file=self._stream, flush=True)


class PlainDisplay(NoDisplay):
    """One line a task, such as

    search   2/10  3c9b0459 | 0.62 sure | exact | 2.1 s | SOLVED
    deep     3/10  007bbfb7 | trained 40 steps, loss 0.912 -> 0.034 | first attempt has 5 of 8 votes
    """

    def __init__(self, stream: TextIO, num_tasks: int, solutions: Solutions) -> None:
        self._stream = stream
        self._num_tasks = num_tasks
        self._solutions = solutions
        self._done: dict[str, set[str]] = {}  # stage: ids of tasks that were shown

    def tell(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def show(self, report: TaskReport) -> None:
        done = self._done.setdefault(report.stage, set())
        done.add(report.task.task_id)
        place = f"{report.stage:6} {len(done):3}/{self._num_tasks}"
        self.tell(f"{place}  {task_line(report, self._solutions)}")


PROGRAM_CHARS = 50
"""A program with fewer characters of room than this is shown below its grids, not beside them."""

BARS = {"search": "search    ", "quick": "quick pass", "deep": "deep pass "}
"""Names of the bars, by stage."""


class RichDisplay(NoDisplay):
    """Lines and grids of tasks scroll by above bars that show tasks done and time left."""

    def __init__(
        self, *, clock: Clock, deadline_s: float, num_tasks: int, solutions: Solutions
    ) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._clock = clock
        self._deadline_s = deadline_s
        self._solutions = solutions
        self._console = Console()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            transient=True,
            get_time=clock.now,
        )
        self._num_tasks = num_tasks
        self._bars: dict[str, Any] = {}  # by stage, from its first task on
        self._seen: dict[str, set[str]] = {}  # stage: ids of tasks that were shown
        self._progress.start()

    def tell(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, style="dim")
        self._tick()

    def show(self, report: TaskReport) -> None:
        seen = self._seen.setdefault(report.stage, set())
        seen.add(report.task.task_id)
        if report.stage not in self._bars:
            bar = self._progress.add_task(BARS[report.stage], total=self._num_tasks, left="")
            self._bars[report.stage] = bar
        self._progress.update(self._bars[report.stage], completed=len(seen))
        self._tick()
        self._console.print(task_line(report, self._solutions), highlight=False, markup=False)

        if report.stage == "search" and is_worth_showing(report, self._solutions):
            self._console.print(grids_and_program(report, self._console.width))

        # Grids only after training: those of the quick pass would scroll by too fast to be seen.
        if report.stage == "deep":
            for test_index, grids in enumerate(first_attempts(report)):
                if grids:
                    self._console.print(side_by_side(report.task.test[test_index], grids[0]))

    def close(self) -> None:
        self._progress.stop()

    def _tick(self) -> None:
        left = format_duration(max(0.0, self._deadline_s - self._clock.now()))
        for bar in self._bars.values():
            self._progress.update(bar, left=f"{left} left")


def first_attempts(report: TaskReport) -> list[tuple[Grid, ...]]:
    """Attempts for each test input, by a vote of this report's candidates alone."""
    voted = attempts_of({report.stage: report.candidates}, DEFAULT_SELECTOR)
    return [voted.get((report.task.task_id, i), ()) for i in range(len(report.task.test))]


def task_facts(report: TaskReport, solutions: Solutions) -> dict[str, Any]:
    """The report in plain values, as --display json prints them."""
    attempts = first_attempts(report)
    first = attempts[0][0] if attempts and attempts[0] else None
    answers = [c for c in report.candidates if c.test_index == 0]
    grids = [c.grid for c in answers if c.grid is not None]
    trained = report.trained
    answer = solutions.get(report.task.task_id)

    return {
        "task_id": report.task.task_id,
        "stage": report.stage,
        "round": report.round,
        "seconds": round(report.seconds, 2),
        "num_candidates": len(report.candidates),
        # Of the first test input: answers, and how many of them are the first attempt.
        "first_votes": 0 if first is None else sum(same_grid(g, first) for g in grids),
        "num_answers": len(answers),
        # Of the programs that a model wrote among them: all, and those that are right on every
        # demonstration.
        "num_programs": sum(c.demo_score is not None and not c.is_searched for c in answers),
        "num_fit": sum(is_proven(c) for c in answers),
        "trained": None if trained is None else trained.reason is None,  # None: not tried
        "num_steps": trained.num_steps if trained else 0,
        "loss_before": trained.loss_before if trained else None,
        "loss_after": trained.loss_after if trained else None,
        "not_trained_because": trained.reason if trained else None,
        # None: not known
        "solved": is_solved(attempts, answer) if report.candidates or report.searched else None,
        "search": search_facts(report),
    }


def search_facts(report: TaskReport) -> dict[str, Any] | None:
    """What a search without a model found; None for another stage."""
    searched = report.searched
    if searched is None:
        return None

    facts = searched.model_dump(exclude={"event", "job_id", "task_id", "seconds"})
    return facts | {
        "weight": round(least_weight(len(report.task.test), report.candidates), 4),
        "program": best_program(report),
    }


def best_program(report: TaskReport) -> str:
    """The program that gives the first attempt at the first test input, "" without one."""
    first = first_attempts(report)[0]
    answers = [c for c in report.candidates if c.test_index == 0]
    return program_of(first[0], answers) if first else ""


def task_line(report: TaskReport, solutions: Solutions) -> str:
    """The report in one line, for people."""
    facts = task_facts(report, solutions)
    parts = [facts["task_id"]]
    if report.round > 1:
        parts[0] += f" (round {report.round})"

    if facts["trained"]:
        loss = f"{facts['loss_before']:.3f} -> {facts['loss_after']:.3f}"
        parts.append(f"trained {facts['num_steps']} steps, loss {loss}")
    elif facts["trained"] is False:
        parts.append(f"not trained: {facts['not_trained_because']}")

    if facts["search"]:
        parts += _search_parts(facts["search"])
    elif not report.candidates:
        parts.append("no more answers needed: two of its programs agree")
    elif not facts["first_votes"]:
        parts.append(f"no usable answer among {facts['num_answers']}")
    else:
        parts.append(f"first attempt has {facts['first_votes']} of {facts['num_answers']} votes")
    if facts["num_programs"]:
        parts.append(
            f"{facts['num_fit']} of {facts['num_programs']} programs fit the demonstrations"
        )

    parts.append(format_duration(report.seconds))
    if facts["solved"] is not None:
        parts.append("SOLVED" if facts["solved"] else "not solved")
    if told := remark(facts["task_id"]):
        parts[-1] += f" ({told})"
    return " | ".join(parts)


def _search_parts(found: Mapping[str, Any]) -> list[str]:
    if not found["num_answers"]:
        return ["no answer"]
    kind = found["kind"]
    return [f"{found['weight']:.2f} sure", CELLS if kind == "cells" else kind]


def is_worth_showing(report: TaskReport, solutions: Solutions) -> bool:
    """Whether a search is sure of an attempt, or solved the task. Guesses would hide the rest."""
    is_sure = least_weight(len(report.task.test), report.candidates) > SECOND
    return is_sure or bool(task_facts(report, solutions)["solved"])


def is_solved(attempts: list[tuple[Grid, ...]], answers: tuple[Grid, ...] | None) -> bool | None:
    """Whether every test output is among its attempts; None when the answers are not known."""
    if answers is None:
        return None
    return all(
        any(same_grid(g, a) for g in grids) for grids, a in zip(attempts, answers, strict=True)
    )


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
