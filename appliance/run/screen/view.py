"""What is shown of a run, from plain facts: tasks, passes, workers, score, and the time left.

Pure: nothing is read, drawn or asked of a clock here. `follow.py` brings the facts from the journal
and `draw.py` draws them, so a run looks the same to whoever started it and to whoever watches.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from appliance.arc.task import Solutions, Task
from appliance.arc.vote import DEFAULT_SELECTOR, FIRST, Candidate, least_weight
from appliance.record.journal import StageRow
from appliance.record.pulse import Pulse
from appliance.record.standing import GUESS, Standing, standing_of
from appliance.run.task_text import is_solved

PASSES = {"search": "search", "quick": "quick pass", "deep": "deep pass", "third": "third pass"}
"""By name, what they are called."""

SILENT_S = 60.0
"""A run that gives no sign of life for so long is most likely gone, or its disk hangs."""

NUM_EVENTS = 50
"""Latest things told that are kept."""

WORTH_SHOWING = 0.5
"""A task whose answer is likelier than this to be right is shown in colour, and so is a solved one:
guesses would hide the rest."""

LEAST_DONE = 3
"""Tasks that a pass must have behind it before its end is foretold."""


@dataclass(frozen=True)
class Facts:
    """What is known of the run as a whole."""

    name: str = ""
    source: str = ""  # what --tasks named
    model: str = ""  # "" where it needs none
    passes: tuple[str, ...] = ()  # of PASSES, those that it has


@dataclass
class TaskView:
    """One task."""

    task_id: str
    num_tests: int
    size: float  # its cells
    rows: dict[tuple[str, int], StageRow] = field(default_factory=dict)  # by stage and round
    found: dict[tuple[str, int], Sequence[Candidate]] = field(default_factory=dict)
    standing: Standing = GUESS
    is_found: bool = False  # a search without a model is sure of its answer
    is_solved: bool | None = None  # None: the answers are not known
    changed_s: float = 0.0

    @property
    def num_rounds(self) -> int:
        """Deep ones."""
        return sum(stage == "deep" for stage, _ in self.rows)

    @property
    def seconds(self) -> float:
        """Of workers."""
        stages = ("search", "quick", "deep")
        return sum(r.seconds for (stage, _), r in self.rows.items() if stage in stages)

    @property
    def is_worth_showing(self) -> bool:
        return bool(self.is_solved) or self.standing.chance > WORTH_SHOWING

    @property
    def state(self) -> str:
        """The last that happened to it, for people."""
        if self.num_rounds > 1:
            return f"round {self.num_rounds}"
        for stage, told in (("deep", "deep pass"), ("quick", "quick pass"), ("search", "searched")):
            row = self.rows.get((stage, 1))
            if row is not None:
                return f"{told} failed" if row.status == "failed" else told
        return "waiting"


@dataclass(frozen=True)
class PassView:
    """One pass over the tasks."""

    title: str
    num_done: int
    num_tasks: int
    state: (
        str  # waiting, running, paused (later passes go first, and it goes on after them) or over
    )
    took_s: float = 0.0  # until now, or until it was over
    left_s: float | None = None  # None: cannot be told


def foretold_s(
    done: Sequence[tuple[float, float]], left: Sequence[float], took_s: float
) -> float | None:
    """How long the tasks that are left will take, if they go on as those that are done.

    What a task takes is a straight line over its size, laid through those that are done: runs begin
    with the smallest tasks, or with the largest. done: size and seconds of each. left: sizes.
    took_s: that all of `done` took, side by side.
    """
    num = len(done)
    size, seconds = sum(s for s, _ in done) / num, sum(t for _, t in done) / num
    spread = sum((s - size) ** 2 for s, _ in done)
    slope = sum((s - size) * (t - seconds) for s, t in done) / spread if spread else 0.0
    slope = min(max(0.0, slope), seconds / size if size else 0.0)  # nothing takes less than none
    at_once = num * seconds / took_s if took_s else 0.0
    if not at_once:
        return None
    return sum(seconds + slope * (s - size) for s in left) / at_once


class RunView:
    """All that is shown, kept up to date by the facts that it is given."""

    def __init__(self, solutions: Solutions | None = None) -> None:
        """solutions: only used to say which tasks are solved; empty where they are not known."""
        self.facts = Facts()
        self.tasks: dict[str, TaskView] = {}
        self.pulse: Pulse | None = None
        self.events: deque[tuple[float, str]] = deque(maxlen=NUM_EVENTS)
        self.latest = ""  # the task that was answered last and is worth a picture
        self.pictured: Task | None = None  # the one that is shown in colour
        self.fault = ""  # why the journal cannot be read at the moment
        self._solutions = solutions or {}
        # By pass and task: when the task first came through it, and when that work began.
        self._came: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in PASSES}
        self._latest_s: dict[str, float] = {}  # by pass, when the latest job of it ended

    def begin(self, facts: Facts, tasks: Iterable[tuple[str, int, float]]) -> None:
        """tasks: id, number of test inputs and size of each. Those that are known stay."""
        self.facts = facts
        for task_id, num_tests, size in tasks:
            if task_id not in self.tasks:
                self.tasks[task_id] = TaskView(task_id, num_tests, size)

    def take(
        self,
        rows: Iterable[StageRow],
        found: Mapping[tuple[str, str, int], Sequence[Candidate]],
    ) -> None:
        """Outcomes, and the candidates of some of them by task, stage and round."""
        for row in rows:
            task = self.tasks.get(row.task_id)
            if task is not None:
                task.rows[row.stage, row.round] = row
                task.changed_s = max(task.changed_s, row.at_s or 0.0)
                self._count(row)

        changed = {}
        for (task_id, stage, number), candidates in found.items():
            if task_id in self.tasks:
                changed[task_id] = self.tasks[task_id]
                changed[task_id].found[stage, number] = candidates
        for task in changed.values():
            self._judge(task)
            if task.is_worth_showing:
                self.latest = task.task_id

    def _count(self, row: StageRow) -> None:
        name = "third" if row.stage == "deep" and row.round > 1 else row.stage
        if name not in PASSES or row.at_s is None:
            return
        self._came[name].setdefault(row.task_id, (row.at_s - row.seconds, row.at_s))
        self._latest_s[name] = max(row.at_s, self._latest_s.get(name, row.at_s))

    def _judge(self, task: TaskView) -> None:
        by_stage: dict[str, list[Candidate]] = {}
        for (stage, _), candidates in task.found.items():
            by_stage.setdefault(stage, []).extend(candidates)
        task.standing = standing_of(task.task_id, task.num_tests, by_stage, DEFAULT_SELECTOR)
        task.is_found = least_weight(task.num_tests, by_stage.get("search", [])) > FIRST
        answers = self._solutions.get(task.task_id)
        if answers is not None and len(answers) == task.num_tests:
            task.is_solved = is_solved(list(task.standing.attempts), answers)

    @property
    def num_answered(self) -> int:
        """Tasks that something but a guess stands for."""
        return sum(t.standing.source != "guess" for t in self.tasks.values())

    @property
    def num_solved(self) -> int | None:
        """None where no answer is known."""
        return sum(bool(t.is_solved) for t in self.tasks.values()) if self._solutions else None

    @property
    def expected(self) -> float:
        """Tasks that are solved, as far as the run can tell by itself."""
        return sum(t.standing.chance for t in self.tasks.values())

    def working_on(self, kind: str | None = None) -> dict[str, str]:
        """What is done at the moment to each task that a worker has. kind: of the workers, device
        or search; None: both."""
        workers = self.pulse.workers if self.pulse else ()
        return {t: w.doing for w in workers if kind in (None, w.kind) for t in w.task_ids}

    def passes(self, now_s: float) -> list[PassView]:
        """Those that the run has, in their order."""
        return [self._pass(name, now_s) for name in self.facts.passes]

    def _pass(self, name: str, now_s: float) -> PassView:
        title, came = PASSES[name], self._came[name]
        num_tasks = len(self._came["deep"] if name == "third" else self.tasks)
        is_over = self.is_over or (name != "third" and len(came) >= num_tasks > 0)
        is_passed = self._is_passed(name)
        if not came:
            return PassView(title, 0, num_tasks, "over" if is_over or is_passed else "waiting")

        # A run that was stopped and started again is timed from its last start on.
        start_s = self.pulse.start_s if self.pulse else -math.inf
        lately = {t: times for t, times in came.items() if times[1] >= start_s}
        began_s = max(start_s, min((began for began, _ in lately.values()), default=now_s))
        if is_over or is_passed:
            state = "over" if is_over or name != "deep" else "paused"
            took_s = max(0.0, self._latest_s[name] - began_s)
            return PassView(title, len(came), num_tasks, state, took_s)
        took_s = max(0.0, now_s - began_s)
        seconds = {t: ended_s - began_s for t, (began_s, ended_s) in lately.items()}
        left_s = self._left_s(name, took_s, seconds)
        return PassView(title, len(came), num_tasks, "running", took_s, left_s)

    def _is_passed(self, name: str) -> bool:
        """Whether a later pass is under way and no worker is at this one: what it left out, such as
        tasks that a search is sure of, stays out."""
        later = list(PASSES)[list(PASSES).index(name) + 1 :]
        workers = self.pulse.workers if self.pulse else ()
        if name == "search":  # it may go on beside the others
            return bool(workers) and all(w.state == "gone" for w in workers if w.kind == "search")
        has_followed = any(self._came[later_name] for later_name in later)
        return has_followed and name not in {w.work for w in workers}

    def _left_s(self, name: str, took_s: float, lately: Mapping[str, float]) -> float | None:
        """lately: tasks that came through, with the seconds that they took. Of the third pass
        nobody knows how long it goes on."""
        if name == "third" or len(lately) < LEAST_DONE:
            return None
        left = [t for t in self.tasks.values() if t.task_id not in self._came[name]]
        if name == "deep":  # what a search is sure of comes after the others, if at all
            left = [t for t in left if not t.is_found] or left
        done = [(self.tasks[t].size, seconds) for t, seconds in lately.items()]
        return foretold_s(done, [t.size for t in left], took_s)

    def left_s(self, now_s: float) -> tuple[float, bool] | None:
        """Seconds until the end of the run, and whether it may end earlier; None where nothing is
        known. A run with a model uses its time until no vote can be gained."""
        if self.pulse is None:
            return None
        deadline_s = max(0.0, self.pulse.deadline_s - now_s)
        if self.facts.passes == ("search",):
            left_s = self._pass("search", now_s).left_s
            if left_s is not None:
                return min(left_s, deadline_s), False
        return deadline_s, True

    def is_silent(self, now_s: float) -> bool:
        """Whether a run that should be going on has not been heard of for long."""
        return self.pulse is not None and not self.is_over and now_s > self.pulse.at_s + SILENT_S

    @property
    def is_over(self) -> bool:
        return self.pulse is not None and self.pulse.is_over
