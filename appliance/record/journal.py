"""The run's memory: one SQLite file with one writer, safe against a kill at any moment (rollback journal, fsync).

Everything else (resume, votes, reports, merging of shards) is a view of it.

    facts       key, value              configuration identity, plan, what the worker found
    tasks       task_id, num_tests, num_demonstrations, cost, digest
    stages      task_id, stage, status, seconds, detail    one row per task and stage, the latest outcome
    candidates  task_id, test_index, stage, view, grid, ...   one row per answer
    programs    task_id, stage, message   one row per program that was written: the worker's message about it
    events      at_s, text              what happened, for people
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from appliance.arc.grid import freeze, to_lists
from appliance.arc.task import Task
from appliance.arc.vote import Candidate
from appliance.errors import InputError, OutputError
from appliance.solve.messages import ProgramMessage

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tasks (
    task_id TEXT PRIMARY KEY, num_tests INTEGER NOT NULL, num_demonstrations INTEGER NOT NULL, cost INTEGER NOT NULL,
    digest TEXT NOT NULL, position INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS stages (
    task_id TEXT NOT NULL, stage TEXT NOT NULL, status TEXT NOT NULL, seconds REAL NOT NULL, detail TEXT NOT NULL,
    PRIMARY KEY (task_id, stage));
CREATE TABLE IF NOT EXISTS candidates (
    id INTEGER PRIMARY KEY, task_id TEXT NOT NULL, test_index INTEGER NOT NULL, stage TEXT NOT NULL, view TEXT NOT NULL,
    method TEXT NOT NULL, adapter TEXT NOT NULL, grid TEXT, logprob REAL NOT NULL, num_tokens INTEGER NOT NULL,
    program TEXT NOT NULL, demo_score REAL, view_scores TEXT NOT NULL DEFAULT '[]');
CREATE INDEX IF NOT EXISTS candidates_of_task ON candidates (task_id, test_index);
CREATE TABLE IF NOT EXISTS programs (
    id INTEGER PRIMARY KEY, task_id TEXT NOT NULL, stage TEXT NOT NULL, message TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS programs_of_task ON programs (task_id);
CREATE TABLE IF NOT EXISTS events (at_s REAL NOT NULL, text TEXT NOT NULL);
"""


@dataclass(frozen=True)
class StageRow:
    """The latest outcome of one stage ("quick", "train", "search", "deep") of one task. status: "done" or "failed"."""

    task_id: str
    stage: str
    status: str
    seconds: float
    detail: Mapping[str, Any]


