"""A whole terminal to draw on: only lines that changed are written, keys are read without waiting.

However this process ends, short of a kill, the terminal is left as it was found.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from appliance.process import stopping

if TYPE_CHECKING:
    from rich.text import Text

OPEN = "\x1b[?1049h\x1b[?25l\x1b[2J"
CLOSE = "\x1b[?25h\x1b[?1049l"
"""To the other screen and back, without a cursor there."""

REPAINT = "\x0c"
"""Ctrl-L."""


def is_capable() -> bool:
    """Whether standard output is a terminal that moves its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


class Terminal:
    """Standard output as a screen, and standard input for keys where it is a terminal as well."""

    def __init__(self) -> None:
        self._console: Any = None
        self._shown: list[Text] = []
        self._size = (0, 0)
        self._keys_as_found: list[Any] | None = None
        self.is_open = False

    def open(self) -> None:
        from rich.console import Console

        self._console = Console()
        self.is_open, self._shown, self._size = True, [], (0, 0)
        stopping.TIDY.append(self.close)
        with contextlib.suppress(OSError, termios.error, ValueError):
            if self._is_ours():
                self._keys_as_found = termios.tcgetattr(0)
                tty.setcbreak(0)
        self._write(OPEN)

    def close(self) -> None:
        if not self.is_open:
            return
        self.is_open = False
        try:
            self._write(CLOSE)
        except RuntimeError:  # a signal came in the middle of a write
            os.write(1, CLOSE.encode())
        with contextlib.suppress(OSError, termios.error, ValueError):
            # In the background to set them would stop this process.
            if self._keys_as_found is not None and self._is_ours():
                termios.tcsetattr(0, termios.TCSADRAIN, self._keys_as_found)
        self._keys_as_found = None
        with contextlib.suppress(ValueError):
            stopping.TIDY.remove(self.close)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines; 80 x 24 where nobody has set them."""
        columns, lines = shutil.get_terminal_size()
        return columns, lines

    def paint(self, lines: Sequence[Text]) -> None:
        size = self.size
        parts = []
        if size != self._size:
            self._size, self._shown = size, []
            parts.append("\x1b[2J")
        for row, line in enumerate(lines):
            if row < len(self._shown) and self._shown[row] == line:
                continue
            parts.append(f"\x1b[{row + 1};1H{self._as_written(line)}\x1b[K")
        if len(lines) < len(self._shown):
            parts.append(f"\x1b[{len(lines) + 1};1H\x1b[J")
        self._shown = list(lines)
        self._write("".join(parts))

    def print(self, lines: Sequence[Text]) -> None:
        """On the usual screen, to stay there."""
        for line in lines:
            self._write(self._as_written(line) + "\n")

    def pressed(self) -> str:
        """Those pressed since the last call; "" where there are none."""
        found = ""
        with contextlib.suppress(OSError, ValueError):
            while self._keys_as_found is not None and self._is_ours():
                if not select.select([0], [], [], 0)[0]:
                    break
                read = os.read(0, 64)
                if not read:
                    self._keys_as_found = None  # the other side is closed
                found += read.decode("utf-8", "replace")
        if REPAINT in found:
            self._size = (0, 0)
        return found

    def wait(self, seconds: float) -> None:
        """So long, or until a key is pressed."""
        can_read = self._keys_as_found is not None and self._is_ours()
        with contextlib.suppress(OSError, ValueError):
            select.select([0] if can_read else [], [], [], seconds)

    def _as_written(self, line: Text) -> str:
        with self._console.capture() as capture:
            self._console.print(line, end="", soft_wrap=True, highlight=False)
        return str(capture.get())

    @staticmethod
    def _is_ours() -> bool:
        """Whether this process is in the foreground of the terminal at standard input."""
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()

    @staticmethod
    def _write(text: str) -> None:
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()
