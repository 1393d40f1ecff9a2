"""How long tasks are in tokens, in a model's way of writing grids.

Tokens are counted from the shapes of grids; no tokenizer is loaded. For the longest prompt of ARC
the formulas give 8,640 tokens; 8,635 are reported.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.arc.encode import OWN_ENCODERS
from appliance.arc.grid import Grid
from appliance.arc.prompt import PairwiseChat, get_style
from appliance.arc.task import Task, TaskSet
from appliance.sizing.costs.model_card import ModelCard

LONGEST_PROGRAM_TOKENS = 1024
"""Room for a written program; BARC's stay below it."""

TYPICAL_PROGRAM_TOKENS = 400
"""Median of BARC's programs."""


USUAL_TASKS = 120
"""Tasks of a plan without a task file, as ARC-AGI-2 evaluation has."""


@dataclass(frozen=True)
class TaskLength:
    """One task, in tokens."""

    task_id: str
    prompt_tokens: int  # all demonstrations and the longest test input
    # Longest grid among the demonstrations' outputs and the test inputs, or the longest program.
    answer_tokens: int
    lesson_tokens: int  # one training sequence: the demonstrations, one of them left to be answered
    num_tests: int  # test inputs
    written_tokens: int = 0  # of an answer, on average; 0: as answer_tokens
    target_tokens: int = 0  # of a lesson, those that the loss is taken on; 0: as answer_tokens

    @property
    def target_share(self) -> float:
        """Part of a lesson's tokens that the loss is taken on."""
        return min(1.0, (self.target_tokens or self.answer_tokens) / max(1, self.lesson_tokens))

    @property
    def typical_answer_tokens(self) -> int:
        return self.written_tokens or self.answer_tokens


@dataclass(frozen=True)
class TaskLengths:
    tasks: tuple[TaskLength, ...]
    source: str  # where they are from, for people

    def __len__(self) -> int:
        return len(self.tasks)

    def longest(self) -> int:
        """Tokens of the longest sequence that is ever held: a prompt with answer, or a lesson."""
        return max(
            (max(t.prompt_tokens + t.answer_tokens, t.lesson_tokens) for t in self.tasks), default=1
        )

    def target_share(self) -> float:
        """Of the longest lesson, which needs the most memory."""
        longest = max(self.tasks, key=lambda t: t.lesson_tokens, default=None)
        return longest.target_share if longest else 1.0

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


def usual_lengths(card: ModelCard, num_tasks: int = USUAL_TASKS) -> TaskLengths:
    """Lengths spread like those of ARC-AGI-2 evaluation, for a plan without a task file.

    Source: a count over the public set in the arc24 text; other encoders scale by their tokens per
    cell.
    """
    scale = _tokens_per_cell(card) / 1.227  # the arc24 text has 1.227 tokens per cell
    points = ((0.0, 500), (0.5, 2635), (0.9, 4522), (0.95, 5210), (1.0, 9290))  # share, tokens

    tasks = []
    for n in range(num_tasks):
        is_longest = n + 1 == num_tasks  # the one that decides what must fit
        share = 1.0 if is_longest else (n + 0.5) / num_tasks
        prompt = round(scale * _between(points, share))
        if card.writes_programs:
            answer, written = LONGEST_PROGRAM_TOKENS, TYPICAL_PROGRAM_TOKENS
        else:
            answer, written = min(round(1028 * scale), max(20, prompt // 7)), 0
        tasks.append(TaskLength(f"usual-{n}", prompt, answer, round(0.78 * prompt), 1, written))

    return TaskLengths(tuple(tasks), "no task file: lengths of ARC-AGI-2 evaluation")


def _task_length(task: Task, card: ModelCard) -> TaskLength:
    pairs = [_grid_tokens(p.input, card) + _grid_tokens(p.output, card) for p in task.train]
    tests = [_grid_tokens(g, card) for g in task.test]
    frame = _frame_tokens(card)
    outputs = [_grid_tokens(p.output, card) for p in task.train]
    prompt = frame + sum(pairs) + max(tests)

    if card.writes_programs:
        answer, written = LONGEST_PROGRAM_TOKENS, TYPICAL_PROGRAM_TOKENS
        lesson = prompt + TYPICAL_PROGRAM_TOKENS
    else:
        # The size of the answer is not known; it is rarely larger than the grids that are shown.
        answer, written = max(outputs + tests), 0
        lesson = frame + sum(pairs)

    # A chat of pairs teaches every output it shows, the other styles their one answer.
    teaches_all = isinstance(get_style(card.style), PairwiseChat)
    targets = sum(outputs) if teaches_all else written or answer
    return TaskLength(task.task_id, prompt, answer, lesson, len(task.test), written, targets)


def _tokens_per_cell(card: ModelCard) -> float:
    """On a 15 x 15 grid, with row ends and row numbers spread over the cells."""
    grid_tokens = 15 * (15 + _row_extra(card, 15))
    return grid_tokens / 225


def _row_extra(card: ModelCard, rows: int) -> float:
    """Tokens of a row beside its cells: its end and, if it is written, its number with a space."""
    if "RowNumber" not in card.encoder:
        return 1.0
    # Line end and space, and the digits of the number: one up to row 9, then two.
    return 2 + (min(rows, 9) + 2 * max(0, rows - 9)) / rows


def _grid_tokens(grid: Grid, card: ModelCard) -> int:
    rows, columns = int(grid.shape[0]), int(grid.shape[1])
    if card.encoder in OWN_ENCODERS:
        heading = 1
    else:
        heading = 0 if card.writes_programs else 9
    return math.ceil(rows * (columns + _row_extra(card, rows))) + heading


def _frame_tokens(card: ModelCard) -> int:
    """Tokens of a prompt beside its grids: instructions and the marks of the chat."""
    if card.encoder in OWN_ENCODERS:
        return 2
    return 270 if card.writes_programs else 110


def _between(points: tuple[tuple[float, int], ...], share: float) -> float:
    """The value at that share, on straight lines between the points."""
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if share <= x1:
            return y0 + (y1 - y0) * (share - x0) / (x1 - x0)
    return float(points[-1][1])


def _mean(values: Iterable[int]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else 0.0
