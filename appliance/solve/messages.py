"""What the orchestrator and a worker say to each other: one JSON object a line.

Jobs go down to the worker, events come up from it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from appliance.arc.grid import freeze, grid_key, to_lists
from appliance.arc.task import Pair, Task
from appliance.arc.vote import Candidate
from appliance.config import SampleSettings, Settings
from appliance.engine.base import (
    DEFAULT_MAX_NUM_SEQS,
    DEFAULT_MEMORY_SHARE,
    Blame,
    Cause,
    Serving,
)


class _Message(BaseModel):
    # A probability of 0 has the logarithm -Infinity, which pydantic would write as null.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class Setup(_Message):
    """First line to a worker: what to load with which engines, and where its adapters go."""

    settings: Settings
    model_dir: str
    adapters_dir: str  # gets one folder per trained task
    scratch_dir: str  # for caches and merged weights, shared with the other workers
    device: str  # "cpu" or "cuda"
    dtype: str  # that weights are stored in
    autocast_dtype: str | None  # that training computes in, None: the stored one
    num_threads: int
    trainer: str = "peft"  # a name in engine/registry.py
    engine: str = "transformers"  # the sampling engine, a name in engine/registry.py
    is_compared: bool = False  # a probe times the same answers by Transformers as well
    serving: Serving = "merged"
    window_tokens: int = 1 << 20  # longest prompt with its answer that the engine must take
    memory_share: float = DEFAULT_MEMORY_SHARE  # this and the next three: see EngineSpec
    kv_cache_bytes: int | None = None
    max_num_seqs: int = DEFAULT_MAX_NUM_SEQS
    sleeps: bool = False
    stall_s: float = SampleSettings().stall_s  # an engine that writes nothing for so long is stuck
    quantization: str = "none"


class SearchSetup(_Message):
    """First line to a search worker, which has no model and no device."""

    settings: Settings
    is_beside: bool  # device workers run at the same time and go before it


class TaskMessage(_Message):
    """A task as plain lists."""

    task_id: str
    train: list[tuple[list[list[int]], list[list[int]]]]  # input and output of each demonstration
    test: list[list[list[int]]]  # inputs

    @staticmethod
    @lru_cache(maxsize=1024)  # a task has many jobs
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
    """A program that an earlier job found, as the model wrote it under a view."""

    view: str  # name of the view
    answer: str  # as the model wrote it
    logprob: float
    num_tokens: int

    @staticmethod
    def of(program: ProgramMessage) -> KnownProgram:
        return KnownProgram(
            **program.model_dump(include={"view", "answer", "logprob", "num_tokens"})
        )


class Ask(_Message):
    """So many answers to one test input under one view."""

    view: str  # its name
    test_index: int
    num_samples: int


class Job(_Message):
    """What a worker does next, in one of five stages.

    "search" looks for programs that fit one task, without a model; search workers do nothing else.
    "quick" samples several tasks with the model as it is. "deep" takes one task: it writes
    programs until program_until_s (where the run writes programs), trains until train_until_s,
    then samples grids. "probe" measures what a training step and a prompt of one task cost, and
    "check" which learning rate helps; these two solve nothing.
    """

    job_id: int
    stage: Literal["search", "probe", "check", "quick", "deep"]
    tasks: list[TaskMessage]  # a single one where the stage is not "quick"
    views: list[str] = []
    deadline_s: float  # this and the next two: Unix seconds
    train_until_s: float = 0.0
    program_until_s: float = 0.0
    known: list[KnownProgram] = []  # writing begins with these
    # Where predictions are counted, exactly these grids are asked for, and so many programs are
    # written in each round; None: the settings say how many.
    asks: list[Ask] | None = None
    program_rounds: list[int] | None = None
    rung: int = 0  # how far down the memory ladder; 0 is the plan as made
    seed: int = 0
    adapter_sha: str = ""  # adapter that an earlier job saved: put it on instead of training
    plain_because: str = ""  # why Transformers samples and not the engine of the setup
    rank_divisor: int = 1  # this and the next: of the planned rank and steps of training for grids
    steps_fold: int = 1
    learning_rate: float | None = None  # of training for grids, None: that of the settings
    rates: list[float] = []  # this and the next: learning rates of a check, steps with each
    num_steps: int = 0
    expansions: int = 0  # this and the next: of a search, see `search.answers.Limits`
    cpu_s: float = 0.0


class Ready(_Message):
    """The model is loaded."""

    event: Literal["ready"] = "ready"
    seconds: float
    facts: dict[str, Any]  # what was found, for the journal
    # How many times as long as it computed it took, because other work has the cores as well.
    slowdown: float = Field(1.0, ge=1)


class Trained(_Message):
    """Outcome of one task's training."""

    event: Literal["trained"] = "trained"
    job_id: int
    task_id: str
    seconds: float
    loss_before: float | None = None  # nats per answer token, as loss_after
    loss_after: float | None = None
    num_steps: int = 0
    adapter_sha: str = ""
    reason: str | None = None  # why the model was not adapted; this and the next: None when it was
    cause: Cause | None = None
    blame: Blame = "engine"  # where the cause is a fault


