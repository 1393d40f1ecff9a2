"""What a person sees of a run: four displays with one interface.

plain prints one line for each task and message, json the same as JSON objects, rich adds progress
bars and the grids in colour, none prints nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO

from appliance.arc.grid import to_lists
from appliance.arc.task import Solutions
from appliance.clock import Clock, format_duration
from appliance.foreign_text import as_shown
from appliance.process import guard
from appliance.process.streams import lost_output
from appliance.program.source import DSL_HEADER
from appliance.run.pictures import grids_and_program, side_by_side
from appliance.run.task_text import first_attempts, is_worth_showing, task_facts, task_line
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


class Shielded(NoDisplay):
    """A display whose faults change nothing: the first is noted, and the run goes on."""

    def __init__(self, display: Display, note: Callable[[str], None]) -> None:
        """note: keeps one line about what is not shown."""
        self._display = display
        self._note = note
        self._is_noted = False

    def tell(self, text: str) -> None:
        self._try(lambda: self._display.tell(text))

    def show(self, report: TaskReport) -> None:
        self._try(lambda: self._display.show(report))

    def close(self) -> None:
        self._try(self._display.close)

    def _try(self, call: Callable[[], None]) -> None:
        fault: Exception | None
        try:
            call()
            fault = lost_output()
        except Exception as raised:
            if guard.is_off():
                raise
            fault = raised

        if fault is not None and not self._is_noted:
            self._is_noted = True
            self._note(f"not all of it was shown ({guard.name_of(fault)}); the run went on")


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
    """One line a task, and the program of a search below a task that it solved, such as

    search   2/10  3c9b0459 | 0.62 sure | exact | 2.1 s | SOLVED
        def transform(grid):
            return flip_h(grid)
    deep     3/10  007bbfb7 | trained 40 steps, loss 0.912 -> 0.034 | first attempt has 5 of 8 votes
    """

    def __init__(self, stream: TextIO, num_tasks: int, solutions: Solutions) -> None:
        self._stream = stream
        self._num_tasks = num_tasks
        self._solutions = solutions
        self._done: dict[str, set[str]] = {}  # stage: ids of tasks that were shown

    def tell(self, text: str) -> None:
        print(as_shown(text), file=self._stream, flush=True)

    def show(self, report: TaskReport) -> None:
        done = self._done.setdefault(report.stage, set())
        done.add(report.task.task_id)
        place = f"{report.stage:6} {len(done):3}/{self._num_tasks}"
        self.tell(f"{place}  {task_line(report, self._solutions)}")

        facts = task_facts(report, self._solutions)
        if facts["search"] and facts["solved"]:
            self._show_program(facts["search"]["program"])

    def _show_program(self, program: str) -> None:
        """What solved the task is worth its lines."""
        for line in program.removeprefix(DSL_HEADER).strip().splitlines():
            self.tell(f"    {line}")


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
        self._console.print(as_shown(text), highlight=False, markup=False, style="dim")
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
