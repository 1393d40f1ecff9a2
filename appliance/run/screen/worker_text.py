"""What is said of a worker: what it loaded, and what it does at the moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.run.worker_state import Running, WorkerState

DOING = {
    "down": "not started",
    "starting": "loading",
    "idle": "waiting for work",
    "busy": "at work",
    "gone": "ended",
}
"""By state, of a worker without a job."""

FORMS = {
    "style": "style {}",
    "max_seq_tokens": "up to {:,} tokens",
    "engine": "sampled by {}",
    "torch": "torch {}",
}
"""How each fact but the number of parameters is told, in this order."""


def facts_text(facts: Mapping[str, Any]) -> str:
    """What a worker found when it had loaded its model, for people.

    >>> facts_text({"parameters": 7090944, "style": "grid-tokens-v1", "torch": "2.9.0"})
    '7.1 M parameters, style grid-tokens-v1, torch 2.9.0'
    """
    known = [form.format(facts[name]) for name, form in FORMS.items() if name in facts]
    if "parameters" in facts:
        known.insert(0, f"{_count(facts['parameters'])} parameters")
    others = [f"{name} {facts[name]}" for name in facts if name not in (*FORMS, "parameters")]
    return ", ".join([*known, *others]) or "nothing to say"


def _count(number: int) -> str:
    """Of parameters, with two digits or three: 7.1 M, 494 M, 7.6 B."""
    value, unit = (number / 1e9, "B") if number >= 1e9 else (number / 1e6, "M")
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"


def doing(state: WorkerState) -> str:
    """What it does, for people; where it has tasks, it does that to them."""
    running = state.running
    if running is None or state.state == "starting":
        return DOING[state.state]
    stage = running.assignment.stage
    if stage == "deep":
        return _deep(running)
    return {
        "search": "searching",
        "quick": "quick pass",
        "probe": "probing",
        "check": "checking rates",
    }[stage]


def _deep(running: Running) -> str:
    """Programs come first, then training, then answers."""
    task_id, job = running.assignment.tasks[0].task_id, running.job
    if job.program_until_s and task_id not in running.wrote:
        return "writing programs"
    if job.train_until_s and task_id not in running.trained:
        return "training"
    return "sampling"


def work(state: WorkerState) -> str:
    """The pass that it works for, as `screen.view` names them; "" for none."""
    if state.running is None:
        return ""
    assignment = state.running.assignment
    if assignment.stage == "deep" and assignment.round > 1:
        return "third"
    return assignment.stage if assignment.stage in ("search", "quick", "deep") else ""
