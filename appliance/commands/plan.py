"""`appliance plan`: what a run would do on this machine, or on another one, and why."""

from __future__ import annotations

import argparse
import json
import sys

from appliance.commands.arguments import (
    add_budget_argument,
    add_json_argument,
    add_run_arguments,
    add_selection_arguments,
    add_settings_arguments,
    add_tasks_argument,
    add_what_if_arguments,
    foreseen_request,
)
from appliance.sizing.make_plan import plan_run
from appliance.sizing.view import print_plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Print what `appliance submit` would do with the same flags, and why: model, precision, "
        "lengths, batch, engine, steps and views per task."
    )
    add_what_if_arguments(parser)
    add_tasks_argument(parser, "tasks to plan for (default: as many and as long as ARC-AGI-2's)")
    add_selection_arguments(parser)
    add_budget_argument(parser)
    add_run_arguments(parser)
    add_settings_arguments(parser)
    add_json_argument(parser, "print the plan as JSON, as it stands in run/plan.json")


def run(args: argparse.Namespace) -> int:
    """Prints the plan. A plan that does not fit is an answer, not a fault: exit code 0."""
    plan = plan_run(foreseen_request(args))
    if args.json:
        json.dump(plan.to_json(), sys.stdout, indent=1)
        print()
    else:
        print_plan(plan)
    return 0
