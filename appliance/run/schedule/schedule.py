"""Who is worked on next and for how long (a long file, for all passes share one state).

Pure bookkeeping, driven by the clock it is given.

Pass 1 ("quick"): the base model, few views, all tasks, many tasks a job (quick_pass.py).
Pass 2 ("deep"): train, then sample all views, one task a job.
Pass 3: further deep rounds for tasks whose vote is not settled, each with views of its own, every
second one with a new adapter, until the time is over or nothing can be gained (further_rounds.py).

Tasks whose answer a search without a model is sure of (search_queue.py) come last in passes 1 and
2, the second one after the first further rounds of the others, and get no further round.

Passes 1 and 2 go from cheap to dear while time is short, so that most tasks are answered early. The
time left is divided anew at every dispatch by what was measured so far: what one task saves, the
others get.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from appliance.arc.task import Task
from appliance.config import Settings
from appliance.engine.base import NotTuned
from appliance.run.schedule.certainty import Certainty
from appliance.run.schedule.further_rounds import FurtherRounds
from appliance.run.schedule.measured_costs import Forecast, TaskCost
from appliance.run.schedule.quick_pass import QuickPass
from appliance.run.schedule.repeated_faults import MAX_TRIES
from appliance.run.schedule.search_queue import SearchQueue, SearchShare
from appliance.run.schedule.task_state import Assignment, Stage, TaskState
from appliance.run.schedule.time_shares import Shares
from appliance.sizing.memory_ladder import LAST_RUNG

MAX_CUTS = 2
"""After this many quick jobs that cut it off without an answer, a task leaves the quick pass."""

ROUNDS_BEFORE_FOUND = 4
"""A task that a search is sure of is trained when the next one in need had so many rounds."""

DRAIN_S = 1.5
"""Jobs end this long before all work must be over, so that their last answers still arrive."""

SLOW_SLACK = 1.5
"""With time to spare, a task may sample this many times as long as a slow one (see slowness)."""

MOST_VIEWS = 8
"""The last job of a worker asks for up to this many times the usual views."""

VIEWS_SLACK = 1.25
"""Where time does not hold the usual views, so many times their mean is kept for those asked."""


class Schedule:
    """Hands out assignments and takes note of what became of them."""

    def __init__(
        self,
        tasks: Iterable[Task],
        settings: Settings,
        *,
        end_s: float,
        num_workers: int,
        costs: Mapping[str, TaskCost] | None = None,
        search: SearchShare | None = None,
    ) -> None:
        """end_s: when all work must be over, the deadline less the reserve for writing; it may be
        moved later on. num_workers: those with a model that live. costs: seconds by the plan, if
        there is one. search: of a search without a model, if there is one.
        """
        given = list(tasks)
        self.settings = settings
        self.end_s = end_s
        self.num_workers = num_workers
        self.forecast = Forecast(given, settings, costs)
        self._shares = Shares(settings, self.forecast)
        self.further = FurtherRounds(settings, self._shares)

        given.sort(key=lambda t: (self.forecast.size(t.task_id), t.task_id))
        self._is_counted = settings.sample.predictions is not None
        self.states = {t.task_id: TaskState(t, is_counted=self._is_counted) for t in given}
        self._quick = QuickPass(self.states, settings, self.forecast)
        self.search: SearchQueue | None = None
        if search is not None:
            self.search = SearchQueue(self.states, search, has_model=settings.needs_model)
        self.learning_rate: float | None = None  # of training for grids, None: of the settings
        # How many times as long all takes, because other work has the cores as well.
        self.slowdown = 1.0
        self._running: list[Assignment] = []
        self._began_s: float | None = None

    def next(self, now_s: float) -> Assignment | None:
        """The next job for an idle worker with a model, marked as running; None when nothing fits
        the time.
        """
        if self._began_s is None:
            self._began_s = now_s
        if now_s >= self._last_s:
            return None

        assignment = (
            self._next_quick(now_s, is_late=False)
            or self._next_deep(now_s)
            or self._next_quick(now_s, is_late=True)
            or self._next_spare(now_s)
            or self._next_late(now_s)
        )

        if assignment is not None:
            for task in assignment.tasks:
                self.states[task.task_id].of(assignment.stage).status = "running"
            self._running.append(assignment)
        return assignment

    def next_search(self, now_s: float) -> Assignment | None:
        """The next job for an idle search worker."""
        return self.search.next(now_s, self._last_s) if self.search else None

    def finished(
        self,
        assignment: Assignment,
        complete: Iterable[str],
        *,
        seconds: float,
        is_empty: bool = False,
    ) -> None:
        """The job came back after that many seconds, and what it gave is in the vote. is_empty:
        without any answer.

        What was cut off is asked once more: in the quick pass after all others, in the deep one
        with a longer share.
        """
        if assignment.stage == "search" and self.search:
            self.search.finished(assignment)
            return

        answered = set(complete)
        self._running.remove(assignment)
        is_first = (assignment.stage, assignment.round) == ("deep", 1)

        for task in assignment.tasks:
            state = self.states[task.task_id]
            if assignment.stage == "deep" and self._is_counted:
                self._went_on(state, assignment, task.task_id in answered, is_empty=is_empty)
                state.first_s = seconds if assignment.round == 1 else state.first_s
            elif is_first and is_empty and state.deep.num_cut == 0:
                state.deep.num_cut, state.deep.status = 1, "waiting"
            elif assignment.stage == "deep":
                state.deep.status, state.rounds = "done", max(state.rounds, assignment.round)
                state.first_s = seconds if assignment.round == 1 else state.first_s
                state.deep.num_tries = 0  # those of a further round are counted anew
                self.further.note(state, assignment, seconds)
            elif task.task_id in answered:
                state.quick.status = "done"
            else:
                state.quick.num_cut += 1
                state.quick.status = "waiting" if state.quick.num_cut < MAX_CUTS else "failed"

    def _went_on(
        self, state: TaskState, assignment: Assignment, is_whole: bool, *, is_empty: bool
    ) -> None:
        """Where predictions are counted, a task goes on until all of them are there."""
        state.rounds = max(state.rounds, assignment.round)
        state.deep.num_cut += is_empty
        is_over = is_whole or state.deep.num_cut >= MAX_CUTS
        state.deep.status = "done" if is_over else "waiting"

    def out_of_memory(self, assignment: Assignment) -> list[str]:
        """One rung down for its task. Returns tasks without a rung left: given up at this stage."""
        return self._fell(assignment, is_try=False, is_memory=True)

    def crashed(self, assignment: Assignment) -> list[str]:
        """The worker failed, died or hung at these tasks: once more, on the rung where they are.

        Returns the tasks that are given up at this stage.
        """
        return self._fell(assignment, is_try=True, is_memory=False)

    def killed(self, assignment: Assignment) -> list[str]:
        """The system killed the worker, most likely for want of memory: once more, one rung down.

        Returns the tasks that are given up at this stage.
        """
        return self._fell(assignment, is_try=True, is_memory=True)

    def put_back(self, assignment: Assignment) -> list[str]:
        """The device under it was lost: nothing is held against its tasks, none is given up."""
        self._running.remove(assignment)
        for task in assignment.tasks:
            progress = self.states[task.task_id].of(assignment.stage)
            # Answers of earlier rounds stand.
            is_again = assignment.round > 1 and not self._is_counted
            progress.status = "done" if is_again else "waiting"
        return []

    def adapter_lost(self, assignment: Assignment) -> list[str]:
        """The saved adapter of its task is gone or damaged: the round trains one of its own."""
        for task in assignment.tasks:
            self.states[task.task_id].adapter_sha = ""
        return self.put_back(assignment)

    def mark_done(
        self, task_id: str, stage: Stage, *, number: int = 1, seconds: float = 0.0
    ) -> None:
        """On resume: this stage (its round of that number) of this task is behind us."""
        state = self.states[task_id]
        state.of(stage).status = "done"
        if stage == "deep":
            state.rounds = max(state.rounds, number)
            state.first_s = seconds if number == 1 else state.first_s

    def mark_cut(self, task_id: str, number: int) -> None:
        """Its deep round of that number gave some answers, and not all: it was cut off.

        What it gave stays and votes. The next round goes on from it, with the adapter if one was
        trained; to do this one again would replace its answers.
        """
        state = self.states[task_id]
        state.rounds = max(state.rounds, number)

    def set_certainty(self, task_id: str, certainty: Certainty) -> None:
        self.states[task_id].certainty = certainty

    def set_found(self, task_id: str) -> None:
        """A search without a model is sure of this task's answer."""
        self.states[task_id].is_found = True

    def longest_wait_s(self, assignment: Assignment) -> float:
        """The longest time between its worker's looks at the clock: one step, or one view."""
        if assignment.stage == "search":
            return 0.0

        ids = [task.task_id for task in assignment.tasks]
        stage = "quick" if assignment.stage == "quick" else "deep"
        batch_s = self.forecast.sample_s(stage, ids, 1) or 0.0
        return max(batch_s, *(self.forecast.step_s(task_id) or 0.0 for task_id in ids))

    def set_adapter(self, task_id: str, sha: str) -> None:
        self.states[task_id].adapter_sha = sha

    def stop_training(self, why: NotTuned) -> None:
        """From now on tasks are answered by the model as it is."""
        self._shares.untrained = why

    def begin_on(self, rungs: Mapping[str, int]) -> None:
        """Sets the rung of the memory ladder for the tasks that have not begun."""
        for task_id, rung in rungs.items():
            progress = self.states[task_id].deep
            if progress.status == "waiting" and progress.rung == progress.first_rung:
                progress.rung = progress.first_rung = rung

    @property
    def _last_s(self) -> float:
        return self.end_s - DRAIN_S

    def _next_quick(self, now_s: float, *, is_late: bool) -> Assignment | None:
        """is_late: whether it may take the time of the deep pass as well."""
        until_s, num = self._last_s, self.num_workers
        if not is_late:
            began_s = self._last_s if self._began_s is None else self._began_s
            until_s = self._quick.end_s(
                began_s, self._last_s, num_workers=num, slowdown=self.slowdown
            )
        return self._quick.next(now_s, until_s, num_workers=num)

    def _next_deep(self, now_s: float, *, is_found: bool = False) -> Assignment | None:
        """Cheapest first, but a dear task comes first where it would not fit after the cheap one.

        is_found: among the tasks that a search is sure of; else among the others.

        With time for all, several workers begin with the largest: so none is still at work on a
        long task when the others are done.
        """
        left_s, capacity_s = self._last_s - now_s, self._capacity_s(now_s)
        least = self._admitted(left_s, capacity_s, is_found=is_found)
        if not least:
            return None

        states = [self.states[t] for t in least]
        reserved_s = sum(least.values())
        is_ample = sum(self._shares.need_s(s) for s in states) <= capacity_s
        per_weight_s = (capacity_s - reserved_s) / sum(s.weight for s in states)

        def share_s(state: TaskState) -> float:
            rationed_s = least[state.task.task_id] + per_weight_s * state.weight
            return self._shares.ample_s(state) if is_ample else rationed_s

        # Which task.
        urge = min(map(_urge, states))
        states = [s for s in states if _urge(s) == urge]
        first, dearest = states[0], max(states, key=lambda s: least[s.task.task_id])
        dearest_s = least[dearest.task.task_id]
        if is_ample and self.num_workers > 1:
            first, dearest_s = states[-1], 0.0
        elif dearest_s > left_s - min(left_s, share_s(first)):
            first, dearest_s = dearest, 0.0

        # How much longer than its share it may take: all tasks may be slow at once.
        first_s = least[first.task.task_id]
        free_s = capacity_s - reserved_s + first_s - share_s(first)
        spare_s = min(free_s / max(1, self.num_workers), left_s - dearest_s - share_s(first))
        return self._deep(first, now_s, share_s(first), least_s=first_s, spare_s=max(0.0, spare_s))

    def _admitted(self, left_s: float, capacity_s: float, *, is_found: bool) -> dict[str, float]:
        """The waiting tasks that fit the time, cheap to dear, each with its least seconds."""
        least: dict[str, float] = {}
        for task_id, state in self.states.items():
            if state.deep.status == "waiting" and state.is_found == is_found:
                least_s = self._shares.least_s(state)
                if least_s <= min(left_s, capacity_s):
                    least[task_id] = least_s
                    capacity_s -= least_s
        return least

    def _next_spare(self, now_s: float) -> Assignment | None:
        """A further round; found tasks have their turn when the others had some of them."""
        left_s = self._last_s - now_s
        picked = self.further.pick(self.states.values(), left_s)
        if picked is None or picked[0].rounds >= ROUNDS_BEFORE_FOUND:
            found = self._next_deep(now_s, is_found=True)
            if found is not None:
                return found
        if picked is None:
            return None

        state, num_open = picked
        share_s = max(state.first_s, self._capacity_s(now_s) / num_open)
        state.steps_fold = self.further.steps_fold(state, share_s)
        least_s = self.further.least_s(state)
        return self._deep(state, now_s, share_s, least_s=least_s, spare_s=left_s)

    def _next_late(self, now_s: float) -> Assignment | None:
        """With too little time to train, the model or adapter at hand answers further views."""
        if not self.settings.writes_grids:
            return None
        for state in self.states.values():
            state.is_late |= state.deep.status == "waiting" or self.further.is_open(state)
        return self._next_deep(now_s) or self._next_spare(now_s)

    def _deep(
        self, state: TaskState, now_s: float, share_s: float, *, least_s: float, spare_s: float
    ) -> Assignment:
        """A task's share, no more than it needs, and its split between training and sampling.

        Slow tasks may overrun their share by up to `spare_s`. A share that would leave less than
        another job needs takes all that is left, and fills it with further views.
        """
        left_s = self._last_s - now_s
        num_views = self.settings.sample.views
        sample_s = None
        if self.settings.writes_grids:
            sample_s = self.forecast.sample_s("deep", [state.task.task_id], num_views)

        # The share.
        share_s = min(left_s, max(least_s, min(share_s, self._shares.ample_s(state))))
        is_last = not self._can_follow(left_s - share_s, least_s)
        share_s = left_s if is_last else share_s

        # Its split.
        program_s = self._shares.program_share * share_s
        train_s = self._shares.train_s(state, share_s - program_s, sample_s)

        # When it ends.
        until_s, expected_s = share_s, share_s
        if sample_s is not None:
            expected_s = min(share_s, program_s + train_s + sample_s)
            slow_sample_s = SLOW_SLACK * self.forecast.slowness("deep") * sample_s
            slow_s = program_s + train_s + slow_sample_s
            until_s = max(share_s, min(left_s, slow_s, share_s + spare_s))
        if not self._is_counted:
            answers_s = until_s - program_s - train_s
            num_views = _views_within(answers_s, num_views, sample_s, is_last=is_last)
            expected_s = share_s if is_last else expected_s

        return Assignment(
            "deep",
            (state.task,),
            num_views,
            until_s=now_s + until_s,
            expected_until_s=now_s + expected_s,
            train_s=train_s,
            program_s=program_s,
            rung=state.deep.rung,
            round=state.rounds + 1,
            adapter_sha=state.kept_adapter,
            rank_divisor=state.rank_divisor,
            steps_fold=state.steps_fold,
            certainty=state.certainty,
            is_late=state.is_late,
            untrained=self._shares.untrained,
            learning_rate=self.learning_rate,
        )

    def _can_follow(self, left_s: float, least_s: float) -> bool:
        """Whether a job fits that time after one that itself needs `least_s`."""
        states = self.states.values()
        waiting = (s for s in states if s.deep.status == "waiting")
        still_open = (s for s in states if self.further.is_open(s))
        return (
            least_s <= left_s
            or any(self._shares.least_s(s) <= left_s for s in waiting)
            or any(self.further.least_s(s) <= left_s for s in still_open)
        )

    def _capacity_s(self, now_s: float) -> float:
        """Seconds of all workers together, less what running jobs will take of them."""
        num_free = max(0, self.num_workers - len(self._running))
        free_s = num_free * (self._last_s - now_s)
        ends_s = (max(now_s, a.expected_until_s) for a in self._running)
        return free_s + sum(max(0.0, self._last_s - end_s) for end_s in ends_s)

    def _fell(self, assignment: Assignment, *, is_try: bool, is_memory: bool) -> list[str]:
        if assignment.stage == "search" and self.search:
            return self.search.failed(assignment)

        self._running.remove(assignment)
        lost = []

        for task in assignment.tasks:
            state = self.states[task.task_id]
            progress = state.of(assignment.stage)
            if len(assignment.tasks) > 1:
                # Asked one by one, they will show which of them it was.
                progress.status, progress.is_alone = "waiting", True
                continue

            can_try = progress.rung < LAST_RUNG
            if is_try:
                progress.num_tries, progress.is_alone = progress.num_tries + 1, True
                can_try = progress.num_tries < MAX_TRIES
            progress.rung = min(LAST_RUNG, progress.rung + is_memory)

            if assignment.round > 1 and not self._is_counted:
                # Answers of earlier rounds stand.
                progress.status = "done"
                state.rounds, state.is_given_up = assignment.round - 1, not can_try
            elif can_try:
                progress.status = "waiting"
            else:
                progress.status = "failed"
                lost.append(task.task_id)

        return lost


def _urge(state: TaskState) -> tuple[bool, bool, int]:
    """Who comes first in the deep pass: what failed comes last, and so does what has answers.

    A task that is in a quick job now waits: programs that are written there are learnt from.
    """
    return state.deep.num_tries > 0, state.quick.status == "running", state.rounds


def _views_within(
    answers_s: float, num_views: int, sample_s: float | None, *, is_last: bool
) -> int:
    """How many views to ask for: as many as usual, or as the time for answers holds.

    Where it does not hold the usual ones, fewer are asked: views are written together, and a batch
    that is cut off gives no answer at all. The last job of a worker asks for up to twice what its
    time should hold. sample_s: of the usual views.
    """
    if not sample_s:
        return num_views * MOST_VIEWS if is_last else num_views

    fold = answers_s / sample_s
    if fold < VIEWS_SLACK:
        return max(1, int(fold / VIEWS_SLACK * num_views))
    return num_views * min(MOST_VIEWS, math.ceil(2 * fold)) if is_last else num_views
