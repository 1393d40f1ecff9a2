"""`appliance doctor`: the machine's checks and, from the layer above it, what the program sandbox really has in force."""

from __future__ import annotations

import argparse

from appliance.errors import ApplianceError
from appliance.machine import doctor_cli
from appliance.machine.check import Check, caution, failed, passed
from appliance.program.sandbox.runner import sandbox_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    doctor_cli.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    return doctor_cli.run(args, extra=sandbox_checks())


def sandbox_checks() -> list[Check]:
    """One check per layer that the self-test of the sandbox tried; a sandbox that cannot stand is a failure."""
    try:
        layers = sandbox_report()
    except ApplianceError as fault:
        return [failed("sandbox", str(fault), fault.remedy)]
    remedy = "programs still run behind the other layers; see the sandbox's covered list"
    return [
        passed(f"sandbox {layer}", detail) if in_force else caution(f"sandbox {layer}", detail, remedy)
        for layer, in_force, detail in layers
    ]