class LeftOut(_Message):
    """A part of the job failed, and the job goes on without it."""

    event: Literal["left out"] = "left out"
    job_id: int
    part: Literal["programs", "scores"]  # nothing else can be left out and be told of so
    message: str
    blame: Blame


class Probed(_Message):
    """What a probe measured; None for what it did not."""

    event: Literal["probed"] = "probed"
    job_id: int
    tokens: int  # a training step took `rows` sequences of so many tokens
    prompt_tokens: int
    rows: int
    gradient_checkpointing: bool = False
    train_step_s: float | None = None
    train_memory_gib: float | None = None  # peak
    memory_fault: str = ""  # why the memory was not measured
    read_s: float | None = None  # of the whole prompt, with the token that comes of it
    write_token_s: float | None = None  # of one more token
    short_tokens: int = 0  # of the prompt that it was written after
    # By engine, where two were compared: seconds of the same batch of answers. The two times above
    # are then those of the faster one.
    batch_s: dict[str, float] = {}


class Checked(_Message):
    """How likely a held-back answer is after training at each of a check's learning rates."""

    event: Literal["checked"] = "checked"
    job_id: int
    task_id: str
    untrained: float | None  # nats a token before training; None where nothing was measured
    trained: list[float]  # the same after training at each rate, in the order of the job
    reason: str | None = None  # why nothing was measured; None when it was


class CandidateMessage(_Message):
    """A `Candidate` whose grid is plain lists."""

    task_id: str
    test_index: int
    grid: list[list[int]] | None  # None: the answer was no legal grid
    logprob: float
    num_tokens: int
    view: str
    method: str
    adapter: str  # hash of the adapter, "" for none
    program: str = ""  # this and the next two: of a search without a model
    demo_score: float | None = None
    weight: float | None = None

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
            program=candidate.program,
            demo_score=candidate.demo_score,
            weight=candidate.weight,
        )

    def candidate(self) -> Candidate:
        return Candidate(
            task_id=self.task_id,
            test_index=self.test_index,
            grid=None if self.grid is None else _grid(self.grid),
            logprob=self.logprob,
            num_tokens=self.num_tokens,
            view=self.view,
            method=self.method,
            adapter=self.adapter,
            program=self.program,
            demo_score=self.demo_score,
            weight=self.weight,
        )


