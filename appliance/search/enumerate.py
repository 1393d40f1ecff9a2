"""Forward enumeration: all programs of the DSL, the cheapest first, each run on all grids at once.

A state is a program so far with its values on every demonstration and test input. States with equal
values are one. A state keeps its parent and its call, not its values: they are computed again when
its turn comes, which costs little and saves most of the memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.program import dsl
from appliance.search.calls import FIELD, GRID, OBJECT, OBJECTS, Call
from appliance.search.mosaics import mosaic_calls
from appliance.search.pieces import Pieces

MAX_COST = 4.0
"""The dearest program that is looked at."""

LIST_LEAD = 0.3
"""Lists of objects have their turn before grids that cost so much more: few calls take them, and
without these no object is ever chosen."""

MOSAIC_COST = 1.5
"""The dearest grid that mosaics are made of."""

MAX_STATES = 400_000
"""More are not kept in mind: 100 bytes each."""

FAULTS = (ValueError, ArithmeticError, LookupError, TypeError)
"""What drops a state. Functions of the DSL raise ValueError only; the others would be a fault of
one of them, which must not end the search."""


@dataclass(eq=False, slots=True)
class State:
    """A program so far."""

    cost: float  # of all its calls, as the marks of the functions say
    order: float  # the same by what was learnt: who is cheap by it has its turn early
    kind: str  # type of its values
    parent: State | None  # None for the input itself
    call: Call | None

    def text(self) -> str:
        """The expression that gives its value, such as keep(grow(grid), 3)."""
        if self.parent is None or self.call is None:
            return "grid"
        return self.call.text.format(self.parent.text())


class Enumeration:
    """The states found so far, and those that wait for their turn."""

    def __init__(
        self,
        inputs: Sequence[dsl.Grid],
        calls: dict[str, list[Call]],
        pieces: Pieces,
        *,
        outputs: Sequence[dsl.Grid] = (),
        max_cost: float = MAX_COST,
    ) -> None:
        """inputs: of the demonstrations, then of the tests. pieces: gets every state that may be
        part of an answer. outputs: of the demonstrations, for calls that are read off them."""
        self._inputs, self._calls, self._pieces = list(inputs), calls, pieces
        self._outputs, self._max_cost = list(outputs), max_cost
        self._waiting: list[tuple[float, int, State]] = []
        self._seen: set[int] = set()
        self.num_expansions = 0
        self.num_applications = 0
        self._add(State(0.0, 0.0, GRID, None, None), self._inputs, lambda: False)

    def run(self, num_expansions: int, is_late: Callable[[], bool]) -> bool:
        """Expand so many states more. False when none is left, or when it is late."""
        last = self.num_expansions + num_expansions
        while self._waiting and self.num_expansions < last and len(self._seen) < MAX_STATES:
            _, _, state = heapq.heappop(self._waiting)
            self._expand(state, self._values(state), is_late)
            self.num_expansions += 1
            if is_late():
                return False

        return bool(self._waiting)

    def _expand(self, state: State, values: list[Any], is_late: Callable[[], bool]) -> None:
        """Try every call on the state."""
        calls = self._calls[state.kind]
        if state.kind == GRID and state.cost <= MOSAIC_COST:
            calls = [*mosaic_calls(values, self._outputs), *calls]

        for call in calls:
            cost = state.cost + call.cost
            if is_late():
                return
            if cost > self._max_cost:
                continue

            self.num_applications += 1
            try:
                results = [call.run(v, g) for v, g in zip(values, self._inputs, strict=True)]
            except FAULTS:
                continue
            order = state.order + call.order
            self._add(State(cost, order, call.gives, state, call), results, is_late)

    def _add(self, state: State, values: list[Any], is_late: Callable[[], bool]) -> None:
        key = hash((state.kind, *map(_key, values)))
        if key in self._seen:
            return
        self._seen.add(key)

        if state.kind in (GRID, FIELD):
            self._pieces.take(state, values)
        if state.kind == OBJECT:
            # Objects have few calls, and those cost next to nothing: no need to wait.
            self._expand(state, values, is_late)
        elif state.kind != FIELD and state.cost < self._max_cost:
            rank = state.order - LIST_LEAD * (state.kind == OBJECTS)
            heapq.heappush(self._waiting, (rank, len(self._seen), state))

    def _values(self, state: State) -> list[Any]:
        """Computed anew, from the input on."""
        if state.parent is None or state.call is None:
            return self._inputs
        before = self._values(state.parent)
        return [state.call.run(v, g) for v, g in zip(before, self._inputs, strict=True)]


def _key(value: Any) -> Any:
    """Equal for equal values."""
    if isinstance(value, dsl.Object):
        return value.row, value.col, value.grid.shape, value.grid.tobytes(), value.mask.tobytes()
    if isinstance(value, list):
        return tuple(map(_key, value))
    return value.shape, value.tobytes()
