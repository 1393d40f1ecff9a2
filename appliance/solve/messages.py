"""What the orchestrator and a worker say to each other: one JSON object a line. Jobs go down, events come up."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from appliance.arc.grid import freeze, grid_key, to_lists
from appliance.arc.task import Pair, Task
from appliance.arc.vote import Candidate
from appliance.config import Settings


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Setup(_Message):
    """First line to a worker: what to load with which engines, and where its adapters go.

    window_tokens: the longest prompt with its answer that the engine must take. memory_share, kv_cache_bytes, max_num_seqs: see
    engine/base.py. stall_s: an engine that writes nothing for so long is stuck.
    """

    settings: Settings
    model_dir: str
    run_dir: str
    device: str
    dtype: str
    autocast_dtype: str | None
    num_threads: int
    trainer: str = "peft"
    engine: str = "transformers"
    serving: Literal["on-the-fly", "merged"] = "merged"
    window_tokens: int = 1 << 20
    memory_share: float = 0.4
    kv_cache_bytes: int | None = None
    max_num_seqs: int = 64
    stall_s: float = 120.0
    quantization: str = "none"


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


class KnownProgram(_Message):
    """A program written before, as the model wrote it under a view."""

    view: str
    answer: str
    logprob: float
    num_tokens: int

    @staticmethod
    def of(program: ProgramMessage) -> KnownProgram:
        return KnownProgram(
            **program.model_dump(include={"view", "answer", "logprob", "num_tokens"})
        )


class Job(_Message):
    """Sample these tasks under these views; in stage "deep" the one task is trained first, until train_until_s.

    Where programs are written, a deep job searches for them until program_until_s first, beginning with the `known` ones.

    Stage "probe" measures what a training step and a prompt of that one task take, and solves nothing.

    deadline_s, train_until_s, program_until_s: Unix seconds. rung: how far down the memory ladder (0 is the plan as made).
    adapter_sha: of the adapter that an earlier job saved for the task; it is put on instead of training. is_plain: sample with
    Transformers, as the engine was lost under this job.
    """

    job_id: int
    stage: Literal["probe", "quick", "deep"]
    tasks: list[TaskMessage]
    views: list[str]
    deadline_s: float
    train_until_s: float = 0.0
    program_until_s: float = 0.0
    known: list[KnownProgram] = []
    rung: int = 0
    seed: int = 0
    adapter_sha: str = ""
    is_plain: bool = False


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


class Probed(_Message):
    """What a probe measured: training on `rows` sequences of `tokens`, a prompt of `prompt_tokens`. None: not measured."""

    event: Literal["probed"] = "probed"
    job_id: int
    tokens: int
    prompt_tokens: int
    rows: int
    gradient_checkpointing: bool = False
    train_step_s: float | None = None
    train_memory_gib: float | None = None
    read_s: float | None = None
    write_token_s: float | None = None


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


class ProgramMessage(_Message):
    """A program that was run: where it comes from, how it ended, how well it does on the demonstrations, what it answers.

    answer: as the model wrote it; source: as it ran; both empty where no program could be read. outputs: equal for programs
    of a task with the same outputs on all its inputs.
    """

    task_id: str
    view: str
    adapter: str
    answer: str
    source: str
    outcome: str
    error: str | None
    demo_score: float
    similarity: float
    outputs: str
    test: list[list[list[int]] | None]
    logprob: float
    num_tokens: int

    @property
    def fits(self) -> bool:
        """All demonstrations are right and every test input has an answer."""
        return self.outcome == "ok" and self.demo_score == 1.0

    def candidates(self) -> list[Candidate]:
        """One for each test input, without a grid where the program gave none."""
        return [
            Candidate(
                task_id=self.task_id,
                test_index=index,
                grid=None if lists is None else _grid(lists),
                logprob=self.logprob,
                num_tokens=self.num_tokens,
                view=self.view,
                method="induction",
                adapter=self.adapter,
                program=self.source,
                demo_score=self.demo_score,
            )
            for index, lists in enumerate(self.test)
        ]


class Sampled(_Message):
    """Candidates that are ready, and programs that were run; a job sends several of these. stall_s: after so many seconds
    without a further event the sampler is stuck; None where silence says nothing."""

    event: Literal["sampled"] = "sampled"
    job_id: int
    stall_s: float | None = None
    candidates: list[CandidateMessage] = []
    programs: list[ProgramMessage] = []


class Scored(_Message):
    """How likely the adapted model holds an answer: log-probabilities of its text under views of the task."""

    event: Literal["scored"] = "scored"
    job_id: int
    task_id: str
    test_index: int
    grid: list[list[int]]
    logprobs: list[float]

    def on(self, candidates: list[Candidate]) -> list[Candidate]:
        """The candidates, those that say this answer with its scores."""
        key = grid_key(_grid(self.grid))

        def is_meant(c: Candidate) -> bool:
            is_output = (c.task_id, c.test_index) == (self.task_id, self.test_index)
            return is_output and c.grid is not None and grid_key(c.grid) == key

        return [
            replace(c, view_scores=tuple(self.logprobs)) if is_meant(c) else c for c in candidates
        ]


class EpochMessage(_Message):
    """One round of learning and writing. num_picked: programs that it learnt from; reason: why it did not learn."""

    num_picked: int
    num_programs: int
    num_fit: int
    num_steps: int = 0
    loss_before: float | None = None
    loss_after: float | None = None
    reason: str | None = None


class Searched(_Message):
    """The search for programs on one task is over. is_agreed: two different programs fit all demonstrations and agree."""

    event: Literal["searched"] = "searched"
    job_id: int
    task_id: str
    seconds: float
    is_agreed: bool
    epochs: list[EpochMessage]


class Finished(_Message):
    """The job is over. complete: tasks all of whose questions were answered before the deadline. how: which engine sampled the
    grids, and in which way; refused: what was tried before, and why it was not taken."""

    event: Literal["finished"] = "finished"
    job_id: int
    complete: list[str]
    seconds: float
    how: str = ""
    refused: list[str] = []


class Failed(_Message):
    """The job, or the start of the worker (job_id -1), did not work out. kind says what to do next; "trainer": start again with
    the trainer that always works."""

    event: Literal["failed"] = "failed"
    job_id: int
    kind: Literal["memory", "input", "engine", "trainer"]
    message: str
    exit_code: int = 1


Event = Ready | Probed | Trained | Sampled | Scored | Searched | Finished | Failed
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def parse_event(line: str) -> Event:
    """The event in a line. Raises pydantic.ValidationError when it is none."""
    return _EVENT.validate_json(line)


def _grid(lists: list[list[int]]) -> Any:
    import numpy as np

    return freeze(np.array(lists, dtype=np.int8))