class ProgramMessage(_Message):
    """A program that was run: where it comes from, how it ended, and what it answers."""

    task_id: str
    view: str
    adapter: str  # hash of the adapter, "" for none
    answer: str  # as the model wrote it; this and source are "" where no program could be read
    source: str  # as it ran
    outcome: str  # of the sandbox: "ok", "error", "timeout", ...
    error: str | None
    demo_score: float  # share of the demonstrations that it gets right
    similarity: float  # mean pixel similarity over the demonstrations
    outputs: str  # equal for programs with the same outputs on all inputs of the task
    test: list[list[list[int]] | None]  # its answer to each test input
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
    """Candidates that are ready, and programs that were run; a job sends several of these."""

    event: Literal["sampled"] = "sampled"
    job_id: int
    stall_s: float | None = (
        None  # silence for so long means a stuck sampler; None: it means nothing
    )
    candidates: list[CandidateMessage] = []
    programs: list[ProgramMessage] = []


class Scored(_Message):
    """How likely the adapted model holds one answer to a test input."""

    event: Literal["scored"] = "scored"
    job_id: int
    task_id: str
    test_index: int
    grid: list[list[int]]
    logprobs: list[float]  # of the answer's text, one for each view of the task

    def on(self, candidates: list[Candidate]) -> list[Candidate]:
        """The candidates, with these scores on those that give this answer."""
        key = grid_key(_grid(self.grid))

        def is_meant(c: Candidate) -> bool:
            is_same_output = c.output == (self.task_id, self.test_index)
            return is_same_output and c.grid is not None and grid_key(c.grid) == key

        return [
            replace(c, view_scores=tuple(self.logprobs)) if is_meant(c) else c for c in candidates
        ]


class EpochMessage(_Message):
    """One round of learning from programs and writing new ones."""

    num_picked: int  # programs that it learnt from
    num_programs: int  # programs that it wrote
    num_fit: int  # of these, programs that get all demonstrations right
    num_steps: int = 0
    loss_before: float | None = None  # nats per answer token, as loss_after
    loss_after: float | None = None
    reason: str | None = None  # why it did not learn; this and the next: None when it did
    cause: Cause | None = None


class Wrote(_Message):
    """The writing of programs for one task is over."""

    event: Literal["wrote"] = "wrote"
    job_id: int
    task_id: str
    seconds: float
    is_agreed: bool  # two different programs fit all demonstrations and give the same answers
    epochs: list[EpochMessage]


class Searched(_Message):
    """The search for programs that fit one task is over. Its answers have been sent."""

    event: Literal["searched"] = "searched"
    job_id: int
    task_id: str
    seconds: float
    cpu_s: float
    expansions: int
    applications: int  # this and the next: see `search.answers.Found`
    bound: str
    kind: str  # of the likeliest grids, such as "exact" or "cells"; "" where there are none
    num_answers: int  # that count
    num_refused: int  # whose programs gave other grids in the sandbox, or none
    num_left: int  # whose programs were not run: too many, or no time


class Finished(_Message):
    """The job is over."""

    event: Literal["finished"] = "finished"
    job_id: int
    complete: list[str]  # tasks all of whose questions were answered before the deadline
    seconds: float
    how: str = ""  # engine that sampled the grids, and in which way
    refused: list[str] = []  # ways that were tried before, each with the reason it was not taken


class Failed(_Message):
    """The job, or the start of the worker (job_id -1), did not work out. The worker lives on."""

    event: Literal["failed"] = "failed"
    job_id: int
    # What went wrong, and so what to do next. "trainer": start again with the trainer "peft".
    # "device": nobody can use it, so the worker is given up. "adapter": the one that the run saved
    # for the task is lost, so the task is trained anew.
    kind: Literal["memory", "input", "engine", "trainer", "device", "adapter"]
    message: str
    exit_code: int = 1


Event = (
    Ready
    | Probed
    | Checked
    | Trained
    | LeftOut
    | Sampled
    | Scored
    | Wrote
    | Searched
    | Finished
    | Failed
)
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def parse_event(line: str) -> Event:
    """The event in a line. Raises pydantic.ValidationError when it is none."""
    return _EVENT.validate_json(line)


def _grid(lists: list[list[int]]) -> Any:
    import numpy as np

    return freeze(np.array(lists, dtype=np.int8))
