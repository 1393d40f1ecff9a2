"""Rows of a journal, checked: a file that was damaged or meddled with may hold anything.

Each function gives the value of one row, and raises ValueError where the row is not one that a run
writes. Whoever reads leaves such rows out and counts them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from appliance.arc.grid import MAX_SIDE, Grid, as_grid, grid_fault, grid_key, is_legal
from appliance.arc.task import Task, task_from_json
from appliance.arc.vote import Candidate
from appliance.errors import InputError
from appliance.solve.messages import ProgramMessage

StageName = Literal["search", "quick", "programs", "train", "deep"]
Status = Literal["done", "partial", "failed"]

MAX_TESTS = 10_000
"""Test inputs of a task; ARC's have at most four."""

MAX_ROUND = 10_000
"""A run goes through a task a few times."""

MAX_GRID_CHARS = 8 * MAX_SIDE * MAX_SIDE
"""Longer is no text of a grid, and is not parsed: a cell takes three characters."""

LEAST_LOGPROB, MOST_LOGPROB = -1e12, 1.0
"""Of a whole answer. Above 0 there is only rounding, and sums of what lies far below overflow."""

MAX_WEIGHT = 1e6
"""Weights of a search are shares of 1, so no sum of them comes near."""


@dataclass(frozen=True)
class StageRow:
    """The latest outcome of one stage of one task."""

    task_id: str
    stage: str  # search, quick, programs, train or deep
    status: str  # done, partial or failed
    seconds: float
    detail: Mapping[str, Any] = field(default_factory=dict)
    round: int = 1  # more where the task was gone through again
    at_s: float | None = None  # when it ended, in Unix seconds; None in older journals


@dataclass(frozen=True)
class TaskRow:
    """A task of the run."""

    task_id: str
    num_tests: int
    digest: str  # of its contents, see Task.digest


class _Epoch(BaseModel):
    """What is read of a round of learning from programs."""

    model_config = ConfigDict(extra="allow", strict=True)

    num_steps: int = 0
    reason: str | None = None
    cause: str | None = None


class _Detail(BaseModel):
    """Those details of a stage that somebody reads; others are free."""

    model_config = ConfigDict(extra="allow", strict=True)

    reason: str | None = None
    cause: str | None = None
    how: str | None = None
    refused: list[str] = []
    adapter_sha: str = ""
    is_agreed: bool = False
    epochs: list[_Epoch] = []
    num_steps: int = 0
    num_answers: int = 0
    expansions: int = 0
    worker: int | None = None
    loss_before: Annotated[float, Field(strict=False)] | None = None
    loss_after: Annotated[float, Field(strict=False)] | None = None


def stage_of(values: Sequence[Any]) -> StageRow:
    """values: task_id, stage, status, seconds, detail, round, at_s."""
    task_id, stage, status, seconds, detail, number, at_s = values
    _check(type(task_id) is str, "a task id")
    _check(stage in get_args(StageName), "a stage")
    _check(status in get_args(Status), "a status")
    _check(_is_number(seconds) and seconds >= 0, "seconds")
    _check(type(number) is int and 1 <= number <= MAX_ROUND, "a round")
    _check(at_s is None or _is_number(at_s), "a time")
    told = parsed(detail)
    _check(isinstance(told, dict), "details")
    known = _Detail.model_validate(told)
    _check(known.cause is None or known.reason is not None, "a cause with its reason")
    # What each stage always tells, so that readers need not ask whether it is there.
    told = {"programs": {"is_agreed": False}, "train": {"adapter_sha": ""}}.get(stage, {}) | told
    return StageRow(task_id, stage, status, float(seconds), told, number, at_s)


def task_of(values: Sequence[Any]) -> TaskRow:
    """values: task_id, num_tests, digest."""
    task_id, num_tests, digest = values
    _check(type(task_id) is str and type(digest) is str, "texts")
    _check(type(num_tests) is int and 1 <= num_tests <= MAX_TESTS, "a number of test inputs")
    return TaskRow(task_id, num_tests, digest)


def size_of(values: Sequence[Any]) -> tuple[str, int, int]:
    """values: those of `task_of`, and the number of cells."""
    *values, cells = values
    row = task_of(values)
    _check(type(cells) is int and 0 <= cells < 2**53, "a number of cells")
    return row.task_id, row.num_tests, cells


def content_of(values: Sequence[Any]) -> Task:
    """The task itself. values: task_id, digest, content."""
    task_id, digest, content = values
    _check(type(task_id) is str, "a task id")
    try:
        task, _ = task_from_json(task_id, parsed(content), place="journal")
    except InputError as fault:
        raise ValueError(fault.found) from fault
    _check(task.digest() == digest, "the task of this digest")
    return task


