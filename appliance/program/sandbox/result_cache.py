"""Results kept on disk, so that no program runs twice on equal inputs under equal conditions."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sqlite3
import sys
from pathlib import Path

import numpy as np

from appliance.errors import InputError
from appliance.program.sandbox import frames
from appliance.program.sandbox.preload import ALIASES

# Raise it when the same program can get another answer because code of the sandbox changed.
_EXECUTOR_VERSION = 2
_COMMIT_EVERY = 500


class ResultCache:
    """One SQLite file in a folder.

    Losing it costs time only, so it is written lazily, 500 results at once.
    """

    def __init__(self, folder: Path, conditions: bytes) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "programs.sqlite"
        self._conditions = conditions
        self._num_unsaved = 0
        self._db = sqlite3.connect(self._path, timeout=60)

        try:
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS answers "
                "(key BLOB PRIMARY KEY, answer BLOB) WITHOUT ROWID"
            )
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise InputError(
                f"{self._path}: {error}",
                expected="a cache written by this program",
                remedy="delete the file",
            ) from error

    def get(self, source: bytes, inputs: bytes) -> frames.Result | None:
        row = self._db.execute(
            "SELECT answer FROM answers WHERE key=?", (self._key(source, inputs),)
        ).fetchone()
        return _decode(row[0]) if row else None

    def put(self, source: bytes, inputs: bytes, result: frames.Result) -> None:
        row = (self._key(source, inputs), _encode(result))
        self._db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", row)
        self._num_unsaved += 1
        if self._num_unsaved >= _COMMIT_EVERY:
            self.save()

    def save(self) -> None:
        self._db.commit()
        self._num_unsaved = 0

    def close(self) -> None:
        self.save()
        self._db.close()

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


def _decode(data: bytes) -> frames.Result:
    head, _, grids = data.partition(b"\n")
    outcome, error, num_answered, cpu_s, wall_s = json.loads(head)
    return frames.Result(outcome, frames.decode_grids(grids), error, num_answered, cpu_s, wall_s)
