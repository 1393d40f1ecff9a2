"""A run as one HTML page that needs no other file, made from its journal and its submission.

It shows how many tasks each stage reached, what was planned and why, and for every task its
pictures: demonstrations, test input, both attempts with their votes and, where it is known, the
answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from appliance.arc.grid import Grid, as_grid, grid_key, same_grid
from appliance.arc.grid_svg import caption, document, grid_group, row_of_grids
from appliance.arc.read import read_json
from appliance.arc.submission import ATTEMPTS, read_submission, score
from appliance.arc.task import Solutions, Task, TaskSet
from appliance.arc.vote import Candidate, by_weight
from appliance.errors import InputError
from appliance.foreign_text import as_shown
from appliance.program.source import DSL_HEADER
from appliance.record.attempts import program_of
from appliance.record.confidence import chances
from appliance.record.coverage import coverage_of
from appliance.record.journal import Journal, StageRow
from appliance.record.run_folder import RunFolder

CELL_PX = 8
"""Side of a cell in the pictures; small grids get cells twice as large."""

SMALL_SIDE = 10
"""Longest side of a small grid, in cells."""

GAP_PX = 16
"""Space between pictures."""

LABEL_PX = 18
"""Height of the line above a picture."""

STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #888; --good: #1a9850; --bad: #d73027; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top; }
.quiet { color: var(--quiet); } .good { color: var(--good); } .bad { color: var(--bad); }
article { border-top: 1px solid var(--line); padding: .75rem 0; }
article h3 { font-size: 1rem; margin: 0; }
.beside { display: flex; flex-wrap: wrap; gap: 1.5rem; }
.beside > div { min-width: 0; } .beside > div + div { flex: 1 1 20rem; }
.beside pre { margin: .5rem 0; font-size: 13px; white-space: pre-wrap; }
.picture svg { background: #fff; max-width: 100%; height: auto; }
.wide { overflow-x: auto; } svg { display: block; margin-top: .5rem; }
summary { cursor: pointer; color: var(--quiet); }
"""


def render(
    folder: RunFolder,
    journal: Journal,
    tasks: TaskSet | None,
    solutions: Solutions,
    *,
    note: str = "",
    pictures: str = "",
) -> str:
    """The page as text.

    tasks: None where they cannot be read; attempts are then shown without demonstrations and test
    input. note: a sentence for the reader, above the plan. pictures: of the whole run, as HTML.
    """
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
    sections = [
        TaskSection(
            task_id=task_id,
            task=known.get(task_id),
            entries=entries,
            stages=stages.get(task_id, []),
            candidates=candidates.get(task_id, []),
            answers=solutions.get(task_id, ()),
        )
        for task_id, entries in submission.items()
    ]

    title = escape(folder.out.resolve().name)
    body = [f"<h1>{title}</h1>", _summary(journal, submission, solutions, sections)]
    if note:
        body.append(f'<p class="quiet">{escape(note)}</p>')
    body += [
        pictures,
        plan_table(folder.plan),
        "<h2>Tasks</h2>",
        *(section.html() for section in sections),
    ]

    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}: run report</title><style>{STYLE}</style></head><body>"
        + "\n".join(body)
        + "</body></html>\n"
    )


