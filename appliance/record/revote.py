"""A new submission out of the journals of runs or shards: merged and voted on again, no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.arc.grid import Grid, to_lists
from appliance.arc.submission import (
    ATTEMPTS,
    Submission,
    build,
    form_faults,
    read_submission,
    task_faults,
    validate,
)
from appliance.arc.task import TaskSet
from appliance.arc.vote import Candidate, Output
from appliance.errors import InputError
from appliance.record.attempts import attempts_of
from appliance.record.journal import Journal
from appliance.record.rows import TaskRow
from appliance.record.run_folder import RunFolder

Entry = dict[str, list[list[int]]]
"""Both attempts at one test output."""


@dataclass(frozen=True)
class Revote:
    """What came of it."""

    submission: Submission
    num_voted: int  # test outputs that had candidates to vote on
    notes: tuple[str, ...]  # what people must know about the runs, each a sentence


@dataclass
class _Merged:
    """What the runs hold together."""

    # By stage, each as often as in the run that has it most often: a run that is given twice, or a
    # copy of it, must not vote twice.
    candidates: dict[str, Counter[Candidate]] = field(default_factory=dict)
    held: Submission = field(default_factory=dict)  # what the runs themselves submitted
    versions: dict[str, tuple[TaskRow, Path]] = field(default_factory=dict)  # and where it was met
    notes: list[str] = field(default_factory=list)


def vote_again(runs: Iterable[Path], *, selector: str, tasks: TaskSet | None = None) -> Revote:
    """The submission that all runs together give; it is always valid.

    tasks: those that the submission must cover; outputs that no run has get fallbacks. None: the
    tasks of the runs.

    Raises InputError for a folder that holds no run, a run whose submission is not valid, runs of
    different versions of a task, and runs without a task.
    """
    merged = _Merged()
    for task in tasks or ():
        row = TaskRow(task.task_id, len(task.test), task.digest())
        merged.versions[task.task_id] = row, Path(tasks.name if tasks else "")

    seen: set[Path] = set()
    for path in runs:
        if path.resolve() in seen:
            merged.notes.append(f"{path} is given twice, and counts once")
            continue
        seen.add(path.resolve())
        _take_in(merged, path)

    candidates = {stage: list(found.elements()) for stage, found in merged.candidates.items()}
    voted = attempts_of(candidates, selector)
    held = merged.held
    basis = build(tasks, voted) if tasks else held
    submission = {
        task_id: _filled(task_id, voted, held.get(task_id), entries)
        for task_id, entries in basis.items()
    }

    faults = validate(submission, tasks) if tasks else form_faults(submission)
    if faults or not submission:
        raise InputError(
            f"these runs give no valid submission: {faults[0] if faults else 'no run has a task'}",
            expected="runs with tasks, each with its submission.json",
            remedy="pass --tasks, or other runs",
        )
    num_voted = sum(
        len(voted.get((task_id, index), ())) > 0
        for task_id, entries in submission.items()
        for index in range(len(entries))
    )
    return Revote(submission, num_voted, tuple(merged.notes))


def _take_in(merged: _Merged, path: Path) -> None:
    """Add one run."""
    folder = RunFolder(path)
    journal = Journal(folder.existing_journal())
    try:
        rows = journal.tasks()
        candidates = journal.candidates()
        merged.notes += journal.notes()
    finally:
        journal.close()

    for row in rows:
        _compare(merged, row, path)
    for stage, found in candidates.items():
        # In place: a thousand shards would else be counted a thousand times.
        counts = merged.candidates.setdefault(stage, Counter())
        for candidate, number in Counter(found).items():
            counts[candidate] = max(counts[candidate], number)
    if not rows:
        merged.notes.append(f"{path} has no tasks in its journal: it gives nothing")

    submission = read_submission(folder.submission)
    faults = form_faults(submission)
    if not faults:
        faults = [
            fault
            for row in rows
            if row.task_id in submission
            for fault in task_faults(row.task_id, submission[row.task_id], row.num_tests)
        ]
    if faults:
        raise InputError(
            f"{folder.submission}: {faults[0]}",
            expected="the submission of the run, as it wrote it",
            remedy="start the run again: it writes a valid one at once",
        )
    merged.held |= submission


def _compare(merged: _Merged, row: TaskRow, path: Path) -> None:
    """Runs of two versions of a task (a cell was corrected, a test input added) cannot be merged.

    A journal without a digest tells the number of test inputs only.
    """
    first, where = merged.versions.setdefault(row.task_id, (row, path))
    is_other = first.digest != row.digest and first.digest and row.digest
    if not is_other and first.num_tests == row.num_tests:
        return
    raise InputError(
        f"task {row.task_id} in {path} is not the one in {where}: "
        + (
            "its grids differ"
            if first.num_tests == row.num_tests
            else f"{row.num_tests} test inputs, not {first.num_tests}"
        ),
        expected="runs of the same version of every task",
        remedy="leave out the runs of the other version",
    )


def _filled(
    task_id: str,
    voted: Mapping[Output, Sequence[Grid]],
    held: Sequence[Entry] | None,
    entries: Sequence[Entry],
) -> list[Entry]:
    """Two distinct attempts for each output: first the voted ones, then what the run submitted
    (its fallbacks), then the given entries."""
    filled = []

    for index, entry in enumerate(entries):
        grids = [to_lists(g) for g in voted.get((task_id, index), ())]
        has_held = held is not None and index < len(held)
        for source in (held[index] if held and has_held else entry, entry):
            grids += [source[name] for name in ATTEMPTS if source[name] not in grids]
        # Where nobody has a second grid, the first one stands twice.
        filled.append(dict(zip(ATTEMPTS, [*grids, *grids], strict=False)))

    return filled
