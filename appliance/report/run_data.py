"""What the page of a run shows of its tasks, as plain values: page/run.js draws them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.arc.grid import Grid, as_grid, same_grid
from appliance.arc.submission import ATTEMPTS
from appliance.arc.task import Task
from appliance.arc.tuning_tasks import remark
from appliance.arc.vote import Candidate
from appliance.foreign_text import as_file_name, as_shown
from appliance.program.source import DSL_HEADER
from appliance.record.journal import StageRow
from appliance.record.standing import source_of
from appliance.report.explain import Explained, explained

MOST_OTHERS = 6
"""Answers of a test output that are drawn beside the attempts."""

WORK = ("search", "quick", "deep")
"""Stages whose seconds add up: training and programs are parts of the last."""

Draw = Callable[[str, str, Grid], list[dict[str, Any]]]
"""The steps of a program, written for the view of that name, at a test input: each with its text
and its picture."""


@dataclass(frozen=True)
class TaskRecord:
    """All that is known of one task."""

    task_id: str
    task: Task | None  # None where it cannot be read
    entries: Sequence[Mapping[str, Any]]  # of the submission, one for each test output
    stages: Sequence[StageRow]
    candidates: Sequence[Candidate]
    answers: Sequence[Grid] = ()  # empty where they are not known
    was_solved: bool | None = None  # what the run itself said at its end; None: nothing

    def attempts(self, index: int) -> list[Grid]:
        return [as_grid(self.entries[index][name]) for name in ATTEMPTS]

    def right(self) -> list[bool]:
        """For each test output, whether an attempt is right. Empty where it is not known."""
        return [
            any(same_grid(grid, answer) for grid in self.attempts(index))
            for index, answer in enumerate(self.answers)
        ]

    @property
    def is_solved(self) -> bool | None:
        """Whether every answer is among its attempts; None where nobody knows."""
        return all(self.right()) if self.answers else self.was_solved

    def state(self) -> str:
        """solved, partly, missed; where that is not known: answered, or guess."""
        if self.is_solved is not None:
            is_partly = any(self.right()) and not self.is_solved
            return "solved" if self.is_solved else "partly" if is_partly else "missed"
        return "answered" if any(c.grid is not None for c in self.candidates) else "guess"

    def data(self, selector: str, draw: Draw) -> dict[str, Any]:
        """For the page. selector: of the run's votes."""
        outputs = [self._output(index, selector, draw) for index in range(len(self.entries))]
        sure = [output["attempts"][0]["chance"] for output in outputs]
        own = [[grid] for grid in (self.attempts(i)[0] for i in range(len(outputs)))]
        return {
            "id": as_shown(self.task_id),
            "key": as_file_name(self.task_id),
            "remark": remark(self.task_id),
            "state": self.state(),
            "source": self._source(own, outputs),
            "chance": None if None in sure else min(sure),
            "seconds": round(sum(r.seconds for r in self.stages if r.stage in WORK), 1),
            "facts": [stage_line(row) for row in self.stages],
            "train": [
                [packed(p.input), packed(p.output)] for p in (self.task.train if self.task else ())
            ],
            "outputs": outputs,
            "losses": losses_of(self.stages),
        }

    def _source(self, own: Sequence[Sequence[Grid]], outputs: Sequence[Mapping[str, Any]]) -> str:
        """The least trusted source of its first attempts: none answered what is a guess."""
        if any(output["attempts"][0]["source"] == "guess" for output in outputs):
            return "guess"
        return source_of(own, self.candidates)

    def _output(self, index: int, selector: str, draw: Draw) -> dict[str, Any]:
        found = [c for c in self.candidates if c.test_index == index]
        chosen, others = explained(self.attempts(index), found, selector)
        answer = self.answers[index] if self.answers else None
        return {
            "input": packed(self.task.test[index]) if self.task else None,
            "answer": None if answer is None else packed(answer),
            "attempts": [
                self._grid(e, answer, f"attempt {place}") | self._steps(e, index, draw)
                for place, e in enumerate(chosen, 1)
            ],
            "others": [
                self._grid(e, answer, f"answer {place}")
                for place, e in enumerate(others[:MOST_OTHERS], 3)
            ],
            "num_more": max(0, len(others) - MOST_OTHERS),
        }

    def _grid(self, e: Explained, answer: Grid | None, name: str) -> dict[str, Any]:
        said = [e.votes] if e.votes else []
        if e.chance is not None:
            said.append(f"{e.chance:.0%} sure")
        return {
            "name": name,
            "grid": packed(e.grid),
            "said": f"{name}: {', '.join(said) or 'a guess'}",
            "chance": e.chance if e.chance is None else round(e.chance, 4),
            "source": e.source,
            "is_right": None if answer is None else same_grid(e.grid, answer),
            "words": list(e.words),
        }

    def _steps(self, e: Explained, index: int, draw: Draw) -> dict[str, Any]:
        if not e.program:
            return {}
        steps = draw(e.program, e.view, self.task.test[index]) if self.task else []
        return {"program": e.program.removeprefix(DSL_HEADER).strip(), "steps": steps}


def packed(grid: Grid) -> str:
    """Rows of digits with a stroke between them."""
    return "/".join("".join(map(str, row)) for row in grid.tolist())


def losses_of(rows: Sequence[StageRow]) -> list[dict[str, Any]]:
    """The training curves that the journal knows: points of (steps, nats per answer token)."""
    curves = []
    for row in rows:
        detail, again = row.detail, f", round {row.round}" if row.round > 1 else ""
        if row.stage == "train" and _has_losses(detail):
            points = [[0, detail["loss_before"]], [detail["num_steps"], detail["loss_after"]]]
            curves.append({"name": f"training on the task{again}", "points": points})
        if row.stage == "programs":
            points, steps = [], 0
            for epoch in filter(_has_losses, detail.get("epochs") or ()):
                points.append([steps, epoch["loss_before"]])
                steps += epoch["num_steps"]
                points.append([steps, epoch["loss_after"]])
            if points:
                curves.append({"name": f"learning from programs{again}", "points": points})
    return curves


def _has_losses(detail: Mapping[str, Any]) -> bool:
    found = [detail.get(name) for name in ("loss_before", "loss_after", "num_steps")]
    return all(isinstance(value, int | float) for value in found)


def stage_line(row: StageRow) -> str:
    """One stage in words, such as "train done, 12.3 s, 24 steps, loss 0.812 to 0.104"."""
    stage = row.stage if row.round == 1 else f"{row.stage} again ({row.round})"
    facts = [stage, row.status, f"{row.seconds:.1f} s"]
    detail = row.detail
    if detail.get("loss_before") is not None and detail.get("loss_after") is not None:
        facts.append(
            f"{detail.get('num_steps')} steps, "
            f"loss {detail['loss_before']:.3f} to {detail['loss_after']:.3f}"
        )
    if "num_answers" in detail:
        facts.append(f"{detail['num_answers']} answers from {detail.get('expansions')} values")
    if detail.get("reason"):
        facts.append(str(detail["reason"]))
    return " ".join(facts[:2]) + ", " + ", ".join(facts[2:])
