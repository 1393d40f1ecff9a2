"""`appliance simulate`: what a run would do within its budget, in seconds of real time.

The orchestrator, the schedule and the journal are the real ones. The clock is virtual, and the
workers only cost what the plan predicts, with the spread of published runs, and fail as told.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from appliance.clock import SystemClock, format_duration
from appliance.commands.arguments import (
    add_budget_argument,
    add_json_argument,
    add_run_arguments,
    add_selection_arguments,
    add_settings_arguments,
    add_tasks_argument,
    add_what_if_arguments,
    foreseen_request,
    on_cpu,
    whole,
)
from appliance.commands.progress import watched
from appliance.errors import EXIT_DONE, UsageError
from appliance.run.rehearsal import imagined_pool, simulation
from appliance.run.rehearsal.faults import KINDS, parse_faults
from appliance.run.rehearsal.imagined_run import ImaginedRun
from appliance.run.rehearsal.recorded_answers import read_records

SEEDS = 3
"""Rehearsals, unless --seeds says otherwise."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_what_if_arguments(parser)
    add_tasks_argument(parser, "tasks whose lengths count", required=True)
    add_selection_arguments(parser)
    add_budget_argument(parser)
    add_run_arguments(parser)

    parser.add_argument(
        "--at-once",
        type=whole(1, 10_000),
        metavar="N",
        help="answers written at once (default: as planned; 1: a search, one after another)",
    )
    kinds = "; ".join(f"{kind} ({rate:g}): {meaning}" for kind, (rate, meaning) in KINDS.items())
    parser.add_argument(
        "--inject",
        action="append",
        default=[],
        metavar="KIND[:RATE]",
        help=f"let things go wrong; may be repeated. {kinds}",
    )
    parser.add_argument(
        "--seeds",
        type=whole(1, 10_000),
        metavar="N",
        help=f"rehearsals to average over (default {SEEDS})",
    )
    parser.add_argument(
        "--shards",
        type=whole(1, 100_000),
        metavar="N",
        help="share the tasks over N such machines as pack condor does, --budget for each",
    )

    parser.add_argument(
        "--recorded",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="--out folders of runs: answers are drawn from what those recorded, so that votes and "
        "scores come out as there (default: invented)",
    )

    add_settings_arguments(parser)
    add_json_argument(parser, "print everything as JSON, task by task")


def run(args: argparse.Namespace) -> int:
    if args.shards and args.seeds:
        raise UsageError(
            "--seeds with --shards",
            expected="one of them",
            remedy="each shard has a seed of its own",
        )

    if args.shards and args.recorded:
        raise UsageError(
            "--recorded with --shards",
            expected="one of them",
            remedy="simulate one machine with --recorded",
        )

    request, faults = foreseen_request(args), parse_faults(args.inject)
    assert request.tasks is not None  # the verb requires them
    if args.shards:
        pool = imagined_pool.simulate_shards(
            request,
            args.shards,
            SystemClock(),
            faults=faults,
            at_once=args.at_once,
            on_cpu=on_cpu,
        )
        value, shown = imagined_pool.as_json(pool), imagined_pool.lines(pool)
    else:
        records = read_records(args.recorded, request.tasks) if args.recorded else None
        imagined = ImaginedRun.of(
            request, faults=faults, at_once=args.at_once, on_cpu=on_cpu, records=records
        )
        done = _watched(imagined, args.seeds or SEEDS)
        value, shown = simulation.as_json(done), simulation.lines(done)

    print(json.dumps(value, indent=1) if args.json else "\n".join(shown))
    return EXIT_DONE


def _watched(imagined: ImaginedRun, num_seeds: int) -> simulation.Simulation:
    """Rehearse it once per seed, with a bar for whoever watches."""
    budget_s = imagined.budget_s
    with watched(num_seeds * budget_s) as tell:

        def watch(seed: int, seconds: float) -> None:
            played = f"{format_duration(seconds)} of {format_duration(budget_s)} simulated"
            tell(seed * budget_s + seconds, f"seed {seed + 1} of {num_seeds}, {played}")

        return simulation.simulate(imagined, num_seeds, SystemClock(), watch=watch)
