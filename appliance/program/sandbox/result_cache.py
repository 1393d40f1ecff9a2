"""Results kept on disk, so that no program runs twice on equal inputs under equal conditions."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import math
import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np

from appliance.atomic import put_aside
from appliance.errors import OutputError
from appliance.program.sandbox import frames
from appliance.program.sandbox.preload import ALIASES

# Raise it when the same program can get another answer because code of the sandbox changed.
_EXECUTOR_VERSION = 3
_COMMIT_EVERY = 500
_BUSY_S = 60  # so long another process may be writing

_DAMAGED = (
    *(sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB),  # pages
    *(sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT),  # another schema
)
"""What SQLite says of a file that is no cache of ours. The rest is the disk, or a lock."""


class ResultCache:
    """One SQLite file in a folder, which several processes may use at the same time.

    Losing it costs time only, so it is written lazily, 500 results at once, and it never ends the
    work: a damaged file is put aside, a file that cannot be used is left alone, and an answer that
    no sandbox gives is not believed. Each is said in one line on stderr.

    Raises OutputError where there is no such folder and none can be made.
    """

    def __init__(self, folder: Path, conditions: bytes) -> None:
        self._path = folder / "programs.sqlite"
        self._conditions = conditions
        self._num_unsaved = 0
        self._has_told_disbelief = False
        self._db: sqlite3.Connection | None = None

        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as fault:
            raise OutputError(
                f"{folder}: {getattr(fault, 'strerror', None) or fault}",
                expected="a folder for the cache, or a place for one",
                remedy="pass another folder",
            ) from fault
        self._open()

    def get(self, source: bytes, inputs: bytes, num_inputs: int) -> frames.Result | None:
        rows = self._execute("SELECT answer FROM answers WHERE key=?", (self._key(source, inputs),))
        if not rows:
            return None
        try:
            return _decode(rows[0][0], num_inputs)
        except (ValueError, TypeError, RecursionError) as fault:
            if not self._has_told_disbelief:
                _tell(f"{self._path}: an answer that no sandbox gives is not believed ({fault})")
            self._has_told_disbelief = True
            return None

    def put(self, source: bytes, inputs: bytes, result: frames.Result) -> None:
        row = (self._key(source, inputs), _encode(result))
        self._execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", row)
        self._num_unsaved += 1
        if self._num_unsaved >= _COMMIT_EVERY:
            self.save()

    def save(self) -> None:
        self._execute("COMMIT" if self._db and self._db.in_transaction else "SELECT 1")
        self._num_unsaved = 0

    def close(self) -> None:
        self.save()
        self._leave()

    def _open(self, *, is_again: bool = False) -> None:
        """Open or make the file. One that is no cache of ours is put aside, once."""
        try:
            if self._path.exists() and not self._path.is_file():
                raise sqlite3.DatabaseError("not a file")
            self._db = sqlite3.connect(self._path, timeout=_BUSY_S)
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS answers "
                "(key BLOB PRIMARY KEY, answer BLOB) WITHOUT ROWID"
            )
            self._db.execute("SELECT key, answer FROM answers LIMIT 1").fetchall()
            self._file = self._path.stat()
        except (sqlite3.Error, UnicodeDecodeError, OSError) as fault:
            self._fail(fault, can_renew=not is_again)

    def _execute(self, sql: str, values: tuple[bytes, ...] = ()) -> list[tuple[Any, ...]]:
        """The rows; none where the cache is not used any more."""
        if self._db is None:
            return []
        try:
            return self._db.execute(sql, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as fault:
            self._fail(fault, can_renew=True)
            return []

    def _fail(self, fault: Exception, *, can_renew: bool) -> None:
        """Begin a new file where this one is damaged; else work without a cache."""
        self._leave()
        code = getattr(fault, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        is_damaged = code in _DAMAGED and not isinstance(fault, OSError)
        if not (can_renew and is_damaged):
            return _tell(f"{self._path} cannot be used ({fault}): programs run without a cache")

        try:
            # Another process may have put it aside already, and begun a new one.
            if not self._is_replaced():
                aside = put_aside(self._path)
                # Else SQLite would write its half-done changes into the new file.
                self._path.with_name(self._path.name + "-journal").unlink(missing_ok=True)
                _tell(
                    f"{self._path} was damaged ({fault}): it is {aside.name} now, a new one begins"
                )
        except OSError as refusal:
            return _tell(f"{refusal}: programs run without a cache")
        return self._open(is_again=True)

    def _is_replaced(self) -> bool:
        opened = getattr(self, "_file", None)
        try:
            now = self._path.stat()
        except OSError:
            return True
        return opened is not None and (opened.st_dev, opened.st_ino) != (now.st_dev, now.st_ino)

    def _leave(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
        self._db = None

    def _key(self, source: bytes, inputs: bytes) -> bytes:
        # With the length, so that no source that ends like the inputs gets another's key.
        length = len(source).to_bytes(8, "little")
        return hashlib.blake2b(
            length + source + inputs, key=self._conditions, digest_size=24
        ).digest()


def conditions_key(**conditions: object) -> bytes:
    """64 bytes for all that decides a result besides program and inputs.

    Among it are the versions of Python, numpy and our own libraries. `conditions` are the caller's:
    limits, level, seed, what is imported.
    """
    versions = [
        _EXECUTOR_VERSION,
        sys.version,
        np.__version__,
        [_source_digest(m) for m in ALIASES.values()],
    ]

    return hashlib.blake2b(json.dumps([versions, conditions], sort_keys=True).encode()).digest()


def _source_digest(module: str) -> str:
    """SHA-256 over the source files of a module or package, "" where there is none."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ""

    origin = Path(spec.origin)
    files = sorted(origin.parent.rglob("*.py")) if spec.submodule_search_locations else [origin]
    return hashlib.sha256(
        b"".join(hashlib.sha256(f.read_bytes()).digest() for f in files)
    ).hexdigest()


def _encode(result: frames.Result) -> bytes:
    head = json.dumps(
        [result.outcome, result.error, result.num_answered, result.cpu_s, result.wall_s]
    ).encode()
    return head + b"\n" + frames.encode_grids(result.outputs)


def _decode(data: bytes, num_inputs: int) -> frames.Result:
    """Raises ValueError or TypeError for what `_encode` does not write."""
    if not isinstance(data, bytes):  # SQLite keeps any type in any column
        raise TypeError("an answer that is no bytes")

    head, _, grids = data.partition(b"\n")
    outcome, error, num_answered, cpu_s, wall_s = json.loads(head)
    outputs = frames.decode_grids(grids)

    if outcome not in frames.SEVERITY or (error is None) != (outcome == "ok"):
        raise ValueError(f"the outcome {str(outcome)[:40]!r}")
    if len(outputs) != num_inputs or (outcome == "ok" and any(g is None for g in outputs)):
        raise ValueError(f"{len(outputs)} outputs for {num_inputs} inputs, some perhaps missing")
    if type(num_answered) is not int or not 0 <= num_answered <= num_inputs:
        raise ValueError(f"{str(num_answered)[:40]} inputs answered")
    if not all(type(s) in (int, float) and 0 <= s < math.inf for s in (cpu_s, wall_s)):
        raise ValueError("no seconds")
    if not isinstance(error, str | None):
        raise ValueError("no reason")
    return frames.Result(outcome, outputs, error, num_answered, cpu_s, wall_s)


def _tell(text: str) -> None:
    print(f"appliance: note: {text}", file=sys.stderr)