class Journal:
    """Open (or make) the journal at `path`. Raises OutputError when it cannot be written, InputError when the file
    is not a journal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=DELETE")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
            self._add_what_is_newer()
        except sqlite3.DatabaseError as fault:
            self._db.close()
            raise _as_ours(path, fault) from fault

    def _add_what_is_newer(self) -> None:
        """Journals of before views were scored lack that column; they are read and resumed all the same."""
        columns = {str(row[1]) for row in self._db.execute("PRAGMA table_info(candidates)")}
        if "view_scores" not in columns:
            self._db.execute(
                "ALTER TABLE candidates ADD COLUMN view_scores TEXT NOT NULL DEFAULT '[]'"
            )

    def close(self) -> None:
        self._db.close()

    def put_fact(self, key: str, value: Any) -> None:
        self._write([("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, json.dumps(value)))])

    def fact(self, key: str) -> Any:
        """The value, or None when there is no such fact."""
        row = self._db.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put_tasks(self, tasks: Iterable[Task]) -> None:
        rows = [
            (t.task_id, len(t.test), len(t.train), t.num_cells(), t.digest(), position)
            for position, t in enumerate(tasks)
        ]
        self._write(
            [("INSERT OR REPLACE INTO tasks VALUES (?, ?, ?, ?, ?, ?)", row) for row in rows]
        )

    def num_tests(self) -> dict[str, int]:
        """Test inputs of every task, in the order of the tasks file."""
        rows = self._db.execute("SELECT task_id, num_tests FROM tasks ORDER BY position")
        return {str(task_id): int(count) for task_id, count in rows}

    def put_stage(
        self,
        row: StageRow,
        candidates: Iterable[Candidate] = (),
        programs: Iterable[ProgramMessage] = (),
    ) -> None:
        """The outcome and the candidates and programs that belong to it, in one transaction; those of an earlier attempt go."""
        statements: list[tuple[str, tuple[Any, ...]]] = [
            (
                "INSERT OR REPLACE INTO stages VALUES (?, ?, ?, ?, ?)",
                (row.task_id, row.stage, row.status, row.seconds, json.dumps(dict(row.detail))),
            )
        ]
        found = list(candidates)
        if found:
            statements.append(
                ("DELETE FROM candidates WHERE task_id = ? AND stage = ?", (row.task_id, row.stage))
            )
        statements += [
            (
                "INSERT INTO candidates (task_id, test_index, stage, view, method, adapter, grid, logprob, num_tokens,"
                " program, demo_score, view_scores) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    c.task_id,
                    c.test_index,
                    row.stage,
                    c.view,
                    c.method,
                    c.adapter,
                    None if c.grid is None else json.dumps(to_lists(c.grid)),
                    c.logprob,
                    c.num_tokens,
                    c.program,
                    c.demo_score,
                    json.dumps(c.view_scores),
                ),
            )
            for c in found
        ]
        written = list(programs)
        if written:
            statements.append(
                ("DELETE FROM programs WHERE task_id = ? AND stage = ?", (row.task_id, row.stage))
            )
        statements += [
            (
                "INSERT INTO programs (task_id, stage, message) VALUES (?, ?, ?)",
                (p.task_id, row.stage, p.model_dump_json()),
            )
            for p in written
        ]
        self._write(statements)

    def programs(self, task_id: str | None = None) -> dict[str, list[ProgramMessage]]:
        """Programs by stage, of one task or of all."""
        where, values = ("WHERE task_id = ?", (task_id,)) if task_id is not None else ("", ())
        found: dict[str, list[ProgramMessage]] = {}
        for stage, message in self._db.execute(
            f"SELECT stage, message FROM programs {where} ORDER BY id", values
        ):
            found.setdefault(stage, []).append(ProgramMessage.model_validate_json(message))
        return found

    def stages(self) -> list[StageRow]:
        rows = self._db.execute("SELECT task_id, stage, status, seconds, detail FROM stages")
        return [
            StageRow(t, s, status, seconds, json.loads(detail))
            for t, s, status, seconds, detail in rows
        ]

    def candidates(self, task_id: str | None = None) -> dict[str, list[Candidate]]:
        """Candidates by stage, of one task or of all."""
        where, values = ("WHERE task_id = ?", (task_id,)) if task_id is not None else ("", ())
        found: dict[str, list[Candidate]] = {}
        for stage, *values_of in self._db.execute(
            "SELECT stage, task_id, test_index, grid, logprob, num_tokens, view, method, adapter, program, demo_score,"
            " view_scores"
            f" FROM candidates {where} ORDER BY id",
            values,
        ):
            values_of[2] = (
                None
                if values_of[2] is None
                else freeze(np.array(json.loads(values_of[2]), dtype=np.int8))
            )
            values_of[-1] = tuple(json.loads(values_of[-1]))
            found.setdefault(stage, []).append(Candidate(*values_of))
        return found

    def put_event(self, at_s: float, text: str) -> None:
        self._write([("INSERT INTO events VALUES (?, ?)", (at_s, text))])

    def events(self) -> list[tuple[float, str]]:
        return [
            (float(at_s), str(text))
            for at_s, text in self._db.execute("SELECT at_s, text FROM events")
        ]

    def _write(self, statements: Iterable[tuple[str, tuple[Any, ...]]]) -> None:
        try:
            self._db.execute("BEGIN")
            for sql, values in statements:
                self._db.execute(sql, values)
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as fault:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise _as_ours(self.path, fault) from fault


def _as_ours(path: Path, fault: sqlite3.DatabaseError) -> OutputError | InputError:
    if isinstance(fault, sqlite3.OperationalError):
        return OutputError(
            f"{path}: {fault}",
            expected="a folder that can be written and has room",
            remedy="free disk space or pass another --out; what is written so far stays valid",
        )
    return InputError(
        f"{path}: {fault}", expected="the journal of a run", remedy="pass another --out, or --fresh"
    )


def stage_name(stage: str, number: int) -> str:
    return stage if number == 1 else f"{stage}-{number}"


def split_stage_name(name: str) -> tuple[str, int]:
    """("deep", 2) of "deep-2"."""
    stage, _, number = name.partition("-")
    return stage, int(number or 1)
