"""What nobody foresaw ends with one line; its traceback goes to a file.

Switched off by APPLIANCE_DEBUG=1, so that tests, fuzzers and developers see the exception itself.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from appliance.clock import SystemClock
from appliance.errors import EXIT_DEFECT, EXIT_INPUT, EXIT_PREREQUISITE, first_line

DEBUG_VARIABLE = "APPLIANCE_DEBUG"
"""Not a setting of a run: whether this guard is off."""

OF_THE_FILE_SYSTEM = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES),
        *(errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
        *(errno.EMFILE, errno.ENFILE, errno.ETXTBSY, errno.ESTALE),
    }
)
"""Faults of a disk, a path or a limit, which the user can mend: no defect, wherever they arise."""


def is_off() -> bool:
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def explain(fault: Exception, *, logs: Path | None) -> tuple[str, int]:
    """One line for the user, and the exit code. logs: the folder of logs, where there is one."""
    if isinstance(fault, OSError) and fault.errno in OF_THE_FILE_SYSTEM:
        return f"{first_line(fault)}; do: check that path, its rights and its room", EXIT_INPUT

    if isinstance(fault, ImportError) and (fault.name or "appliance").split(".")[0] != "appliance":
        return (
            f"the package {fault.name} cannot be used: {first_line(fault)}; expected: the versions "
            "of requirements/; do: appliance doctor --deep names what is missing",
            EXIT_PREREQUISITE,
        )

    if isinstance(fault, MemoryError):
        what, remedy = "memory ran out", "free memory or take a larger machine; else report it"
    else:
        what = f"a defect of ours: {name_of(fault)}"
        remedy = "report it with that file; the same command may be started again"
    return f"{what}; {_write_down(fault, logs)}; do: {remedy}", EXIT_DEFECT


def name_of(fault: BaseException) -> str:
    """Type, first line, and where it came up: `KeyError: 'x' (vote.py, line 12)`."""
    frames = traceback.extract_tb(fault.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(fault).__name__}: {first_line(fault)}{place}"


def _write_down(fault: Exception, logs: Path | None) -> str:
    """Put the traceback into a file of its own, and say where."""
    stamp = datetime.fromtimestamp(SystemClock().now(), UTC).strftime("%Y%m%dT%H%M%S")
    # A command line may hold characters that no encoding has.
    told = [
        f"{' '.join(sys.argv)!a}\n",
        f"Python {sys.version}\n",
        *traceback.format_exception(fault),
    ]
    why = ""
    for folder in (logs, None):  # None: the folder for temporary files
        try:
            descriptor, path = tempfile.mkstemp(".txt", f"defect-{stamp}-", folder)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(told)
            return f"the traceback is in {path}"
        except OSError as refusal:
            why = refusal.strerror or str(refusal)
    return f"the traceback could not be written ({why})"
