"""Transduction: the model writes the output grid itself. What it is taught and asked for one task.

Lessons are made from the demonstrations alone, by leave-one-out: each demonstration in turn is the
one to be answered, the others are shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TypeVar

import numpy as np

from appliance.arc.encode import ParseError
from appliance.arc.grid import MAX_SIDE, Grid
from appliance.arc.task import Task
from appliance.arc.view import IDENTITY, View, random_view
from appliance.arc.vote import Candidate, Output
from appliance.config import TrainSettings
from appliance.engine.base import Completion, Request
from appliance.engine.training.packing import TokenSequence
from appliance.seeds import seed_of
from appliance.solve.grammar import Grammar, answer_pattern
from appliance.solve.language import Language

ANSWER_SLACK = 1.25
"""An answer may be this many times as long as the demonstrations let expect."""

ANSWER_EXTRA_TOKENS = 16
"""Tokens that an answer may have beyond that, so that short answers have room too."""

SEARCH_ANSWERS = 8
"""A search above a threshold may write as many tokens as so many of the longest answers have."""

T = TypeVar("T")


@dataclass(frozen=True)
class LessonPlan:
    """How lessons vary from the plain leave-one-out task."""

    keep_colours: bool = False  # leave the colours as they are
    keep_orientation: bool = False  # do not turn and flip
    leave_two_out: float = 0.0  # share of lessons that show one demonstration less (n-2)

    @staticmethod
    def of(train: TrainSettings) -> LessonPlan:
        return LessonPlan(
            keep_colours=train.keep_colours,
            keep_orientation=train.keep_orientation,
            leave_two_out=train.leave_two_out,
        )


def lesson_tasks(
    task: Task, rng: np.random.Generator, plan: LessonPlan
) -> Iterator[tuple[Task, Grid]]:
    """Leave-one-out tasks with their answers, without end, each under a random view.

    The first n of them answer each of the n demonstrations once, and so do the next n. A task of
    one demonstration teaches nothing and gives nothing.
    """
    num_pairs = len(task.train)

    while num_pairs > 1:
        for held_out in rng.permutation(num_pairs):
            view = random_view(
                rng, 0, keep_colours=plan.keep_colours, keep_orientation=plan.keep_orientation
            )
            shown = [task.train[i] for i in rng.permutation(num_pairs) if i != held_out]
            if len(shown) > 1 and rng.random() < plan.leave_two_out:
                shown.pop()

            answered = task.train[held_out]
            question = Task(task.task_id, tuple(shown), (answered.input,))
            yield view.apply_task(question), view.apply(answered.output)


def lessons(
    task: Task, language: Language, rng: np.random.Generator, *, max_tokens: int, plan: LessonPlan
) -> Iterator[TokenSequence]:
    """Lessons as tokens, each at most `max_tokens` long, with as many demonstrations as fit.

    Stops when a whole round of leave-one-out gave no lesson that fits even with one demonstration.
    """
    misses = 0
    for question, answer in lesson_tasks(task, rng, plan):
        lesson = language.fit_lesson(question, 0, answer, max_tokens=max_tokens)
        misses = misses + 1 if lesson is None else 0

        if lesson is not None:
            yield lesson
        if misses >= len(task.train):
            return


def longest_lesson(task: Task, language: Language, max_tokens: int) -> int:
    """Tokens of the longest lesson of the task that fits; 0 when none does."""
    longest = 0
    for held_out, answered in enumerate(task.train):
        shown = task.train[:held_out] + task.train[held_out + 1 :]
        if not shown:
            continue

        # A quarter turn changes the number of rows, and with it the number of row ends.
        for view in (IDENTITY, View(turns=1)):
            question = view.apply_task(Task(task.task_id, shown, (answered.input,)))
            answer = view.apply(answered.output)
            lesson = language.fit_lesson(question, 0, answer, max_tokens=max_tokens)
            longest = max(longest, len(lesson) if lesson else 0)

    return longest


@dataclass(frozen=True)
class Question:
    """What one request asks: this test input of this task under this view."""

    task: Task
    test_index: int
    view: View


def questions(
    task: Task,
    views: Sequence[View],
    language: Language,
    *,
    temperature: float,
    top_p: float,
    num_samples: int,
    seed: int,
    grammar: Grammar = "none",
    threshold: float | None = None,
) -> list[tuple[Question, Request]]:
    """One request for each view and test input.

    The test inputs take turns, so that a deadline cuts off none of them. Requests that do not fit
    even with one demonstration are left out. threshold: see `Request`.
    """
    counts = [(view, i, num_samples) for view in views for i in range(len(task.test))]
    return counted_questions(
        task,
        counts,
        language,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        grammar=grammar,
        threshold=threshold,
    )


def counted_questions(
    task: Task,
    counts: Sequence[tuple[View, int, int]],
    language: Language,
    *,
    temperature: float,
    top_p: float,
    seed: int,
    grammar: Grammar = "none",
    threshold: float | None = None,
) -> list[tuple[Question, Request]]:
    """A request for each view, test input and number of samples, in this order.

    Those that do not fit even with one demonstration are left out.
    """
    asked = []
    times: Counter[tuple[View, int]] = Counter()
    for view, test_index, num_samples in counts:
        max_new_tokens = _max_answer_tokens(task, test_index, language)
        shown = view.apply_task(task)
        fitted = language.fit_prompt(
            shown, test_index, max_tokens=language.max_seq_tokens - max_new_tokens
        )
        if fitted is None:
            continue

        # The same prompt asked once more must not give the same samples.
        time, times[view, test_index] = times[view, test_index], times[view, test_index] + 1
        request = Request(
            prompt_ids=language.prompt_ids(fitted, test_index),
            max_new_tokens=max_new_tokens,
            num_samples=num_samples,
            temperature=temperature,
            top_p=top_p,
            seed=seed_of(seed, "time", time) if time else seed,
            threshold=threshold,
            most_tokens=SEARCH_ANSWERS * max_new_tokens,
            pattern=answer_pattern(grammar, shown, test_index, language.encoder),
        )
        asked.append((Question(task, test_index, view), request))

    return asked


def greedily(
    asked: Sequence[tuple[Question, Request]], answers: Iterable[Candidate]
) -> list[tuple[Question, Request]]:
    """Where a search above a threshold gave a test output no grid: its first two questions, for
    the likeliest answer instead."""
    answered = {c.output for c in answers if c.grid is not None}
    times: Counter[Output] = Counter()
    again = []
    for question, request in asked:
        output = (question.task.task_id, question.test_index)
        if request.threshold is not None and output not in answered and times[output] < 2:
            times[output] += 1
            again.append((question, replace(request, threshold=None)))
    return again


def in_turns(queues: Iterable[Iterable[T]]) -> list[T]:
    """The first of each queue, then the second of each, and so on.

    >>> in_turns(["abc", "d", "ef"])
    ['a', 'd', 'e', 'b', 'f', 'c']
    """
    missing = object()
    rounds = zip_longest(*queues, fillvalue=missing)
    return [one for each in rounds for one in each if one is not missing]  # type: ignore[misc]


def _max_answer_tokens(task: Task, test_index: int, language: Language) -> int:
    """Upper bound for the answer: the largest output shown, or the test input grown as much as any
    shown input grew, and some slack; never more than the largest legal grid.
    """
    given = language.num_answer_tokens(task.test[test_index])
    inputs = [language.num_answer_tokens(p.input) for p in task.train]
    outputs = [language.num_answer_tokens(p.output) for p in task.train]

    growth = max(o / i for o, i in zip(outputs, inputs, strict=True))
    expected = max([*outputs, growth * given])
    largest = language.num_answer_tokens(np.zeros((MAX_SIDE, MAX_SIDE), dtype=np.int8))
    return min(largest, round(ANSWER_SLACK * expected) + ANSWER_EXTRA_TOKENS)


def candidate(
    question: Question, completion: Completion, language: Language, *, adapter: str
) -> Candidate:
    """The answer as a candidate, turned back to the task's own view.

    Its grid is None when the answer was cut off or is no legal grid.
    """
    try:
        written = language.style.parse(language.codec.text(completion.ids), language.encoder)
    except ParseError:
        written = None

    grid = None if written is None or isinstance(written, str) else question.view.invert(written)
    return Candidate(
        task_id=question.task.task_id,
        test_index=question.test_index,
        grid=grid if completion.is_complete else None,
        logprob=completion.logprob,
        num_tokens=completion.num_tokens,
        view=question.view.name,
        adapter=adapter,
    )
