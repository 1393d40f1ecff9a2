"""What crosses the wall, byte for byte.

No pickle: reading these bytes can build grids and short texts, nothing else.

host -> child     job:    cpu_ns u64, source length u32, inputs length u32, source, inputs
child -> zygote   frames: kind u8, length u16, body; at most one per input besides READY and
                  COMPILED
zygote -> host    beat:   an answer of length 0, each second while a program runs
zygote -> host    answer: wait status i32, out of wall time u8, cpu_s f64, wall_s f64, peak memory
                  in KiB u32, length u32, the frames as they came
grids             count u16, then per grid rows u8, columns u8, cells u8; 0 rows and columns stand
                  for no grid
"""

from __future__ import annotations

import os
import re
import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from appliance.arc.grid import MAX_SIDE, NUM_COLOURS, Grid, freeze

JOB = struct.Struct("<QII")
FRAME = struct.Struct("<BH")
ANSWER = struct.Struct("<iBddII")
_COUNT = struct.Struct("<H")

# Kinds of frames. READY: the job is read and the walls are up. COMPILED: the source has compiled;
# its body is 1 where the program must run a second time (chance.py), else 0.
# The others answer one input each, or stand for all that are left.
READY, COMPILED = 1, 2
GRID, BAD_OUTPUT, ERROR, MEMORY, EXIT, VIOLATION = 10, 11, 12, 13, 14, 15
_OUTCOMES = {
    GRID: "ok",
    BAD_OUTPUT: "bad_output",
    ERROR: "error",
    MEMORY: "memory",
    EXIT: "exit",
    VIOLATION: "violation",
}
SEVERITY = (
    "ok",
    "nondeterministic",
    "bad_output",
    "error",
    "memory",
    "timeout",
    "exit",
    "crash",
    "violation",
)
"""All outcomes, from good to bad; the outcome of a program is the worst over its inputs."""

MAX_ANSWER_BYTES = 1 << 20  # the capacity asked for a result pipe; the kernel may grant only 64 KiB
MAX_INPUTS = 1000
BEAT_S = 1.0  # how often a zygote whose program runs says that it lives


class BrokenFrames(ValueError):
    """Bytes that do not follow the form above."""


@dataclass(frozen=True, eq=False)
class Result:
    """What became of a program."""

    outcome: str  # the worst over its inputs, one of SEVERITY
    outputs: tuple[Grid | None, ...]  # one per input, None where there is no legal grid
    error: str | None  # the reason, None when the outcome is "ok"
    num_answered: int = 0  # inputs that were done, well or badly, before the end
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_kib: int = 0  # peak memory, with the interpreter's
    may_vary: bool = False  # more than its inputs may decide; it must run a second time

    def confirmed_by(self, again: Result) -> Result:
        """This result; or `nondeterministic`, without outputs, if a second run gave others."""
        if encode_grids(self.outputs) == encode_grids(again.outputs):
            return self

        return replace(
            self,
            outcome="nondeterministic",
            outputs=(None,) * len(self.outputs),
            error=f"a second run gave other outputs ({again.outcome})",
        )


def encode_grids(grids: Sequence[Grid | None]) -> bytes:
    """The bytes that `decode_grids` reads."""
    parts = [_COUNT.pack(len(grids))]
    for grid in grids:
        parts.append(b"\0\0" if grid is None else bytes(grid.shape) + grid.tobytes())
    return b"".join(parts)


def decode_grids(data: bytes) -> tuple[Grid | None, ...]:
    """The grids in those bytes, every one legal. Raises BrokenFrames."""
    grids: list[Grid | None] = []
    at = _COUNT.size
    try:
        for _ in range(_COUNT.unpack_from(data)[0]):
            rows, columns = data[at], data[at + 1]
            cells = data[at + 2 : at + 2 + rows * columns]
            at += 2 + rows * columns
            if not rows and not columns:
                grids.append(None)
                continue

            is_legal = 1 <= rows <= MAX_SIDE and 1 <= columns <= MAX_SIDE
            if not is_legal or len(cells) != rows * columns or max(cells) >= NUM_COLOURS:
                raise BrokenFrames(f"a grid of {rows}x{columns} with {len(cells)} cells")
            grids.append(freeze(np.frombuffer(cells, np.int8).reshape(rows, columns)))
    except (struct.error, IndexError) as error:
        raise BrokenFrames("grids are cut short") from error

    if at != len(data):
        raise BrokenFrames(f"{len(data) - at} bytes after the last grid")

    return tuple(grids)


def judge(status: int, data: bytes, num_inputs: int, *, out_of_wall_time: bool = False) -> Result:
    """The result of a program, from its wait status and the frames it left.

    The program may have forged the frames: that can only change what is said about itself.
    """
    try:
        frames = _read_frames(data)
        results = [(kind, body) for kind, body in frames if kind in _OUTCOMES]
        if len(results) > num_inputs:
            raise BrokenFrames("more answers than inputs")
        outputs = [_only_grid(body) if kind == GRID else None for kind, body in results]
        said = [(_OUTCOMES[kind], _text(body) if kind != GRID else None) for kind, body in results]
    except BrokenFrames as fault:
        frames, outputs = [(COMPILED, b"")], []
        said = [("bad_output", f"broken answer: {fault}")]

    # The first such frame is ours, sent before the program began; others are forged.
    compiled = next((body for kind, body in frames if kind == COMPILED), None)
    end = _how_it_ended(status, out_of_wall_time, compiled is not None)
    if end:
        said.append(end)
    elif len(outputs) < num_inputs and all(outcome == "ok" for outcome, _ in said):
        said.append(("exit", "exit code 0 before its answer"))

    outcome, reason = max(said, key=lambda s: SEVERITY.index(s[0]), default=("ok", None))
    missing = (None,) * (num_inputs - len(outputs))
    return Result(
        outcome,
        tuple(outputs) + missing,
        reason,
        num_answered=len(outputs),
        may_vary=compiled != b"\0",
    )


def _how_it_ended(status: int, out_of_wall_time: bool, compiled: bool) -> tuple[str, str] | None:
    """Outcome and reason by the wait status; None for a process that ended by itself, code 0."""
    if out_of_wall_time:
        return "timeout", "wall time"

    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return ("exit", f"exit code {code}") if code else None
    if -code == signal.SIGXCPU:
        return "timeout", "CPU time"
    if -code == signal.SIGSYS:
        return "violation", "a forbidden system call"
    # Wall time, for which the zygote kills, is dealt with above.
    if -code == signal.SIGKILL:
        return "memory", "killed by the kernel"

    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return ("crash", name) if compiled else ("error", f"the compiler crashed ({name})")


def _read_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Kind and body of all frames."""
    frames, at = [], 0
    while at < len(data):
        if at + FRAME.size > len(data):
            raise BrokenFrames("cut short")
        kind, length = FRAME.unpack_from(data, at)
        body = data[at + FRAME.size : at + FRAME.size + length]
        at += FRAME.size + length
        if len(body) != length or kind not in (READY, COMPILED, *_OUTCOMES):
            raise BrokenFrames(f"a frame of kind {kind}, {len(body)} of {length} bytes")

        frames.append((kind, body))

    return frames


def _text(body: bytes) -> str:
    """The message without addresses, which differ from run to run."""
    return re.sub(r"0x[0-9a-fA-F]{6,}", "0x...", body.decode("utf-8", "replace"))


def _only_grid(body: bytes) -> Grid:
    grids = decode_grids(body)
    if len(grids) != 1 or grids[0] is None:
        raise BrokenFrames(f"{len(grids)} grids for one input")
    return grids[0]
