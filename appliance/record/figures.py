"""What a run was worth, in figures, once the answers are known: candidates, votes and programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from appliance.arc.grid import Grid
from appliance.arc.metrics import (
    Figures,
    ProgramScore,
    correct_grids,
    mean_figures,
    mean_similarity,
    program_task_figures,
    task_figures,
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

POOLS = ("all", "quick", "deep")
"""Whose predictions are taken together: those of every stage, or of one pass of the model."""

Found = TypeVar("Found")


def run_figures(journal: Journal, solutions: Solutions) -> dict[str, Any]:
    """All figures of a run.

    stages and programs: by stage, all its rounds together, and under "all" where there are several
    stages. votes: of the whole run. program_errors: counts by kind of failure.
    """
    candidates = journal.candidates()
    grids = grids_of(candidates)
    programs = journal.programs()
    errors = Counter(why_failed(p) for written in programs.values() for p in written)

    return {
        "stages": {s: stage_figures(f, solutions) for s, f in _with_all(grids).items()},
        "votes": vote_figures(candidates, solutions),
        "program_errors": dict(errors.most_common(NUM_ERRORS)),
        "programs": {s: program_figures(p, solutions) for s, p in _with_all(programs).items()},
    }


def grids_of(candidates: Mapping[str, Sequence[Candidate]]) -> dict[str, list[Candidate]]:
    """By stage, the grids that a model wrote or a search found; not those of a model's programs."""
    grids = {
        stage: [c for c in found if c.demo_score is None or c.is_searched]
        for stage, found in candidates.items()
    }
    return {stage: found for stage, found in grids.items() if found}


def pooled(found: Mapping[str, Sequence[Found]], pool: str) -> list[Found]:
    """What the stages of the pool gave, together. pool: one of POOLS."""
    return [one for stage, many in found.items() if pool in ("all", stage) for one in many]


def _with_all(found: Mapping[str, Sequence[Found]]) -> dict[str, Sequence[Found]]:
    together = {"all": pooled(found, "all")} if len(found) > 1 else {}
    return {**found, **together}


def predictions_of(
    candidates: Sequence[Candidate], solutions: Solutions
) -> dict[str, list[list[Grid | None]]]:
    """By task and test output, the predicted grids; tasks without a prediction are left out."""
    predictions: dict[str, list[list[Grid | None]]] = {}
    for candidate in candidates:
        # Journals say which test inputs a task has, but the row that says so may be lost.
        if candidate.test_index < len(solutions.get(candidate.task_id, ())):
            answers = predictions.setdefault(
                candidate.task_id, [[] for _ in solutions[candidate.task_id]]
            )
            answers[candidate.test_index].append(candidate.grid)
    return predictions


def grids_by_task(candidates: Sequence[Candidate], solutions: Solutions) -> dict[str, Figures]:
    """Figures of the grids of each task that has any: accuracy, correct_pixels and so on."""
    return {
        task_id: task_figures(predictions, solutions[task_id])
        for task_id, predictions in predictions_of(candidates, solutions).items()
    }


def stage_figures(candidates: Sequence[Candidate], solutions: Solutions) -> dict[str, float]:
    """Figures of the grids of one stage, over the tasks that it sampled or found answers for.

    Named as in the notebooks: accuracy, correct_pixels, pass_n and so on.
    """
    figures = grids_by_task(candidates, solutions)
    predictions = predictions_of(candidates, solutions)
    return {
        "num_tasks": float(len(figures)),
        "num_candidates": float(len(candidates)),
        **_spread([len(found) for outputs in predictions.values() for found in outputs]),
        **mean_figures(list(figures.values())),
    }


def scores_by_task(
    programs: Sequence[ProgramMessage], solutions: Solutions
) -> dict[str, list[ProgramScore]]:
    """The programs of each task that has any, against its answers."""
    scores: dict[str, list[ProgramScore]] = {}
    for program in programs:
        if program.task_id in solutions:
            score = _score(program, solutions[program.task_id])
            scores.setdefault(program.task_id, []).append(score)
    return scores


def program_figures(programs: Sequence[ProgramMessage], solutions: Solutions) -> dict[str, float]:
    """Figures of the programs of one stage, named as in arc25.

    Means over the programs of a task, then over the tasks that have any.
    """
    scores = scores_by_task(programs, solutions)
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
    attempts = _voted(candidates, solutions, DEFAULT_SELECTOR)
    return {f"vote_{k}": vote_k(attempts, solutions, k) for k in (1, 2)}


def votes_by_task(
    candidates: Mapping[str, Sequence[Candidate]],
    solutions: Solutions,
    selector: str = DEFAULT_SELECTOR,
) -> dict[str, Figures]:
    """The same of each task, by any selector."""
    attempts = _voted(candidates, solutions, selector)
    return {
        task_id: {f"vote_{k}": vote_k(attempts, {task_id: answers}, k) for k in (1, 2)}
        for task_id, answers in solutions.items()
    }


def _voted(
    candidates: Mapping[str, Sequence[Candidate]], solutions: Solutions, selector: str
) -> dict[str, list[list[Grid | None]]]:
    voted = attempts_of(candidates, selector)
    return {
        task_id: [list(voted.get((task_id, i), ())) for i in range(len(answers))]
        for task_id, answers in solutions.items()
    }


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
