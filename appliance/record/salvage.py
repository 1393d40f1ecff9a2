"""A journal whose pages are damaged: put aside, and what can still be read goes into a new one.

A night's work is not lost with one page of it. Rows are copied as they stand, from the first one on
and from the last one back, until the damage is met from both sides.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.atomic import put_aside
from appliance.record.journal import COLUMNS, DamagedJournal, Journal


def open_whole(path: Path) -> Journal:
    """The journal at `path`, every page of which can be read.

    A damaged one is renamed to `journal.sqlite.damaged-1`, or the next number that is free. A new
    one takes its place, with the rows that can still be read, and its `told` says so.

    Raises as Journal does, but never DamagedJournal.
    """
    try:
        journal = Journal(path)
    except DamagedJournal as fault:
        return _anew(path, fault)

    try:
        journal.check_pages()
    except DamagedJournal as fault:
        journal.close()
        return _anew(path, fault)
    except BaseException:
        journal.close()
        raise
    return journal


def _anew(path: Path, fault: DamagedJournal) -> Journal:
    aside = put_aside(path)
    # Half-done changes belong to the old file; SQLite would write them into the new one.
    with contextlib.suppress(OSError):
        path.with_name(path.name + "-journal").unlink()

    journal = Journal(path)
    num_rows = 0
    with contextlib.closing(
        sqlite3.connect(f"{aside.absolute().as_uri()}?mode=ro", uri=True)
    ) as old:
        for table, columns in _columns_of(old).items():
            num_rows += journal.take_over(table, columns, _readable(old, table, columns))
    journal.forget_unanswered()

    journal.told.append(
        f"{fault.found}: it is {aside.name} now, and {num_rows} rows of it could be read; "
        "what is missing is done again"
    )
    return journal


def _columns_of(old: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    """Those of our columns that the file has: one of an earlier version lacks some."""
    found = {}
    for table, columns in COLUMNS.items():
        with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
            there = {row[1] for row in old.execute(f"PRAGMA table_info({table})")}
            found[table] = tuple(column for column in columns if column in there)
    return {table: columns for table, columns in found.items() if columns}


def _readable(
    old: sqlite3.Connection, table: str, columns: tuple[str, ...]
) -> list[tuple[Any, ...]]:
    """The rows of a table on both sides of the damage, in their order."""
    first = dict(_until_damage(old, table, columns, "ASC"))
    last = dict(_until_damage(old, table, columns, "DESC"))
    found = first | last
    return [found[number] for number in sorted(found)]


def _until_damage(
    old: sqlite3.Connection, table: str, columns: tuple[str, ...], order: str
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    select = f"SELECT rowid, {', '.join(columns)} FROM {table} NOT INDEXED ORDER BY rowid {order}"
    with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
        for number, *values in old.execute(select):
            yield number, tuple(values)
