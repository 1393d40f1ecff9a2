"""What each worker of a run did, from when to when, told by its journal alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.record.journal import StageRow
from appliance.record.legs import Legs

PARTS = ("programs", "train")
"""Of a deep job, in their order, each with a row of its own; the rest of its time is sampling."""

TOGETHER_S = 0.5
"""The tasks of a job are written down one after the other, faster than that."""


@dataclass(frozen=True)
class Span:
    """What a worker did, in seconds that the run had worked by then."""

    lane: int  # number of the worker, or of a row that has room, where that is not known
    kind: str  # search, quick, programs, train or sample
    from_s: float
    until_s: float
    task_ids: tuple[str, ...]


def spans_of(rows: Sequence[StageRow], legs: Legs) -> list[Span]:
    """By their begin; none for a journal without times of stages.

    Tasks that were answered in the same batches are one span.
    """
    parts: dict[tuple[str, int, float], dict[str, float]] = defaultdict(dict)
    ended: list[StageRow] = []
    for row in sorted(rows, key=lambda row: row.at_s or 0.0):
        if row.at_s is not None and row.stage in PARTS:
            parts[row.task_id, row.round, row.at_s][row.stage] = row.seconds
        elif row.at_s is not None:
            ended.append(row)

    begun = sorted(_jobs(ended), key=_begin_s)
    free_s: list[float] = []  # by lane: the end of its last span
    spans = []
    for found in begun:
        first, begin_s, end_s = found[0], _begin_s(found), found[-1].at_s or 0.0
        lane = first.detail.get("worker")
        if type(lane) is not int or lane < 0:
            lane = next((i for i, s in enumerate(free_s) if s <= begin_s + 0.5), len(free_s))
            free_s += [0.0] * (lane + 1 - len(free_s))
            free_s[lane] = end_s

        own = parts.get((first.task_id, first.round, end_s), {}) if first.stage == "deep" else {}
        cuts = [(name, own[name]) for name in PARTS if own.get(name)]
        ids, at_s = tuple(row.task_id for row in found), begin_s
        for kind, seconds in [*cuts, (_rest(first.stage), end_s)]:
            until_s = min(end_s, at_s + seconds)
            if until_s > at_s:
                spans.append(Span(lane, kind, legs.worked_s(at_s), legs.worked_s(until_s), ids))
            at_s = until_s
    return spans


def _jobs(ended: Sequence[StageRow]) -> list[list[StageRow]]:
    """Rows of the same batches put together. ended: in the order in which they were written."""
    jobs: list[list[StageRow]] = []
    last: dict[object, list[StageRow]] = {}  # quick jobs, by worker
    for row in ended:
        worker = row.detail.get("worker")
        job = last.get(worker) if row.stage == "quick" else None
        if job and (row.at_s or 0.0) - (job[-1].at_s or 0.0) <= TOGETHER_S:
            job.append(row)
            continue
        jobs.append([row])
        if row.stage == "quick":
            last[worker] = jobs[-1]
    return jobs


def _begin_s(rows: Sequence[StageRow]) -> float:
    """Tasks of one job share its time equally, so together they took all of it."""
    return (rows[-1].at_s or 0.0) - sum(row.seconds for row in rows)


def _rest(stage: str) -> str:
    return "sample" if stage == "deep" else stage
