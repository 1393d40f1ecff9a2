"""A program that a model wrote for a task, and what came of it: run in the sandbox, scored here.

Programs are written for a task as a view shows it, and run on the inputs as that view shows them.
Their outputs are turned back, so that all programs of a task can be compared and vote together.
Expected outputs never enter the sandbox.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from appliance.arc.grid import Grid, grid_key
from appliance.arc.metrics import correct_grids, mean_similarity
from appliance.arc.task import Task
from appliance.arc.view import View
from appliance.clock import Deadline
from appliance.program.sandbox import Program, Result, Sandbox
from appliance.program.source import same_form, uses_chance

NO_CODE = "no_code"


@dataclass(frozen=True, eq=False)
class Draft:
    """What a model wrote for a task."""

    task: Task
    view: View  # how the model saw the task
    answer: str  # as the model wrote it, which is what lessons teach; empty without code
    source: str  # as it runs; empty without code
    logprob: float = 0.0  # summed over the `num_tokens` generated tokens
    num_tokens: int = 0
    adapter: str = ""  # name of the adapter, empty for the base model


@dataclass(frozen=True, eq=False)
class Trial:
    """A draft and what it gave."""

    draft: Draft
    outcome: str  # the sandbox's, or "no_code"
    error: str | None  # the reason, None when the outcome is "ok"
    train: tuple[Grid | None, ...]  # one output per demonstration, in the task's own view
    test: tuple[Grid | None, ...]  # one output per test input, in the task's own view
    demo_score: float  # fraction of demonstrations that are exactly right
    similarity: float  # mean pixel similarity over the demonstrations

    @property
    def is_valid(self) -> bool:
        """Every input gave a legal grid."""
        return all(g is not None for g in (*self.train, *self.test))

    @property
    def fits(self) -> bool:
        """All demonstrations are right and every test input has an answer."""
        return self.is_valid and self.demo_score == 1.0

    def form(self) -> str:
        return same_form(self.draft.source)

    def outputs_key(self) -> tuple[object, ...]:
        return tuple(None if g is None else grid_key(g) for g in (*self.train, *self.test))


Run = Callable[[Sequence[Draft]], Iterable[Trial]]
"""What gives the trials of drafts: `run_drafts` with the rest of its arguments."""


def run_drafts(drafts: Sequence[Draft], sandbox: Sandbox, *, deadline: Deadline) -> Iterator[Trial]:
    """Each draft with what it gave, as they finish; those that the deadline cuts off are missing.

    Drafts of many tasks share the sandbox's workers, and equal ones run once. A program that fits
    all demonstrations, or that uses chance, is run again in another process before it counts.
    """
    same: dict[tuple[str, str, str], list[Draft]] = {}
    for draft in drafts:
        if draft.source:
            same.setdefault((draft.task.task_id, draft.view.name, draft.source), []).append(draft)
        else:
            yield _judged(draft, _no_code(draft))

    results = sandbox.run([_program(equal[0]) for equal in same.values()])
    for equal, result in zip(same.values(), results, strict=False):
        first = _judged(equal[0], result)
        if first.fits or (result.outcome == "ok" and uses_chance(first.draft.source)):
            first = _judged(equal[0], sandbox.confirm(_program(equal[0]), result))

        yield from (replace(first, draft=draft) for draft in equal)
        if deadline.is_past():
            results.close()
            return


def agreed(trials: Sequence[Trial]) -> bool:
    """Whether two different programs fit all demonstrations and answer every test input alike."""
    forms: dict[tuple[object, ...], set[str]] = {}
    for trial in trials:
        if trial.fits:
            forms.setdefault(trial.outputs_key(), set()).add(trial.form())

    return any(len(found) > 1 for found in forms.values())


def _program(draft: Draft) -> Program:
    inputs = [p.input for p in draft.task.train] + list(draft.task.test)
    return Program(draft.source, tuple(draft.view.apply(grid) for grid in inputs))


def _no_code(draft: Draft) -> Result:
    """What stands for the result of a draft that holds no program."""
    num_inputs = len(draft.task.train) + len(draft.task.test)
    return Result(NO_CODE, (None,) * num_inputs, "no program in the text")


def _judged(draft: Draft, result: Result) -> Trial:
    """The draft with its outputs turned back from its view, and their scores."""
    outputs = tuple(None if g is None else draft.view.invert(g) for g in result.outputs)
    num_train = len(draft.task.train)
    answers = [p.output for p in draft.task.train]
    train = outputs[:num_train]
    similarity = mean_similarity(train, answers)

    return Trial(
        draft,
        result.outcome,
        result.error,
        train,
        outputs[num_train:],
        correct_grids(train, answers),
        similarity,
    )
