"""A JSON object out of a file that nobody has looked at yet. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from appliance.errors import InputError

MOST_JSON_BYTES = 256 << 20
"""Longest JSON file that is read. The largest tokenizer.json that is published has 35 MB."""

LFS_START = b"version https://git-lfs.github.com/"
"""What a file begins with that Git LFS has not fetched yet: only its name and size are there."""

_MOST_SHOWN = 200
"""Characters of a name out of a file that a message repeats."""


def read_object(path: Path) -> dict[str, Any]:
    """The object in the file. Raises InputError that names folder, file and fault."""
    where = f"{path.parent}: {path.name}"
    refuse_pointer(path)
    try:
        if path.stat().st_size > MOST_JSON_BYTES:
            raise InputError(
                f"{where} has {path.stat().st_size} bytes",
                expected=f"at most {MOST_JSON_BYTES}",
                remedy="copy the file again",
            )
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        if isinstance(fault, InputError):
            raise
        raise InputError(
            f"{where} cannot be read ({fault})",
            expected="a JSON object",
            remedy="copy the file again, or complete the folder",
        ) from fault

    if not isinstance(value, dict):
        raise InputError(
            f"{where} is a {type(value).__name__}",
            expected="a JSON object",
            remedy="copy the file again",
        )
    return value


def refuse_pointer(path: Path) -> None:
    """Raises InputError for what stands in the place of a file that was never fetched.

    That is a pointer of Git LFS, or a link to nothing, as an unfinished download leaves it in the
    cache of the hub. A file that is not there at all passes.
    """
    if path.is_symlink() and not path.exists():
        raise InputError(
            f"{path.parent}: {path.name} is a link to a file that is not there",
            expected="the file itself",
            remedy="download the model again; copy it with cp -L, which follows links",
        )
    try:
        with path.open("rb") as stream:
            is_pointer = stream.read(len(LFS_START)) == LFS_START
    except OSError:
        return  # told by whoever reads the file

    if is_pointer:
        raise InputError(
            f"{path.parent}: {path.name} is a Git LFS pointer, not the file",
            expected="the file that it points to",
            remedy="run git lfs pull in the folder",
        )


def shown(value: object) -> str:
    """A value out of a file as a message repeats it: on one line, and not too long."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "..."
