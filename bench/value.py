"""Whether it pays to buy score per second: a replay of recorded runs under three orders of work.

    python -m bench.value RUN... --search RUN --tasks CHALLENGES

RUN... are --out folders of finished runs of the model alone (`--strategy transduction`), the RUN
of --search is one of the search alone, all over the tasks of --tasks, which must have solutions.
What a job gave and the seconds that it took are as recorded: the quick pass, the deep rounds in
their order, and the search. So an order of work decides only which jobs fit the budget.

  passes   as a run does: quick, search, the first deep round cheap to dear, then further rounds
           where the vote is least certain; tasks that the search is sure of last
  static   every task has the same share of the time, and does its jobs in that order while they fit
  value    quick first, so that every task is answered; then always the job with the most expected
           gain per second

The expected gain of a job is the mean change in solved tasks that jobs of its kind had, where the
vote was as certain as here. It is learnt on the other half of the tasks, over all runs. `value` is
also told the true seconds of every job, which a run has to guess, so it is favoured. A job that
does not fit the time is not begun.

Figures are means over tasks and runs: what two attempts solve, and where the right grid is among
the answers. Differences to `passes` are paired by task, with 95 % intervals (bootstrap over tasks).
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from appliance.arc.source import load_tasks
from appliance.arc.task import Task, TaskSet
from appliance.arc.vote import Candidate
from appliance.record.experiments.estimates import bootstrap, paired_difference
from appliance.record.figures import grids_by_task, votes_by_task
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from appliance.run.schedule.certainty import SETTLED_MARGIN, TaskVotes, is_found
from bench.arguments import bench_parser

BUDGETS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Seconds of one worker for each task."""

NUM_WORKERS = 2

FIGURES = ("solved", "covered")
"""Of a `Standing`."""

FEW = 5
"""Jobs of a kind that must have been seen; with fewer, their gain is that of all rounds alike."""


@dataclass(frozen=True)
class Job:
    """A job that was recorded: the search of a task, or the number-th job of the model."""

    task_id: str
    number: int  # 0: the search; 1: quick; 2: the first deep round; ...
    seconds: float

    @property
    def kind(self) -> str:
        return ("search", "quick", "deep")[self.number] if self.number < 3 else "again"


@dataclass(frozen=True)
class Standing:
    """What a task has after some of its jobs."""

    solved: float  # share of its test outputs that two attempts solve
    covered: float  # share that has the right grid among its answers
    margin: float | None  # of the least certain vote; None without candidates
    is_found: bool  # the search is sure

    @property
    def level(self) -> str:
        """How certain it is, in a few levels."""
        if self.is_found:
            return "found"
        if self.margin is None:
            return "nothing"
        return "settled" if self.margin >= SETTLED_MARGIN else f"{self.margin:.1f}"


@dataclass(frozen=True)
class Recorded:
    """A run of the model and the search, as jobs and what a task has after them."""

    jobs: Mapping[str, tuple[Job, ...]]  # of each task: the search, then those of the model
    standings: Mapping[tuple[str, bool, int], Standing]
    """By task, whether it was searched, and how many jobs of the model were done."""


class Replay:
    """The recorded jobs, given out by an order of work until the time is over."""

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded
        self.searched: set[str] = set()
        self.num_done: dict[str, int] = defaultdict(int)

    def standing(self, task_id: str) -> Standing:
        done = (task_id, task_id in self.searched, self.num_done[task_id])
        return self.recorded.standings[done]

    def open_jobs(self) -> list[Job]:
        """The search and the next job of the model of every task, as far as they are not done."""
        found = []
        for task_id, (search, *model) in self.recorded.jobs.items():
            if task_id not in self.searched:
                found.append(search)
            found += model[self.num_done[task_id] :][:1]
        return found

    def take(self, job: Job) -> None:
        if job.number:
            self.num_done[job.task_id] += 1
        else:
            self.searched.add(job.task_id)


Order = Callable[[Replay, Sequence[Job]], Job]
"""Which of the jobs that fit the time comes next."""


def by_passes(replay: Replay, fitting: Sequence[Job]) -> Job:
    kinds = ("quick", "search", "deep", "again")

    def turn(job: Job) -> tuple[float, ...]:
        standing = replay.standing(job.task_id)
        is_late = standing.is_found and job.number > 1
        by = (standing.margin or 0.0) if job.kind == "again" else job.seconds
        return is_late, kinds.index(job.kind), max(3, job.number), by

    return min(fitting, key=turn)


def by_value(gains: Mapping[str, Gains], replay: Replay, fitting: Sequence[Job]) -> Job:
    """gains: what is expected of the jobs of each task."""
    quick = [job for job in fitting if job.kind == "quick"]
    if quick:
        return min(quick, key=lambda job: job.seconds)

    def worth(job: Job) -> tuple[float, float]:
        expected = gains[job.task_id].expected(job, replay.standing(job.task_id))
        return expected / max(1e-3, job.seconds), -job.seconds

    return max(fitting, key=worth)


class Gains:
    """What a job adds to the solved tasks on average, by its kind and where its task stands."""

    def __init__(self, runs: Iterable[Recorded], task_ids: Iterable[str]) -> None:
        self._by_level: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._by_kind: dict[str, list[float]] = defaultdict(list)
        ids = set(task_ids)
        for recorded in runs:
            for (task_id, is_searched, num), before in recorded.standings.items():
                if task_id not in ids:
                    continue
                if not is_searched:
                    after = recorded.standings[task_id, True, num]
                    self._note("search", before, after)
                if num + 1 < len(recorded.jobs[task_id]):
                    after = recorded.standings[task_id, is_searched, num + 1]
                    self._note(recorded.jobs[task_id][num + 1].kind, before, after)

    def _note(self, kind: str, before: Standing, after: Standing) -> None:
        gain = after.solved - before.solved
        self._by_level[kind, before.level].append(gain)
        self._by_kind[kind].append(gain)

    def expected(self, job: Job, standing: Standing) -> float:
        like_it = self._by_level[job.kind, standing.level]
        return float(np.mean(like_it if len(like_it) >= FEW else self._by_kind[job.kind]))


