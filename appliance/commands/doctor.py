"""`appliance doctor`: PASS, CAUTION or FAIL for everything that a run needs, with its remedy."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from appliance.commands.arguments import add_json_argument, examine_model
from appliance.engine.folder.card import EMBEDDED
from appliance.engine.import_checks import deep_checks
from appliance.errors import EXIT_DONE, EXIT_PREREQUISITE, ApplianceError, InputError
from appliance.machine.doctor import examine
from appliance.machine.finding import Check, Status, caution, failed, passed, worst
from appliance.machine.machine import Machine, find_machine
from appliance.machine.profile_check import check_expectation, profile_expectation
from appliance.program.sandbox.runner import sandbox_report

_STYLE = {Status.PASS: "green", Status.CAUTION: "yellow", Status.FAIL: "bold red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Check this machine, its packages and its platform. Exit code 3 when something fails."
    )
    parser.add_argument(
        "--profile", metavar="NAME", help="also check the hardware that this profile asks for"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder that a run would write to (default: this one)",
    )
    parser.add_argument(
        "--model", metavar="DIR", help="also look at this model folder, as a run would"
    )
    parser.add_argument(
        "--adapter", metavar="DIR", help="also look at this adapter, for --model or arc-mini"
    )
    parser.add_argument(
        "--deep", action="store_true", help="also import every engine (takes a minute)"
    )
    add_json_argument(parser, "print the checks as JSON")


def run(args: argparse.Namespace) -> int:
    machine = find_machine()
    checks = [*examine(machine, out=args.out), *sandbox_checks()]

    if args.profile is not None:
        checks += check_expectation(machine, profile_expectation(args.profile))
    if args.model is not None or args.adapter is not None:
        checks.append(model_check(EMBEDDED if args.model is None else args.model, args.adapter))
    if args.deep:
        checks += deep_checks(machine)

    print_checks(machine, checks, as_json=args.json)
    return EXIT_PREREQUISITE if worst(checks) is Status.FAIL else EXIT_DONE


def model_check(name: str, adapter: str | None) -> Check:
    """Whether a run could use this model, with this adapter if any."""
    try:
        found = examine_model(name, adapter)
    except InputError as fault:
        return failed("model", f"{fault.found} (expected: {fault.expected})", fault.remedy)
    with_adapter = f" with {adapter}" if adapter else ""
    return passed("model", f"{found.folder}{with_adapter}: whole, asked in {found.card.style}")


def sandbox_checks() -> list[Check]:
    """One check per layer of the sandbox; one failure where the sandbox cannot stand at all."""
    try:
        layers = sandbox_report()
    except ApplianceError as fault:
        return [failed("sandbox", str(fault), fault.remedy)]

    remedy = "programs still run behind the other layers; docs/sandbox.md says what they cover"
    checks = []
    for layer, in_force, detail in layers:
        name = f"sandbox {layer}"
        checks.append(passed(name, detail) if in_force else caution(name, detail, remedy))
    return checks


def print_checks(
    machine: Machine, checks: list[Check], *, as_json: bool, console: Console | None = None
) -> None:
    """Print as JSON on stdout, or as a table on the console (default: stdout)."""
    if as_json:
        found = {
            "machine": machine.summary(),
            "status": worst(checks).value,
            "checks": [c.to_json() for c in checks],
        }
        json.dump(found, sys.stdout, indent=1)
        print()
        return

    console = console or Console(highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for check in checks:
        text = _plain(check.found)
        if check.remedy:
            text += f"\n[dim]do: {_plain(check.remedy)}[/dim]"
        table.add_row(f"[{_STYLE[check.status]}]{check.status}[/]", check.name, text)

    console.print(table)
    counts = ", ".join(f"{sum(c.status is s for c in checks)} {s}" for s in Status)
    console.print(f"[bold]{counts}[/bold]")


def _plain(text: str) -> str:
    """Text with rich's markup made harmless."""
    return text.replace("[", r"\[")
