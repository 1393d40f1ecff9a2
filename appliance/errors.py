"""Every exception that the appliance raises on purpose, and the exit code that each one means.

    ApplianceError            any fault the user can act on; printed without a traceback
    ├── UsageError        2   a flag, a setting or a combination of them (also a ValueError)
    ├── PrerequisiteError 3   something that must be installed, mounted or allowed is missing
    ├── InputError        4   tasks, solutions or a submission that break the rules (also a ValueError)
    ├── OutputError       4   a file that cannot be written: no permission, no folder, no room (also an OSError)
    └── EngineError           a model engine failed at its work; journaled by the run, never ends it
        ├── OutOfMemory       the device had no room: the task goes one rung down its ladder
        └── EngineLost        the engine cannot go on in this process: the worker is started anew with what remains

A failing *task* is a value in the journal and a failing *program* is a result of the sandbox; neither is an
exception that leaves its module.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_USAGE = 2
EXIT_PREREQUISITE = 3
EXIT_INPUT = 4
EXIT_COVERAGE = 5
EXIT_CHECKPOINTED = 85
EXIT_INTERRUPTED = 130


class ApplianceError(Exception):
    """A fault with its three parts.

    found:    what is there, with its place (file, task, pair, key).
    expected: what should have been there.
    remedy:   what the user can do now.
    """

    exit_code = 1

    def __init__(self, found: str, *, expected: str = "", remedy: str = "") -> None:
        super().__init__(found, expected, remedy)
        self.found = found
        self.expected = expected
        self.remedy = remedy

    def __str__(self) -> str:
        parts = [self.found]
        if self.expected:
            parts.append(f"expected: {self.expected}")
        if self.remedy:
            parts.append(f"do: {self.remedy}")
        return "; ".join(parts)

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


class EngineError(ApplianceError, RuntimeError):
    exit_code = 1


class OutOfMemory(EngineError):
    """The device had no room for what was asked."""


class EngineLost(EngineError):
    """A step of the engine failed; what it would do next is not to be trusted (vLLM's then waits for ever)."""


def first_line(fault: BaseException) -> str:
    """What another package says went wrong, short enough for one line of ours; its type where it says nothing."""
    return (str(fault) or type(fault).__name__).splitlines()[0][:300]
