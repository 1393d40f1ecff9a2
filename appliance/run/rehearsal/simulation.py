"""Several rehearsals of one imagined run, and what they say: as text for people and as JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from appliance.arc.task import TaskSet
from appliance.clock import Clock, format_duration
from appliance.run.rehearsal.imagined_run import ImaginedRun, crew_text
from appliance.run.rehearsal.rehearsal import PASSES, Baseline, Rehearsal, spread, timeline
from appliance.sizing.plan import AnyPlan, Plan

WIDTH = 96
"""Characters of a worker's row in the timeline."""

MOST_SEARCH_ROWS = 4
"""Search workers that have a row; there may be one for each of many cores, all alike."""


@dataclass(frozen=True)
class Simulation:
    """One rehearsal per seed, all of the same plan."""

    tasks: TaskSet
    plan: AnyPlan
    runs: tuple[Rehearsal, ...]
    baseline: Baseline | None  # None without a model
    drawn_from: str | None  # what answers are drawn from, for people; None: they are invented
    real_s: float  # that the simulation took


def simulate(
    run: ImaginedRun,
    num_seeds: int,
    clock: Clock,
    *,
    watch: Callable[[int, float], None] = lambda seed, seconds: None,
) -> Simulation:
    """Rehearse the run once per seed. watch: is told which one plays, and how far it is."""
    began_s = clock.now()
    runs = tuple(run.rehearse(seed, watch=partial(watch, seed)) for seed in range(num_seeds))
    drawn_from = run.records.text(run.tasks) if run.records else None
    real_s = clock.now() - began_s
    return Simulation(run.tasks, run.plan, runs, run.baseline(), drawn_from, real_s)


def lines(simulation: Simulation) -> list[str]:
    """For people: timeline, passes, what tasks got, the end, and what a static plan would lose.

    The first three are those of the first seed.
    """
    first, plan, num_tasks = simulation.runs[0], simulation.plan, len(simulation.tasks)
    ends = [run.seconds for run in simulation.runs]
    idle = [share for run in simulation.runs for share in run.idle_shares()]
    who = "devices" if first.num_workers else "search workers"

    return [
        f"{num_tasks} tasks of {simulation.tasks.name}, {crew_text(plan)}, "
        f"{format_duration(first.budget_s)}",
        "real orchestrator, schedule and journal; "
        "imagined workers that take as long as the plan predicts",
        simulation.drawn_from or "answers are invented, so scores and votes tell nothing",
        "",
        *_chart(first),
        "",
        f"{'pass':8} {'tasks':>9}  {'began':>12} {'ended':>12}   "
        f"{'device seconds per task':50} device hours",
        *(_pass_line(first, name, num_tasks) for name in _passes(plan)),
        "",
        *_given(simulation),
        f"finished after {format_duration(statistics.fmean(ends))} "
        f"+- {format_duration(_half_interval(ends))} "
        f"({len(ends)} seeds), of {format_duration(first.budget_s)}",
        f"{who} idle: mean {statistics.fmean(idle):.2%}, max {max(idle):.2%}",
        *_outcomes(simulation),
        *_scores(simulation),
        *_lost_by_static_plans(simulation),
        f"simulated in {format_duration(simulation.real_s)}",
    ]


def _lost_by_static_plans(simulation: Simulation) -> list[str]:
    base, num_tasks = simulation.baseline, len(simulation.tasks)
    if base is None:
        return []
    return [
        f"with static equal shares of {format_duration(base.share_s)} and the same steps and "
        f"views, {base.out_of_share} of {num_tasks} tasks would get no answer;",
        f"with a static list per device and no limits, {base.not_reached} would not be reached",
    ]


def _passes(plan: AnyPlan) -> tuple[str, ...]:
    """Those that such a run has."""
    first = 0 if plan.search else 1
    return PASSES[first:] if isinstance(plan, Plan) else PASSES[:1]


def _chart(run: Rehearsal) -> list[str]:
    rows, idle = list(timeline(run, width=WIDTH)), run.idle_shares()
    chart = []
    for worker, row in enumerate(rows[: run.num_workers + MOST_SEARCH_ROWS]):
        is_device = worker < run.num_workers
        name = f"device {worker}" if is_device else f"search {worker - run.num_workers}"
        share = f"  idle {idle[worker]:.1%}" if worker < len(idle) else ""
        chart.append(f"{name}  {row}{share}")
    if len(rows) > len(chart):
        chart.append(f"          and {len(rows) - len(chart)} more search workers")

    quarters = [format_duration(run.budget_s * k / 4) for k in range(4)]
    scale = "".join(f"{text:<{WIDTH // 4}}" for text in quarters)
    legend = (
        "L load  f find by search  q quick pass  p write programs  t train  s sample  "
        "P T S the same in a further round  x lost  . nothing"
    )
    return [*chart, f"          {scale}", f"          {legend}"]


