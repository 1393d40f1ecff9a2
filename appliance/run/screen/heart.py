"""Writes the pulse of a run into its journal, for whoever watches it, here or elsewhere."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence

from appliance.clock import Clock
from appliance.errors import ApplianceError
from appliance.machine.load import CardLoad, LoadMeter
from appliance.record.journal import Journal
from appliance.record.pulse import Pulse, WorkerPulse, put_pulse
from appliance.run.console import Display
from appliance.run.screen.worker_text import doing, work
from appliance.run.worker_state import TaskReport, WorkerState

EVERY_S = 2.0
"""Seconds between two beats, at least."""

WRITE_SHARE = 0.01
"""Share of the time that the beats may take: a slow disk gets fewer."""


class Heart:
    """Between the orchestrator and a display: it passes everything on, and beats."""

    def __init__(
        self,
        display: Display,
        journal: Journal,
        clock: Clock,
        *,
        start_s: float,
        deadline_s: float,
        cards: Sequence[str] = (),
    ) -> None:
        """cards: UUID of each device worker's GPU."""
        self._display, self._journal, self._clock = display, journal, clock
        self._start_s, self._deadline_s = start_s, deadline_s
        self._cards = cards
        self._meter = LoadMeter(sorted(set(cards)))
        self._workers: Mapping[int, WorkerState] = {}
        self._due_s = float("-inf")

    def tell(self, text: str) -> None:
        self._display.tell(text)

    def show(self, report: TaskReport) -> None:
        self._display.show(report)

    def beat(self, workers: Mapping[int, WorkerState]) -> None:
        self._workers = workers
        now_s = self._clock.now()
        if now_s >= self._due_s:
            self._put(self._pulse(now_s))
            took_s = self._clock.now() - now_s
            self._due_s = now_s + max(EVERY_S, took_s / WRITE_SHARE)
        self._display.beat(workers)

    def stop(self) -> None:
        """The run is over."""
        self._put(self._pulse(self._clock.now(), is_over=True))

    def _put(self, pulse: Pulse) -> None:
        """What cannot be shown must not change what is done: a full disk is met by the results."""
        with contextlib.suppress(ApplianceError):
            put_pulse(self._journal, pulse)

    def _pulse(self, now_s: float, *, is_over: bool = False) -> Pulse:
        cards, counts, rows = self._meter.cards(), Counter[str](), []
        for state in self._workers.values():
            number = counts[state.kind]
            counts[state.kind] += 1
            rows.append(self._row(state, number, cards, is_over=is_over))
        return Pulse(
            at_s=now_s,
            start_s=self._start_s,
            deadline_s=self._deadline_s,
            workers=tuple(rows),
            host=self._meter.host(),
            is_over=is_over,
        )

    def _row(
        self, state: WorkerState, number: int, cards: Mapping[str, CardLoad], *, is_over: bool
    ) -> WorkerPulse:
        """number: among the workers of its kind."""
        has_card = state.kind == "device" and number < len(self._cards)
        place = "search" if state.kind == "search" else "GPU" if has_card else "model"
        running = None if is_over else state.running
        return WorkerPulse(
            name=f"{place} {number}",
            kind=state.kind,
            state="gone" if is_over else state.state,
            work="" if is_over else work(state),
            doing="ended" if is_over else doing(state),
            task_ids=tuple(t.task_id for t in running.assignment.tasks) if running else (),
            since_s=running.started_s if running else state.since_s,
            num_done=state.num_done,
            card=cards.get(self._cards[number]) if has_card else None,
        )
