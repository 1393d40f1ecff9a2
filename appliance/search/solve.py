"""The search of one task: views, enumeration, fits, the cell learner, and answers by weight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from appliance.arc.grid import NUM_COLOURS, freeze
from appliance.arc.task import Task
from appliance.clock import cpu_seconds
from appliance.program import dsl
from appliance.search.answers import Answer, Found, Limits
from appliance.search.calls import catalogue
from appliance.search.cell_table import cell_table
from appliance.search.cells.learn import cell_answers
from appliance.search.enumerate import Enumeration
from appliance.search.fits import Fit, all_fits, quick_fits
from appliance.search.pieces import Cells, Group, Pieces
from appliance.search.views import ColourView, colour_views

VIEW_SHARES = (0.6, 0.4, 0.3)
"""Parts of the expansions that each view gets. Few tasks have a third one; it comes on top."""

SOON_SHARE = 0.3
"""After this part of a view's expansions it is looked whether a cheap fit ends the enumeration."""

CHEAP_COST = 3.0
"""A fit of one piece that costs no more ends it, and no other view is enumerated."""

RANKS_COST = 0.7
"""Added to the cost of programs of the view by ranks."""

VIEWS_TIME_SHARES = (0.45, 0.75, 0.9)
"""Parts of the CPU seconds after which each view enumerates no more."""

FITS_TIME_SHARES = (0.5, 0.85, 0.93)
"""And after which no fits are looked for; the rest is for the cell learner."""


class Stopwatch:
    """The CPU seconds of one search."""

    def __init__(self, limit_s: float) -> None:
        self._began_s, self._limit_s = cpu_seconds(), limit_s
        self.was_late = False  # something was left out for lack of time

    def used_s(self) -> float:
        return cpu_seconds() - self._began_s

    def is_late(self, share: float = 1.0) -> bool:
        """Whether this part of the seconds is over."""
        is_late = self.used_s() > share * self._limit_s
        self.was_late |= is_late
        return is_late


def search_task(task: Task, limits: Limits, *, seed: int = 0) -> Found:
    """Answers to all test inputs of a task, the heaviest first.

    The same limits.expansions and seed give the same answers, unless the time ended the search
    (Found.bound is "time"). The seed matters to the cell learner only.
    """
    watch = Stopwatch(limits.cpu_s)
    searches: list[ViewSearch] = []
    answers: list[Answer] = []

    for number, view in enumerate(colour_views(task)):
        search = ViewSearch(view, watch, number)
        searches.append(search)
        is_settled = search.run(round(VIEW_SHARES[number] * limits.expansions))
        answers += search.program_answers()
        if is_settled:
            break

    for search in searches:
        answers += search.cell_answers(seed)

    answers.sort(key=lambda answer: -answer.weight)
    has_more = any(search.has_more for search in searches)
    return Found(
        tuple(answers),
        expansions=sum(s.enumeration.num_expansions for s in searches),
        applications=sum(s.enumeration.num_applications for s in searches),
        cpu_s=watch.used_s(),
        bound="time" if watch.was_late else "expansions" if has_more else "",
    )


class ViewSearch:
    """The search under one view."""

    def __init__(self, view: ColourView, watch: Stopwatch, number: int) -> None:
        """number: which view of the task it is, from 0 on."""
        self._view, self._watch, self._number = view, watch, number
        self._outputs = np.concatenate([o.ravel() for o in view.outputs]).astype(np.uint8).tobytes()
        self._pieces = Pieces(view.outputs)
        self._groups: list[Group] = []
        self.enumeration = Enumeration(
            view.inputs, catalogue(view.colours), self._pieces, outputs=view.outputs
        )
        self.has_more = False  # states were left when the expansions were used up

    def run(self, num_expansions: int) -> bool:
        """Enumerate. True where a cheap fit ended it early, and no other view is needed."""
        soon = round(SOON_SHARE * num_expansions)
        is_late = partial(self._watch.is_late, VIEWS_TIME_SHARES[self._number])
        self.has_more = self.enumeration.run(soon, is_late)
        if self._has_cheap_fit():
            self.has_more = False
            return True

        if self.has_more:
            self.has_more = self.enumeration.run(num_expansions - soon, is_late)
        return False

    def program_answers(self) -> Iterator[Answer]:
        """What the fits make of the pieces."""
        self._groups = self._pieces.groups()
        is_late = partial(self._watch.is_late, FITS_TIME_SHARES[self._number])
        for group in self._groups:
            for fit in all_fits(group, self._outputs, is_late):
                if fit.test.max(initial=0) < NUM_COLOURS:
                    yield self._program_answer(fit, group)

    def cell_answers(self, seed: int) -> Iterator[Answer]:
        """What the trees make of the cells."""
        table = cell_table(self._view, self._groups)
        if table is None:
            return

        bases, pieces = table
        found = cell_answers(
            bases, self._view.outputs, pieces, seed=seed, is_out_of_time=self._watch.is_late
        )
        for answer in found:
            yield self._answer(answer.grids, answer.cost, "cells", "")

    def _has_cheap_fit(self) -> bool:
        return any(
            fit.cost <= CHEAP_COST
            for group in self._pieces.groups()
            for fit in quick_fits(group, self._outputs)
        )

    def _program_answer(self, fit: Fit, group: Group) -> Answer:
        program = self._view.program(list(fit.lines), fit.output)
        cost = fit.cost + RANKS_COST * (self._view.name == "ranks")
        return self._answer(_grids(fit.test, group), cost, fit.kind, program)

    def _answer(self, shown: Iterable[dsl.Grid], cost: float, kind: str, program: str) -> Answer:
        """With the colours that the task has without the view."""
        tests = self._view.originals[len(self._view.outputs) :]
        grids = [self._view.undo(g, o) for g, o in zip(shown, tests, strict=True)]
        return Answer(tuple(freeze(g.astype(np.int8)) for g in grids), 0.5**cost, kind, program)


def _grids(cells: Cells, group: Group) -> list[dsl.Grid]:
    """The grids of the tests, from all their cells in one row."""
    sizes = [height * width for height, width in group.test_shapes]
    parts = np.split(cells.astype(np.int64), np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, group.test_shapes, strict=True)]
