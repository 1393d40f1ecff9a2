"""Further rounds: which unsettled task gets the next one, how it differs from the rounds before,
what such rounds have been worth, and when there is nothing left to gain.

A round is worth what it adds to the margin of its task's vote. How much that is depends on the
model and the tasks, so the run counts it as it goes, by the kind of round and by how certain the
vote was before. The next round goes to the task that promises most in a second.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from pydantic import BaseModel, NonNegativeFloat, NonNegativeInt

from appliance.clock import format_duration
from appliance.config import Settings
from appliance.run.schedule.certainty import Certainty
from appliance.run.schedule.task_state import Assignment, TaskState
from appliance.run.schedule.time_shares import LEAST_JOB_S, Shares

AGAIN_SHARE = 0.5
"""A further round gets at least this part of the first one's time: the answers of an adapter that
was trained much less would spoil the vote."""

ROUNDS_IN_VAIN = 6
"""After so many rounds in a row that did not move its vote, a task gets no further one: three
adapters, each asked twice, had nothing new to say."""

LEAST_MOVE = 0.002
"""A margin that changes by less has not moved."""

STEP_FOLDS = (1, 2, 4, 8)
"""Times the planned steps of the adapters that a task gets, one after the other, and from the
beginning again: so the short trainings vote as well, should a long one have learnt by heart."""

LONG_TIME = 4
"""Training is as long as that where the time holds so many such rounds for every open task."""

STANDINGS = (0.2, 0.5)
"""Margins that part open votes into three kinds: open, leaning, nearly settled."""

EXPECTED_GAIN = 0.05
"""What a round adds to a margin before any was seen, in the time of its task's first round. The
figure weighs like one round, so it only says that every kind is worth a try."""

LEAST_GAIN = 0.001
"""The best kind of round is taken to add this much at least."""

LEAST_WORTH = 0.25
"""And no kind is taken to be worth less than this part of the best, so none starves."""

Kind = Literal["trained", "asked"]
"""Whether a round trains an adapter, or asks the one of the round before for more."""

_Group = tuple[Kind, int]
"""Kind of the round, and standing of the vote before it."""


class Gains(BaseModel, extra="forbid"):
    """What the further rounds of a run gave, all together; kept in the journal."""

    num: NonNegativeInt = 0
    num_trained: NonNegativeInt = 0  # with a new adapter
    num_settled: NonNegativeInt = 0  # votes that were settled by one
    gain: float = 0.0  # of margins
    seconds: NonNegativeFloat = 0.0  # of workers

    def text(self) -> str:
        """For people; "" without any."""
        if not self.num:
            return ""

        a_minute = 60 * self.gain / max(self.seconds, 1e-9)
        votes = "one vote" if self.num_settled == 1 else f"{self.num_settled} votes"
        return (
            f"further rounds: {self.num} ({self.num_trained} with a new adapter) "
            f"in {format_duration(self.seconds)} of workers' time; they settled {votes}, "
            f"and a minute changed the margin of a vote by {a_minute:+.3f}"
        )


class Worth:
    """What a further round adds to a margin, for each second, as this run has seen it.

    Seconds are counted in those of the task's first round: dear tasks are not worth less for it
    here, but where tasks are compared.
    """

    def __init__(self) -> None:
        self._gain: dict[_Group, float] = defaultdict(float)
        self._time: dict[_Group, float] = defaultdict(float)

    def note(self, kind: Kind, margin: float, gain: float, time: float) -> None:
        """margin: before the round. time: of the round, over that of the first one."""
        self._gain[kind, _standing(margin)] += gain
        self._time[kind, _standing(margin)] += time

    def of_all(self) -> dict[_Group, float]:
        """Of each kind of round, in the time of its task's first one."""
        rates = {
            group: (EXPECTED_GAIN + self._gain.get(group, 0.0)) / (1 + self._time.get(group, 0.0))
            for group in itertools.product(get_args(Kind), range(len(STANDINGS) + 1))
        }
        least = LEAST_WORTH * max([LEAST_GAIN, *(rates[group] for group in self._time)])
        return {group: max(least, rate) for group, rate in rates.items()}


