"""Induction: the model writes programs. What is asked, how its text is read, and what relabelled programs teach it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from appliance.arc.encode import ParseError
from appliance.arc.prompt import fit_demonstrations
from appliance.arc.task import Task
from appliance.arc.view import View
from appliance.config import ProgramSettings
from appliance.engine.base import Completion, Request
from appliance.engine.training.packing import TokenSequence
from appliance.program.relabel import Relabelled
from appliance.program.source import runnable
from appliance.program.trial import Draft
from appliance.solve.transduce import Language, Question


def program_questions(
    task: Task,
    views: Sequence[View],
    language: Language,
    settings: ProgramSettings,
    *,
    num_samples: int,
    max_new_tokens: int,
    seed: int,
) -> list[tuple[Question, Request]]:
    """`num_samples` programs in all, spread evenly over the views; views that do not fit with one demonstration are left out.

    A prompt shows one of the test inputs at most; which one goes round with the views.
    """
    asked = []
    for index, view in enumerate(views[:num_samples]):
        count = len(range(index, num_samples, len(views)))
        test_index = index % len(task.test)
        room = language.max_seq_tokens - max_new_tokens
        fits = partial(_fits, test_index=test_index, language=language, room=room)
        fitted = fit_demonstrations(view.apply_task(task), fits)
        if fitted is None:
            continue
        request = Request(
            prompt_ids=language.prompt_ids(fitted, test_index),
            max_new_tokens=max_new_tokens,
            num_samples=count,
            temperature=settings.temperature,
            top_p=settings.top_p,
            seed=seed,
        )
        asked.append((Question(task, test_index, view), request))
    return asked


def draft_of(
    question: Question, completion: Completion, language: Language, *, adapter: str
) -> Draft:
    """The program in a completion; empty where there is none, or where the text was cut off."""
    answer = ""
    if completion.is_complete:
        try:
            answer = str(
                language.style.parse(language.codec.text(completion.ids), language.encoder)
            )
        except ParseError:
            answer = ""
    kind = language.style.answer
    assert kind != "grid"
    return Draft(
        task=question.task,
        view=question.view,
        answer=answer,
        source=runnable(answer, kind) if answer else "",
        logprob=completion.logprob,
        num_tokens=completion.num_tokens,
        adapter=adapter,
    )


def program_lessons(
    solved: Sequence[Relabelled], language: Language, rng: np.random.Generator, *, max_tokens: int
) -> Iterator[TokenSequence]:
    """Lessons without end: the solved tasks in a new order every round, each with its demonstrations shuffled.

    A lesson that is too long drops demonstrations; ends when a whole round gave none that fits.
    """
    while solved:
        num_given = 0
        for index in rng.permutation(len(solved)):
            task = solved[index].task
            shuffled = task.with_train(
                tuple(task.train[i] for i in rng.permutation(len(task.train)))
            )
            test_index = int(rng.integers(len(task.test)))
            lesson = _fitted(shuffled, test_index, solved[index].answer, language, max_tokens)
            if lesson is not None:
                num_given += 1
                yield lesson
        if not num_given:
            return


def program_lesson_tokens(
    solved: Sequence[Relabelled], language: Language, max_tokens: int
) -> list[int]:
    """Tokens of the lessons of one round, without those that do not fit."""
    fitted = [_fitted(s.task, 0, s.answer, language, max_tokens) for s in solved]
    return [len(lesson) for lesson in fitted if lesson is not None]


def _fitted(
    task: Task, test_index: int, answer: str, language: Language, max_tokens: int
) -> TokenSequence | None:
    for num_shown in range(len(task.train), 0, -1):
        shorter = task.with_train(task.train[:num_shown])
        lesson = language.codec.lesson(
            language.style.lesson(shorter, test_index, answer, language.encoder)
        )
        if len(lesson) <= max_tokens:
            return lesson
    return None


def _fits(task: Task, *, test_index: int, language: Language, room: int) -> bool:
    return len(language.prompt_ids(task, test_index)) <= room
