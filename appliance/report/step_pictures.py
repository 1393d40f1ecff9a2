"""Draws what a program has made of a test input after each of its steps: run in the sandbox."""

from __future__ import annotations

import contextlib
from typing import Any

from appliance.arc.grid import Grid, grid_key
from appliance.arc.view import View
from appliance.clock import Deadline, SystemClock
from appliance.errors import PrerequisiteError
from appliance.program.sandbox import Limits, Program, Sandbox
from appliance.program.steps import Step, steps_of
from appliance.report.run_data import packed

MOST_S = 60.0
"""Seconds for the steps of all programs of a run; a step takes some 10 ms."""


class StepDrawer:
    """Draws steps, with a sandbox that is there from the first program on."""

    def __init__(self) -> None:
        self.notes: list[str] = []  # sentences about what is not drawn
        self._sandbox: Sandbox | None = None
        self._deadline: Deadline | None = None  # from the first program on
        self._num_left = 0

    def __enter__(self) -> StepDrawer:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._sandbox:
            self._sandbox.close()
        if self._num_left:
            self.notes.append(
                f"Steps of {self._num_left} programs are not drawn: it would take too long."
            )

    def draw(self, program: str, view: str, grid: Grid) -> list[dict[str, Any]]:
        """The steps of this program at that test input; none where there is no sandbox.

        view: name of the view of the task that it was written for, "" for the task itself. The
        pictures are turned back from it.
        """
        if self._deadline is None:
            clock = SystemClock()
            self._deadline = Deadline(clock.now() + MOST_S, clock)
            try:
                self._sandbox = Sandbox(Limits(), workers=1)
            except PrerequisiteError as fault:
                self.notes.append(f"Steps of programs are not drawn: {fault.found}.")

        if self._sandbox is None:
            return []
        if self._deadline.is_past():
            self._num_left += 1
            return []
        return _drawn(steps_of(program), _view_of(view), grid, self._sandbox)


def _view_of(name: str) -> View:
    """The task as it is, where the journal names no view."""
    with contextlib.suppress(ValueError):
        return View.parse(name)
    return View()


def _drawn(steps: list[Step], view: View, grid: Grid, sandbox: Sandbox) -> list[dict[str, Any]]:
    """Without steps that give no picture, and calls that change nothing."""
    results = sandbox.run(Program(step.source, (view.apply(grid),)) for step in steps)
    drawn: list[dict[str, Any]] = []
    last = grid_key(grid)
    for step, result in zip(steps, results, strict=True):
        (found,) = result.outputs
        if found is None or grid_key(view.invert(found)) == last:
            continue
        shown = view.invert(found)
        drawn.append({"code": step.code, "grid": packed(shown), "is_line": step.is_line})
        last = grid_key(shown)
    return drawn