@dataclass(frozen=True)
class TaskSection:
    """The part of the page about one task."""

    task_id: str
    task: Task | None  # None where it cannot be read
    entries: Sequence[Mapping[str, Any]]  # of the submission, one for each test output
    stages: Sequence[StageRow]
    candidates: Sequence[Candidate]
    answers: Sequence[Grid]  # empty where they are not known

    @property
    def is_solved(self) -> bool:
        """Whether every answer is among its attempts."""
        pairs = zip(self.entries, self.answers, strict=True)
        return all(
            any(same_grid(as_grid(e[name]), answer) for name in ATTEMPTS) for e, answer in pairs
        )

    def html(self) -> str:
        verdict = ""
        if self.answers and self.is_solved:
            verdict = ' <span class="good">solved</span>'
        elif self.answers:
            verdict = ' <span class="bad">not solved</span>'

        facts = "; ".join(_stage_line(row) for row in self.stages) or "not begun"
        task_id = escape(as_shown(self.task_id))
        parts = [f'<article id="{task_id}"><h3>{task_id}{verdict}</h3>']
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
        """Test input, both attempts with their votes, and the answer, side by side."""
        shown: list[tuple[str, Grid]] = []
        if self.task is not None:
            shown.append(("test input", self.task.test[index]))

        answers = [c for c in self.candidates if c.test_index == index]
        searched = {grid_key(t.grid): t.weight for t in by_weight(answers)}
        votes = Counter(
            grid_key(c.grid) for c in answers if c.grid is not None and not c.is_searched
        )
        likely = chances(answers)
        programs = []
        for name in ATTEMPTS:
            grid = as_grid(self.entries[index][name])
            said = []
            if votes or not searched:
                said.append(f"{votes[grid_key(grid)]} of {votes.total()}")
            if grid_key(grid) in searched:
                program = program_of(grid, answers)
                kind = "search" if program else "cells (no program)"
                said.append(f"{kind} {searched[grid_key(grid)]:.2f}")
                programs.append((name, program))
            if grid_key(grid) in likely:
                said.append(f"{likely[grid_key(grid)]:.0%} sure")
            label = f"{name.replace('_', ' ')}: {', '.join(said) or 'a guess'}"
            shown.append((label, grid))

        if self.answers:
            shown.append(("answer", self.answers[index]))
        picture = f'<div class="wide">{_side_by_side(shown)}</div>'
        shown_programs = "".join(map(_program, programs))
        return f'<div class="beside">{picture}<div>{shown_programs}</div></div>'


def _program(found: tuple[str, str]) -> str:
    """The program of a search beside the attempt that it gives; nothing where it has none."""
    name, program = found
    if not program:
        return ""
    label = f"{name.replace('_', ' ')}, found by search"
    text = escape(program.removeprefix(DSL_HEADER).strip())
    return f'<div class="quiet">{label}</div><pre>{text}</pre>'


def _side_by_side(shown: Sequence[tuple[str, Grid]]) -> str:
    """Grids with a label above each, as one picture."""
    longest = max(max(grid.shape) for _, grid in shown)
    cell_px = CELL_PX if longest > SMALL_SIDE else 2 * CELL_PX

    parts: list[str] = []
    x, height = 1, 0
    for label, grid in shown:
        rows, cols = grid.shape
        parts.append(caption(x, 12, label) + grid_group(grid, x, LABEL_PX, cell_px))
        x += max(cols * cell_px, 7 * len(label)) + GAP_PX
        height = max(height, rows * cell_px)

    return document("".join(parts), x, LABEL_PX + height + 2)


def _summary(
    journal: Journal, submission: Any, solutions: Solutions, sections: Sequence[TaskSection]
) -> str:
    """Coverage and, where answers are known, the score."""
    lines = list(coverage_of(journal).lines())
    if solutions:
        figures = score(submission, solutions)
        solved = sum(section.is_solved for section in sections)
        lines.append(
            f"solved {solved} of {len(sections)} tasks; "
            f"score by test output {figures['by_output']:.1%}, by task {figures['by_task']:.1%}"
        )
    return "<p>" + "<br>".join(map(escape, lines)) + "</p>"


def plan_table(path: Path) -> str:
    """What was decided before the run began, each value with its reason; nothing without a plan."""
    if not path.exists():
        return ""
    try:
        plan = read_json(path)
    except InputError as fault:
        return f'<h2>Plan</h2><p class="quiet">{escape(str(fault))}</p>'

    plan = plan if isinstance(plan, dict) else {}
    parts = {"": plan} | {
        name: plan.get(name) for name in ("precision", "search", "train", "sample")
    }
    rows = "".join(
        f"<tr><td>{escape(f'{part} {name}'.strip())}</td><td>{escape(str(choice['value']))}</td>"
        f'<td class="quiet">{escape(str(choice["reason"]))}</td></tr>'
        for part, choices in parts.items()
        if isinstance(choices, dict)
        for name, choice in choices.items()
        if isinstance(choice, dict) and {"value", "reason"} <= set(choice)
    )
    if not rows:
        return f'<h2>Plan</h2><p class="quiet">{escape(f"{path} holds no plan")}</p>'
    return f"<h2>Plan</h2><table>{rows}</table>"


def _stage_line(row: StageRow) -> str:
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
