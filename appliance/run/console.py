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
from appliance.arc.vote import DEFAULT_SELECTOR, is_proven
from appliance.clock import Clock, format_duration
from appliance.record.attempts import attempts_of
from appliance.run.worker_state import TaskReport


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

    deep    3/10  007bbfb7 | trained 40 steps, loss 0.912 -> 0.034 | first attempt has 5 of 8 votes
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
        place = f"{report.stage:5} {len(done):3}/{self._num_tasks}"
        self.tell(f"{place}  {task_line(report, self._solutions)}")


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
        self._bars = {
            "quick": self._progress.add_task("quick pass", total=num_tasks, left=""),
            "deep": self._progress.add_task("deep pass ", total=num_tasks, left=""),
        }
        self._seen: dict[str, set[str]] = {}  # stage: ids of tasks that were shown
        self._progress.start()

    def tell(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, style="dim")
        self._tick()

    def show(self, report: TaskReport) -> None:
        seen = self._seen.setdefault(report.stage, set())
        seen.add(report.task.task_id)
        self._progress.update(self._bars[report.stage], completed=len(seen))
        self._tick()
        self._console.print(task_line(report, self._solutions), highlight=False, markup=False)

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
        # Of the programs among them: all, and those that are right on every demonstration.
        "num_programs": sum(c.demo_score is not None for c in answers),
        "num_fit": sum(is_proven(c) for c in answers),
        "trained": None if trained is None else trained.reason is None,  # None: not tried
        "num_steps": trained.num_steps if trained else 0,
        "loss_before": trained.loss_before if trained else None,
        "loss_after": trained.loss_after if trained else None,
        "not_trained_because": trained.reason if trained else None,
        "solved": is_solved(attempts, answer) if report.candidates else None,  # None: not known
    }


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

    if not report.candidates:
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
    return " | ".join(parts)


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
