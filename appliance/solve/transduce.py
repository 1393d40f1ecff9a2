"""Transduction: the model writes the output grid itself. What is taught and what is asked for one task.

Lessons are made from the demonstrations alone, leave-one-out: every demonstration in turn is the one to be answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from appliance.arc.encode import GridEncoder, ParseError
from appliance.arc.grid import Grid
from appliance.arc.prompt import PromptStyle, fit_demonstrations
from appliance.arc.task import Task
from appliance.arc.view import IDENTITY, View, random_view
from appliance.arc.vote import Candidate
from appliance.engine.base import Completion, Request
from appliance.engine.tokens import Codec
from appliance.engine.training.packing import TokenSequence
from appliance.solve.grammar import Grammar, answer_pattern

ANSWER_SLACK = 1.25
ANSWER_EXTRA_TOKENS = 16


@dataclass(frozen=True)
class Language:
    """How a model is spoken to: its prompt style, its grid encoder, its tokenizer, and the longest sequence it takes."""

    style: PromptStyle
    encoder: GridEncoder
    codec: Codec
    max_seq_tokens: int

    def prompt_ids(self, task: Task, test_index: int) -> tuple[int, ...]:
        return self.codec.prompt_ids(self.style.prompt(task, test_index, self.encoder))

    def num_answer_tokens(self, grid: Grid) -> int:
        """Tokens that this grid takes as an answer, end mark included."""
        return self.codec.num_tokens(self.encoder.encode(grid)) + 1


@dataclass(frozen=True)
class LessonPlan:
    """keep_colours: leave the colours as they are. leave_two_out: share of lessons that show one demonstration less (n-2)."""

    keep_colours: bool = False
    leave_two_out: float = 0.0


def lesson_tasks(
    task: Task, rng: np.random.Generator, plan: LessonPlan
) -> Iterator[tuple[Task, Grid]]:
    """Leave-one-out tasks with their answers, without end, each under a random view.

    In any n of them that start at a multiple of n, each of the n demonstrations is answered once. A task of one
    demonstration teaches nothing and gives nothing.
    """
    num_pairs = len(task.train)
    while num_pairs > 1:
        for held_out in rng.permutation(num_pairs):
            view = random_view(rng, 0, keep_colours=plan.keep_colours)
            shown = [task.train[i] for i in rng.permutation(num_pairs) if i != held_out]
            if len(shown) > 1 and rng.random() < plan.leave_two_out:
                shown.pop()
            answered = task.train[held_out]
            question = Task(task.task_id, tuple(shown), (answered.input,))
            yield view.apply_task(question), view.apply(answered.output)


def lessons(
    task: Task, language: Language, rng: np.random.Generator, *, max_tokens: int, plan: LessonPlan
) -> Iterator[TokenSequence]:
    """Lessons as tokens, each at most `max_tokens` long: demonstrations are dropped from the end until it fits.

    Stops when a whole round of leave-one-out gave no lesson that fits even with one demonstration.
    """
    misses = 0
    for question, answer in lesson_tasks(task, rng, plan):
        lesson = fitted_lesson(question, answer, language, max_tokens)
        misses = misses + 1 if lesson is None else 0
        if lesson is not None:
            yield lesson
        if misses >= len(task.train):
            return


def fitted_lesson(
    question: Task, answer: Grid, language: Language, max_tokens: int
) -> TokenSequence | None:
    """The lesson with as many demonstrations as fit, None when not even one does."""
    for num_shown in range(len(question.train), 0, -1):
        shorter = question.with_train(question.train[:num_shown])
        lesson = language.codec.lesson(language.style.lesson(shorter, 0, answer, language.encoder))
        if len(lesson) <= max_tokens:
            return lesson
    return None


def longest_lesson(task: Task, language: Language, max_tokens: int) -> int:
    """Tokens of the longest lesson of the task that fits; 0 when none does. A quarter turn changes the number of rows, and so
    of row ends, hence both are measured."""
    longest = 0
    for held_out, answered in enumerate(task.train):
        shown = task.train[:held_out] + task.train[held_out + 1 :]
        for view in (IDENTITY, View(turns=1)) if shown else ():
            question = view.apply_task(Task(task.task_id, shown, (answered.input,)))
            fitted = fitted_lesson(question, view.apply(answered.output), language, max_tokens)
            longest = max(longest, len(fitted) if fitted else 0)
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
) -> list[tuple[Question, Request]]:
    """One request per view and test input; those that do not fit even with one demonstration are left out."""
    asked = []
    for test_index in range(len(task.test)):
        max_new = _max_answer_tokens(task, test_index, language)
        for view in views:
            room = language.max_seq_tokens - max_new
            shown = view.apply_task(task)
            fitted = fit_question(shown, test_index, language, room=room)
            if fitted is None:
                continue
            request = Request(
                prompt_ids=language.prompt_ids(fitted, test_index),
                max_new_tokens=max_new,
                num_samples=num_samples,
                temperature=temperature,
                top_p=top_p,
                seed=seed,
                pattern=answer_pattern(grammar, shown, test_index, language.encoder),
            )
            asked.append((Question(task, test_index, view), request))
    return asked


def fit_question(task: Task, test_index: int, language: Language, *, room: int) -> Task | None:
    """The task with as many demonstrations as leave its prompt within `room` tokens; None when not even one does."""
    return fit_demonstrations(
        task, lambda shorter: len(language.prompt_ids(shorter, test_index)) <= room
    )


def _max_answer_tokens(task: Task, test_index: int, language: Language) -> int:
    """A bound for the answer: the largest output seen, or the test input grown as much as any input grew, and some slack."""
    given = language.num_answer_tokens(task.test[test_index])
    inputs = [language.num_answer_tokens(p.input) for p in task.train]
    outputs = [language.num_answer_tokens(p.output) for p in task.train]
    growth = max(o / i for o, i in zip(outputs, inputs, strict=True))
    expected = max([*outputs, growth * given])
    largest = language.num_answer_tokens(np.zeros((30, 30), dtype=np.int8))
    return min(largest, round(ANSWER_SLACK * expected) + ANSWER_EXTRA_TOKENS)


def candidate(
    question: Question, completion: Completion, language: Language, *, adapter: str
) -> Candidate:
    """The answer as a candidate, turned back to the task's own view; grid None when it is not a legal grid."""
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
