"""Induction: the model writes programs. How it is asked, how its text is read, what it is taught.

It is taught with relabelled programs: tasks that a program of its own really solves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from appliance.arc.encode import ParseError
from appliance.arc.task import Task
from appliance.arc.view import View
from appliance.config import ProgramSettings
from appliance.engine.base import Completion, Request
from appliance.engine.training.packing import TokenSequence
from appliance.program.relabel import Relabelled
from appliance.program.source import runnable
from appliance.program.trial import Draft
from appliance.solve.language import Language
from appliance.solve.transduce import Question


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
    """Requests for `num_samples` programs in all, spread evenly over the views.

    Views that do not fit even with one demonstration are left out, and the others get theirs. A
    prompt shows at most one of the test inputs, and the views take turns in which.
    """
    prompts: list[tuple[Question, tuple[int, ...]]] = []
    for index, view in enumerate(views[:num_samples]):
        test_index = index % len(task.test)
        fitted = language.fit_prompt(
            view.apply_task(task), test_index, max_tokens=language.max_seq_tokens - max_new_tokens
        )
        if fitted is not None:
            prompt_ids = language.prompt_ids(fitted, test_index)
            prompts.append((Question(task, test_index, view), prompt_ids))

    return [
        (
            question,
            Request(
                prompt_ids=prompt_ids,
                max_new_tokens=max_new_tokens,
                num_samples=len(range(index, num_samples, len(prompts))),
                temperature=settings.temperature,
                top_p=settings.top_p,
                seed=seed,
            ),
        )
        for index, (question, prompt_ids) in enumerate(prompts)
    ]


def draft_of(
    question: Question, completion: Completion, language: Language, *, adapter: str
) -> Draft:
    """The program in a completion; empty where there is none, or where the text was cut off."""
    answer = ""
    if completion.is_complete:
        try:
            text = language.codec.text(completion.ids)
            answer = str(language.style.parse(text, language.encoder))
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
    """Lessons without end: the solved tasks in a new order every round, demonstrations shuffled.

    A lesson that is too long drops demonstrations. Ends when a whole round gave none that fits.
    """
    while solved:
        num_given = 0
        for index in rng.permutation(len(solved)):
            task = solved[index].task
            order = rng.permutation(len(task.train))
            shuffled = task.with_train(tuple(task.train[i] for i in order))
            test_index = int(rng.integers(len(task.test)))

            answer = solved[index].answer
            lesson = language.fit_lesson(shuffled, test_index, answer, max_tokens=max_tokens)
            if lesson is not None:
                num_given += 1
                yield lesson

        if not num_given:
            return


def program_lesson_tokens(
    solved: Sequence[Relabelled], language: Language, max_tokens: int
) -> list[int]:
    """Tokens of the lessons of one round, without those that do not fit."""
    fitted = [language.fit_lesson(s.task, 0, s.answer, max_tokens=max_tokens) for s in solved]
    return [len(lesson) for lesson in fitted if lesson is not None]
