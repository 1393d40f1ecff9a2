"""What a run tells last: where its answers come from, what they took, and where to read more."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection

from appliance.clock import format_duration
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from appliance.record.standing import SOURCES, SOURCES_FACT

WORK = ("search", "quick", "deep")
"""Stages whose seconds are counted: training and the writing of programs are parts of the last."""


def closing_lines(journal: Journal, solved: Collection[str] | None) -> list[str]:
    """A table with a row for each source of answers: its tasks, how many of them are solved, and
    the time of workers that they took.

    solved: task ids; None where the answers are not known.
    """
    found = journal.fact(SOURCES_FACT, dict[str, str] | None) or {}
    known = {task_id: source for task_id, source in found.items() if source in SOURCES}
    sources = {task_id: known.get(task_id, "guess") for task_id in journal.num_tests()}
    seconds = dict.fromkeys(SOURCES, 0.0)
    for stage in journal.stages():
        if stage.stage in WORK and stage.task_id in sources:
            seconds[sources[stage.task_id]] += stage.seconds

    tasks = Counter(sources.values())
    right = None if solved is None else Counter(sources[t] for t in solved if t in sources)

    def row(name: str, of: Collection[str]) -> list[str]:
        num_solved = "" if right is None else str(sum(right[source] for source in of))
        taken = format_duration(sum(seconds[source] for source in of))
        return [name, str(sum(tasks[source] for source in of)), num_solved, taken]

    return _aligned(
        [
            ["answers from", "tasks", "" if right is None else "solved", "workers' time"],
            *(row(text, [source]) for source, text in SOURCES.items() if tasks[source]),
            row("all", SOURCES),
        ]
    )


def report_lines(folder: RunFolder) -> list[str]:
    """Where the figures are, and how to get the page."""
    out = shlex.quote(str(folder.out))
    page = shlex.quote(str(folder.run / "report.html"))
    return [
        f"report: {folder.report}",
        f"to look at every task: appliance report {out} --out {page}",
    ]


def _aligned(rows: list[list[str]]) -> list[str]:
    """The first column to the left, the others to the right; empty columns are left out."""
    columns = [column for column in zip(*rows, strict=True) if any(column)]
    widths = [max(map(len, column)) for column in columns]
    return [
        "  ".join(
            text.ljust(width) if number == 0 else text.rjust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in zip(*columns, strict=True)
    ]
