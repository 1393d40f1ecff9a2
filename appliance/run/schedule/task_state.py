"""Where every task stands, and what is handed to a worker: the nouns of the schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from appliance.arc.task import Task
from appliance.run.schedule.certainty import Certainty

Stage = Literal["probe", "quick", "deep"]


@dataclass
class Progress:
    """One pass of one task. status: "waiting", "running", "done" or "failed". rung: of the memory ladder; first_rung: the one
    it began on. num_cut: times that it ran out of time without an answer. is_alone: it is asked by itself, because a job of
    several with it in failed."""

    status: str = "waiting"
    rung: int = 0
    first_rung: int = 0
    num_crashes: int = 0
    num_cut: int = 0
    is_alone: bool = False


@dataclass
class TaskState:
    """rounds: deep passes that are behind it. first_s: seconds that the first of them took. certainty: of the vote over all
    deep rounds, None while none of them gave a candidate. adapter_sha: of the adapter that was saved last. is_late: no time is
    left to train."""

    task: Task
    quick: Progress = field(default_factory=Progress)
    deep: Progress = field(default_factory=Progress)
    rounds: int = 0
    first_s: float = 0.0
    certainty: Certainty | None = None
    adapter_sha: str = ""
    is_late: bool = False

    @property
    def weight(self) -> float:
        """Time is shared out by cells ** 0.5: dear tasks get more, but not in proportion, for they rarely repay it."""
        return math.sqrt(self.task.num_cells())

    @property
    def kept_adapter(self) -> str:
        """Every second round asks the adapter of the round before under new views, which costs no training; the others train
        one of their own, for a second opinion. Without time to train all of them ask the one that there is."""
        return self.adapter_sha if self.is_late or self.rounds % 2 else ""

    def of(self, stage: Stage) -> Progress:
        return self.quick if stage == "quick" else self.deep


@dataclass(frozen=True)
class Assignment:
    """Tasks to work on in one job. program_s: how long programs are searched for, before train_s, how long training for grids
    may take; until_s: when all of it must be over;
    expected_until_s: when it will be over, as far as can be told. round: 1, or more when a task is gone through again.
    adapter_sha: of the saved adapter that answers, where nothing is trained. is_late: there was no time to train."""

    stage: Stage
    tasks: tuple[Task, ...]
    num_views: int
    until_s: float
    expected_until_s: float
    train_s: float = 0.0
    program_s: float = 0.0
    rung: int = 0
    round: int = 1
    adapter_sha: str = ""
    is_late: bool = False

    @property
    def label(self) -> str:
        """For people: "quick", "deep", "deep again (2)", ..."""
        return self.stage if self.round == 1 else f"{self.stage} again ({self.round})"
