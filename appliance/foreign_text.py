"""Text that others wrote (task ids, names in files), made fit for a path and for a screen."""

from __future__ import annotations

import hashlib

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-")
"""Bytes that a file name shows as they are. No capitals: some file systems take them for small
letters. No dot: names with a meaning of their own begin or end with one."""

MOST_BYTES = 128
"""Of a file name. File systems allow 255 (eCryptfs 143), and callers add endings of their own."""

MOST_NAME_BYTES = 255
"""Limit of Linux (NAME_MAX): to look for a longer name is an OSError."""

MOST_PATH_BYTES = 4095
"""The same for a path (PATH_MAX, without the zero at its end)."""

_CUT = "%-"
"""Between the beginning of a text that was too long and its SHA-256; stands in no other name."""


def as_file_name(text: str) -> str:
    """The name of a file or folder for any text: one part of a path, never "", "." or "..".

    Two texts never share a name, also where the file system ignores case or folds accents. Small
    letters, digits, "_" and "-" stay as they are; every other byte of the text's UTF-8 becomes %
    and two digits, as in web addresses. A long text keeps its beginning.

    >>> as_file_name("007bbfb7"), as_file_name("../x"), as_file_name("Ab"), as_file_name("")
    ('007bbfb7', '%2e%2e%2fx', '%41b', '%')
    """
    data = text.encode("utf-8", "surrogatepass")
    name = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02x}" for byte in data)
    if name.startswith("-"):  # programs would take it for an option
        name = f"%{ord('-'):02x}{name[1:]}"

    if len(name) > MOST_BYTES:
        end = _CUT + hashlib.sha256(data).hexdigest()
        name = name[: MOST_BYTES - len(end)] + end
    return name or "%"


def is_file_name(text: str) -> bool:
    """Whether a text out of a file can be the name of a file, as it is and in the same folder.

    >>> is_file_name("model.safetensors"), is_file_name("../x"), is_file_name("\\ud800")
    (True, False, False)
    """
    is_plain = text.isprintable() and "/" not in text and text not in ("", ".", "..")
    return is_plain and len(text.encode()) <= MOST_NAME_BYTES


def is_short_path(path: bytes) -> bool:
    """Whether Linux can look for a path that is so long, with names that are so long."""
    return len(path) <= MOST_PATH_BYTES and max(map(len, path.split(b"/"))) <= MOST_NAME_BYTES


def as_shown(text: str) -> str:
    """The text on one line, with everything that a terminal would obey written as an escape.

    Control characters, line ends, marks that turn the direction of writing or have no width, and
    lone surrogates look as in Python source.

    >>> as_shown("red \\x1b[31m")
    'red \\\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
