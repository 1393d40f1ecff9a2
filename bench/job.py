"""The command line of a main job, as benches and tests run it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def submit_command(
    tasks: str | Path,
    out: str | Path,
    *flags: str,
    settings: Sequence[str] = (),
    display: str = "plain",
) -> list[str]:
    """`appliance submit` in a process of its own. settings: "key=value", each for a --set."""
    given = ["--tasks", str(tasks), "--out", str(out), "--display", display, *flags]
    return [
        sys.executable,
        "-m",
        "appliance",
        "submit",
        *given,
        *(w for s in settings for w in ("--set", s)),
    ]
