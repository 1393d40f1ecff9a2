"""JSON files as users have them: gzipped or not, missing, cut off, not JSON.

Every fault is one InputError.
"""

from __future__ import annotations

import errno
import gzip
import json
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from appliance.errors import InputError
from appliance.names import nearest

_GZIP_MAGIC = b"\x1f\x8b"


def read_json(path: Path) -> Any:
    """The value in the file. Whether it is gzipped is told by its content, not by its name.

    Raises InputError for a file that is missing, a folder, cut off, not UTF-8, not JSON, or has a
    key twice in an object.
    """
    try:
        refuse_device(path)
        data = path.read_bytes()
        if data.startswith(_GZIP_MAGIC):
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise missing(path) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as fault:
        raise InputError(
            f"{path}: damaged gzip ({fault})",
            expected="a whole .gz file",
            remedy="copy or download it again",
        ) from None
    except OSError as fault:
        raise _unreadable(path, fault) from None

    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_object)
    except (ValueError, RecursionError) as fault:
        raise InputError(
            f"{path}: not valid JSON ({str(fault)[:120]})",
            expected="a JSON file",
            remedy="copy or download it again",
        ) from None


def refuse_device(path: Path) -> None:
    """Raises OSError for what may never end, such as /dev/zero."""
    if path.is_char_device() or path.is_block_device():
        raise OSError(errno.EINVAL, "a device, not a file")


def is_folder(path: Path) -> bool:
    """False also where the system refuses to say: for a name that is too long, or without rights.

    Whoever then reads it as a file is told why.
    """
    try:
        return path.is_dir()
    except OSError:
        return False


def list_folder(folder: Path) -> list[Path]:
    """What the folder holds, by name, without hidden entries.

    Raises InputError when it cannot be read.
    """
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as fault:
        raise _unreadable(folder, fault) from None


def missing(path: Path) -> InputError:
    """The error for a path that is not there, with what is near it."""
    folder = path.parent
    if folder.is_dir():
        names = [p.name for p in list_folder(folder)]
        close = nearest(path.name, names)
        if close:
            remedy = f"did you mean {folder / close}?"
        else:
            remedy = f"{folder} holds {', '.join(names[:8]) or 'nothing'}"
    else:
        while not folder.is_dir():
            folder = folder.parent
        remedy = f"of this path only {folder} exists"

    return InputError(f"{path} does not exist", expected="a file", remedy=remedy)


def _unreadable(path: Path, fault: OSError) -> InputError:
    return InputError(
        f"{path}: {fault.strerror or fault}",
        expected="a path that can be read",
        remedy="check the path",
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Plain json.loads keeps the last of two equal keys, and so would lose a task in silence.
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        key = next(key for key, count in counts.items() if count > 1)
        raise ValueError(f"key {key!r} stands twice in one object")
    return value