def ends(recorded: Recorded, budget_s: float, order: Order) -> dict[str, Standing]:
    """What each task has when the budget, of each worker, is over."""
    replay, free_s = Replay(recorded), [0.0] * NUM_WORKERS
    while True:
        free_s.sort()
        taken = [job for job in replay.open_jobs() if free_s[0] + job.seconds <= budget_s]
        if not taken:
            break
        job = order(replay, taken)
        free_s[0] += job.seconds
        replay.take(job)  # its outcome is known at once: with two workers that hardly matters
    return {task_id: replay.standing(task_id) for task_id in recorded.jobs}


def static_ends(recorded: Recorded, share_s: float) -> dict[str, Standing]:
    """The same where every task has its share, and what one does not need is lost."""
    found = {}
    for task_id, (search, quick, *deep) in recorded.jobs.items():
        left_s, is_searched, num = share_s, False, 0
        for job in (quick, search, *deep):
            if job.seconds > left_s:
                break
            left_s -= job.seconds
            is_searched, num = is_searched or not job.number, num + bool(job.number)
        found[task_id] = recorded.standings[task_id, is_searched, num]
    return found


def recorded_of(run: Path, search: Path, tasks: TaskSet) -> Recorded:
    """The jobs of both runs that ended with answers, and what they add up to."""
    jobs: dict[str, tuple[Job, ...]] = {}
    standings = {}
    with closing(opened(run)) as model, closing(opened(search)) as searcher:
        ended = [row for row in model.stages() if row.stage in ("quick", "deep")]
        searched = {row.task_id: row.seconds for row in searcher.stages() if row.stage == "search"}

        for task in tasks:
            rows = [row for row in ended if row.task_id == task.task_id and row.at_s is not None]
            rows.sort(key=lambda row: row.at_s or 0.0)
            if task.task_id not in searched or not rows:
                continue
            found = searcher.candidates(task.task_id)
            pools = [model.candidates(task.task_id, until_s=row.at_s) for row in rows]

            all_s = [searched[task.task_id], *(row.seconds for row in rows)]
            jobs[task.task_id] = tuple(Job(task.task_id, n, s) for n, s in enumerate(all_s))
            for num, pool in enumerate([{}, *pools]):
                for is_searched in (False, True):
                    standing = standing_of(task, tasks, pool | (found if is_searched else {}))
                    standings[task.task_id, is_searched, num] = standing
    return Recorded(jobs, standings)


def opened(run: Path) -> Journal:
    return Journal(RunFolder(run).existing_journal())


def standing_of(
    task: Task, tasks: TaskSet, candidates: Mapping[str, Sequence[Candidate]]
) -> Standing:
    assert tasks.solutions is not None
    answers = {task.task_id: tasks.solutions[task.task_id]}
    solved = votes_by_task(candidates, answers)[task.task_id]["vote_2"]
    everything = [c for pool in candidates.values() for c in pool]
    covered = grids_by_task(everything, answers).get(task.task_id, {}).get("pass_n", 0.0)
    margin = TaskVotes(task, everything).certainty().margin if everything else None
    return Standing(solved, covered, margin, is_found(task, everything))


def _cell(
    by_run: Sequence[Mapping[str, Standing]],
    passes: Sequence[Mapping[str, Standing]],
    figure: str,
    task_ids: Sequence[str],
) -> str:
    """A figure over tasks, and the difference to that of `passes`."""

    def values(runs: Sequence[Mapping[str, Standing]]) -> list[float]:
        """Of every task, the mean over runs."""
        return [float(np.mean([getattr(run[t], figure) for run in runs])) for t in task_ids]

    found = values(by_run)
    low, high = bootstrap(found)
    difference = paired_difference(found, values(passes))
    least, most = difference.interval
    return (
        f"{figure} {np.mean(found):.3f} [{low:.3f}, {high:.3f}]  "
        f"{difference.mean:+.3f} [{least:+.3f}, {most:+.3f}]"
    )


def main() -> int:
    parser = bench_parser("value", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs of the model")
    parser.add_argument("--search", type=Path, required=True, help="folder of a run of the search")
    parser.add_argument("--tasks", required=True, help="with solutions")
    args = parser.parse_args()

    tasks = load_tasks(args.tasks)
    runs = [recorded_of(run, args.search, tasks) for run in args.runs]
    ids = sorted(set.intersection(*(set(run.jobs) for run in runs)))
    if not ids:
        raise SystemExit("no task has jobs in all of these runs")
    halves = ids[::2], ids[1::2]
    of_others = [Gains(runs, half) for half in halves[::-1]]
    gains = {t: table for half, table in zip(halves, of_others, strict=True) for t in half}
    orders: dict[str, Order] = {"passes": by_passes, "value": partial(by_value, gains)}
    print(f"{len(ids)} tasks, {len(runs)} runs, {NUM_WORKERS} workers")

    for seconds in BUDGETS:
        budget_s = seconds * len(ids) / NUM_WORKERS
        found = {
            name: [ends(run, budget_s, order) for run in runs] for name, order in orders.items()
        }
        found["static"] = [static_ends(run, seconds) for run in runs]
        for name, by_run in found.items():
            cells = [_cell(by_run, found["passes"], figure, ids) for figure in FIGURES]
            print(f"{seconds:4.0f} s a task  {name:8} {'   '.join(cells)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
