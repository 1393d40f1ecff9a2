"""Where every task stands, and what is handed to a worker: the nouns of the schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from appliance.arc.task import Task
from appliance.engine.base import NotTuned
from appliance.run.schedule.certainty import Certainty

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
