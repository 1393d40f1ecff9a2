"""Standard output and error that never fail: what cannot be shown must not change what is done.

A full disk, a reader that is gone (`| head`), a terminal that is closed, a stream that is closed
from the start, and characters that the encoding lacks: text is lost or spelled otherwise, and the
first fault is kept, for whoever wants to tell it.
"""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from typing import Any

CHUNK_BYTES = 4096
"""PIPE_BUF of Linux: a write of no more does not block where poll(2) sees room."""

PATIENCE_S = 5.0
"""A run waits once this long for a reader that reads nothing (a pager, Ctrl-S); then output is lost
until there is room again. It has a deadline."""


class Outlet(io.RawIOBase):
    """A descriptor to write to, without faults."""

    def __init__(self, descriptor: int, fault: OSError | None = None) -> None:
        self.fault = fault  # the first one
        self.patience_s: float | None = None  # None: waits for its reader as others do
        self._descriptor = descriptor
        self._is_cut = False  # the last write was lost, or its end

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """All of it, or what can be written; either counts as all."""
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left:
                self._wait_for_room()
                if self._is_cut:
                    os.write(self._descriptor, b"\n")  # a new line after the one that was cut
                    self._is_cut = False
                left = left[os.write(self._descriptor, left[:CHUNK_BYTES]) :]
        except OSError as fault:
            self.fault = self.fault or fault
            self._is_cut = True
        return size

    def _wait_for_room(self) -> None:
        """Raises TimeoutError, which is an OSError, where patience ends."""
        if self.patience_s is None:
            wait_ms = None
        else:
            wait_ms = 0 if self._is_cut else round(1000 * self.patience_s)

        poller = select.poll()
        poller.register(self._descriptor, select.POLLOUT)
        if not poller.poll(wait_ms):
            raise TimeoutError(f"nothing was read for {self.patience_s:.0f} s")


def secure() -> None:
    """Put such streams in the place of sys.stdout and sys.stderr.

    To be called before any file is opened: where a standard stream is closed, the next file would
    get its number, and all that is printed.
    """
    closed = [number for number in (0, 1, 2) if _is_closed(number)]
    for number in closed:  # from the lowest on, since the lowest free number is given
        os.open(os.devnull, os.O_RDWR)
        os.set_inheritable(number, True)

    for number, name in ((1, "stdout"), (2, "stderr")):
        old = getattr(sys, name)
        fault = OSError("it is closed") if number in closed else None
        outlet = Outlet(number, fault)
        new = io.TextIOWrapper(
            io.BufferedWriter(outlet),
            encoding=getattr(old, "encoding", "utf-8"),
            errors="backslashreplace",
            line_buffering=number == 2 or outlet.isatty(),
            write_through=getattr(old, "write_through", False),
        )
        setattr(sys, name, new)


def be_impatient() -> None:
    """From now on a reader that reads nothing holds this process up for no more than PATIENCE_S."""
    for stream in (sys.stdout, sys.stderr):
        outlet = _outlet(stream)
        if outlet:
            outlet.patience_s = PATIENCE_S


def lost_output() -> OSError | None:
    """Why standard output could not be written, the first time; None where it could."""
    with suppress(OSError, ValueError):  # a stream of somebody else, in a test
        sys.stdout.flush()
    outlet = _outlet(sys.stdout)
    return outlet.fault if outlet else None


def _outlet(stream: object) -> Outlet | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, Outlet) else None


def _is_closed(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return True
    return False