def _pass_line(run: Rehearsal, name: str, num_tasks: int) -> str:
    spans, taken = run.of_pass(name), run.seconds_by_task(name)
    if not spans:
        return f"{name:8} {0:>5}/{num_tasks}"

    least, median, mean, most = spread(list(taken.values()))
    began = format_duration(min(s.from_s for s in spans))
    ended = format_duration(max(s.until_s for s in spans))
    each = f"min {least:.3g}, median {median:.3g}, mean {mean:.3g}, max {most:.3g}"
    hours = sum(taken.values()) / 3600
    return (
        f"{name:8} {len(taken):>5}/{num_tasks:<3}  {began:>12} {ended:>12}   {each:50} {hours:.2f}"
    )


def _given(simulation: Simulation) -> list[str]:
    """How many steps and views tasks got in the deep pass."""
    first, settings = simulation.runs[0], simulation.plan.settings
    if not settings.needs_model:
        return []
    shown = []

    for title, kind, planned in (
        ("steps", "train", settings.train.max_steps),
        ("views", "sample", settings.sample.views),
    ):
        given = list(first.done_by_task(kind, "deep").values())
        least, median, _, most = spread([float(n) for n in given])
        full = sum(n >= planned for n in given)
        shown.append(
            f"{title} per task in the deep pass: {least:.0f} to {most:.0f}, median {median:.0f}; "
            f"all {planned} for {full} tasks, fewer for {len(given) - full}"
        )

    return shown


def _outcomes(simulation: Simulation) -> list[str]:
    runs, num_tasks = simulation.runs, len(simulation.tasks)
    shown = runs[0].coverage.lines()

    if len(runs) > 1:
        names = ["searched", "search_sure"] if simulation.plan.search else []
        if simulation.plan.settings.needs_model:
            names += ["quick", "trained", "deep", "sampled"]
        for name in names:
            counts = [getattr(run.coverage, name) for run in runs]
            least, most = min(counts), max(counts)
            shown.append(
                f"  {name.replace('_', ' ')} over the seeds: {least} to {most} of {num_tasks}"
            )

    faulty = sum(bool(run.submission_faults) for run in runs)
    late = sum(run.seconds > run.budget_s for run in runs)
    shown.append(f"invalid submissions: {faulty}; runs past their deadline: {late}")

    failures = {run.failure for run in runs if run.failure}
    return shown + [f"gave up: {failure}" for failure in failures]


def _scores(simulation: Simulation) -> list[str]:
    """Where answers are real ones and solutions are known."""
    scores = [run.score for run in simulation.runs if run.score is not None]
    if not scores:
        return []
    mean, half = statistics.fmean(scores), _half_interval(scores)
    return [f"test outputs solved: {mean:.1%} +- {half:.1%} ({len(scores)} seeds)"]


def _half_interval(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean, by the normal approximation."""
    if len(values) < 2:
        return 0.0
    return 1.96 * statistics.stdev(values) / math.sqrt(len(values))


def as_json(simulation: Simulation) -> dict[str, Any]:
    """Every run, and of the first one what each task got."""
    first, base = simulation.runs[0], simulation.baseline
    ends = [run.seconds for run in simulation.runs]
    by_pass = {name: first.seconds_by_task(name) for name in PASSES}
    steps, views = first.done_by_task("train", "deep"), first.done_by_task("sample", "deep")

    return {
        "machine": simulation.plan.machine.summary(),
        "plan": simulation.plan.to_json(),
        "model": simulation.plan.model.value if isinstance(simulation.plan, Plan) else None,
        "workers": first.num_workers,
        "search_workers": first.num_searching,
        "budget_s": first.budget_s,
        "finish_s": {"mean": statistics.fmean(ends), "half_interval": _half_interval(ends)},
        "answers": simulation.drawn_from or "invented",
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
        "static_equal_shares": base
        and {
            "share_s": round(base.share_s, 3),
            "unanswered": base.out_of_share,
            "not_reached_without_limit": base.not_reached,
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
        "score": run.score,
        "writes": run.num_writes,
        "messages": [{"at_s": round(at_s, 3), "text": text} for at_s, text in run.messages],
    }