class FurtherRounds:
    """The rules of further rounds, and what they gave."""

    def __init__(self, settings: Settings, shares: Shares) -> None:
        self._settings = settings
        self._shares = shares
        self._worth = Worth()
        self.gains = Gains()

    def is_open(self, state: TaskState) -> bool:
        """Whether a further round of this task could gain something."""
        return state.deep.status == "done" and not self._why_closed(state)

    def least_s(self, state: TaskState) -> float:
        """What its next round needs at least."""
        least_s = self._shares.least_s(state)
        if state.kept_adapter or state.is_late:
            return least_s
        return max(least_s, AGAIN_SHARE * state.first_s)

    def pick(self, states: Iterable[TaskState], left_s: float) -> tuple[TaskState, int] | None:
        """The task whose next round promises most in a second, and how many tasks are open; None
        where no round fits the time.

        Every round of a task is expected to add less than the one before, so all tasks have their
        turns: the seconds that each gets are in proportion to what they are worth.
        """
        still_open = [state for state in states if self.is_open(state)]
        worth = self._worth.of_all()

        def order(state: TaskState) -> tuple[float, Certainty]:
            kind: Kind = "asked" if state.kept_adapter or state.is_late else "trained"
            gain = worth[kind, _standing(_margin(state.certainty))]
            a_second = gain / (max(1, state.rounds) * _first_s(state))
            return -a_second, state.certainty or Certainty()

        still_open.sort(key=order)
        best = next((state for state in still_open if self.least_s(state) <= left_s), None)
        return (best, len(still_open)) if best else None

    def steps_fold(self, state: TaskState, share_s: float) -> int:
        """Times the planned steps that it trains in its next round, where it has so many seconds
        until the end of the run."""
        if state.kept_adapter:
            return 1
        fold = STEP_FOLDS[state.num_trainings % len(STEP_FOLDS)]
        while fold > 1 and LONG_TIME * fold * state.first_s > share_s:
            fold //= 2
        return fold

    def note(self, state: TaskState, assignment: Assignment, seconds: float) -> None:
        """Its round came to an end, and its answers are in the vote."""
        before, after = assignment.certainty, state.certainty
        state.num_vain = 0 if _has_moved(before, after) else state.num_vain + 1
        if assignment.round == 1:
            return

        kind: Kind = "trained" if assignment.train_s > 0 else "asked"
        gain = _margin(after) - _margin(before)
        self._worth.note(kind, _margin(before), gain, seconds / _first_s(state))
        self.gains.num += 1
        self.gains.num_trained += kind == "trained"
        self.gains.num_settled += _is_settled(after) and not _is_settled(before)
        self.gains.gain += gain
        self.gains.seconds += seconds

    def why_over(self, states: Mapping[str, TaskState]) -> str:
        """For people: why no task gets a further round."""
        reasons = Counter(self._why_closed(state) for state in states.values())
        if not all(reasons):  # some of them are open
            return "no further round fits that time"
        if len(reasons) == 1:
            return f"nothing can be gained: {next(iter(reasons))}"
        each = "; ".join(f"{num} of {len(states)}: {why}" for why, num in reasons.most_common())
        return f"nothing can be gained: {each}"

    def _why_closed(self, state: TaskState) -> str:
        """Why it gets no further round; "" where it may get one, or has had none yet."""
        most = self._settings.run.rounds
        if state.is_found:
            return "a search is sure of the answer"
        if state.deep.status == "failed" or state.is_given_up:
            return "the work on the task failed again and again"
        if state.deep.status != "done":
            return ""
        if state.is_counted:
            return "all predictions are there"
        if _is_settled(state.certainty):
            return "the vote is settled"
        if most is not None and state.rounds >= most:
            return f"all rounds are done (run.rounds = {most})"
        if state.num_vain >= ROUNDS_IN_VAIN:
            what = "gave no answer" if state.certainty is None else "changed nothing"
            return f"further rounds {what}, {ROUNDS_IN_VAIN} in a row"
        return ""


def _standing(margin: float) -> int:
    return sum(margin >= least for least in STANDINGS)


def _margin(certainty: Certainty | None) -> float:
    return certainty.margin if certainty else 0.0


def _is_settled(certainty: Certainty | None) -> bool:
    return certainty is not None and certainty.is_settled


def _has_moved(before: Certainty | None, after: Certainty | None) -> bool:
    """Where votes are tied, another likeliest grid is a change as well."""
    if before is None or after is None:
        return before is not after
    is_other = after.margin == 0 and after != before
    return is_other or abs(after.margin - before.margin) >= LEAST_MOVE


def _first_s(state: TaskState) -> float:
    return max(LEAST_JOB_S, state.first_s)
