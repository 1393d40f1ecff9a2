"""The search of one task: views, enumeration, fits, the cell learner, and answers by weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from appliance.arc.grid import NUM_COLOURS, freeze
from appliance.arc.task import Task
from appliance.clock import cpu_seconds
from appliance.program import dsl
from appliance.search.answers import Answer, Found, Limits
from appliance.search.calls import catalogue
from appliance.search.enumerate import Enumeration
from appliance.search.fits import Fit, all_fits, quick_fits
from appliance.search.pieces import Group, Pieces
from appliance.search.views import ColourView, colour_views

VIEW_SHARES = (0.6, 0.4)
"""Parts of the expansions that the first and the second view get."""

SOON_SHARE = 0.3
"""After this part of a view's expansions it is looked whether a cheap fit ends the view."""

CHEAP_COST = 3.0
"""An exact fit, or one of colours, of at most this cost ends the enumeration."""

RANKS_COST = 0.7
"""Added to the cost of answers of the view by ranks."""

ENUMERATION_SHARE = 0.6
"""Part of the CPU seconds after which no more is enumerated: the fits need the rest."""


def search_task(task: Task, limits: Limits, *, seed: int = 0) -> Found:
    """Answers to all test inputs of a task, the heaviest first.

    The same limits.expansions and seed give the same answers, unless the time ended the search.
    """
    began_s = cpu_seconds()
    num_expansions = num_applications = 0
    answers: list[Answer] = []
    bound = ""

    def is_late(share: float = 1.0) -> bool:
        return cpu_seconds() - began_s > share * limits.cpu_s

    for view, share in zip(colour_views(task), VIEW_SHARES, strict=False):
        searched = _ViewSearch(view)
        is_settled = searched.run(
            round(share * limits.expansions), lambda: is_late(ENUMERATION_SHARE)
        )
        answers += searched.answers(is_late)

        num_expansions += searched.enumeration.num_expansions
        num_applications += searched.enumeration.num_applications
        bound = bound or searched.bound
        if is_settled:
            break

    if is_late():
        bound = "time"
    answers.sort(key=lambda a: -a.weight)
    return Found(tuple(answers), num_expansions, num_applications, cpu_seconds() - began_s, bound)


class _ViewSearch:
    """The search under one view."""

    def __init__(self, view: ColourView) -> None:
        self._view = view
        self._outputs = np.concatenate([o.ravel() for o in view.outputs]).astype(np.uint8).tobytes()
        self._pieces = Pieces(view.outputs)
        self.enumeration = Enumeration(view.inputs, catalogue(view.colours), self._pieces)
        self.bound = ""

    def run(self, num_expansions: int, is_late: Callable[[], bool]) -> bool:
        """Enumerate. True where a cheap fit ended it early, and no other view is needed."""
        soon = round(SOON_SHARE * num_expansions)
        has_more = self.enumeration.run(soon, is_late)
        if self._has_cheap_fit():
            return True

        has_more = has_more and self.enumeration.run(num_expansions - soon, is_late)
        if has_more:
            self.bound = "expansions"
        return False

    def answers(self, is_late: Callable[[], bool]) -> Iterator[Answer]:
        for group in self._pieces.groups():
            for fit in all_fits(group, self._outputs, is_late):
                if fit.test.max(initial=0) < NUM_COLOURS:
                    yield self._answer(fit, group)

    def _has_cheap_fit(self) -> bool:
        return any(
            fit.cost <= CHEAP_COST
            for group in self._pieces.groups()
            for fit in quick_fits(group, self._outputs)
        )

    def _answer(self, fit: Fit, group: Group) -> Answer:
        view = self._view
        tests = view.originals[len(view.outputs) :]
        grids = [
            view.undo(grid, original)
            for grid, original in zip(_split(fit.test, group), tests, strict=True)
        ]
        cost = fit.cost + RANKS_COST * (view.name == "ranks")
        return Answer(
            tuple(freeze(g.astype(np.int8)) for g in grids),
            0.5**cost,
            fit.kind,
            view.program(list(fit.lines), fit.output),
        )


def _split(cells: np.ndarray, group: Group) -> Iterator[dsl.Grid]:
    """The grids of the tests, from all their cells in one row."""
    start = 0
    for shape in group.test_shapes:
        size = int(np.prod(shape))
        yield cells[start : start + size].reshape(shape).astype(np.int64)
        start += size
