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
    """The command line of `appliance submit`. settings: "key=value", each for a --set.

    Without --strategy among the flags the model works alone: a task that a search settles would be
    neither trained nor measured.
    """
    if "--strategy" not in flags:
        flags = ("--strategy", "transduction", *flags)
    given = ["--tasks", str(tasks), "--out", str(out), "--display", display, *flags]
    given += [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, "-m", "appliance", "submit", *given]
