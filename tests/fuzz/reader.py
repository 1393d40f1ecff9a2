"""What a reader under test is, and one trial of it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from appliance.errors import ApplianceError
from tests.fuzz.mutate import damaged


@dataclass(frozen=True)
class Reader:
    """One reader. Its input is a file."""

    name: str
    good: Callable[[], bytes]  # an input that is right
    read: Callable[[Path], object]
    allowed: tuple[type[Exception], ...] = ()  # besides ApplianceError
    damage: Callable[[Random, bytes], bytes] = damaged
    share: float = 1.0  # of the inputs of a text: a database takes a hundred times as long


def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape")


def quietly(read: Callable[[Path], object]) -> Callable[[Path], None]:
    """Without the lines that it prints."""

    def read_in_silence(path: Path) -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            read(path)

    return read_in_silence


@cache
def good_input(reader: Reader) -> bytes:
    return reader.good()


def try_one(reader: Reader, data: bytes, folder: Path) -> Exception | None:
    """Let it read these bytes. Returns an exception that it should not have raised."""
    path = folder / "input"
    path.write_bytes(data)
    try:
        reader.read(path)
    except Exception as fault:  # noqa: BLE001  that is what is looked for
        return None if isinstance(fault, (ApplianceError, *reader.allowed)) else fault
    return None
