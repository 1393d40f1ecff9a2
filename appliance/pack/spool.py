"""What shards that still run have saved: HTCondor keeps it in the spool of its queue.

A job that saves itself, or whose slot is taken, sends its files to a folder of its own in the spool
(`$(condor_config_val SPOOL)/635/0/cluster635.proc0.subproc0` for job 635.0, says HTCondor's manual,
"Self-Checkpointing Applications"). They come into the folder of the DAG only when the job ends.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appliance.names import a_few
from appliance.record.run_folder import RunFolder

FOLDERS = 10_000
"""The spool sorts jobs into so many folders, by what is left of their number."""

SAID = 4
"""Shards that a note names."""

PATIENCE_S = 60
"""For one question to the queue. A busy one answers late; a dead one never."""


@dataclass(frozen=True)
class Queue:
    """What HTCondor has of a DAG that is not at its end."""

    waiting: frozenset[str] = frozenset()  # shards with a job in the queue, whether it runs or not
    saved: Mapping[str, Path] = field(default_factory=dict)  # copies of what these have saved
    notes: tuple[str, ...] = ()  # for people


def find_queue(dag: Path, copies: Path) -> Queue:
    """What there is now; nothing where there is no HTCondor.

    What shards have saved is copied, because HTCondor may replace the files meanwhile, and because
    SQLite writes to a journal that it opens.
    """
    answer = _ask("condor_config_val", "SPOOL")
    if answer is None:
        return Queue()
    jobs = _queued(dag)
    if jobs is None:
        note = "the queue does not answer (condor_q): only shards that are back count"
        return Queue(notes=(note,))

    saved, closed = {}, []
    for name, cluster, process in jobs:
        folder = Path(answer) / str(cluster % FOLDERS) / str(process % FOLDERS)
        there = folder / f"cluster{cluster}.proc{process}.subproc0" / name
        try:
            if RunFolder(there).journal.is_file():
                saved[name] = Path(shutil.copytree(there, copies / name, symlinks=True))
        except OSError:  # of another user, or gone since: the shard has just ended
            shutil.rmtree(copies / name, ignore_errors=True)
            closed.append(name)

    notes = []
    if closed:
        notes.append(
            f"what {a_few(closed, SAID)} saved in {answer} cannot be read from here: it counts when"
            " the shard is back"
        )
    return Queue(frozenset(name for name, _, _ in jobs), saved, tuple(notes))


def _queued(dag: Path) -> list[tuple[str, int, int]] | None:
    """Shard, cluster and process of each job of the DAG. None: no answer."""
    # A job knows the folder it was submitted from as the shell called it then.
    folders = dict.fromkeys([str(dag.absolute()), str(dag.resolve())])
    there = " || ".join(f'Iwd == "{folder}"' for folder in folders)
    fields = ("DAGNodeName", "ClusterId", "ProcId")
    answer = _ask("condor_q", "-constraint", there, "-af", *fields)
    if answer is None:
        return None

    rows = [line.split() for line in answer.splitlines()]
    jobs = [row for row in rows if len(row) == len(fields) and row[0].startswith("shard-")]
    return [(name, int(cluster), int(process)) for name, cluster, process in jobs]


def _ask(*command: str) -> str | None:
    """What a command of HTCondor prints. None where it is not there, fails or does not answer."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
