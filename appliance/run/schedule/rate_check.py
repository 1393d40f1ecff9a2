"""Is the planned learning rate right for this model? A few of the run's own tasks decide.

A rate that is too high spoils a model, and nobody notices: every answer is only a little worse. So
at the start of a run, some tasks hold one demonstration back, train on the others at a third, once
and three times the planned rate, and tell how likely they find the answer that they have not seen.
Where training makes it less likely on most of them, the run answers untrained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Annotated

from pydantic import Field

from appliance.arc.task import Task
from appliance.engine.base import NotTuned
from appliance.record.journal import Journal
from appliance.run.schedule.planned_costs import PlannedCosts
from appliance.run.schedule.schedule import Schedule
from appliance.run.schedule.task_state import Assignment
from appliance.sizing.memory_ladder import LAST_RUNG
from appliance.solve.messages import Checked

SHARE = 0.01
"""Of the devices' time, what a check may take."""

FACTORS = (1 / 3, 1.0, 3.0)
"""Rates that are tried, as multiples of the planned one."""

MOST_TASKS = 8
FEWEST_TASKS = 3
"""So many tasks are asked; fewer would decide by chance."""

FEWEST_DEMONSTRATIONS = 3
"""One is held back, and of the others each must be answered with one shown."""

LEAST_STEPS = 16
LEAST_STEPS_SHARE = 0.25
"""A check trains at least this many steps, and this part of those that a task will get: what a rate
does after a few steps says little of what it does at the end."""

NUM_VIEWS = 4
"""Views under which the answer held back is read."""

CLEAR_SHARE = 2 / 3
CLEAR_GAIN = 0.02
"""Another rate is taken where it is better on this part of the tasks, and by this part on the mean:
the planned one is known from others' work, and a few tasks are noisy."""

PATIENCE = 3.0
"""A check that takes this many times its planned time is dropped."""

FACT = "rate check"
"""Of the journal, so that a resumed run need not check again."""


@dataclass(frozen=True)
class Verdict:
    """What a check decided."""

    learning_rate: Annotated[float, Field(gt=0, le=1)]  # checked where it is read back
    is_harmful: bool  # training makes right answers less likely, at the best rate that was tried


@dataclass(frozen=True)
class _Question:
    """What is asked of every task of the check."""

    tasks: tuple[Task, ...]
    rates: tuple[float, ...]
    num_steps: int


