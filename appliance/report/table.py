"""Experiments as one table: what each reached, and how it differs from one of them.

The same rows as a table for a terminal, as Markdown, as CSV and as JSON. Figures are shares from 0
to 1 unless their name says otherwise; brackets hold 95 % intervals over tasks.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.clock import format_duration
from appliance.foreign_text import as_shown
from appliance.record.experiments.estimates import Difference, paired_difference
from appliance.record.experiments.experiment import Column, Count, Experiment

SCORES = ("score_by_output", "score_by_task", "vote_1", "vote_2")
GRIDS = (
    "accuracy", "correct_pixels", "max_correct_pixels", "correct_size", "any_correct_size",
    "pass_n", "unanswered",
)  # fmt: skip
PROGRAMS = (
    "valid_code", "valid_outputs", "unique_outputs",
    "train_pixel_similarity", "train_correct_grids", "train_pass_rate", "train_pass@n",
    "test_pixel_similarity", "test_correct_grids", "test_pass_rate", "test_pass@n",
    "pass_rate", "pass@n",
)  # fmt: skip

WIDTH = 110
"""Characters of a line in a terminal; more columns go into a further block of the table."""


@dataclass(frozen=True)
class Against:
    """How an experiment differs from the base, over the tasks that both have."""

    name: str
    num_tasks: int
    differences: dict[str, Difference]  # by column
    newly_solved: list[str]  # tasks that the base does not solve
    lost: list[str]  # tasks that only the base solves


@dataclass(frozen=True)
class Comparison:
    """The rows, and what each differs from the base by."""

    rows: Sequence[Experiment]
    pool: str  # whose predictions the figures of grids and programs are over
    base: Experiment | None = None

    def columns(self) -> list[str]:
        """The figures that any row has: in the order of `evaluate`, then others as they come."""
        had = dict.fromkeys(name for row in self.rows for name in row.columns)
        known = [name for name in (*SCORES, *GRIDS, *PROGRAMS) if name in had]
        return [*known, *(name for name in had if name not in known)]

    def against(self) -> list[Against]:
        """Every row but the base, against it; empty without a base."""
        base = self.base
        others = [row for row in self.rows if base is not None and row is not base]
        return [_against(row, base) for row in others if base is not None]


def _against(row: Experiment, base: Experiment) -> Against:
    differences = {}
    for name, column in row.columns.items():
        other = base.columns.get(name)
        both = [i for i in column.by_task if other is not None and i in other.by_task]
        # By output the tasks count as much as they have outputs; task by task it is by_task again.
        if both and other is not None and name != "score_by_output":
            differences[name] = paired_difference(
                [column.by_task[i] for i in both], [other.by_task[i] for i in both]
            )

    own, bases = row.solved, base.solved
    both = [i for i in own if i in bases]
    return Against(
        name=row.name,
        num_tasks=len(both),
        differences=differences,
        newly_solved=[i for i in both if own[i] and not bases[i]],
        lost=[i for i in both if bases[i] and not own[i]],
    )


def as_text(comparison: Comparison) -> str:
    """For a terminal: blocks of at most WIDTH characters, each with the name of every row."""
    lines: list[str] = []
    for block in _tables(comparison):
        for part in _parts(block):
            lines += [*_aligned(part), ""]
    return "\n".join([*lines, *_legend(comparison)])


def as_markdown(comparison: Comparison) -> str:
    """One table, and a second one of the differences from the base."""
    tables = [_markdown_table(block) for block in _tables(comparison)]
    legend = "\n".join(f"- {_escaped(line)}" for line in _legend(comparison))
    return "\n\n".join([*tables, legend])


def as_csv(comparison: Comparison) -> str:
    """One line a row. NAME_low and NAME_high are the interval; with a base also NAME_difference,
    its interval, and NAME_p of the sign test."""
    against = {a.name: a for a in comparison.against()}
    records = []
    for row in comparison.rows:
        record: dict[str, Any] = {"experiment": row.name, "kind": row.kind}
        record |= _plain_facts(row, comparison.pool)
        for name, column in row.columns.items():
            record[name] = column.value
            interval = column.interval()
            if interval:
                record[f"{name}_low"], record[f"{name}_high"] = interval
        other = against.get(row.name)
        for name, difference in other.differences.items() if other else ():
            record[f"{name}_difference"] = difference.mean
            record[f"{name}_difference_low"], record[f"{name}_difference_high"] = (
                difference.interval
            )
            record[f"{name}_p"] = difference.p_value
        if other:
            record["newly_solved"] = " ".join(other.newly_solved)
            record["lost"] = " ".join(other.lost)
        records.append({key: value for key, value in record.items() if value is not None})

    # A figure stands beside its interval, whichever row has it first.
    heads = dict.fromkeys(key for record in records for key in record)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(heads), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().removesuffix("\n")


def as_json(comparison: Comparison) -> str:
    """Everything: `experiments`, in their order, and with a base `differences`."""
    value: dict[str, Any] = {
        "pool": comparison.pool,
        "experiments": [
            {
                "name": row.name,
                "kind": row.kind,
                "path": str(row.path),
                **_plain_facts(row, comparison.pool),
                "figures": {name: _json_column(c) for name, c in row.columns.items()},
                "solved": [i for i, is_solved in row.solved.items() if is_solved],
                "notes": list(row.notes),
            }
            for row in comparison.rows
        ],
    }
    if comparison.base is not None:
        value["base"] = comparison.base.name
        value["differences"] = [
            {
                "name": a.name,
                "num_tasks": a.num_tasks,
                "figures": {
                    name: {
                        "mean": d.mean,
                        "interval": d.interval,
                        "more": d.num_more,
                        "less": d.num_less,
                        "p": d.p_value,
                        "num_tasks": d.num_tasks,
                    }
                    for name, d in a.differences.items()
                },
                "newly_solved": a.newly_solved,
                "lost": a.lost,
            }
            for a in comparison.against()
        ]
    return json.dumps(value, indent=1)


FORMATS = {"table": as_text, "markdown": as_markdown, "csv": as_csv, "json": as_json}
"""By the name that --format takes."""

Block = list[list[str]]
"""Rows of cells, the heads first and the name of a row in its first cell."""


def _plain_facts(row: Experiment, pool: str) -> dict[str, Any]:
    """What is known of a row beside its figures; None where it is not."""
    facts: dict[str, Any] = {
        "tasks": row.num_tasks,
        "steps": row.steps,
        "seconds": row.seconds,
        "tokens": row.tokens,
        "device": row.device,
        "pool": pool if row.kind == "run" else None,
    }
    for name, count in (("n", row.grids_n), ("programs_n", row.programs_n)):
        facts[name] = count.mean if count else None
        facts[f"{name}_least"] = count.least if count else None
        facts[f"{name}_most"] = count.most if count else None
        facts[f"{name}_tasks"] = count.num_tasks if count else None
    return facts


def _json_column(column: Column) -> dict[str, Any]:
    return {"value": column.value, "interval": column.interval(), "by_task": dict(column.by_task)}


def _cells(comparison: Comparison) -> Iterator[tuple[str, list[str]]]:
    """Each column of the table as its head and its cells. Those that no row has are left out."""
    rows = comparison.rows

    def shown(head: str, texts: list[str]) -> Iterator[tuple[str, list[str]]]:
        if any(texts):
            yield head, texts

    if len({row.kind for row in rows}) > 1:
        yield "kind", [row.kind for row in rows]
    yield from shown("tasks", [_text(row.num_tasks) for row in rows])
    yield from shown("steps", [_text(row.steps) for row in rows])
    yield from shown("time", [_duration(row.seconds) for row in rows])
    yield from shown("tokens", [_short(row.tokens) for row in rows])
    yield from shown("device", [as_shown(row.device or "") for row in rows])

    counts = {GRIDS[0]: ("n", "grids_n"), PROGRAMS[0]: ("programs n", "programs_n")}
    for name in comparison.columns():
        if name in counts:
            head, attribute = counts[name]
            yield from shown(head, [_count(row, getattr(row, attribute)) for row in rows])
        yield name, [_figure(row.columns.get(name)) for row in rows]


def _tables(comparison: Comparison) -> list[Block]:
    differences = _difference_table(comparison)
    return [_table(comparison), *([differences] if differences else [])]


def _table(comparison: Comparison) -> Block:
    """All columns of all rows."""
    names = [row.name for row in comparison.rows]
    return _block("experiment", names, list(_cells(comparison)))


def _difference_table(comparison: Comparison) -> Block | None:
    """All differences from the base; None without a base, or where no row shares a task with it."""
    against = [a for a in comparison.against() if a.differences]
    if comparison.base is None or not against:
        return None

    columns = [("tasks", [str(a.num_tasks) for a in against])]
    for name in comparison.columns():
        if any(name in a.differences for a in against):
            columns.append((name, [_difference(a, name) for a in against]))
    return _block(f"minus {comparison.base.name}", [a.name for a in against], columns)


def _block(head: str, names: Sequence[str], columns: Sequence[tuple[str, list[str]]]) -> Block:
    heads = [as_shown(head), *(name for name, _ in columns)]
    rows = [[as_shown(name), *(texts[i] for _, texts in columns)] for i, name in enumerate(names)]
    return [heads, *rows]


def _parts(block: Block) -> Iterator[Block]:
    """Parts of at most WIDTH characters a line, without the rows that a part says nothing of."""
    columns = list(zip(*block, strict=True))
    widths = [2 + max(map(len, column)) for column in columns]
    taken, width = [0], widths[0]

    for number in range(1, len(columns)):
        if len(taken) > 1 and width + widths[number] > WIDTH:
            yield _filled([[row[i] for i in taken] for row in block])
            taken, width = [0], widths[0]
        taken.append(number)
        width += widths[number]
    yield _filled([[row[i] for i in taken] for row in block])


def _filled(block: Block) -> Block:
    heads, *rows = block
    return [heads, *(row for row in rows if any(row[1:]))]


def _aligned(block: Block) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*block, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in block
    ]


def _markdown_table(block: Block) -> str:
    heads, *rows = [[_escaped(cell) for cell in row] for row in block]
    rule = ["---", *("---:" for _ in heads[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rule, *rows))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _legend(comparison: Comparison) -> list[str]:
    """What the brackets mean, which tasks changed, and what must be known of the rows."""
    lines = []
    if any(c.by_task for row in comparison.rows for c in row.columns.values()):
        lines.append("in brackets: 95 % intervals over tasks, by bootstrap (Wilson's at 0 and 1)")
    if any(row.kind == "run" for row in comparison.rows):
        whose = {"all": "every stage", "quick": "the quick pass", "deep": "the deep pass"}
        lines.append(
            f"n: predictions of {whose[comparison.pool]} for a test output, or programs for a task"
        )
    against = comparison.against()
    if comparison.base is not None and any(a.differences for a in against):
        lines.append(
            f"minus {as_shown(comparison.base.name)}: mean difference task by task, "
            "[95 % interval], tasks above : below, and p of the two-sided sign test (exact "
            "binomial, ties left out)"
        )
    for other in against:
        if not other.num_tasks:
            lines.append(
                as_shown(f"{other.name}: shares no task with the base that is known by itself")
            )
            continue
        for what, ids in (("newly solved", other.newly_solved), ("lost", other.lost)):
            told = ", ".join(ids) or "none"
            lines.append(as_shown(f"{other.name}: {what} ({len(ids)}): {told}"))
    lines += [as_shown(f"{row.name}: {note}") for row in comparison.rows for note in row.notes]
    return lines


def _text(value: int | None) -> str:
    return "" if value is None else str(value)


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else format_duration(seconds)


def _short(count: int | None) -> str:
    """1234567 as "1.23 M"."""
    if count is None:
        return ""
    for limit, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}"
    return str(count)


def _count(row: Experiment, count: Count | None) -> str:
    """Such as "8", or "5.8 (1-10), 4 tasks" where it differs and not every task has any."""
    if count is None:
        return ""
    text = str(count.most)
    if count.least != count.most:
        text = f"{count.mean:.1f} ({count.least}-{count.most})"
    is_part = count.num_tasks is not None and count.num_tasks != row.num_tasks
    return f"{text}, {count.num_tasks} tasks" if is_part else text


def _figure(column: Column | None) -> str:
    if column is None:
        return ""
    interval = column.interval()
    return f"{column.value:.4f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


def _difference(against: Against, name: str) -> str:
    """Such as "+0.1667 [+0.03, +0.30] 5:0 p=0.062", and the tasks where these are fewer."""
    difference = against.differences.get(name)
    if difference is None:
        return ""
    low, high = difference.interval
    counts = f"{difference.num_more}:{difference.num_less}"
    text = f"{difference.mean:+.4f} [{low:+.2f}, {high:+.2f}] {counts} p={difference.p_value:.2g}"
    is_part = difference.num_tasks != against.num_tasks
    return f"{text}, {difference.num_tasks} tasks" if is_part else text
