"""A run's memory: one SQLite file with one writer, safe against a kill at any moment.

Everything else (resume, votes, reports, merging of shards) is a view of it. Rollback journal and
fsync, so that what was written once is there after a crash.

    facts       key, value              identity of the configuration, model, what workers found
    tasks       task_id, num_tests, num_demonstrations, cost, digest, content     without answers
    stages      task_id, stage, round, status, seconds, detail, at_s     the latest outcome of each
    candidates  task_id, test_index, stage, round, view, grid, ...      one row per answer
    programs    task_id, stage, round, message      one row per program, as the worker sent it
    events      at_s, text              what happened, for people
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from appliance.arc.task import Task, task_to_json
from appliance.arc.vote import Candidate, Output
from appliance.errors import ApplianceError, InputError, OutputError, PrerequisiteError
from appliance.record import rows as checked
from appliance.record.rows import StageRow, TaskRow
from appliance.solve.messages import ProgramMessage

__all__ = ["DamagedJournal", "Journal", "StageRow"]

_VERSION = 3
"""Of the form below, kept in the file. The oldest journals have 0; 1 had no times of stages, 2 no
contents of tasks."""

_WITH_TIMES = 2
"""The first form that says when each stage ended."""

BUSY_S = 30.0
"""So long a journal that another program has locked is waited for; copies of a file take less."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tasks (
    task_id TEXT PRIMARY KEY, num_tests INTEGER NOT NULL, num_demonstrations INTEGER NOT NULL,
    cost INTEGER NOT NULL, digest TEXT NOT NULL, position INTEGER NOT NULL,
    content TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS stages (
    task_id TEXT NOT NULL, stage TEXT NOT NULL, round INTEGER NOT NULL, status TEXT NOT NULL,
    seconds REAL NOT NULL, detail TEXT NOT NULL, at_s REAL, PRIMARY KEY (task_id, stage, round));
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

_CANDIDATE_ROW = f"round, stage, {_CANDIDATE_COLUMNS}"

COLUMNS = {
    "facts": ("key", "value"),
    "tasks": (
        *("task_id", "num_tests", "num_demonstrations", "cost", "digest", "position", "content"),
    ),
    "stages": ("task_id", "stage", "round", "status", "seconds", "detail", "at_s"),
    "candidates": ("stage", "round", *_CANDIDATE_COLUMNS.split(", ")),
    "programs": ("task_id", "stage", "message", "round"),
    "events": ("at_s", "text"),
}
"""Of each table, without the numbers of rows."""

_ENDED = "SELECT task_id, stage, round FROM stages WHERE at_s <= ?"
"""Stages that had ended by then."""

_OLDEST_COLUMNS = {
    "facts": {"key", "value"},
    "tasks": {"task_id", "num_tests", "digest", "position"},
    "stages": {"task_id", "stage", "status", "seconds", "detail"},
    "candidates": {"task_id", "test_index", "stage", "view", "grid", "logprob", "num_tokens"},
    "programs": {"task_id", "stage", "message"},
    "events": {"at_s", "text"},
}
"""What journals of all versions have: tables of these names with other columns are another's."""

Value = TypeVar("Value")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """To make one takes longer than to use it."""
    return TypeAdapter(kind)


class DamagedJournal(InputError):
    """It was a journal, and parts of the file cannot be read any more."""


