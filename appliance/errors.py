"""Every exception that the appliance raises on purpose, and the exit code that each one means.

    ApplianceError            any fault the user can act on; printed without a traceback
    ├── UsageError        2   a flag, a setting or a combination of them (also a ValueError)
    ├── PrerequisiteError 3   something that must be installed, mounted or allowed is missing
    ├── InputError        4   tasks, solutions or a submission that break the rules
    │                         (also a ValueError)
    ├── OutputError       4   a file that cannot be written: no permission, no folder, no room
    │                         (also an OSError)
    ├── TooLate           5   the deadline passed before any work began; the submission is valid
    └── EngineError           a model engine failed; the run journals it and goes on
        ├── SameFault     5   the same fault at task after task: the run ends, for more time would
        │   │                 not help
        │   └── SameInputFault 4  the same, and what was given to the run is at fault
        ├── OutOfMemory       the device had no room: the task goes one rung down its ladder
        ├── AdapterLost       an adapter that the run saved is gone or damaged: its task is trained
        │                     anew
        ├── EngineLost        the engine cannot go on in this process: the worker is restarted
        │                     with what remains
        └── DeviceLost        the device cannot be used: its worker is given up; without any the
                              run goes on with the CPU

A failing *task* is a value in the journal and a failing *program* is a result of the sandbox;
neither is an exception that leaves its module.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable

EXIT_DONE = 0
EXIT_USAGE = 2
EXIT_PREREQUISITE = 3
EXIT_INPUT = 4
# A stage is under its floor, or no GPU could be used of those that are there. The submission is
# written and valid all the same.
EXIT_COVERAGE = 5
EXIT_DEFECT = 70  # something that nobody foresaw: a defect of ours; EX_SOFTWARE of sysexits.h
EXIT_CHECKPOINTED = 85  # start it again; the code that HTCondor's manual uses for this
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells say it


_PATH = re.compile(r"(?:[\w.~+-]*/)+[\w.~+-]*")
_NUMBER = re.compile(
    r"\b(?=[0-9a-f]*\d)[0-9a-f]{6,}\b"  # a hash or an address
    r"|[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
)


class ApplianceError(Exception):
    """A fault in three parts: what was found, what was expected, what to do."""

    exit_code = 1

    def __init__(self, found: str, *, expected: str = "", remedy: str = "") -> None:
        super().__init__(found, expected, remedy)
        self.found = found  # what is there, with its place (file, task, pair, key)
        self.expected = expected  # what should have been there
        self.remedy = remedy  # what the user can do now

    def __str__(self) -> str:
        parts = [self.found]
        if self.expected:
            parts.append(f"expected: {self.expected}")

        if self.remedy:
            parts.append(f"do: {self.remedy}")

        return "; ".join(parts)

    # Exception's own way would pass the three parts by position, which __init__ refuses.
    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.found, self.expected, self.remedy))


def _rebuild(kind: type[ApplianceError], found: str, expected: str, remedy: str) -> ApplianceError:
    return kind(found, expected=expected, remedy=remedy)


class UsageError(ApplianceError, ValueError):
    exit_code = EXIT_USAGE


class PrerequisiteError(ApplianceError):
    exit_code = EXIT_PREREQUISITE


class InputError(ApplianceError, ValueError):
    exit_code = EXIT_INPUT


class OutputError(ApplianceError, OSError):
    exit_code = EXIT_INPUT


class TooLate(ApplianceError):
    """The time was over before any work began. What the run folder holds stays as it is."""

    exit_code = EXIT_COVERAGE


class EngineError(ApplianceError, RuntimeError):
    exit_code = 1


class SameFault(EngineError):
    """Task after task met the same fault, which the next one would meet as well."""

    exit_code = EXIT_COVERAGE


class SameInputFault(SameFault):
    """The same, where the model, its adapter or its tokenizer is at fault."""

    exit_code = EXIT_INPUT


class OutOfMemory(EngineError):
    """The device had no room for what was asked."""


class AdapterLost(EngineError):
    """An adapter that the run saved for a task is not there as it was saved."""


class EngineLost(EngineError):
    """A step of the engine failed, and its next steps cannot be trusted.

    vLLM, for one, then waits for ever.
    """


class DeviceLost(EngineError):
    """No process can use the device, or no device is left."""


def how_it_ended(exit_code: int) -> str:
    """In words, with the signal by name. exit_code: as subprocess has it, of a process."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    likely = ", most likely by the system because memory ran out" if name == "SIGKILL" else ""
    return f"was killed by {name}{likely}"


def shorten(text: str, most_chars: int = 100) -> str:
    """What a message quotes of a text that may be of any length."""
    return text if len(text) <= most_chars else text[: most_chars - 3] + "..."


def first_line(fault: BaseException) -> str:
    """What another package says went wrong, cut to one line of ours.

    The name of the exception's type where it says nothing.
    """
    return (str(fault) or type(fault).__name__).splitlines()[0][:300]


def without_details(message: str, task_ids: Iterable[str] = ()) -> str:
    """The message without what differs from task to task.

    >>> without_details("IndexError: index 513 is out of bounds for axis 0 with size 512")
    'IndexError: index * is out of bounds for axis * with size *'
    >>> without_details("OSError: cannot write /scratch/adapters/007bbfb7/x.json", ["007bbfb7"])
    'OSError: cannot write *'
    """
    message = _PATH.sub("*", message)
    for task_id in sorted(task_ids, key=len, reverse=True):
        message = re.sub(rf"(?<!\w){re.escape(task_id)}(?!\w)", "*", message)
    return _NUMBER.sub("*", message)
