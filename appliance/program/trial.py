"""A program that a model wrote for a task, and what became of it: run in the sandbox, scored in the host.

Programs are written for a task as a view shows it and run on the inputs as that view shows them; what they gave is turned
back, so that all programs of a task can be compared and vote together. Expected outputs never enter the sandbox.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    """What was written: `answer` as the model wrote it (what lessons teach), `source` as it runs; both empty without code."""

    task: Task
    view: View
    answer: str
    source: str
    logprob: float = 0.0
    num_tokens: int = 0
    adapter: str = ""


@dataclass(frozen=True, eq=False)
class Trial:
    """outcome: of the sandbox, or "no_code". train, test: outputs in the task's own view, None where there is none.
    demo_score: share of demonstrations that are exactly right. similarity: mean pixel similarity over demonstrations."""

    draft: Draft
    outcome: str
    error: str | None
    train: tuple[Grid | None, ...]
    test: tuple[Grid | None, ...]
    demo_score: float
    similarity: float

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


def run_drafts(drafts: Sequence[Draft], sandbox: Sandbox, *, deadline: Deadline) -> Iterator[Trial]:
    """Each draft with what it gave, as they come; those that the deadline cuts off are missing. Drafts of many tasks share the
    sandbox's workers, and equal ones run once.

    A program that fits all demonstrations, or that reaches for chance, is run again elsewhere before it counts.
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
    num_inputs = len(draft.task.train) + len(draft.task.test)
    return Result(NO_CODE, (None,) * num_inputs, "no program in the text")


def _judged(draft: Draft, result: Result) -> Trial:
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
