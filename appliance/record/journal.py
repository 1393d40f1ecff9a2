"""A run's memory: one SQLite file with one writer, safe against a kill at any moment.

Everything else (resume, votes, reports, merging of shards) is a view of it. Rollback journal and
fsync, so that what was written once is there after a crash.

    facts       key, value              identity of the configuration, model, what workers found
    tasks       task_id, num_tests, num_demonstrations, cost, digest
    stages      task_id, stage, round, status, seconds, detail     the latest outcome of each
    candidates  task_id, test_index, stage, round, view, grid, ...      one row per answer
    programs    task_id, stage, round, message      one row per program, as the worker sent it
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
    task_id TEXT PRIMARY KEY, num_tests INTEGER NOT NULL, num_demonstrations INTEGER NOT NULL,
    cost INTEGER NOT NULL, digest TEXT NOT NULL, position INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS stages (
    task_id TEXT NOT NULL, stage TEXT NOT NULL, round INTEGER NOT NULL, status TEXT NOT NULL,
    seconds REAL NOT NULL, detail TEXT NOT NULL, PRIMARY KEY (task_id, stage, round));
CREATE TABLE IF NOT EXISTS candidates (
    id INTEGER PRIMARY KEY, task_id TEXT NOT NULL, test_index INTEGER NOT NULL,
    stage TEXT NOT NULL, view TEXT NOT NULL, method TEXT NOT NULL, adapter TEXT NOT NULL,
    grid TEXT, logprob REAL NOT NULL, num_tokens INTEGER NOT NULL, program TEXT NOT NULL,
    demo_score REAL, view_scores TEXT NOT NULL DEFAULT '[]', round INTEGER NOT NULL DEFAULT 1,
    weight REAL);
CREATE INDEX IF NOT EXISTS candidates_of_task ON candidates (task_id, test_index);
CREATE TABLE IF NOT EXISTS programs (
    id INTEGER PRIMARY KEY, task_id TEXT NOT NULL, stage TEXT NOT NULL, message TEXT NOT NULL,
    round INTEGER NOT NULL DEFAULT 1);
CREATE INDEX IF NOT EXISTS programs_of_task ON programs (task_id);
CREATE TABLE IF NOT EXISTS events (at_s REAL NOT NULL, text TEXT NOT NULL);
"""

_STAGE_OF_NAME = "CASE WHEN instr({0}, '-') THEN substr({0}, 1, instr({0}, '-') - 1) ELSE {0} END"
"""The stage in a text of journals of version 0.1, which held stage and round in one: "deep-2"."""

_ROUND_OF_NAME = "CASE WHEN instr({0}, '-') THEN substr({0}, instr({0}, '-') + 1) + 0 ELSE 1 END"
"""The round in such a text; without a number it is the first."""

_CANDIDATE_COLUMNS = (
    "task_id, test_index, grid, logprob, num_tokens, view, method, adapter, program, demo_score, "
    "view_scores, weight"
)
"""In the order of the fields of Candidate."""


@dataclass(frozen=True)
class StageRow:
    """The latest outcome of one stage of one task."""

    task_id: str
    stage: str  # search, quick, programs, train or deep
    status: str  # done, partial or failed
    seconds: float
    detail: Mapping[str, Any]
    round: int = 1  # more where the task was gone through again