class Journal:
    """Open (or make) the journal at `path`.

    Rows that no run writes are left out wherever they are read, and `notes` says how many.

    Raises InputError when the file is not a journal or one of a newer version (DamagedJournal when
    its pages are damaged), OutputError when it cannot be written, PrerequisiteError when another
    program has locked it. Reading and writing raise the last three as well.
    """

    def __init__(self, path: Path, *, is_looked_at: bool = False) -> None:
        """is_looked_at: somebody else writes it, and is not to notice: the file is read as it lies
        there, without locks and without changing anything. What is read may be torn; `record.peek`
        sees to that.
        """
        self.path = path
        self.told: list[str] = []  # what people must know about how it was opened
        self._left_out: dict[str, set[int]] = {}  # rows that no run writes, by table

        if path.exists() and not path.is_file():
            raise _no_journal(path, "not a file")
        try:
            name = f"{path.absolute().as_uri()}?mode=ro&immutable=1" if is_looked_at else path
            self._db = sqlite3.connect(name, isolation_level=None, timeout=BUSY_S, uri=is_looked_at)
        except (sqlite3.Error, UnicodeDecodeError) as fault:
            raise _as_ours(path, fault) from fault

        # A byte that is no UTF-8 must not keep the other rows from being read.
        self._db.text_factory = lambda data: data.decode("utf-8", "replace")
        try:
            self._check_origin()
            if is_looked_at:
                self._check_form()
                return
            # Not WAL: it needs shared memory, which network file systems do not give.
            self._db.execute("PRAGMA journal_mode=DELETE")
            self._db.execute("PRAGMA synchronous=FULL")
            self._upgrade()
            self._db.executescript(_SCHEMA)
            if self._version() != _VERSION:  # to read a journal is not to write it
                self._db.execute(f"PRAGMA user_version={_VERSION}")
        except (sqlite3.Error, UnicodeDecodeError) as fault:
            self._db.close()
            raise _as_ours(path, fault) from fault
        except ApplianceError:
            self._db.close()
            raise

    def _check_origin(self) -> None:
        """Only a journal is changed: a file of another program stays as it is."""
        version = self._version()
        names = self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        tables = {str(name) for (name,) in names}
        ours = tables & set(_OLDEST_COLUMNS)

        if version > _VERSION and (ours or not tables):
            raise InputError(
                f"{self.path}: a journal of form {version}, made by a newer version",
                expected=f"form {_VERSION} or older",
                remedy="use the version that made it, or pass another run",
            )
        if (tables and not ours) or any(_OLDEST_COLUMNS[t] - self._columns(t) for t in ours):
            raise _no_journal(self.path, f"a database with the tables {', '.join(sorted(tables))}")

    def _check_form(self) -> None:
        """Whoever only looks cannot bring an older journal up to date."""
        if self._version() < _WITH_TIMES:
            raise InputError(
                f"{self.path}: a journal of form {self._version()}, made by an older version",
                expected=f"form {_WITH_TIMES} or newer",
                remedy="look at it with `appliance report`, which brings it up to date",
            )

    def _version(self) -> int:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        return int(version)

    def check_pages(self) -> None:
        """Read the whole file. Raises DamagedJournal when a page of it is damaged."""
        (verdict,) = self._read("PRAGMA quick_check(1)")[0]
        if verdict != "ok":
            raise _damaged(self.path, str(verdict).splitlines()[-1][:120])

    def notes(self) -> list[str]:
        """What people must know about it: each a sentence, as far as it has been read."""
        counts = [f"{len(rows)} of {table}" for table, rows in sorted(self._left_out.items())]
        left_out = f"{self.path}: rows that no run writes are left out: {', '.join(counts)}"
        return [*self.told, *([left_out] if counts else [])]

    def _upgrade(self) -> None:
        """Bring a journal of an earlier version up to date, so that its run can be resumed."""
        candidates = self._columns("candidates")
        if candidates and "view_scores" not in candidates:
            added = "view_scores TEXT NOT NULL DEFAULT '[]'"
            self._db.execute(f"ALTER TABLE candidates ADD COLUMN {added}")

        stages = self._columns("stages")
        if stages and "round" not in stages:
            self._part_stages_from_rounds()
        if stages and "at_s" not in self._columns("stages"):
            self._db.execute("ALTER TABLE stages ADD COLUMN at_s REAL")

        tasks = self._columns("tasks")
        if tasks and "content" not in tasks:
            self._db.execute("ALTER TABLE tasks ADD COLUMN content TEXT NOT NULL DEFAULT ''")

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
            f"INSERT INTO stages SELECT task_id, {stage}, {number}, status, seconds, detail, NULL"
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

    def fact(self, key: str, kind: Any = Any) -> Any:
        """The value, or None when there is no such fact.

        kind: the type of what a run writes there, also of the form list[str]; anything else is left
        out.
        """
        adapter = _adapter(kind)
        found = self._read("SELECT rowid, value FROM facts WHERE key = ?", (key,))
        values = list(
            self._checked("facts", found, lambda row: adapter.validate_json(row[0], strict=True))
        )
        return values[0] if values else None

    def put_tasks(self, tasks: Iterable[Task]) -> None:
        """They are kept whole, so that a run can be looked at where their file is not."""
        rows = [
            (
                *(t.task_id, len(t.test), len(t.train), t.num_cells(), t.digest(), position),
                json.dumps(task_to_json(t), separators=(",", ":")),
            )
            for position, t in enumerate(tasks)
        ]
        columns = ", ".join(COLUMNS["tasks"])
        insert = f"INSERT OR REPLACE INTO tasks ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._write([(insert, row) for row in rows])

    def tasks(self, task_id: str | None = None) -> list[TaskRow]:
        """Every task of the run, in the order of the tasks file, or this one."""
        rows = self._select("task_id, num_tests, digest", "tasks", task_id, order="position")
        return list(self._checked("tasks", rows, checked.task_of))

    def sizes(self) -> list[tuple[str, int, int]]:
        """Of every task its id, the number of its test inputs and that of its cells."""
        rows = self._select("task_id, num_tests, digest, cost", "tasks", None, order="position")
        return list(self._checked("tasks", rows, checked.size_of))

    def contents(self, task_id: str | None = None) -> list[Task]:
        """The tasks themselves, or this one, as far as the journal holds them: those of older ones
        do not."""
        if "content" not in self._columns("tasks"):
            return []  # whoever only looks at an older journal does not bring it up to date
        rows = self._select("task_id, digest, content", "tasks", task_id, order="position")
        kept = [row for row in rows if row[-1] != ""]
        return list(self._checked("tasks", kept, checked.content_of))

    def num_tests(self, task_id: str | None = None) -> dict[str, int]:
        """Test inputs of every task, in the order of the tasks file, or of this one."""
        return {row.task_id: row.num_tests for row in self.tasks(task_id)}

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
        rows = [(*key, *checked.stored(c)) for c in candidates]
        messages = [(*key, p.model_dump_json()) for p in programs]

        detail = json.dumps(dict(row.detail))
        statements: list[tuple[str, tuple[Any, ...]]] = [
            (
                "INSERT OR REPLACE INTO stages VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*key, row.status, row.seconds, detail, row.at_s),
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
        for stage, _, program in self.program_rows(task_id):
            found.setdefault(stage, []).append(program)
        return found

    def program_rows(self, task_id: str | None = None) -> list[tuple[str, int, ProgramMessage]]:
        """Stage, round and program, in the order in which they came, of one task or of all."""
        num_tests = self.num_tests(task_id)
        rows = self._select("stage, round, task_id, message", "programs", task_id)
        return list(
            self._checked(
                "programs",
                rows,
                lambda row: checked.program_of(row[0], row[1], row[2], row[3], num_tests),
            )
        )

    def stages(self) -> list[StageRow]:
        rows = self._select("task_id, stage, status, seconds, detail, round, at_s", "stages", None)
        return list(self._checked("stages", rows, checked.stage_of))

    def stages_since(self, number: int) -> tuple[int, list[StageRow]]:
        """The outcomes written after the row of that number, and the number of the last row.

        A stage that is gone through again gets a new row.
        """
        columns = "rowid, task_id, stage, status, seconds, detail, round, at_s"
        rows = self._read(f"SELECT {columns} FROM stages WHERE rowid > ? ORDER BY rowid", (number,))
        last = rows[-1][0] if rows else number
        return last, list(self._checked("stages", rows, checked.stage_of))

    def candidates(
        self,
        task_id: str | None = None,
        *,
        stage: str | None = None,
        until_s: float | None = None,
    ) -> dict[str, list[Candidate]]:
        """Candidates by stage, all rounds together, of one task or of all, of one stage or of all.

        until_s: only those of stages that had ended by then, in Unix seconds.
        """
        found: dict[str, list[Candidate]] = {}
        for name, _, candidate in self.candidate_rows(task_id, stage=stage, until_s=until_s):
            found.setdefault(name, []).append(candidate)
        return found

    def candidate_rows(
        self,
        task_id: str | None = None,
        *,
        stage: str | None = None,
        number: int | None = None,
        until_s: float | None = None,
    ) -> list[tuple[str, int, Candidate]]:
        """Stage, round and candidate, in the order in which they came; else as `candidates`.

        number: of the round, None: of all.
        """
        rows = self._select(
            _CANDIDATE_ROW, "candidates", task_id, stage=stage, number=number, until_s=until_s
        )
        return self._candidates_in(rows, self.num_tests(task_id))

    def _candidates_in(
        self, rows: Iterable[Sequence[Any]], num_tests: Mapping[str, int]
    ) -> list[tuple[str, int, Candidate]]:
        """rows: the number of each, then _CANDIDATE_ROW."""

        def value_of(row: Sequence[Any]) -> tuple[str, int, Candidate]:
            stage, candidate = checked.candidate_of(row[1], row[2:], num_tests)
            return stage, row[0], candidate

        return list(self._checked("candidates", rows, value_of))

    def answered(self) -> set[Output]:
        """The test outputs that have a grid. One row of each is read, not all of them."""
        num_tests = self.num_tests()
        groups = f"SELECT MIN(rowid), {_CANDIDATE_ROW} FROM candidates WHERE grid IS NOT NULL"
        rows = self._read(f"{groups} GROUP BY task_id, test_index")
        found = {c.output for _, _, c in self._candidates_in(rows, num_tests)}

        # Where that row is one that no run writes, another one may still count.
        for task_id in {row[3] for row in rows if (row[3], row[4]) not in found}:
            every = (c for _, _, c in self.candidate_rows(task_id))
            found |= {c.output for c in every if c.grid is not None}
        return found

    def num_deep_grids(self) -> int:
        """Answers of the deep rounds that are grids, read or not, and not programs."""
        sql = "SELECT COUNT(*) FROM candidates WHERE stage = 'deep' AND method = 'transduction'"
        return int(self._read(sql)[0][0])

    def num_answers(self, task_id: str, *, before_round: int) -> dict[tuple[str, int], int]:
        """Grids of the deep rounds before this one, by view and test input."""
        rows = self._read(
            "SELECT view, test_index, COUNT(*) FROM candidates WHERE task_id = ? AND round < ?"
            " AND stage = 'deep' AND method = 'transduction' GROUP BY view, test_index",
            (task_id, before_round),
        )
        return {(str(view), int(test_index)): int(num) for view, test_index, num in rows}

    def num_programs(self, task_id: str, *, before_round: int) -> int:
        """Programs of the deep rounds before this one."""
        rows = self._read(
            "SELECT COUNT(*) FROM programs WHERE task_id = ? AND round < ? AND stage = 'deep'",
            (task_id, before_round),
        )
        return int(rows[0][0])

    def put_event(self, at_s: float, text: str) -> None:
        self._write([("INSERT INTO events VALUES (?, ?)", (at_s, text))])

    def take_over(self, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> int:
        """Add rows of another journal as they stand; returns how many."""
        marks = ", ".join("?" * len(columns))
        sql = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        statements = [(sql, values) for values in rows]
        self._write(statements)
        return len(statements)

    def forget_unanswered(self) -> None:
        """Stages whose candidates were lost are not done any more: they come again."""
        same = " AND ".join(f"c.{key} = s.{key}" for key in ("task_id", "stage", "round"))
        self._write(
            [
                (
                    "DELETE FROM stages AS s WHERE stage IN ('search', 'quick', 'deep')"
                    f" AND NOT EXISTS (SELECT 1 FROM candidates AS c WHERE {same})",
                    (),
                )
            ]
        )

    def events_since(self, number: int, most: int) -> tuple[int, list[tuple[float, str]]]:
        """The latest events after the row of that number, at most so many, and the number of the
        last row."""
        sql = "SELECT rowid, at_s, text FROM events WHERE rowid > ? ORDER BY rowid DESC LIMIT ?"
        rows = self._read(sql, (number, most))[::-1]
        last = rows[-1][0] if rows else number
        return last, list(self._checked("events", rows, _event_of))

    def events(self) -> list[tuple[float, str]]:
        rows = self._read("SELECT rowid, at_s, text FROM events")
        return list(self._checked("events", rows, _event_of))

    def _select(
        self,
        columns: str,
        table: str,
        task_id: str | None,
        *,
        order: str = "rowid",
        stage: str | None = None,
        number: int | None = None,
        until_s: float | None = None,
    ) -> list[Sequence[Any]]:
        """Rows of one task or of all, each with its number first."""
        conditions: dict[str, str | float | None] = {
            "task_id = ?": task_id,
            "stage = ?": stage,
            "round = ?": number,
            f"(task_id, stage, round) IN ({_ENDED})": until_s,
        }
        asked = {text: value for text, value in conditions.items() if value is not None}
        where = f"WHERE {' AND '.join(asked)}" if asked else ""
        sql = f"SELECT rowid, {columns} FROM {table} {where} ORDER BY {order}"
        return self._read(sql, tuple(asked.values()))

    def _read(self, sql: str, values: tuple[Any, ...] = ()) -> list[Sequence[Any]]:
        try:
            return self._db.execute(sql, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as fault:
            raise _as_ours(self.path, fault) from fault

    def _checked(
        self,
        table: str,
        rows: Iterable[Sequence[Any]],
        value_of: Callable[[Sequence[Any]], Value],
    ) -> Iterable[Value]:
        """The values of those rows that a run may have written; the others are counted.

        rows: with their number first.
        """
        for number, *values in rows:
            try:
                value = value_of(values)
            except (ValueError, TypeError):
                self._left_out.setdefault(table, set()).add(number)
            else:
                yield value

    def _write(self, statements: Iterable[tuple[str, tuple[Any, ...]]]) -> None:
        try:
            self._db.execute("BEGIN")
            for sql, same in groupby(statements, key=itemgetter(0)):
                rows = [values for _, values in same]
                if len(rows) == 1:
                    self._db.execute(sql, rows[0])
                else:  # in one go: a job gives many answers
                    self._db.executemany(sql, rows)
            self._db.execute("COMMIT")
        except (sqlite3.Error, UnicodeDecodeError) as fault:
            # A full disk ends the transaction by itself, most other faults do not.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise _as_ours(self.path, fault) from fault


def _event_of(row: Sequence[Any]) -> tuple[float, str]:
    return float(row[0]), str(row[1])


def _as_ours(path: Path, fault: sqlite3.Error | UnicodeDecodeError) -> ApplianceError:
    # Of a damaged schema even SQLite's message is no text.
    if isinstance(fault, UnicodeDecodeError):
        return _damaged(path, "a schema that is no text")
    # The low byte is the kind; the others say what exactly happened.
    exact = getattr(fault, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    kind = exact & 0xFF

    if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return PrerequisiteError(
            f"{path}: in use by another program ({fault})",
            expected="a journal that nobody has locked",
            remedy="wait for that program, or end it",
        )
    if kind == sqlite3.SQLITE_CORRUPT or exact == sqlite3.SQLITE_IOERR_SHORT_READ:
        return _damaged(path, str(fault))
    if kind in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH):
        return _no_journal(path, str(fault))
    return OutputError(
        f"{path}: {fault}",
        expected="a folder that can be written and has room",
        remedy="free disk space or pass another --out; what is written so far stays valid",
    )


def _no_journal(path: Path, found: str) -> InputError:
    return InputError(
        f"{path}: {found}", expected="the journal of a run", remedy="pass the --out folder of a run"
    )


def _damaged(path: Path, found: str) -> DamagedJournal:
    return DamagedJournal(
        f"{path}: damaged ({found})",
        expected="a whole journal",
        remedy="start `appliance submit` on this folder again: it goes on with what can be read",
    )
