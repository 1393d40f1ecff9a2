"""How likely the model holds each answer under several views of its task.

Sampling says which answers the model comes upon. Scoring asks for the probability of every one of
them under the same views, so that an answer seen once is weighed as carefully as one seen ten
times. Summing an answer's log-probabilities over views makes the model a product of experts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from appliance.arc.grid import Grid
from appliance.arc.task import Task
from appliance.arc.view import View
from appliance.arc.vote import Candidate, Output, by_votes_then_logprob, group_by_output
from appliance.clock import Deadline
from appliance.engine.base import Scorer, ScoreRequest
from appliance.solve.language import Language
from appliance.solve.transduce import in_turns

MAX_SCORED = 24
"""Distinct answers to a test output that are scored, those with most votes first."""


@dataclass(frozen=True, eq=False)
class GridScore:
    """How likely one answer is."""

    task_id: str
    test_index: int
    grid: Grid
    logprobs: tuple[float, ...]  # of the answer's text, one for each view


def score_candidates(
    tasks: Iterable[Task],
    candidates: Sequence[Candidate],
    views: Sequence[View],
    language: Language,
    scorer: Scorer,
    *,
    deadline: Deadline,
) -> Iterator[GridScore]:
    """Scores of the distinct answers to each test output.

    Views under which the task does not fit are left out. The outputs take turns, so where the
    deadline cuts off, each keeps the views that were done, the same for all of its answers.
    """
    groups = group_by_output(candidates)
    grids: dict[Output, list[Grid]] = {}
    asked: list[list[tuple[Output, ScoreRequest]]] = []

    for task in tasks:
        for test_index in range(len(task.test)):
            output = (task.task_id, test_index)
            ranked = by_votes_then_logprob(groups.get(output, ()))[:MAX_SCORED]
            if len(ranked) < 2:
                continue  # nothing to choose from

            grids[output] = [entry.grid for entry in ranked]
            requests = (
                score_request(task, test_index, view, grids[output], language) for view in views
            )
            asked.append([(output, request) for request in requests if request is not None])

    turns = in_turns(asked)
    by_grid: dict[tuple[Output, int], list[float]] = defaultdict(list)
    scores = scorer.score([request for _, request in turns], deadline=deadline)
    for (output, _), logprobs in zip(turns, scores, strict=False):
        for i, logprob in enumerate(logprobs):
            by_grid[output, i].append(logprob)

    for (output, i), logprobs_of_grid in by_grid.items():
        yield GridScore(*output, grids[output][i], tuple(logprobs_of_grid))


def score_request(
    task: Task, test_index: int, view: View, grids: Sequence[Grid], language: Language
) -> ScoreRequest | None:
    """The grids as answers to the task seen under the view.

    None when the task does not fit together with the longest of them.
    """
    seen = [view.apply(grid) for grid in grids]
    longest = max(language.num_answer_tokens(grid) for grid in seen)
    fitted = language.fit_prompt(
        view.apply_task(task), test_index, max_tokens=language.max_seq_tokens - longest
    )
    if fitted is None:
        return None

    answers = tuple(_answer_ids(fitted, test_index, grid, language) for grid in seen)
    return ScoreRequest(language.prompt_ids(fitted, test_index), answers)


def _answer_ids(task: Task, test_index: int, grid: Grid, language: Language) -> tuple[int, ...]:
    """What a lesson would teach to write after the prompt, up to the stop token."""
    lesson = language.lesson(task, test_index, grid)
    begin = len(language.prompt_ids(task, test_index))
    ids = [int(i) for i in lesson.ids[begin:]]

    stop = next(i for i, token in enumerate(ids) if token in language.codec.stop_ids)
    return tuple(ids[: stop + 1])
