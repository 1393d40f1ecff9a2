"""Where every task stands, and what is handed to a worker: the nouns of the schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from appliance.arc.task import Task
from appliance.engine.base import NotTuned
from appliance.run.schedule.certainty import Certainty

RANK_DIVISORS = (1, 2, 4)
"""Of the adapters that a task gets, one after the other, and from the beginning again."""

Stage = Literal["search", "probe", "check", "quick", "deep"]


@dataclass
class Progress:
    """One pass of one task."""

    status: str = "waiting"  # waiting, running, done or failed
    rung: int = 0  # of the memory ladder
    first_rung: int = 0  # the one that it began on
    num_tries: int = 0  # that failed for another reason than memory
    num_cut: int = 0  # times that it ran out of time without an answer
    is_alone: bool = False  # asked by itself, because a job of several with it in failed


@dataclass
class TaskState:
    """All that the schedule knows of a task."""

    task: Task
    search: Progress = field(default_factory=Progress)
    quick: Progress = field(default_factory=Progress)
    deep: Progress = field(default_factory=Progress)
    rounds: int = 0  # deep passes that are behind it
    first_s: float = 0.0  # seconds that the first of them took
    certainty: Certainty | None = None  # of the vote over all deep rounds; None without candidates
    num_vain: int = 0  # rounds in a row that left the certainty as it was
    is_given_up: bool = False  # a further round failed too often: it gets no more
    steps_fold: int = 1  # times the planned steps that its next training takes
    adapter_sha: str = ""  # of the adapter that was saved last
    is_late: bool = False  # no time is left to train
    is_found: bool = False  # a search without a model is sure of its answer
    is_counted: bool = False  # it gets so many predictions; a further round gives those that lack

    @property
    def weight(self) -> float:
        """Time is shared out by the root of the cells.

        Dear tasks get more, but not in proportion, for they rarely repay it.
        """
        return math.sqrt(self.task.num_cells())

    @property
    def kept_adapter(self) -> str:
        """The saved adapter that the next round asks, "" where it trains one of its own.

        Every second round asks the adapter of the round before under new views, which costs no
        training; the others train anew, for a second opinion. Without time to train, all of them
        ask the adapter that there is. So does a round that completes the predictions of a task, and
        one after a training that left no time for answers.
        """
        is_asked = self.is_late or self.is_counted or self.deep.num_cut or self.rounds % 2
        return self.adapter_sha if is_asked else ""

    @property
    def rank_divisor(self) -> int:
        """Of the planned rank, in the next training. Adapters of other ranks err in other ways;
        none is larger than the first one, so all fit the memory.
        """
        if self.is_counted:
            return 1  # all predictions are of one kind
        return RANK_DIVISORS[self.num_trainings % len(RANK_DIVISORS)]

    @property
    def num_trainings(self) -> int:
        """Trainings behind it, as far as there was time for them."""
        return self.rounds // 2

    def of(self, stage: Stage) -> Progress:
        if stage == "search":
            return self.search
        return self.quick if stage == "quick" else self.deep


@dataclass(frozen=True)
class Assignment:
    """Tasks to work on in one job. Programs come first, then training, then grids."""

    stage: Stage
    tasks: tuple[Task, ...]
    num_views: int
    until_s: float  # when all of it must be over
    expected_until_s: float  # when it will be over, as far as can be told
    train_s: float = 0.0  # how long training for grids may take
    program_s: float = 0.0  # how long programs are written
    rung: int = 0  # of the memory ladder
    round: int = 1  # more when a task is gone through again
    adapter_sha: str = ""  # of the saved adapter that answers, where nothing is trained
    rank_divisor: int = 1  # this and the next: of a training, as in TaskState
    steps_fold: int = 1
    certainty: Certainty | None = None  # of the vote as the job begins
    is_late: bool = False  # there was no time to train
    untrained: NotTuned | None = None  # why the run trains no more: it harms, or always fails
    learning_rate: float | None = None  # None: that of the settings
    rates: tuple[float, ...] = ()  # this and the next: of a check, see `Job`
    num_steps: int = 0
    cpu_s: float = 0.0  # of a search

    @property
    def label(self) -> str:
        """For people: "quick", "deep", "deep again (2)", ..."""
        return self.stage if self.round == 1 else f"{self.stage} again ({self.round})"
