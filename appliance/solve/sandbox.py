"""The sandbox that the settings of a run ask for."""

from __future__ import annotations

from appliance.config import Settings
from appliance.program.sandbox import Limits, Sandbox


def open_sandbox(settings: Settings, *, workers: int) -> Sandbox:
    """A sandbox with so many worker processes.

    Raises PrerequisiteError where this machine cannot isolate programs.
    """
    program = settings.program
    limits = Limits(program.cpu_s, program.memory_mb)
    return Sandbox(limits, workers=workers, accept_level=program.accept_level)