class RateCheck:
    """Hands out one job for each task of the check, and decides when all of them are back."""

    def __init__(
        self,
        schedule: Schedule,
        journal: Journal,
        tell: Callable[[str], None],
        *,
        device_s: float,
        is_given: bool,
    ) -> None:
        """device_s: seconds of all devices together. is_given: the user set the rate, so that no
        other one is tried.
        """
        self._schedule = schedule
        self._journal = journal
        self._tell = tell
        self._allowed_s = SHARE * device_s
        self._is_given = is_given

        self._question: _Question | None = None
        self._waiting: list[Task] = []
        self._num_out = 0
        self._found: list[Checked] = []

        train = schedule.settings.train
        self._is_over = (
            not schedule.settings.writes_grids or not train.enabled or train.check == "skip"
        )
        if not self._is_over and (kept := journal.fact(FACT, Verdict | None)):
            self._is_over = True
            self._adopt(kept)

    def next(self, planned: PlannedCosts, now_s: float) -> Assignment | None:
        """A job of the check; None when all of them are given out, or where there is no check.

        planned: the costs of the tasks as they are known now.
        """
        if self._is_over:
            return None
        if self._question is None:
            self._question = self._ask(planned)
            if self._question is None:
                return None
            self._waiting = list(self._question.tasks)
        if not self._waiting:
            return None

        task = self._waiting.pop(0)
        self._num_out += 1
        expected_s = _seconds(planned, task.task_id, self._question.num_steps, self._num_rates)
        return Assignment(
            "check",
            (task,),
            NUM_VIEWS,
            until_s=min(self._schedule.end_s, now_s + PATIENCE * expected_s),
            expected_until_s=now_s + expected_s,
            rung=min(planned.first_rung(planned.lengths[task.task_id]), LAST_RUNG - 1),
            rates=self._question.rates,
            num_steps=self._question.num_steps,
        )

    def take(self, event: Checked) -> None:
        """What one task said."""
        if event.reason is None:
            self._found.append(event)
        self._come_back()

    def lose(self, assignment: Assignment, message: str) -> None:
        """The worker failed at one task of the check: the others decide."""
        task_id = assignment.tasks[0].task_id
        self._tell(f"the check of the learning rate failed at {task_id}: {message}")
        self._come_back()

    @property
    def _num_rates(self) -> int:
        return 1 if self._is_given else len(FACTORS)

    def _ask(self, planned: PlannedCosts) -> _Question | None:
        """As many tasks as the time pays for, each trained as long as it will be in the run."""
        states = self._schedule.states.values()
        tasks = [s.task for s in states if len(s.task.train) >= FEWEST_DEMONSTRATIONS]
        tasks.sort(key=lambda t: (planned.lengths[t.task_id].lesson_tokens, t.task_id))

        wanted = planned.steps_per_task
        least = min(wanted, max(LEAST_STEPS, round(LEAST_STEPS_SHARE * wanted)))
        for num_tasks in range(min(MOST_TASKS, len(tasks)), FEWEST_TASKS - 1, -1):
            chosen = _spread(tasks, num_tasks)
            steps = self._steps_for(planned, chosen)
            # Rather fewer tasks than a training that is cut short.
            if steps >= (wanted if num_tasks > FEWEST_TASKS else least) > 0:
                rates = tuple(factor * planned.settings.train.learning_rate for factor in FACTORS)
                if self._is_given:
                    rates = (planned.settings.train.learning_rate,)
                return _Question(chosen, rates, min(steps, wanted))

        self._is_over = True
        self._tell_of_none(planned, tasks, least)
        return None

    def _steps_for(self, planned: PlannedCosts, tasks: Sequence[Task]) -> int:
        """Steps of each training that the time allows, with these tasks."""
        fixed_s = sum(_seconds(planned, t.task_id, 0, self._num_rates) for t in tasks)
        all_s = sum(_seconds(planned, t.task_id, 1, self._num_rates) for t in tasks)
        return max(0, int((self._allowed_s - fixed_s) / max(1e-9, all_s - fixed_s)))

    def _tell_of_none(self, planned: PlannedCosts, tasks: Sequence[Task], least: int) -> None:
        if len(tasks) < FEWEST_TASKS:
            why = f"{len(tasks)} tasks have {FEWEST_DEMONSTRATIONS} demonstrations"
        elif not planned.steps_per_task:
            return  # nothing will be trained
        else:
            chosen = _spread(tasks, FEWEST_TASKS)
            need_s = sum(_seconds(planned, t.task_id, least, self._num_rates) for t in chosen)
            why = f"it would take {need_s:.0f} s of the devices, and may take {self._allowed_s:.0f}"
        rate = planned.settings.train.learning_rate
        self._tell(f"the learning rate of {rate:.2g} is not checked: {why}")

    def _come_back(self) -> None:
        self._num_out -= 1
        if self._num_out or self._waiting or self._question is None or self._is_over:
            return

        self._is_over = True
        rates, num_steps = self._question.rates, self._question.num_steps
        if len(self._found) < FEWEST_TASKS:
            self._tell(
                f"the check of the learning rate came to nothing: {len(self._found)} of "
                f"{len(self._question.tasks)} tasks gave figures, {FEWEST_TASKS} are needed"
            )
            return

        verdict = judge(rates, self._found)
        for line in lines_of(verdict, rates, self._found, num_steps):
            self._tell(line)
        self._journal.put_fact(FACT, asdict(verdict))
        self._adopt(verdict)

    def _adopt(self, verdict: Verdict) -> None:
        """From now on tasks are trained as was decided."""
        self._schedule.learning_rate = verdict.learning_rate
        if verdict.is_harmful and self._schedule.settings.train.check == "tell":
            self._tell("train.check = tell, so the tasks are trained all the same")
        elif verdict.is_harmful:
            self._schedule.stop_training(NotTuned("training harms this model", "harm"))
            self._tell("the tasks are answered untrained; --set train.check=tell trains them")


