"""How a worker process hears and speaks: JSON lines in on standard input, events out.

Events go out on the descriptor that was standard output; anything that is printed goes to standard
error. When the orchestrator is gone (standard input ends) the process ends at once.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Literal

from appliance.errors import ApplianceError, DeviceLost, InputError, OutOfMemory
from appliance.solve.messages import Event, Failed
from appliance.streams import secure

Emit = Callable[[Event], None]


def open_lines() -> tuple[queue.Queue[str], Emit]:
    """What comes in, and how to send. To be called once, before anything prints."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    secure()  # a log that cannot be written, on a full disk, must not end the worker

    def emit(event: Event) -> None:
        events.write(event.model_dump_json() + "\n")
        events.flush()

    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    return lines, emit


def _read(lines: queue.Queue[str]) -> None:
    """Feed standard input to the queue; end the process when the orchestrator is gone.

    Its end of the pipe is closed then, or closed on purpose.
    """
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


def failed(job_id: int, fault: Exception) -> Failed:
    """What to tell of a fault. job_id: -1 at the start of the worker."""
    kind: Literal["memory", "input", "engine", "device"] = "engine"
    if isinstance(fault, OutOfMemory | MemoryError):
        kind = "memory"
    elif isinstance(fault, InputError):
        kind = "input"
    elif isinstance(fault, DeviceLost):
        kind = "device"

    if isinstance(fault, ApplianceError):
        return Failed(job_id=job_id, kind=kind, message=str(fault), exit_code=fault.exit_code)
    message = f"{type(fault).__name__}: {fault}"
    return Failed(job_id=job_id, kind=kind, message=message, exit_code=1)
