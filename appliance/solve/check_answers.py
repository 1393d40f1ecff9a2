"""Whether the programs that a search found do in the sandbox what the search says.

A program counts if it is right on all demonstrations there and gives the answer's grids for the
test inputs. Answers of trees have no program, and pass as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.arc.grid import grid_key, same_grid
from appliance.arc.task import Task
from appliance.clock import Deadline
from appliance.program.sandbox import Program, Result, Sandbox
from appliance.search.answers import Answer

MOST_ALIKE = 5
"""Programs that are run for the same grids. Those after the fifth are longer ways to say the same,
and add little weight."""

MOST_PROGRAMS = 40
"""Programs that are run for one task: a second at most, for nearly all end within 20 ms."""


@dataclass(frozen=True)
class Checked:
    """The answers that count, the heaviest first, and how many others do not."""

    answers: tuple[Answer, ...]
    num_refused: int  # whose programs gave something else
    num_left: int  # whose programs were not run: too many, or no time


def check_answers(
    task: Task, answers: Sequence[Answer], sandbox: Sandbox, *, deadline: Deadline
) -> Checked:
    """answers: the heaviest first. What the deadline cuts off does not count."""
    with_program = [answer for answer in answers if answer.program]
    chosen = list(chosen_answers(with_program))
    inputs = (*(pair.input for pair in task.train), *task.test)

    kept = {id(answer) for answer in answers if not answer.program}
    num_run = 0
    results = sandbox.run(Program(answer.program, inputs) for answer in chosen)
    try:
        while num_run < len(chosen) and not deadline.is_past():
            if _agrees(task, chosen[num_run], next(results)):
                kept.add(id(chosen[num_run]))
            num_run += 1
    finally:
        results.close()

    counting = tuple(answer for answer in answers if id(answer) in kept)
    num_refused = num_run - sum(bool(answer.program) for answer in counting)
    return Checked(counting, num_refused, len(with_program) - num_run)


def chosen_answers(answers: Sequence[Answer]) -> Iterator[Answer]:
    """The heaviest of those that give the same grids, and the heaviest of all."""
    num_alike: Counter[tuple[object, ...]] = Counter()
    for answer in answers:
        key = tuple(grid_key(grid) for grid in answer.grids)
        if num_alike[key] < MOST_ALIKE and num_alike.total() < MOST_PROGRAMS:
            num_alike[key] += 1
            yield answer


def _agrees(task: Task, answer: Answer, result: Result) -> bool:
    expected = (*(pair.output for pair in task.train), *answer.grids)
    return result.outcome == "ok" and all(
        grid is not None and same_grid(grid, wanted)
        for grid, wanted in zip(result.outputs, expected, strict=True)
    )