def judge(rates: Sequence[float], found: Sequence[Checked]) -> Verdict:
    """What these tasks say. rates: as they were tried, the planned one in the middle.

    >>> def task(untrained, *trained):
    ...     return Checked(job_id=0, task_id="", untrained=untrained, trained=list(trained))
    >>> judge([1e-5, 3e-5, 9e-5], [task(1.0, 0.9, 0.8, 0.5)] * 3)
    Verdict(learning_rate=9e-05, is_harmful=False)
    >>> judge([1e-5, 3e-5, 9e-5], [task(1.0, 1.2, 1.5, 9.0)] * 3)
    Verdict(learning_rate=1e-05, is_harmful=True)
    """
    planned = len(rates) // 2
    means = [fmean(task.trained[i] for task in found) for i in range(len(rates))]

    def is_better(i: int) -> bool:
        num_better = sum(task.trained[i] < task.trained[planned] for task in found)
        is_clear = means[i] <= (1 - CLEAR_GAIN) * means[planned]
        return is_clear and num_better >= CLEAR_SHARE * len(found)

    best = min([planned, *filter(is_better, range(len(rates)))], key=lambda i: means[i])
    num_worse = sum(task.trained[best] > untrained_nats(task) for task in found)
    is_worse = means[best] > fmean(map(untrained_nats, found))
    return Verdict(rates[best], is_worse and 2 * num_worse > len(found))


def lines_of(
    verdict: Verdict, rates: Sequence[float], found: Sequence[Checked], num_steps: int
) -> list[str]:
    """For people: what was tried, and what was taken."""
    planned, taken = rates[len(rates) // 2], verdict.learning_rate
    means = [fmean(task.trained[i] for task in found) for i in range(len(rates))]
    tried = ", ".join(f"{mean:.3f} at {rate:.2g}" for rate, mean in zip(rates, means, strict=True))
    chosen = f"{taken:.2g} is taken" if taken != planned else f"{planned:.2g} stays"
    lines = [
        f"learning rate checked on {len(found)} tasks with one demonstration held back, "
        f"{num_steps} steps each: {fmean(map(untrained_nats, found)):.3f} nats a token untrained, "
        f"{tried}; {chosen}"
    ]

    if verdict.is_harmful:
        i = rates.index(taken)
        num_worse = sum(task.trained[i] > untrained_nats(task) for task in found)
        lines.append(
            "TRAINING AT TEST TIME HARMS THIS MODEL: the answer held back became less likely on "
            f"{num_worse} of {len(found)} tasks"
        )
    return lines


def untrained_nats(task: Checked) -> float:
    """A token, of the answer held back, before any training."""
    assert task.untrained is not None  # a task without it is not among those that decide
    return task.untrained


def _seconds(planned: PlannedCosts, task_id: str, num_steps: int, num_rates: int) -> float:
    """Of one task: a training at each rate, and the answer read before the first and after each."""
    length = planned.lengths[task_id]
    read_s = planned.costs.read_s(length.prompt_tokens + length.answer_tokens)
    return num_rates * num_steps * planned.step_s(length) + (1 + num_rates) * NUM_VIEWS * read_s


def _spread(tasks: Sequence[Task], num: int) -> tuple[Task, ...]:
    """Of the shorter half, from the shortest to the middle: they cost little, and differ."""
    half = tasks[: max(num, (len(tasks) + 1) // 2)]
    return tuple(half[round(i * (len(half) - 1) / max(1, num - 1))] for i in range(num))
