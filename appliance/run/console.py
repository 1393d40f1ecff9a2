"""What a person sees of a run: four displays with one interface.

plain prints one line for each task and message, json the same as JSON objects, rich shows the whole
run in one view (screen/), none prints nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO

from appliance.arc.grid import to_lists
from appliance.arc.task import Solutions
from appliance.clock import Clock
from appliance.foreign_text import as_shown
from appliance.process import guard
from appliance.process.streams import lost_output
from appliance.program.source import DSL_HEADER
from appliance.record.journal import Journal
from appliance.run.screen.screen import REFRESH_S, Screen
from appliance.run.screen.terminal import is_capable
from appliance.run.task_text import first_attempts, task_facts, task_line
from appliance.run.worker_state import TaskReport, WorkerState


class Display(Protocol):
    """Where the orchestrator says what happens."""

    def tell(self, text: str) -> None:
        """One line about the run."""

    def show(self, report: TaskReport) -> None:
        """What a job found out about one task."""

    def beat(self, workers: Mapping[int, WorkerState]) -> None:
        """What the workers do at the moment: told every second or so."""

    def close(self) -> None: ...


def make_display(
    name: str | None,
    *,
    journal: Journal,
    run: str,
    clock: Clock,
    num_tasks: int,
    solutions: Solutions,
) -> Display:
    """The named display; by default rich on a terminal and plain elsewhere.

    rich needs a terminal that moves its cursor; without one it is plain. run: its name, for people.
    solutions: used only to say whether a task is solved; empty where they are not known.
    """
    if name in (None, "rich"):
        name = "rich" if is_capable() else "plain"

    if name == "rich":
        return RichDisplay(
            journal=journal, name=run, clock=clock, num_tasks=num_tasks, solutions=solutions
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

    def beat(self, workers: Mapping[int, WorkerState]) -> None:
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

    def beat(self, workers: Mapping[int, WorkerState]) -> None:
        self._try(lambda: self._display.beat(workers))

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
        self._done: dict[str, set[str]] = {}  # stage: ids of tasks that came through

    def tell(self, text: str) -> None:
        print(as_shown(text), file=self._stream, flush=True)

    def count(self, report: TaskReport) -> int:
        """Tasks that came through this stage, this one included, whether they were shown or not."""
        done = self._done.setdefault(report.stage, set())
        done.add(report.task.task_id)
        return len(done)

    def show(self, report: TaskReport) -> None:
        place = f"{report.stage:6} {self.count(report):3}/{self._num_tasks}"
        self.tell(f"{place}  {task_line(report, self._solutions)}")

        facts = task_facts(report, self._solutions)
        if facts["search"] and facts["solved"]:
            self._show_program(facts["search"]["program"])

    def _show_program(self, program: str) -> None:
        """What solved the task is worth its lines."""
        for line in program.removeprefix(DSL_HEADER).strip().splitlines():
            self.tell(f"    {line}")


class RichDisplay(NoDisplay):
    """One view of the whole run on the terminal, see `screen.view`; plain lines before it begins
    and after it was left."""

    KEYS = (
        "Ctrl-C stops the run, the same command goes on   q leaves this view, the run goes on   "
        "space more tasks"
    )

    def __init__(
        self, *, journal: Journal, name: str, clock: Clock, num_tasks: int, solutions: Solutions
    ) -> None:
        """journal: of the run, which all that is shown comes from. name: of the run, for people."""
        self._journal, self._clock = journal, clock
        self._lines = PlainDisplay(sys.stdout, num_tasks, solutions)
        self._screen = Screen(name, solutions, keys=self.KEYS)
        self._is_left = False
        self._painted_s = float("-inf")

    def tell(self, text: str) -> None:
        if not self._screen.is_open:
            self._lines.tell(text)

    def show(self, report: TaskReport) -> None:
        if self._is_left:
            self._lines.show(report)
        else:
            self._lines.count(report)

    def beat(self, workers: Mapping[int, WorkerState]) -> None:
        if self._is_left:
            return
        if not self._screen.is_open:
            self._screen.open()
        if self._screen.is_left():
            self._is_left = True
            self._screen.close(self._clock.now())
            return

        now_s = self._clock.now()
        if now_s >= self._painted_s + REFRESH_S:
            self._painted_s = now_s
            self._screen.take(self._screen.look(self._journal))
            self._screen.paint(now_s)

    def close(self) -> None:
        if self._screen.is_open:
            self._screen.take(self._screen.look(self._journal))
            self._screen.close(self._clock.now())
        self._is_left = True
