"""A new submission out of the journals of runs or shards: merged and voted on again, no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from appliance.arc.grid import Grid, to_lists
from appliance.arc.submission import ATTEMPTS, Submission, build, read_submission
from appliance.arc.task import TaskSet
from appliance.arc.vote import Candidate, Output
from appliance.record.attempts import attempts_of
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder

Entry = dict[str, list[list[int]]]
"""Both attempts at one test output."""


def vote_again(
    runs: Iterable[Path], *, selector: str, tasks: TaskSet | None = None
) -> tuple[Submission, int]:
    """The submission, and how many of its test outputs had candidates to vote on.

    tasks: those that the submission must cover; outputs that no run has get fallbacks. None: the
    tasks of the runs.

    Raises InputError for a folder that holds no run.
    """
    candidates: dict[str, list[Candidate]] = {}
    held: Submission = {}  # what the runs themselves submitted
    for path in runs:
        folder = RunFolder(path)
        journal = Journal(folder.existing_journal())
        for stage, found in journal.candidates().items():
            candidates.setdefault(stage, []).extend(found)
        held |= read_submission(folder.submission)
        journal.close()

    voted = attempts_of(candidates, selector)
    basis = build(tasks, voted) if tasks else held
    submission = {
        task_id: _filled(task_id, voted, held.get(task_id), entries)
        for task_id, entries in basis.items()
    }
    return submission, len(voted)


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
        filled.append(dict(zip(ATTEMPTS, grids, strict=False)))

    return filled
