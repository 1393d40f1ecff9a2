"""From a journal to the view of its run, a little at a time: only what is new is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from appliance.arc.task import Task
from appliance.arc.vote import Candidate
from appliance.record.coverage import PREDICTIONS
from appliance.record.journal import Journal, StageRow
from appliance.record.pulse import Pulse, pulse_of
from appliance.run.screen.view import NUM_EVENTS, Facts, RunView

FEW, MANY = 20, 200
"""Outcomes whose candidates are read in one go: few by a run itself, which has other things to do;
more by those who only watch. So the first picture of a long run comes soon."""

LOOKS_A_PICTURE = 5
"""A task stays in colour for so many looks: a search solves several in a second."""

ANSWERING = ("search", "quick", "deep")
"""Stages that have candidates."""

Key = tuple[str, str, int]
"""Task, stage and round."""


@dataclass
class Changes:
    """What is new since the last look."""

    facts: Facts
    tasks: list[tuple[str, int, float]]
    last_row: int
    last_event: int
    rows: list[StageRow]
    events: list[tuple[float, str]]
    pulse: Pulse | None
    found: dict[Key, Sequence[Candidate]] = field(default_factory=dict)
    asked: str = ""  # the task that was to be shown in colour, and that task where it is known
    pictured: Task | None = None


class Follower:
    """Remembers how far the journal has been read."""

    def __init__(self, view: RunView, name: str, *, most: int = FEW) -> None:
        """name: of the run, for people. most: outcomes that are read in one go."""
        self._view, self._name, self._most = view, name, most
        self._last_row = self._last_event = 0
        self._num_looks = LOOKS_A_PICTURE  # since the picture was changed
        self._asked = ""  # the last task that was to be pictured
        self._unread: deque[Key] = deque()  # outcomes whose candidates are still to be read
        self._sizes: list[tuple[str, int, float]] = []

    @property
    def num_unread(self) -> int:
        return len(self._unread)

    @property
    def is_complete(self) -> bool:
        """Whether another look at the same journal would bring nothing."""
        return not self._unread and not self._wants_picture

    @property
    def _wants_picture(self) -> bool:
        is_due = self._num_looks >= LOOKS_A_PICTURE
        return is_due and self._view.latest not in ("", self._asked)

    def look(self, journal: Journal) -> Changes:
        """Read what is new. Nothing is remembered before it is taken: it may be torn."""
        last_row, rows = journal.stages_since(self._last_row)
        last_event, events = journal.events_since(self._last_event, NUM_EVENTS)
        changes = Changes(
            facts=_facts(journal, self._name),
            tasks=self._sizes or [(t, n, float(cells)) for t, n, cells in journal.sizes()],
            last_row=last_row,
            last_event=last_event,
            rows=rows,
            events=events,
            pulse=pulse_of(journal),
        )
        for key in [*self._unread, *_answering(rows)][: self._most]:
            task_id, stage, number = key
            found = journal.candidate_rows(task_id, stage=stage, number=number)
            changes.found[key] = [candidate for _, _, candidate in found]
        if self._wants_picture:
            changes.asked = self._view.latest
            changes.pictured = next(iter(journal.contents(changes.asked)), None)
        return changes

    def take(self, changes: Changes) -> None:
        """Bring the view up to date."""
        self._last_row, self._last_event = changes.last_row, changes.last_event
        unread = [k for k in (*self._unread, *_answering(changes.rows)) if k not in changes.found]
        self._unread = deque(dict.fromkeys(unread))
        self._sizes = changes.tasks

        view = self._view
        view.begin(changes.facts, changes.tasks)
        view.take(changes.rows, changes.found)
        view.events.extend(changes.events)
        view.pulse = changes.pulse

        self._num_looks += 1
        if changes.asked:
            self._asked = changes.asked
        if changes.pictured is not None:
            view.pictured, self._num_looks = changes.pictured, 0


def _answering(rows: Sequence[StageRow]) -> list[Key]:
    return [(r.task_id, r.stage, r.round) for r in rows if r.stage in ANSWERING]


def _facts(journal: Journal, name: str) -> Facts:
    strategy = journal.fact("strategy", list[str] | None) or ["transduction"]
    passes = ["search"] if "search" in strategy else []
    if strategy != ["search"]:
        is_counted = journal.fact(PREDICTIONS, int | None) is not None
        passes += ["deep", "third"] if is_counted else ["quick", "deep", "third"]
    return Facts(
        name=name,
        source=journal.fact("tasks", str | None) or "",
        model=journal.fact("model", str | None) or "",
        passes=tuple(passes),
    )
