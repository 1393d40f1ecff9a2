"""What a person sees of a run. Four displays with one interface: rich, plain, json, none.

plain prints one line per task and event; json the same as JSON objects; rich adds a progress bar and the grids in colour.
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
    def tell(self, text: str) -> None:
        """One line about the run."""

    def show(self, report: TaskReport) -> None:
        """What a job found out about one task."""

    def close(self) -> None: ...


def make_display(
    name: str | None, *, clock: Clock, deadline_s: float, num_tasks: int, solutions: Solutions
) -> Display:
    """The named display; by default rich on a terminal and plain elsewhere. Solutions are used to mark answers, no more."""
    if name is None:
        name = "rich" if sys.stdout.isatty() else "plain"
    if name == "rich":
        return RichDisplay(
            clock=clock, deadline_s=deadline_s, num_tasks=num_tasks, solutions=solutions
        )
    if name == "json":
        return JsonDisplay(sys.stdout, solutions)
    return PlainDisplay(sys.stdout, num_tasks, solutions) if name == "plain" else NoDisplay()


class NoDisplay:
    def tell(self, text: str) -> None:
        pass

    def show(self, report: TaskReport) -> None:
        pass

    def close(self) -> None:
        pass


class JsonDisplay(NoDisplay):
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
    def __init__(self, stream: TextIO, num_tasks: int, solutions: Solutions) -> None:
        self._stream = stream
        self._num_tasks = num_tasks
        self._solutions = solutions
        self._done: dict[str, set[str]] = {}

    def tell(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def show(self, report: TaskReport) -> None:
        done = self._done.setdefault(report.stage, set())
        done.add(report.task.task_id)
        self.tell(
            f"{report.stage:5} {len(done):3}/{self._num_tasks}  {task_line(report, self._solutions)}"
        )


class RichDisplay(NoDisplay):
    """Task lines and grids scroll by above a bar that shows tasks done and time left."""

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
        self._seen: dict[str, set[str]] = {}
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
    """Attempts for each test input by this report's candidates alone."""
    voted = attempts_of({report.stage: report.candidates}, DEFAULT_SELECTOR)
    return [voted.get((report.task.task_id, i), ()) for i in range(len(report.task.test))]


def task_facts(report: TaskReport, solutions: Solutions) -> dict[str, Any]:
    """The report in plain values; "solved" is None where the answers are not known."""
    attempts = first_attempts(report)
    first = attempts[0][0] if attempts and attempts[0] else None
    answers = [c for c in report.candidates if c.test_index == 0]
    trained = report.trained
    return {
        "task_id": report.task.task_id,
        "stage": report.stage,
        "round": report.round,
        "seconds": round(report.seconds, 2),
        "num_candidates": len(report.candidates),
        "first_votes": sum(
            c.grid is not None and first is not None and same_grid(c.grid, first) for c in answers
        ),
        "num_answers": len(answers),
        "num_programs": sum(c.demo_score is not None for c in answers),
        "num_fit": sum(is_proven(c) for c in answers),
        "trained": None if trained is None else trained.reason is None,
        "num_steps": trained.num_steps if trained else 0,
        "loss_before": trained.loss_before if trained else None,
        "loss_after": trained.loss_after if trained else None,
        "not_trained_because": trained.reason if trained else None,
        "solved": is_solved(attempts, solutions.get(report.task.task_id))
        if report.candidates
        else None,
    }


def task_line(report: TaskReport, solutions: Solutions) -> str:
    """One line for people."""
    facts = task_facts(report, solutions)
    parts = [
        facts["task_id"] if report.round == 1 else f"{facts['task_id']} again ({report.round})"
    ]
    if facts["trained"]:
        parts.append(
            f"trained {facts['num_steps']} steps, loss {facts['loss_before']:.3f} -> {facts['loss_after']:.3f}"
        )
    elif facts["trained"] is False:
        parts.append(f"not trained: {facts['not_trained_because']}")
    if not report.candidates:
        parts.append("settled before: two of its programs agree")
    else:
        parts.append(f"first attempt has {facts['first_votes']} of {facts['num_answers']} votes")
    if facts["num_programs"]:
        parts.append(f"{facts['num_fit']} of {facts['num_programs']} programs fit")
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
"""The colours of the ARC web pages, 0 to 9, but for black: on a dark terminal it could not be told from what lies around."""


def side_by_side(left: Grid, right: Grid) -> Any:
    """Two grids as coloured half-block text, an arrow between them: one character is two cells, one above the other."""
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
    rows, columns = grid.shape
    for c in range(columns):
        top = PALETTE[grid[2 * line, c]] if 2 * line < rows else None
        low = PALETTE[grid[2 * line + 1, c]] if 2 * line + 1 < rows else None
        if top is None:
            text.append(" ")
        else:
            text.append("\u2580", style=f"{top} on {low}" if low else top)
