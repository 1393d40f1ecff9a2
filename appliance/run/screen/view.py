"""What is shown of a run, from plain facts: tasks, passes, workers, score, and the time left.

Pure: nothing is read, drawn or asked of a clock here. `follow.py` brings the facts from the journal
and `draw.py` draws them, so a run looks the same to whoever started it and to whoever watches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from appliance.arc.task import Solutions, Task
from appliance.arc.vote import DEFAULT_SELECTOR, Candidate
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
    size: float  # what its work takes, compared with other tasks
    rows: dict[tuple[str, int], StageRow] = field(default_factory=dict)  # by stage and round
    found: dict[tuple[str, int], Sequence[Candidate]] = field(default_factory=dict)
    standing: Standing = GUESS
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
        self._done: dict[str, set[str]] = {name: set() for name in PASSES}
        self._began_s: dict[str, float] = {}  # by pass
        self._ended_s: dict[str, float] = {}  # when the latest task came through

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
            if task.is_solved or task.standing.chance > WORTH_SHOWING:
                self.latest = task.task_id

    def _count(self, row: StageRow) -> None:
        name = "third" if row.stage == "deep" and row.round > 1 else row.stage
        if name not in PASSES or row.at_s is None:
            return
        began_s = row.at_s - row.seconds
        self._began_s[name] = min(began_s, self._began_s.get(name, began_s))
        if row.task_id not in self._done[name]:
            self._done[name].add(row.task_id)
            self._ended_s[name] = max(row.at_s, self._ended_s.get(name, row.at_s))

    def _judge(self, task: TaskView) -> None:
        by_stage: dict[str, list[Candidate]] = {}
        for (stage, _), candidates in task.found.items():
            by_stage.setdefault(stage, []).extend(candidates)
        task.standing = standing_of(task.task_id, task.num_tests, by_stage, DEFAULT_SELECTOR)
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
        done, num_tasks = self._done[name], len(self.tasks)
        if name == "third":
            num_tasks = len(self._done["deep"])
        title = PASSES[name]
        if name not in self._began_s:
            is_passed = self.is_over or self._is_passed(name)
            return PassView(title, 0, num_tasks, "over" if is_passed else "waiting")

        is_all = len(done) >= num_tasks and name != "third"
        is_over = is_all or self.is_over
        if is_over or self._is_passed(name):
            state = "over" if is_over or name != "deep" else "paused"
            took_s = self._ended_s[name] - self._began_s[name]
            return PassView(title, len(done), num_tasks, state, took_s)
        took_s = max(0.0, now_s - self._began_s[name])
        return PassView(
            title, len(done), num_tasks, "running", took_s, self._left_s(name, took_s, now_s)
        )

    def _is_passed(self, name: str) -> bool:
        """Whether a later pass is under way and no worker is at this one: what it left out, such as
        tasks that a search is sure of, stays out."""
        later = list(PASSES)[list(PASSES).index(name) + 1 :]
        workers = self.pulse.workers if self.pulse else ()
        if name == "search":  # it may go on beside the others
            return bool(workers) and all(w.state == "gone" for w in workers if w.kind == "search")
        has_followed = any(later_name in self._began_s for later_name in later)
        return has_followed and name not in {w.work for w in workers}

    def _left_s(self, name: str, took_s: float, now_s: float) -> float | None:
        """By what the tasks that are through have taken, and the size of those that are left.

        Of the third pass nobody knows how long it goes on.
        """
        done = self._done[name]
        if name == "third" or len(done) < LEAST_DONE:
            return None
        through = sum(self.tasks[t].size for t in done)
        whole = sum(t.size for t in self.tasks.values())
        return took_s * (whole - through) / through if through else None

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
