"""A display that also sends a run's figures to a tracking service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from appliance.arc.task import Solutions
from appliance.record.tracking import Figures
from appliance.run.console import Display
from appliance.run.task_text import task_facts
from appliance.run.worker_state import TaskReport, WorkerState


class Tracked:
    """Shows all that the display shows.

    A step is a report of one task at one stage. Its figures: tasks done at that stage, tasks solved
    so far by any (where answers are known), the losses of training, the certainty of a search, and
    the seconds that it took.
    """

    def __init__(self, display: Display, figures: Figures, solutions: Solutions) -> None:
        """solutions: empty where they are not known."""
        self._display, self._figures, self._solutions = display, figures, solutions
        self._step = 0
        self._seen: set[tuple[str, str]] = set()  # stage and task
        self._done: Counter[str] = Counter()  # tasks by stage
        self._solved: set[str] = set()

    def tell(self, text: str) -> None:
        self._display.tell(text)

    def show(self, report: TaskReport) -> None:
        self._display.show(report)

        task_id, stage = report.task.task_id, report.stage
        if (stage, task_id) not in self._seen:
            self._seen.add((stage, task_id))
            self._done[stage] += 1
        facts = task_facts(report, self._solutions)
        if facts["solved"]:
            self._solved.add(task_id)

        values: dict[str, Any] = {f"done/{stage}": self._done[stage]}
        if self._solutions:
            values["solved"] = len(self._solved)
        values[f"seconds/{stage}"] = facts["seconds"]
        if facts["trained"]:
            values |= {f"train/{key}": facts[key] for key in ("loss_before", "loss_after")}
            values["train/steps"] = facts["num_steps"]
        if facts["search"]:
            values["search/certainty"] = facts["search"]["weight"]
        elif facts["num_answers"]:
            values[f"first_share/{stage}"] = facts["first_votes"] / facts["num_answers"]

        self._step += 1
        self._figures.log(self._step, values)

    def beat(self, workers: Mapping[int, WorkerState]) -> None:
        self._display.beat(workers)

    def conclude(self, report: Mapping[str, Any]) -> None:
        """The figures of the end: coverage, and the score where the answers are known."""
        values = {"seconds": report["seconds"]}
        values |= {f"coverage/{key}": value for key, value in report["coverage"].items()}
        values |= {f"score/{key}": value for key, value in report.get("score", {}).items()}
        if "solved" in report:
            values["solved"] = report["solved"]
        self._figures.log(self._step + 1, values)

    def close(self) -> None:
        self._display.close()
