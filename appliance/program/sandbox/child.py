"""One program, from its job to its answer, in a process of its own: from the fork to `_exit`."""

from __future__ import annotations

import os
import resource
import sys
import types
from typing import Any

import numpy as np

from appliance.arc.grid import MAX_SIDE
from appliance.program.sandbox import chance, frames, linux
from appliance.program.sandbox.policy import RESULT_FD

ENTRY = "transform"
_MAX_MESSAGE_CHARS = 200

# A program may replace anything in the modules that it can import. What it must not break for
# itself is kept here.
_write, _exit, _pack = os.write, os._exit, frames.FRAME.pack
_ndarray, _asarray, _int64, _uint8 = np.ndarray, np.asarray, np.int64, np.uint8


def run(
    control_fd: int,
    result_fd: int,
    *,
    timer: linux.CpuTimer,
    filter_: linux.Filter | None,
    risky: frozenset[str],
) -> None:
    """Reads the job, locks itself in, runs the program, writes one frame per input; never returns.

    risky: names that make a program run a second time, see chance.py.

    The order matters: the job is read before descriptors are closed, and the filter comes last,
    because it refuses the calls that set the limits.
    """
    try:
        linux.die_with_parent()
        cpu_ns, source_bytes, input_bytes = frames.JOB.unpack(_read(control_fd, frames.JOB.size))
        source = _read(control_fd, source_bytes).decode("utf-8", "surrogatepass")
        inputs = [
            g.astype(_int64)
            for g in frames.decode_grids(_read(control_fd, input_bytes))
            if g is not None
        ]

        os.dup2(result_fd, RESULT_FD)
        os.closerange(RESULT_FD + 1, 64)

        # A second line of defence, far behind the timer, because this limit counts whole ticks.
        cpu_s = 2 * (cpu_ns // 1_000_000_000) + 2
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        timer.arm(cpu_ns)
        if filter_:
            filter_.load()
        _answer(frames.READY)
        _run_program(source, inputs, risky)
        _exit(0)
    finally:
        _exit(1)


def _run_program(source: str, inputs: list[np.ndarray[Any, Any]], risky: frozenset[str]) -> None:
    """Runs the program on each input.

    Whatever is raised on the way, by the parser too, is the program's failure and so its result.
    """
    module = types.ModuleType("program")
    sys.modules["program"] = module  # dataclasses look their module up
    space = module.__dict__
    space["np"] = np

    try:
        code = compile(source, "<program>", "exec", dont_inherit=True)
        must_run_again = chance.may_vary(code, source, risky)
    except BaseException as error:  # noqa: BLE001
        return _answer(frames.ERROR, _message(error))

    _answer(frames.COMPILED, b"\1" if must_run_again else b"\0")
    try:
        exec(code, space)
        if ENTRY not in space:
            raise NameError(f"the program defines no function {ENTRY}")
        function = space[ENTRY]
    except BaseException as error:  # noqa: BLE001
        return _answer(_kind(error), _message(error))

    for grid in inputs:
        kind = frames.BAD_OUTPUT
        try:
            try:
                value = function(grid)
            except BaseException as error:
                kind = _kind(error)
                raise
            answer = encode_output(value)
        except BaseException as error:  # noqa: BLE001
            kind = frames.MEMORY if isinstance(error, MemoryError) else kind
            _answer(kind, _message(error))
            if kind in (frames.MEMORY, frames.EXIT):
                return None
        else:
            _answer(frames.GRID, answer)

    return None


def _kind(error: BaseException) -> int:
    if isinstance(error, MemoryError):
        return frames.MEMORY
    if isinstance(error, SystemExit):
        return frames.EXIT
    return frames.VIOLATION if isinstance(error, PermissionError) else frames.ERROR


def encode_output(value: Any) -> bytes:
    """The returned value as the bytes of one grid.

    Legal: a list, tuple or exact ndarray of two dimensions, 1-30 a side, integers (or booleans, or
    floats without fraction) 0-9. Raises ValueError with the reason.
    """
    if type(value) in (list, tuple):
        value = _asarray(value)

    if type(value) is not _ndarray:
        raise ValueError(f"returned {type(value).__name__}, not a grid")

    if (
        value.ndim != 2
        or not 1 <= value.shape[0] <= MAX_SIDE
        or not 1 <= value.shape[1] <= MAX_SIDE
    ):
        raise ValueError(f"shape {'x'.join(map(str, value.shape))}, not 1-{MAX_SIDE} a side")

    if value.dtype.kind not in "iubf":
        raise ValueError(f"cells of type {value.dtype}")
    # Before the cast, which would wrap 256 round to 0.
    if not ((value >= 0) & (value <= 9)).all():
        raise ValueError("cells outside 0-9")

    cells = value.astype(_uint8)
    if value.dtype.kind == "f" and not (cells == value).all():
        raise ValueError("cells with a fraction")

    return b"\1\0" + bytes(value.shape) + cells.tobytes()


def _message(error: BaseException) -> bytes:
    """Type and text of the error. The text may come from hostile code, which may itself fail."""
    # Past the type's own __getattribute__ and __name__, which the program may have replaced.
    name = type.__dict__["__name__"].__get__(type(error))[:_MAX_MESSAGE_CHARS]
    try:
        text = str(error)[:_MAX_MESSAGE_CHARS]
    except BaseException:  # noqa: BLE001 - an error without a text is still an error
        text = "(no text)"

    return f"{name}: {text}".encode("utf-8", "replace")


def _answer(kind: int, body: bytes = b"") -> None:
    _write(RESULT_FD, _pack(kind, len(body)) + body)


def _read(fd: int, length: int) -> bytes:
    """Exactly that many bytes; the host may still be sending them."""
    parts = []
    while length:
        part = os.read(fd, length)
        if not part:
            os._exit(1)

        parts.append(part)
        length -= len(part)

    return b"".join(parts)