class Journal:
    """Open (or make) the journal at `path`.

    Raises OutputError when it cannot be written, InputError when the file is not a journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            # Not WAL: it needs shared memory, which network file systems do not give.
            self._db.execute("PRAGMA journal_mode=DELETE")
            self._db.execute("PRAGMA synchronous=FULL")
            self._upgrade()
            self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as fault:
            self._db.close()
            raise _as_ours(path, fault) from fault

    def _upgrade(self) -> None:
        """Bring a journal of an earlier version up to date, so that its run can be resumed."""
        candidates = self._columns("candidates")
        if candidates and "view_scores" not in candidates:
            added = "view_scores TEXT NOT NULL DEFAULT '[]'"
            self._db.execute(f"ALTER TABLE candidates ADD COLUMN {added}")

        stages = self._columns("stages")
        if stages and "round" not in stages:
            self._part_stages_from_rounds()

        if candidates and "weight" not in candidates:
            statements = ["ALTER TABLE candidates ADD COLUMN weight REAL"]
            if stages:
                # Until then "search" was the stage in which a model writes programs.
                statements.append("UPDATE stages SET stage = 'programs' WHERE stage = 'search'")
            self._write((sql, ()) for sql in statements)

    def _part_stages_from_rounds(self) -> None:
        """Journals of version 0.1 held both in one text."""
        stage, number = _STAGE_OF_NAME.format("stage"), _ROUND_OF_NAME.format("stage")
        statements = ["ALTER TABLE stages RENAME TO old_stages"]
        statements += [line for line in _SCHEMA.split(";") if "TABLE IF NOT EXISTS stages" in line]
        statements.append(
            f"INSERT INTO stages SELECT task_id, {stage}, {number}, status, seconds, detail"
            " FROM old_stages"
        )
        statements.append("DROP TABLE old_stages")
        for table in ("candidates", "programs"):
            statements.append(f"ALTER TABLE {table} ADD COLUMN round INTEGER NOT NULL DEFAULT 1")
            statements.append(f"UPDATE {table} SET round = {number}, stage = {stage}")
        self._write((sql, ()) for sql in statements)

    def _columns(self, table: str) -> set[str]:
        return {str(row[1]) for row in self._db.execute(f"PRAGMA table_info({table})")}

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
        """The outcome with its candidates and programs, in one transaction.

        Those of an earlier try at the same stage and round go, if there are new ones.
        """
        key = (row.task_id, row.stage, row.round)
        rows = [(*key, *_candidate_values(c)) for c in candidates]
        messages = [(*key, p.model_dump_json()) for p in programs]

        detail = json.dumps(dict(row.detail))
        statements: list[tuple[str, tuple[Any, ...]]] = [
            (
                "INSERT OR REPLACE INTO stages VALUES (?, ?, ?, ?, ?, ?)",
                (*key, row.status, row.seconds, detail),
            )
        ]
        for table, found in (("candidates", rows), ("programs", messages)):
            if found:
                old = f"DELETE FROM {table} WHERE task_id = ? AND stage = ? AND round = ?"
                statements.append((old, key))

        into_candidates = (
            "INSERT INTO candidates (task_id, stage, round, test_index, grid, logprob, num_tokens,"
            " view, method, adapter, program, demo_score, view_scores, weight)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
        into_programs = "INSERT INTO programs (task_id, stage, round, message) VALUES (?, ?, ?, ?)"
        statements += [(into_candidates, values) for values in rows]
        statements += [(into_programs, values) for values in messages]
        self._write(statements)

    def programs(self, task_id: str | None = None) -> dict[str, list[ProgramMessage]]:
        """Programs by stage, all rounds together, of one task or of all."""
        found: dict[str, list[ProgramMessage]] = {}
        for stage, message in self._select("stage, message", "programs", task_id):
            found.setdefault(stage, []).append(ProgramMessage.model_validate_json(message))
        return found

    def stages(self) -> list[StageRow]:
        rows = self._db.execute("SELECT task_id, stage, status, seconds, detail, round FROM stages")
        return [
            StageRow(task_id, stage, status, seconds, json.loads(detail), number)
            for task_id, stage, status, seconds, detail, number in rows
        ]

    def candidates(self, task_id: str | None = None) -> dict[str, list[Candidate]]:
        """Candidates by stage, all rounds together, of one task or of all."""
        found: dict[str, list[Candidate]] = {}
        for stage, *values in self._select(f"stage, {_CANDIDATE_COLUMNS}", "candidates", task_id):
            grid = values[2]
            if grid is not None:
                values[2] = freeze(np.array(json.loads(grid), dtype=np.int8))

            values[-2] = tuple(json.loads(values[-2]))
            found.setdefault(stage, []).append(Candidate(*values))
        return found

    def put_event(self, at_s: float, text: str) -> None:
        self._write([("INSERT INTO events VALUES (?, ?)", (at_s, text))])

    def events(self) -> list[tuple[float, str]]:
        return [
            (float(at_s), str(text))
            for at_s, text in self._db.execute("SELECT at_s, text FROM events")
        ]

    def _select(self, columns: str, table: str, task_id: str | None) -> sqlite3.Cursor:
        where, values = ("WHERE task_id = ?", (task_id,)) if task_id is not None else ("", ())
        return self._db.execute(f"SELECT {columns} FROM {table} {where} ORDER BY id", values)

    def _write(self, statements: Iterable[tuple[str, tuple[Any, ...]]]) -> None:
        try:
            self._db.execute("BEGIN")
            for sql, values in statements:
                self._db.execute(sql, values)
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as fault:
            # A full disk ends the transaction by itself, most other faults do not.
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


def _candidate_values(candidate: Candidate) -> tuple[Any, ...]:
    """From test_index on, in the order of the columns that put_stage names."""
    c = candidate
    grid = None if c.grid is None else json.dumps(to_lists(c.grid))
    return (
        c.test_index, grid, c.logprob, c.num_tokens, c.view, c.method, c.adapter, c.program,
        c.demo_score, json.dumps(c.view_scores), c.weight,
    )  # fmt: skip
