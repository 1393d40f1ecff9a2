"""Signals that ask the process to end, heard from its first instruction on.

A signal raises Stopped where it finds the program, so that every `finally` on the way out leaves
things tidy. A loop that ends by itself at a safe point works within `noted()` instead. Whoever asks
again, with Ctrl-C, does not wait.

Only TERM, HUP and INT are heard. HUP stays ignored where `nohup` has it so.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from appliance.errors import EXIT_CHECKPOINTED, EXIT_INTERRUPTED

ASKS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""HUP: the terminal or the connection is gone."""

_received: list[int] = []
"""What came outside of `noted`: once it is raised, a library may have swallowed it."""

TIDY: list[Callable[[], None]] = []
"""What must be done even where the process ends on the spot: a terminal is given back."""


class Stopped(BaseException):
    """A signal asks to end. Not an Exception: what mends faults must not hold it up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code(number: int, *, is_resumable: bool) -> int:
    """Of a process that ends because of this signal; by the custom of shells 128 + its number.

    is_resumable: the same command started again would go on.
    """
    if number == signal.SIGINT:
        return EXIT_INTERRUPTED
    return EXIT_CHECKPOINTED if is_resumable else 128 + number


def listen(*, is_resumable: bool) -> None:
    """From now on a signal raises Stopped; the second one ends the process on the spot."""

    def hear(number: int, _frame: FrameType | None) -> None:
        _received.append(number)
        if len(_received) > 1:
            _end(exit_code(number, is_resumable=is_resumable))
        raise Stopped(number)

    for number in _asks():
        signal.signal(number, hear)


@contextlib.contextmanager
def noted() -> Iterator[list[int]]:
    """Within, a signal only lands in the list, which whoever works looks into.

    A second Ctrl-C raises Stopped, a third ends the process on the spot.
    """
    received = list(_received)

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        times = received.count(signal.SIGINT)
        if number == signal.SIGINT and times > 2:
            _end(EXIT_INTERRUPTED)
        if number == signal.SIGINT and times > 1:
            raise Stopped(number)

    former = {number: signal.signal(number, note) for number in _asks()}
    try:
        yield received
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _end(code: int) -> None:
    for tidy in list(TIDY):
        with contextlib.suppress(Exception):
            tidy()
    os._exit(code)


def conclude() -> None:
    """The work is done, and only the interpreter is left to end: a signal then changes nothing.

    Ignored, and not handled: an interpreter that ends puts the default, which is death by the
    signal, in the place of every handler.
    """
    for number in _asks():
        signal.signal(number, signal.SIG_IGN)


def _asks() -> list[signal.Signals]:
    is_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in ASKS if number != signal.SIGHUP or not is_nohup]
