"""What a run was worth, in figures, once the answers are known: candidates, votes and programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

from appliance.arc.grid import Grid
from appliance.arc.metrics import (
    ProgramScore,
    correct_grids,
    grid_figures,
    mean_figures,
    mean_similarity,
    program_task_figures,
    vote_k,
)
from appliance.arc.task import Solutions
from appliance.arc.vote import DEFAULT_SELECTOR, Candidate
from appliance.record.attempts import attempts_of
from appliance.record.journal import Journal
from appliance.solve.messages import ProgramMessage

NUM_ERRORS = 12
"""Kinds of failure that are counted, the commonest first: enough to see which names are missed."""

MISSING_NAMES = ("NameError", "ImportError", "ModuleNotFound")
"""Beginnings of errors of a program that called what is not there."""

Found = TypeVar("Found")


def run_figures(journal: Journal, solutions: Solutions) -> dict[str, Any]:
    """All figures of a run.

    stages and programs: by stage, all its rounds together. votes: of the whole run. program_errors:
    counts by kind of failure.
    """
    candidates = journal.candidates()
    grids = {
        stage: [c for c in found if c.demo_score is None or c.is_searched]
        for stage, found in candidates.items()
    }
    programs = journal.programs()
    errors = Counter(why_failed(p) for written in programs.values() for p in written)

    return {
        "stages": {s: stage_figures(found, solutions) for s, found in grids.items() if found},
        "votes": vote_figures(candidates, solutions),
        "program_errors": dict(errors.most_common(NUM_ERRORS)),
        "programs": {s: program_figures(p, solutions) for s, p in programs.items()},
    }


def stage_figures(candidates: Sequence[Candidate], solutions: Solutions) -> dict[str, float]:
    """Figures of the grids of one stage, over the tasks that it sampled or found answers for.

    Named as in the notebooks: accuracy, correct_pixels, pass_n and so on.
    """
    predictions: dict[str, list[list[Grid | None]]] = {}
    for candidate in candidates:
        # Journals say which test inputs a task has, but the row that says so may be lost.
        if candidate.test_index < len(solutions.get(candidate.task_id, ())):
            answers = predictions.setdefault(
                candidate.task_id, [[] for _ in solutions[candidate.task_id]]
            )
            answers[candidate.test_index].append(candidate.grid)

    sampled = {task_id: solutions[task_id] for task_id in predictions}
    figures = dict(grid_figures(predictions, sampled)) if sampled else {}
    counts = [len(answers) for outputs in predictions.values() for answers in outputs]
    return {
        "num_tasks": float(len(sampled)),
        "num_candidates": float(len(candidates)),
        **_spread(counts),
        **figures,
    }


def program_figures(programs: Sequence[ProgramMessage], solutions: Solutions) -> dict[str, float]:
    """Figures of the programs of one stage, named as in arc25.

    Means over the programs of a task, then over the tasks that have any.
    """
    scores: dict[str, list[ProgramScore]] = {}
    for program in programs:
        if program.task_id in solutions:
            score = _score(program, solutions[program.task_id])
            scores.setdefault(program.task_id, []).append(score)

    figures = mean_figures([program_task_figures(found) for found in scores.values()])
    return {
        "num_tasks": float(len(scores)),
        "num_programs": float(sum(map(len, scores.values()))),
        **_spread([len(found) for found in scores.values()]),
        **figures,
    }


def _spread(counts: Sequence[int]) -> dict[str, float]:
    """The n of pass@n: the fewest and the most predictions of a test output, or of a task."""
    return {"num_least": float(min(counts, default=0)), "num_most": float(max(counts, default=0))}


def vote_figures(candidates: dict[str, list[Candidate]], solutions: Solutions) -> dict[str, float]:
    """vote_1 and vote_2 over all tasks of the solutions, also those without a candidate."""
    voted = attempts_of(candidates, DEFAULT_SELECTOR)
    attempts = {
        task_id: [list(voted.get((task_id, i), ())) for i in range(len(answers))]
        for task_id, answers in solutions.items()
    }
    return {f"vote_{k}": vote_k(attempts, solutions, k) for k in (1, 2)}


def why_failed(program: ProgramMessage) -> str:
    """How a program ended, such as "error ValueError" or "error NameError: name 'x' is not ...".

    The message is kept where a name is missing: it tells which functions models expect.
    """
    error = program.error or ""
    if not error.startswith(MISSING_NAMES):
        error = error.split(":")[0]
    return f"{program.outcome} {error}".strip()


def _score(program: ProgramMessage, answers: Sequence[Grid]) -> ProgramScore:
    """The demonstrations were scored when the program ran; its test outputs are scored here."""
    if program.outcome != "ok":
        return ProgramScore(has_code=bool(program.source), outputs_key=None)

    test = [candidate.grid for candidate in program.candidates()]
    return ProgramScore(
        has_code=True,
        outputs_key=program.outputs,
        train_similarity=program.similarity,
        train_correct=program.demo_score,
        test_similarity=mean_similarity(test, answers),
        test_correct=correct_grids(test, answers),
    )
