"""`appliance report`: a run as one HTML page that needs nothing else, from its journal and its submission.

What the stages reached, what was planned and why, and for every task its pictures: demonstrations, test input, the two
attempts with their votes and, where the answers are given, the answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from appliance.arc.grid import Grid, as_grid, grid_key, same_grid
from appliance.arc.grid_svg import caption, document, grid_group, row_of_grids
from appliance.arc.submission import ATTEMPTS, read_submission, score
from appliance.arc.task import Solutions, Task, TaskSet
from appliance.arc.vote import Candidate
from appliance.record.coverage import coverage_of
from appliance.record.journal import Journal, StageRow
from appliance.record.run_folder import RunFolder

CELL_PX = 8
GAP_PX = 16
LABEL_PX = 18
STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #888; --good: #1a9850; --bad: #d73027; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top; }
.quiet { color: var(--quiet); } .good { color: var(--good); } .bad { color: var(--bad); }
article { border-top: 1px solid var(--line); padding: .75rem 0; } article h3 { font-size: 1rem; margin: 0; }
.wide { overflow-x: auto; } svg { display: block; margin-top: .5rem; } summary { cursor: pointer; color: var(--quiet); }
"""


def render(
    folder: RunFolder,
    journal: Journal,
    tasks: TaskSet | None,
    solutions: Solutions,
    *,
    note: str = "",
) -> str:
    """The page as text. tasks: None where they cannot be read; then attempts are shown without what they answer."""
    submission = read_submission(folder.submission)
    solutions = {task_id: solutions[task_id] for task_id in submission if task_id in solutions}
    stages: dict[str, list[StageRow]] = {}
    for row in journal.stages():
        stages.setdefault(row.task_id, []).append(row)
    candidates: dict[str, list[Candidate]] = {}
    for found in journal.candidates().values():
        for c in found:
            candidates.setdefault(c.task_id, []).append(c)
    known = {t.task_id: t for t in tasks} if tasks else {}
    views = [
        TaskView(
            task_id, known.get(task_id), entries, stages.get(task_id, []), candidates.get(task_id, []),
            solutions.get(task_id, ()),
        )
        for task_id, entries in submission.items()
    ]  # fmt: skip
    body = [
        f"<h1>{escape(folder.out.resolve().name)}</h1>",
        _summary(journal, submission, solutions, views),
    ]
    if note:
        body.append(f'<p class="quiet">{escape(note)}</p>')
    body += [_plan(folder), "<h2>Tasks</h2>", *(view.html() for view in views)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(folder.out.resolve().name)}: run report</title><style>{STYLE}</style></head><body>"
        + "\n".join(body)
        + "</body></html>\n"
    )


@dataclass(frozen=True)
class TaskView:
    """All that is known of one task. entries: of the submission. answers: empty when they are not given."""

    task_id: str
    task: Task | None
    entries: Sequence[Mapping[str, Any]]
    stages: Sequence[StageRow]
    candidates: Sequence[Candidate]
    answers: Sequence[Grid]

    @property
    def is_solved(self) -> bool:
        pairs = zip(self.entries, self.answers, strict=True)
        return all(
            any(same_grid(as_grid(e[name]), answer) for name in ATTEMPTS) for e, answer in pairs
        )

    def html(self) -> str:
        verdict = ""
        if self.answers:
            verdict = (
                ' <span class="good">solved</span>'
                if self.is_solved
                else ' <span class="bad">not solved</span>'
            )
        facts = "; ".join(_stage_line(row) for row in self.stages) or "not begun"
        parts = [f'<article id="{escape(self.task_id)}"><h3>{escape(self.task_id)}{verdict}</h3>']
        parts.append(f'<div class="quiet">{escape(facts)}</div>')
        parts += [self._output(index) for index in range(len(self.entries))]
        if self.task is not None:
            rows = [row_of_grids([p.input], [p.output], 1, 1, CELL_PX) for p in self.task.train]
            parts.append("<details><summary>demonstrations</summary>")
            parts += [
                f'<div class="wide">{document(svg, width + 2, height + 2)}</div>'
                for svg, width, height in rows
            ]
            parts.append("</details>")
        return "".join(parts) + "</article>"

    def _output(self, index: int) -> str:
        """The test input, both attempts with the votes that they have, and the answer, side by side."""
        shown: list[tuple[str, Grid]] = []
        if self.task is not None:
            shown.append(("test input", self.task.test[index]))
        mine = [c for c in self.candidates if c.test_index == index and c.grid is not None]
        for name in ATTEMPTS:
            grid = as_grid(self.entries[index][name])
            votes = sum(
                1 for c in mine if c.grid is not None and grid_key(c.grid) == grid_key(grid)
            )
            shown.append((f"{name.replace('_', ' ')}: {votes} of {len(mine)}", grid))
        if self.answers:
            shown.append(("answer", self.answers[index]))
        return f'<div class="wide">{_side_by_side(shown)}</div>'


def _side_by_side(shown: Iterable[tuple[str, Grid]]) -> str:
    parts: list[str] = []
    x, height = 1, 0
    grids = list(shown)
    cell_px = CELL_PX if max(max(grid.shape) for _, grid in grids) > 10 else 2 * CELL_PX
    for label, grid in grids:
        rows, cols = grid.shape
        parts.append(caption(x, 12, label) + grid_group(grid, x, LABEL_PX, cell_px))
        x += max(cols * cell_px, 7 * len(label)) + GAP_PX
        height = max(height, rows * cell_px)
    return document("".join(parts), x, LABEL_PX + height + 2)


def _summary(
    journal: Journal, submission: Any, solutions: Solutions, views: Sequence[TaskView]
) -> str:
    lines = list(coverage_of(journal).lines())
    if solutions:
        figures = score(submission, solutions)
        solved = sum(view.is_solved for view in views)
        lines.append(
            f"solved {solved} of {len(views)} tasks; score by test output {figures['by_output']:.1%}, "
            f"by task {figures['by_task']:.1%}"
        )
    return "<p>" + "<br>".join(map(escape, lines)) + "</p>"


def _plan(folder: RunFolder) -> str:
    """What was decided before the run began, each value with its reason."""
    try:
        plan = json.loads(folder.plan.read_text())
    except (OSError, ValueError):
        return ""
    parts = {"": plan} | {name: plan.get(name) for name in ("precision", "train", "sample")}
    rows = "".join(
        f"<tr><td>{escape(f'{part} {name}'.strip())}</td><td>{escape(str(choice['value']))}</td>"
        f'<td class="quiet">{escape(choice["reason"])}</td></tr>'
        for part, choices in parts.items()
        for name, choice in (choices or {}).items()
        if isinstance(choice, dict) and {"value", "reason"} <= set(choice)
    )
    return f"<h2>Plan</h2><table>{rows}</table>"


def _stage_line(row: StageRow) -> str:
    stage = row.stage if row.round == 1 else f"{row.stage} again ({row.round})"
    facts = [stage, row.status, f"{row.seconds:.1f} s"]
    detail = row.detail
    if "loss_before" in detail and detail.get("loss_after") is not None:
        facts.append(
            f"{detail.get('num_steps')} steps, loss {detail['loss_before']:.3f} to {detail['loss_after']:.3f}"
        )
    if detail.get("reason"):
        facts.append(str(detail["reason"]))
    return " ".join(facts[:2]) + ", " + ", ".join(facts[2:])
