"""The sandbox that the settings of a run ask for."""

from __future__ import annotations

from appliance.config import Settings
from appliance.program.sandbox import Limits, Sandbox


def open_sandbox(settings: Settings, *, workers: int) -> Sandbox:
    """The sandbox that the settings ask for. Raises PrerequisiteError where it cannot stand."""
    program = settings.program
    return Sandbox(
        Limits(program.cpu_s, program.memory_mb), workers=workers, accept_level=program.accept_level
    )
