"""What the orchestrator and a worker say to each other: one JSON object a line. Jobs go down, events come up."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from appliance.arc.grid import freeze, to_lists
from appliance.arc.task import Pair, Task
from appliance.arc.vote import Candidate
from appliance.config import Settings


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Setup(_Message):
    """First line to a worker: what to load with which engines, and where its adapters go."""

    settings: Settings
    model_dir: str
    run_dir: str
    device: str
    dtype: str
    autocast_dtype: str | None
    num_threads: int
    trainer: str = "peft"
    engine: str = "transformers"


class TaskMessage(_Message):
    task_id: str
    train: list[tuple[list[list[int]], list[list[int]]]]
    test: list[list[list[int]]]

    @staticmethod
    def of(task: Task) -> TaskMessage:
        train = [(to_lists(p.input), to_lists(p.output)) for p in task.train]
        return TaskMessage(task_id=task.task_id, train=train, test=[to_lists(g) for g in task.test])

    def task(self) -> Task:
        return Task(
            self.task_id,
            tuple(Pair(_grid(a), _grid(b)) for a, b in self.train),
            tuple(_grid(g) for g in self.test),
        )


class Job(_Message):
    """Sample these tasks under these views; in stage "deep" the one task is trained first, until train_until_s.

    deadline_s, train_until_s: Unix seconds. rung: how far down the memory ladder (0 is the plan as made).
    """

    job_id: int
    stage: Literal["quick", "deep"]
    tasks: list[TaskMessage]
    views: list[str]
    deadline_s: float
    train_until_s: float = 0.0
    rung: int = 0
    seed: int = 0


class Ready(_Message):
    """The model is loaded. facts: what was found, for the journal."""

    event: Literal["ready"] = "ready"
    seconds: float
    facts: dict[str, Any]


class Trained(_Message):
    """Outcome of one task's training; `reason` is set exactly when it was not tuned."""

    event: Literal["trained"] = "trained"
    job_id: int
    task_id: str
    seconds: float
    loss_before: float | None = None
    loss_after: float | None = None
    num_steps: int = 0
    adapter_sha: str = ""
    reason: str | None = None


class CandidateMessage(_Message):
    task_id: str
    test_index: int
    grid: list[list[int]] | None
    logprob: float
    num_tokens: int
    view: str
    method: str
    adapter: str

    @staticmethod
    def of(candidate: Candidate) -> CandidateMessage:
        return CandidateMessage(
            task_id=candidate.task_id,
            test_index=candidate.test_index,
            grid=None if candidate.grid is None else to_lists(candidate.grid),
            logprob=candidate.logprob,
            num_tokens=candidate.num_tokens,
            view=candidate.view,
            method=candidate.method,
            adapter=candidate.adapter,
        )

    def candidate(self) -> Candidate:
        values = self.model_dump()
        values["grid"] = None if self.grid is None else _grid(self.grid)
        return Candidate(**values)


class Sampled(_Message):
    """Candidates that are ready; a job sends several of these."""

    event: Literal["sampled"] = "sampled"
    job_id: int
    candidates: list[CandidateMessage]


class Finished(_Message):
    """The job is over. complete: tasks all of whose questions were answered before the deadline."""

    event: Literal["finished"] = "finished"
    job_id: int
    complete: list[str]
    seconds: float


class Failed(_Message):
    """The job, or the start of the worker (job_id -1), did not work out. kind says what to do next."""

    event: Literal["failed"] = "failed"
    job_id: int
    kind: Literal["memory", "input", "engine"]
    message: str
    exit_code: int = 1


Event = Ready | Trained | Sampled | Finished | Failed
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def parse_event(line: str) -> Event:
    """The event in a line. Raises pydantic.ValidationError when it is none."""
    return _EVENT.validate_json(line)


def _grid(lists: list[list[int]]) -> Any:
    import numpy as np

    return freeze(np.array(lists, dtype=np.int8))
