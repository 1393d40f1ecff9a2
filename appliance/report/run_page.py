"""A run as one HTML page that needs no other file, made from its journal and its submission.

First all tasks at a glance, with filters; then each task with its demonstrations, its attempts
beside the truth where that is known, the votes in words and the steps of programs; then who worked
when, and last the plan. page/ holds what stays the same: run.html, run.css and run.js, which draws
the tasks from the JSON that stands in the page.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from appliance.arc.read import read_json
from appliance.arc.submission import read_submission, score
from appliance.arc.task import Solutions, TaskSet
from appliance.arc.vote import DEFAULT_SELECTOR, SELECTORS, Candidate
from appliance.clock import format_duration
from appliance.errors import InputError
from appliance.foreign_text import as_shown
from appliance.record.coverage import SOLVED, coverage_of
from appliance.record.journal import Journal, StageRow
from appliance.record.legs import legs_of
from appliance.record.run_folder import RunFolder
from appliance.record.standing import SOURCES
from appliance.report.run_data import TaskRecord
from appliance.report.step_pictures import StepDrawer
from appliance.report.timeline import spans_of


@dataclass(frozen=True)
class Shown:
    """What goes into a page beside the run itself."""

    tasks: TaskSet | None = None  # None where nobody has them: attempts then stand alone
    solutions: Solutions | None = None  # None: not known
    notes: tuple[str, ...] = ()  # sentences for the reader
    pictures: str = ""  # of the whole run, as HTML


def render(folder: RunFolder, journal: Journal, shown: Shown) -> str:
    """The page as text."""
    records = _records(folder, journal, shown)
    with StepDrawer() as drawer:
        selector = _selector(folder)
        tasks = [record.data(selector, drawer.draw) for record in records]

    title = as_shown(folder.out.resolve().name)
    places = {record.task_id: place for place, record in enumerate(records)}
    data = {
        "tasks": tasks,
        "sources": SOURCES,
        "tiles": _tiles(folder, journal, shown, records),
        "timeline": _timeline(journal, places),
    }
    script = _file("run.js")
    # The pages of a browser end a script at "</script>", wherever it stands.
    in_page = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return Template(_file("run.html")).substitute(
        title=escape(title),
        subtitle=escape(as_shown(_subtitle(folder, journal))),
        style=_file("run.css"),
        summary="<br />".join(map(escape, coverage_of(journal).lines())),
        note="".join(f'<p class="note">{escape(n)}</p>' for n in (*shown.notes, *drawer.notes)),
        pictures=shown.pictures and f'<section id="pictures">{shown.pictures}</section>',
        plan=plan_table(folder.plan),
        data=in_page,
        script=script,
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _records(folder: RunFolder, journal: Journal, shown: Shown) -> list[TaskRecord]:
    """Every task of the submission with all that is known of it."""
    stages: dict[str, list[StageRow]] = defaultdict(list)
    for row in journal.stages():
        stages[row.task_id].append(row)
    candidates: dict[str, list[Candidate]] = defaultdict(list)
    for found in journal.candidates().values():
        for candidate in found:
            candidates[candidate.task_id].append(candidate)

    known = {task.task_id: task for task in shown.tasks or ()}
    solved = journal.fact(SOLVED, list[str] | None)
    return [
        TaskRecord(
            task_id=task_id,
            task=known.get(task_id),
            entries=entries,
            stages=stages[task_id],
            candidates=candidates[task_id],
            answers=(shown.solutions or {}).get(task_id, ()),
            was_solved=None if solved is None else task_id in solved,
        )
        for task_id, entries in read_submission(folder.submission).items()
    ]


def _tiles(
    folder: RunFolder, journal: Journal, shown: Shown, records: list[TaskRecord]
) -> list[list[str]]:
    """The figures at the top: name, value, and a word more."""
    judged = [record.is_solved for record in records if record.is_solved is not None]
    answered = sum(any(c.grid is not None for c in record.candidates) for record in records)
    tiles = []
    if judged:
        share = f"{sum(judged) / len(judged):.1%} of {len(judged)} tasks"
        tiles.append(["solved", str(sum(judged)), share])
    answers = {r.task_id: tuple(r.answers) for r in records if r.answers}
    if answers:
        submission = {r.task_id: r.entries for r in records}
        by_output = score(submission, answers)["by_output"]
        tiles.append(["score", f"{by_output:.1%}", "by test output, as Kaggle counts"])
    tiles.append(["answered", str(answered), f"of {len(records)} tasks, the rest are guesses"])

    worked_s = legs_of(journal).total_s
    if worked_s:
        tiles.append(["time", format_duration(worked_s), "that the run worked"])
    return tiles


def _subtitle(folder: RunFolder, journal: Journal) -> str:
    """What was run on what, as far as it is known."""
    plan = _json_object(folder.plan)
    parts = [
        journal.fact("tasks", str | None),
        journal.fact("model", str | None),
        plan.get("device") if isinstance(plan.get("device"), str) else None,
        "" if folder.report.is_file() else "not ended: as it stands now",
    ]
    return " · ".join(part for part in parts if part)


def _timeline(journal: Journal, places: Mapping[str, int]) -> dict[str, Any]:
    """Spans as [lane, kind, from, until, places of the tasks], and the names of the lanes."""
    rows = journal.stages()
    spans = spans_of(rows, legs_of(journal))
    is_told = any("worker" in row.detail for row in rows)
    lanes = sorted({span.lane for span in spans})
    names = []
    for lane in lanes:
        facts = journal.fact(f"worker-{lane}", dict[str, Any] | None) or {}
        kind = "search worker" if "search" in facts else "worker"
        names.append(f"{kind} {lane}" if is_told else f"row {lane + 1}")
    return {
        "lanes": names,
        "is_told": is_told,
        "spans": [
            [
                *(lanes.index(s.lane), s.kind, round(s.from_s, 1), round(s.until_s, 1)),
                [places[task_id] for task_id in s.task_ids if task_id in places],
            ]
            for s in spans
        ],
    }


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
        f'<tr><th scope="row">{escape(f"{part} {name}".strip())}</th>'
        f"<td>{escape(str(choice['value']))}</td>"
        f'<td class="quiet">{escape(str(choice["reason"]))}</td></tr>'
        for part, choices in parts.items()
        if isinstance(choices, dict)
        for name, choice in choices.items()
        if isinstance(choice, dict) and {"value", "reason"} <= set(choice)
    )
    if not rows:
        return f'<h2>Plan</h2><p class="quiet">{escape(f"{path} holds no plan")}</p>'
    head = "".join(f'<th scope="col">{name}</th>' for name in ("choice", "value", "reason"))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return (
        f'<h2>Plan</h2><div class="wide" tabindex="0" role="group" aria-label="Plan">{table}</div>'
    )


def _selector(folder: RunFolder) -> str:
    """How the run voted, as its settings say."""
    sample = _json_object(folder.config).get("sample")
    name = sample.get("selector") if isinstance(sample, dict) else None
    return name if isinstance(name, str) and name in SELECTORS else DEFAULT_SELECTOR


def _json_object(path: Path) -> Mapping[str, Any]:
    """What the file holds; nothing where it cannot be read, for it only adds to the page."""
    try:
        value = read_json(path)
    except InputError:
        return {}
    return value if isinstance(value, dict) else {}


def _file(name: str) -> str:
    return (files("appliance.report") / "page" / name).read_text(encoding="utf-8")
