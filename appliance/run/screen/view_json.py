"""The view of a run as plain values, for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from appliance.run.screen.view import RunView, TaskView


def as_json(view: RunView, now_s: float) -> dict[str, Any]:
    """All that is shown; instants are Unix seconds, and None is what is not known."""
    left = view.left_s(now_s)
    return {
        **asdict(view.facts),
        "is_over": view.is_over,
        "is_silent": view.is_silent(now_s),
        "left_s": None if left is None else round(left[0], 1),
        "num_tasks": len(view.tasks),
        "answered": view.num_answered,
        "solved": view.num_solved,
        "expected": round(view.expected, 2),
        "bars": [asdict(found) for found in view.passes(now_s)],
        "pulse": None if view.pulse is None else asdict(view.pulse),
        "tasks": {task_id: _task(task) for task_id, task in view.tasks.items()},
    }


def _task(task: TaskView) -> dict[str, Any]:
    return {
        "state": task.state,
        "source": task.standing.source,
        "chance": round(task.standing.chance, 4),
        "solved": task.is_solved,
        "seconds": round(task.seconds, 2),
    }