def candidate_of(
    stage: object, values: Sequence[Any], num_tests: Mapping[str, int]
) -> tuple[str, Candidate]:
    """The stage and the candidate. values: the columns of `stored`, with the task id before them.

    num_tests: test inputs of the tasks that are known.
    """
    (task_id, test_index, grid, logprob, num_tokens, *texts, demo_score, view_scores, weight) = (
        values
    )
    _check(stage in get_args(StageName), "a stage")
    _check(all(type(text) is str for text in (task_id, *texts)), "texts")
    most = num_tests.get(task_id, MAX_TESTS)
    _check(type(test_index) is int and 0 <= test_index < most, "a test index")
    _check(_is_logprob(logprob), "a log-probability")
    _check(type(num_tokens) is int and num_tokens >= 0, "a number of tokens")
    _check(demo_score is None or _is_between(demo_score, 0, 1), "a share of demonstrations")
    _check(weight is None or _is_between(weight, 0, MAX_WEIGHT), "a weight")

    scores = parsed(view_scores)
    _check(isinstance(scores, list) and all(map(_is_logprob, scores)), "scores of views")
    view, method, adapter, program = texts
    return str(stage), Candidate(
        task_id, test_index, _grid_of(grid), logprob, num_tokens, view, method, adapter, program,
        demo_score, tuple(scores), weight,
    )  # fmt: skip


def stored(candidate: Candidate) -> tuple[Any, ...]:
    """From test_index on, in the order of the columns.

    A log-probability that is not a number (half precision overflowed) counts as the least.
    """
    c = candidate
    grid = None if c.grid is None else _text_of(*grid_key(c.grid))
    scores = json.dumps([_ordered(s) for s in c.view_scores]) if c.view_scores else "[]"
    return (
        c.test_index, grid, _ordered(c.logprob), c.num_tokens, c.view, c.method, c.adapter,
        c.program, c.demo_score, scores, c.weight,
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _text_of(rows: int, columns: int, cells: bytes) -> str:
    """Of the grid with this key; answers repeat."""
    return json.dumps(np.frombuffer(cells, dtype=np.int8).reshape(rows, columns).tolist())


def as_kept(candidate: Candidate, num_tests: int) -> Candidate | None:
    """The candidate as `candidate_of` gives it back once it was stored; None for an illegal grid
    and for a test input that is not there, for such a row is left out there."""
    if candidate.grid is not None and not is_legal(candidate.grid):
        return None
    if not 0 <= candidate.test_index < num_tests:
        return None

    logprob = _ordered(candidate.logprob)
    scores = tuple(map(_ordered, candidate.view_scores))
    if (logprob, scores) == (candidate.logprob, candidate.view_scores):
        return candidate
    return replace(candidate, logprob=logprob, view_scores=scores)


def program_of(
    stage: object, number: Any, task_id: object, message: object, num_tests: Mapping[str, int]
) -> tuple[str, int, ProgramMessage]:
    """The stage, the number of the round, and the program."""
    _check(stage in get_args(StageName), "a stage")
    _check(type(number) is int and 1 <= number <= MAX_ROUND, "a round")
    _check(type(message) is str, "a text")
    program = ProgramMessage.model_validate_json(str(message))

    _check(program.task_id == task_id, "a program of this task")
    _check(len(program.test) == num_tests.get(program.task_id, len(program.test)), "all answers")
    _check(not any(grid_fault(g) for g in program.test if g is not None), "legal grids")
    _check(_is_between(program.demo_score, 0, 1), "a share of demonstrations")
    _check(_is_between(program.similarity, 0, 1), "a similarity")
    _check(math.isnan(program.logprob) or _is_logprob(program.logprob), "a log-probability")
    _check(program.num_tokens >= 0, "a number of tokens")
    return str(stage), number, program


def parsed(text: object) -> Any:
    """The value of a JSON text. Raises ValueError for anything else, however deep."""
    _check(type(text) is str, "a text")
    try:
        return json.loads(str(text))
    except RecursionError:
        raise ValueError("not a text that a run writes") from None


def _grid_of(text: object) -> Grid | None:
    if text is None:
        return None
    _check(type(text) is str and len(str(text)) <= MAX_GRID_CHARS, "a grid")
    return _grid_in(str(text))


@lru_cache(maxsize=4096)
def _grid_in(text: str) -> Grid:
    """Answers repeat: the same text gives the same grid, which nobody can change."""
    return as_grid(parsed(text))


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_between(value: Any, least: float, most: float) -> bool:
    return _is_number(value) and least <= value <= most


def _is_logprob(value: Any) -> bool:
    return value == -math.inf or _is_between(value, LEAST_LOGPROB, MOST_LOGPROB)


def _ordered(logprob: float) -> float:
    if math.isnan(logprob) or logprob < LEAST_LOGPROB:
        return -math.inf
    return min(logprob, MOST_LOGPROB)


def _check(is_so: bool, what: str) -> None:
    if not is_so:
        raise ValueError(f"not {what}")
