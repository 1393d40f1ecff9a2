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

from appliance.engine.base import Blame
from appliance.engine.device_faults import is_out_of_memory
from appliance.errors import (
    AdapterLost,
    ApplianceError,
    DeviceLost,
    InputError,
    OutOfMemory,
    first_line,
)
from appliance.process.streams import secure
from appliance.solve.messages import Event, Failed

Emit = Callable[[Event], None]

READERS = ("jinja2", "tokenizers", "safetensors")
"""Packages that only read what was given to the run: chat template, tokenizer, weights. What they
raise is the fault of a folder."""


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
    kind: Literal["memory", "input", "engine", "device", "adapter"] = blame_of(fault)
    if isinstance(fault, DeviceLost):
        kind = "device"
    elif isinstance(fault, AdapterLost):
        kind = "adapter"
    elif isinstance(fault, OutOfMemory) or is_out_of_memory(fault):
        kind = "memory"

    code = fault.exit_code if isinstance(fault, ApplianceError) else 1
    return Failed(job_id=job_id, kind=kind, message=message_of(fault), exit_code=code)


def message_of(fault: Exception) -> str:
    """One line. Of ours it says all; of another package's the type comes first."""
    if isinstance(fault, ApplianceError):
        return str(fault)
    return f"{type(fault).__name__}: {first_line(fault)}"


def blame_of(fault: Exception) -> Blame:
    """Whether the folders of model and adapter are at fault, as far as the exception tells."""
    is_read = type(fault).__module__.partition(".")[0] in READERS
    return "input" if is_read or isinstance(fault, InputError) else "engine"
