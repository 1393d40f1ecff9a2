"""A run, or a submission alone, as a row of figures: the very numbers of `evaluate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.arc.metrics import program_task_figures
from appliance.arc.read import read_json
from appliance.arc.submission import form_faults, read_submission, score
from appliance.arc.task import Solutions
from appliance.arc.vote import Candidate
from appliance.errors import ApplianceError, InputError
from appliance.record.experiments.answers import Answers
from appliance.record.experiments.experiment import Column, Count, Experiment, columns_of
from appliance.record.figures import (
    grids_by_task,
    grids_of,
    pooled,
    predictions_of,
    scores_by_task,
    vote_figures,
    votes_by_task,
)
from appliance.record.journal import Journal
from appliance.record.legs import Legs, legs_of
from appliance.record.rows import TaskRow
from appliance.record.run_folder import RunFolder
from appliance.solve.messages import ProgramMessage

LONGEST_S = 1e10
"""No run took so long; a report that says so was damaged."""


@dataclass(frozen=True)
class RunRecord:
    """What a run found, and the answers to those of its tasks that count."""

    folder: RunFolder
    submission: Mapping[str, Any]  # as it was read
    rows: list[TaskRow]
    candidates: dict[str, list[Candidate]]  # by stage
    programs: dict[str, list[ProgramMessage]]  # by stage
    solutions: Solutions
    legs: Legs
    ended_s: tuple[float, ...]  # when each stage of a task ended, Unix seconds
    notes: tuple[str, ...]


def open_run_record(path: Path, answers: Answers) -> RunRecord:
    """Everything that figures and pictures of a run are made from.

    Raises InputError for a run without a task or an answer, a damaged journal, or answers to
    another version of its tasks.
    """
    folder = RunFolder(path)
    journal = Journal(folder.existing_journal())
    try:
        journal.check_pages()
        rows = journal.tasks()
        if not rows:
            raise InputError(
                f"{path}: the run holds no task",
                expected="a run that has begun",
                remedy="start it again, or leave it out",
            )
        answers.check_known(row.task_id for row in rows)
        answers.check_versions(rows)
        candidates, programs, stages = journal.candidates(), journal.programs(), journal.stages()
        legs, notes = legs_of(journal), journal.notes()
    finally:
        journal.close()

    if not candidates and not programs:
        notes.append("nothing is answered yet: its submission holds guesses")
    elif not folder.report.is_file():
        notes.append("the run has not ended: these are its figures so far")
    submission = _read_submission(folder.submission)
    return RunRecord(
        folder=folder,
        submission=submission,
        rows=rows,
        candidates=candidates,
        programs=programs,
        solutions=_counted(answers, (row.task_id for row in rows)),
        legs=legs,
        ended_s=tuple(row.at_s for row in stages if row.at_s is not None),
        notes=(*notes, *_unknown_tasks(answers, submission)),
    )


def read_run(name: str, path: Path, answers: Answers, *, pool: str) -> Experiment:
    """Raises as `open_run_record` does."""
    run = open_run_record(path, answers)
    grids = pooled(grids_of(run.candidates), pool)
    programs = pooled(run.programs, pool)
    written = scores_by_task(programs, run.solutions)
    predictions = predictions_of(grids, run.solutions)

    columns = {
        **score_columns(run.submission, run.solutions),
        **_vote_columns(run.candidates, run.solutions),
        **columns_of(grids_by_task(grids, run.solutions)),
        **columns_of({i: program_task_figures(scores) for i, scores in written.items()}),
    }
    return Experiment(
        name=name,
        path=path,
        kind="run",
        columns=columns,
        num_tasks=len(run.solutions),
        grids_n=Count.of(
            (len(found) for outputs in predictions.values() for found in outputs),
            num_tasks=len(predictions),
        ),
        programs_n=Count.of(map(len, written.values()), num_tasks=len(written)),
        seconds=_seconds(run),
        tokens=sum(c.num_tokens for c in pooled(grids_of(run.candidates), "all"))
        + sum(p.num_tokens for p in pooled(run.programs, "all")),
        device=_device(run.folder),
        digests={row.task_id: row.digest for row in run.rows},
        notes=run.notes,
    )


def read_submission_file(name: str, path: Path, answers: Answers) -> Experiment:
    """Raises InputError for a file that is no submission, or of other tasks."""
    submission = _read_submission(path)
    answers.check_known(submission)
    solutions = _counted(answers, submission)
    return Experiment(
        name=name,
        path=path,
        kind="submission",
        columns=score_columns(submission, solutions),
        num_tasks=len(solutions),
        notes=_unknown_tasks(answers, submission),
    )


def _read_submission(path: Path) -> Mapping[str, Any]:
    submission = read_submission(path)
    if not isinstance(submission, dict) or not all(
        isinstance(entries, list) for entries in submission.values()
    ):
        raise InputError(
            f"{path}: {next(iter(form_faults(submission)), 'no submission')}",
            expected='{task id: [{"attempt_1": grid, "attempt_2": grid}, ...]}',
            remedy="pass a submission",
        )
    return submission


def _counted(answers: Answers, task_ids: Iterable[str]) -> Solutions:
    """The answers to the tasks that count: all of --tasks, else those of the experiment."""
    own = set(task_ids)
    return {i: a for i, a in answers.solutions.items() if answers.is_chosen or i in own}


def _unknown_tasks(answers: Answers, submission: Mapping[str, Any]) -> tuple[str, ...]:
    extra = [i for i in submission if i not in answers.solutions]
    if not extra:
        return ()
    return (f"{len(extra)} of its {len(submission)} tasks have no answer here, and do not count",)


def score_columns(submission: Mapping[str, Any], solutions: Solutions) -> dict[str, Column]:
    scores = score(submission, solutions)
    by_task = {
        task_id: score({task_id: submission.get(task_id)}, {task_id: answers})["by_task"]
        for task_id, answers in solutions.items()
    }
    weights = {task_id: float(len(answers)) for task_id, answers in solutions.items()}
    return {
        "score_by_output": Column(scores["by_output"], by_task, weights),
        "score_by_task": Column(scores["by_task"], by_task),
    }


def _vote_columns(
    candidates: dict[str, list[Candidate]], solutions: Solutions
) -> dict[str, Column]:
    by_task = votes_by_task(candidates, solutions)
    return {
        name: Column(value, {task_id: figures[name] for task_id, figures in by_task.items()})
        for name, value in vote_figures(candidates, solutions).items()
    }


def _seconds(run: RunRecord) -> float | None:
    """Of all starts together; older runs say it of the last one, at its end."""
    if run.legs.spans:
        return run.legs.total_s
    value = _json_object(run.folder.report).get("seconds")
    if isinstance(value, int | float) and 0 <= value < LONGEST_S:
        return float(value)
    return None


def _device(folder: RunFolder) -> str | None:
    """As the plan names it."""
    value = _json_object(folder.plan).get("device")
    return value if isinstance(value, str) else None


def _json_object(path: Path) -> Mapping[str, Any]:
    """What the file holds; nothing where it cannot be read, as it only adds to the figures."""
    try:
        value = read_json(path)
    except ApplianceError:
        return {}
    return value if isinstance(value, dict) else {}
