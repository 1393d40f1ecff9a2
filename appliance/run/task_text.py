"""What is said of a task: the facts of a report, and the line that people read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.arc.grid import Grid, same_grid
from appliance.arc.task import Solutions
from appliance.arc.tuning_tasks import remark
from appliance.arc.vote import DEFAULT_SELECTOR, is_proven, least_weight
from appliance.clock import format_duration
from appliance.foreign_text import as_shown
from appliance.record.attempts import attempts_of, program_of
from appliance.run.worker_state import TaskReport

CELLS = "cells (no program)"
"""What answers of trees that learn cells are called: no program stands behind them."""


def first_attempts(report: TaskReport) -> list[tuple[Grid, ...]]:
    """Attempts for each test input, by a vote of this report's candidates alone."""
    voted = attempts_of({report.stage: report.candidates}, DEFAULT_SELECTOR)
    return [voted.get((report.task.task_id, i), ()) for i in range(len(report.task.test))]


def task_facts(report: TaskReport, solutions: Solutions) -> dict[str, Any]:
    """The report in plain values, as --display json prints them."""
    attempts = first_attempts(report)
    first = attempts[0][0] if attempts and attempts[0] else None
    answers = [c for c in report.candidates if c.test_index == 0]
    grids = [c.grid for c in answers if c.grid is not None]
    trained = report.trained
    answer = solutions.get(report.task.task_id)

    return {
        "task_id": report.task.task_id,
        "stage": report.stage,
        "round": report.round,
        "seconds": round(report.seconds, 2),
        "num_candidates": len(report.candidates),
        # Of the first test input: answers, and how many of them are the first attempt.
        "first_votes": 0 if first is None else sum(same_grid(g, first) for g in grids),
        "num_answers": len(answers),
        # Of the programs that a model wrote among them: all, and those that are right on every
        # demonstration.
        "num_programs": sum(c.demo_score is not None and not c.is_searched for c in answers),
        "num_fit": sum(is_proven(c) for c in answers),
        "trained": None if trained is None else trained.reason is None,  # None: not tried
        "num_steps": trained.num_steps if trained else 0,
        "loss_before": trained.loss_before if trained else None,
        "loss_after": trained.loss_after if trained else None,
        "not_trained_because": trained.reason if trained else None,
        # None: not known
        "solved": is_solved(attempts, answer) if report.candidates or report.searched else None,
        "search": search_facts(report),
    }


def search_facts(report: TaskReport) -> dict[str, Any] | None:
    """What a search without a model found; None for another stage."""
    searched = report.searched
    if searched is None:
        return None

    facts = searched.model_dump(exclude={"event", "job_id", "task_id", "seconds"})
    return facts | {
        "weight": round(least_weight(len(report.task.test), report.candidates), 4),
        "program": best_program(report),
    }


def best_program(report: TaskReport) -> str:
    """The program that gives the first attempt at the first test input, "" without one."""
    first = first_attempts(report)[0]
    answers = [c for c in report.candidates if c.test_index == 0]
    return program_of(first[0], answers) if first else ""


def task_line(report: TaskReport, solutions: Solutions) -> str:
    """The report in one line, for people."""
    facts = task_facts(report, solutions)
    parts = [as_shown(facts["task_id"])]
    if report.round > 1:
        parts[0] += f" (round {report.round})"

    if facts["trained"]:
        loss = f"{facts['loss_before']:.3f} -> {facts['loss_after']:.3f}"
        parts.append(f"trained {facts['num_steps']} steps, loss {loss}")
    elif facts["trained"] is False:
        parts.append(f"not trained: {facts['not_trained_because']}")

    if facts["search"]:
        parts += _search_parts(facts["search"])
    elif not report.candidates:
        parts.append("no more answers needed: two of its programs agree")
    elif not facts["first_votes"]:
        parts.append(f"no usable answer among {facts['num_answers']}")
    else:
        parts.append(f"first attempt has {facts['first_votes']} of {facts['num_answers']} votes")
    if facts["num_programs"]:
        parts.append(
            f"{facts['num_fit']} of {facts['num_programs']} programs fit the demonstrations"
        )

    parts.append(format_duration(report.seconds))
    if facts["solved"] is not None:
        # A step of the model may fail on a task that an earlier step has solved.
        missed = "not solved" if facts["search"] else "not solved by these answers"
        parts.append("SOLVED" if facts["solved"] else missed)
    if told := remark(facts["task_id"]):
        parts[-1] += f" ({told})"
    return " | ".join(parts)


def _search_parts(found: Mapping[str, Any]) -> list[str]:
    if not found["num_answers"]:
        return ["no answer"]
    kind = found["kind"]
    return [f"{found['weight']:.2f} sure", CELLS if kind == "cells" else kind]


def is_solved(attempts: list[tuple[Grid, ...]], answers: tuple[Grid, ...] | None) -> bool | None:
    """Whether every test output is among its attempts; None when the answers are not known."""
    if answers is None:
        return None
    return all(
        any(same_grid(g, a) for g in grids) for grids, a in zip(attempts, answers, strict=True)
    )
