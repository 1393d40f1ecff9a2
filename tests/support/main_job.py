"""A main job in processes of its own, as users start it, and what its folder holds afterwards."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from appliance.arc.source import load_tasks
from appliance.arc.submission import read_submission, validate
from appliance.record.journal import Journal, StageRow
from appliance.record.run_folder import RunFolder


def finish(
    command: Sequence[str],
    *,
    codes: Collection[int] = (0,),
    timeout_s: float = 500,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, which must be one of these exit codes."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, env=environment
    )
    assert done.returncode in codes, done.stdout + done.stderr
    return done


@contextmanager
def journal_of(out: Path) -> Iterator[Journal]:
    """The journal of a run, closed at the end of the block."""
    journal = Journal(RunFolder(out).journal)
    try:
        yield journal
    finally:
        journal.close()


def stage_rows(out: Path, stage: str) -> dict[str, StageRow]:
    """What the journal says of that stage, by task."""
    with journal_of(out) as journal:
        return {row.task_id: row for row in journal.stages() if row.stage == stage}


def submission_faults(out: Path, tasks: Path, only: Sequence[str] = ()) -> list[str]:
    """What is wrong with the submission of a run over these tasks; none where it is valid."""
    asked = load_tasks(str(tasks))
    if only:
        asked = asked.select(tuple(only))
    return validate(read_submission(RunFolder(out).submission), asked)
