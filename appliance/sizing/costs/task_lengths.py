"""How long the tasks are in tokens, for a model's way of writing grids. Counted from shapes; no tokenizer is loaded.

The formulas reproduce the longest prompt of ARC (8,635 tokens reported, 8,640 counted) within a few tokens.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.arc.grid import Grid
from appliance.arc.task import Task, TaskSet
from appliance.sizing.costs.model_card import ModelCard

LONGEST_PROGRAM_TOKENS = 1024
TYPICAL_PROGRAM_TOKENS = 400
"""Of BARC's programs: 1,024 tokens are enough, the median is about 400."""


@dataclass(frozen=True)
class TaskLength:
    """prompt_tokens: all demonstrations and the longest test input. answer_tokens: the longest grid among the
    demonstrations' outputs and test inputs, or the longest program. lesson_tokens: one leave-one-out training sequence.
    num_tests: test inputs. written_tokens: what an answer takes on the mean; 0 says answer_tokens."""

    task_id: str
    prompt_tokens: int
    answer_tokens: int
    lesson_tokens: int
    num_tests: int
    written_tokens: int = 0

    @property
    def typical_answer_tokens(self) -> int:
        return self.written_tokens or self.answer_tokens


@dataclass(frozen=True)
class TaskLengths:
    tasks: tuple[TaskLength, ...]
    source: str

    def __len__(self) -> int:
        return len(self.tasks)

    def longest(self) -> int:
        """Tokens of the longest sequence that is ever held: a prompt with its answer, or a lesson."""
        return max(
            (max(t.prompt_tokens + t.answer_tokens, t.lesson_tokens) for t in self.tasks), default=1
        )

    def mean_lesson_tokens(self, cap: int) -> float:
        return _mean(min(t.lesson_tokens, cap) for t in self.tasks)

    def mean_prompt_tokens(self, cap: int) -> float:
        return _mean(min(t.prompt_tokens, cap) for t in self.tasks)

    def mean_answer_tokens(self) -> float:
        return _mean(t.typical_answer_tokens for t in self.tasks)

    def num_within(self, tokens: int) -> int:
        """Tasks whose longest sequence is not above that many tokens."""
        return sum(
            max(t.prompt_tokens + t.answer_tokens, t.lesson_tokens) <= tokens for t in self.tasks
        )


def lengths_of(tasks: TaskSet, card: ModelCard) -> TaskLengths:
    return TaskLengths(tuple(_task_length(t, card) for t in tasks), tasks.name)


def usual_lengths(card: ModelCard, num_tasks: int = 120) -> TaskLengths:
    """Lengths spread like ARC-AGI-2 evaluation (p50 2635, p90 4522, p95 5210, max 9290 tokens in the arc24 text), for a plan
    without a task file. Source: a count over the public set; other encoders scale by their tokens per cell."""
    scale = _tokens_per_cell(card) / 1.227
    points = ((0.0, 500), (0.5, 2635), (0.9, 4522), (0.95, 5210), (1.0, 9290))
    tasks = []
    for n in range(num_tasks):
        prompt = round(
            scale * _between(points, (n + 0.5) / num_tasks if n + 1 < num_tasks else 1.0)
        )
        answer = (
            LONGEST_PROGRAM_TOKENS
            if card.writes_programs
            else min(round(1028 * scale), max(20, prompt // 7))
        )
        written = TYPICAL_PROGRAM_TOKENS if card.writes_programs else 0
        tasks.append(TaskLength(f"usual-{n}", prompt, answer, round(0.78 * prompt), 1, written))
    return TaskLengths(tuple(tasks), "no task file: lengths of ARC-AGI-2 evaluation")


def _task_length(task: Task, card: ModelCard) -> TaskLength:
    pairs = [_grid_tokens(p.input, card) + _grid_tokens(p.output, card) for p in task.train]
    tests = [_grid_tokens(g, card) for g in task.test]
    frame = _frame_tokens(card)
    outputs = [_grid_tokens(p.output, card) for p in task.train]
    answer = LONGEST_PROGRAM_TOKENS if card.writes_programs else max(outputs + tests)
    written = TYPICAL_PROGRAM_TOKENS if card.writes_programs else 0
    prompt = frame + sum(pairs) + max(tests)
    lesson = prompt + TYPICAL_PROGRAM_TOKENS if card.writes_programs else frame + sum(pairs)
    return TaskLength(task.task_id, prompt, answer, lesson, len(task.test), written)


def _tokens_per_cell(card: ModelCard) -> float:
    """On a 15 x 15 grid, row ends and numbers shared out over the cells."""
    grid_tokens = 15 * (15 + _row_extra(card, 15))
    return grid_tokens / 225


def _row_extra(card: ModelCard, rows: int) -> float:
    """Tokens of a row that are no cells: its end and, where the encoder writes them, number and space."""
    if "RowNumber" not in card.encoder:
        return 1.0
    return 2 + (min(rows, 9) + 2 * max(0, rows - 9)) / rows


def _grid_tokens(grid: Grid, card: ModelCard) -> int:
    rows, columns = int(grid.shape[0]), int(grid.shape[1])
    heading = 1 if card.encoder == "grid-tokens" else 0 if card.writes_programs else 9
    return math.ceil(rows * (columns + _row_extra(card, rows))) + heading


def _frame_tokens(card: ModelCard) -> int:
    if card.encoder == "grid-tokens":
        return 2
    return 270 if card.writes_programs else 110


def _between(points: tuple[tuple[float, int], ...], share: float) -> float:
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if share <= x1:
            return y0 + (y1 - y0) * (share - x0) / (x1 - x0)
    return float(points[-1][1])


def _mean(values: Iterable[int]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else 0.0
