"""A training, or figures kept by bench.ttt, as rows of figures: both are known from their logs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from appliance.arc.metrics import Figures
from appliance.arc.read import read_json
from appliance.errors import ApplianceError, InputError
from appliance.record.experiments.experiment import Column, Count, Experiment
from appliance.yaml_text import read_yaml

FACTS = ("step", "tokens", "tokens_per_s", "share_done", "dataset", "learning_rate", "grad_norm")
"""Keys of a line that say where a training stands; the others are figures of it."""

RESULTS = ("adapter", "model")
"""Folders that a training leaves when it has ended."""


MOST = 1e12
"""Beyond this no loss, no time and no number of tokens was measured."""


@dataclass(frozen=True)
class TrainingLog:
    """What a training has written down, one entry a step, in the order of the steps."""

    path: Path
    steps: Sequence[Mapping[str, Any]]  # of metrics.jsonl: step, loss, tokens, ...
    evaluations: Sequence[Mapping[str, Any]]  # of evaluation.jsonl: step and figures
    notes: Sequence[str] = ()

    def tokens_at(self, step: float) -> float:
        """Tokens that it had been trained on at that step, between two lines by proportion."""
        known = [(0.0, 0.0)]
        known += [(float(line["step"]), float(line.get("tokens", 0))) for line in self.steps]
        for (step_a, tokens_a), (step_b, tokens_b) in pairwise(known):
            if step_a <= step <= step_b:
                share = (step - step_a) / max(step_b - step_a, 1e-9)
                return tokens_a + share * (tokens_b - tokens_a)
        return known[-1][1]

    def figures(self) -> dict[str, list[tuple[float, float]]]:
        """Every figure of either file as (step, value); what is no finite number is left out."""
        found: dict[str, list[tuple[float, float]]] = {}
        for line in (*self.steps, *self.evaluations):
            for name, value in line.items():
                if name not in FACTS and _is_finite(value):
                    found.setdefault(name, []).append((float(line["step"]), float(value)))
        return found


def open_training_log(path: Path) -> TrainingLog:
    """Raises InputError for a training without a line, or a file that is no log of one."""
    notes: list[str] = []
    steps = _lines(path / "metrics.jsonl", notes)
    evaluations = _lines(path / "evaluation.jsonl", notes)
    if not steps and not evaluations:
        raise InputError(
            f"{path}: the training has written nothing down yet",
            expected="a line in metrics.jsonl or evaluation.jsonl",
            remedy="wait for it, or leave it out",
        )
    if not any((path / name).is_dir() for name in RESULTS):
        notes.append("the training has not ended: these are its figures so far")
    return TrainingLog(path, steps, evaluations, tuple(notes))


def read_training(name: str, path: Path) -> Experiment:
    """Its last loss and its last evaluation. Raises as `open_training_log` does."""
    log = open_training_log(path)
    made = _made_with(path)
    columns = {figure: Column(values[-1][1]) for figure, values in log.figures().items()}
    last = log.steps[-1] if log.steps else {}
    tasks, views = _evaluated(path)
    return Experiment(
        name=name,
        path=path,
        kind="training",
        columns=columns,
        num_tasks=tasks,
        grids_n=None if views is None else Count(views, float(views), views),
        seconds=_number(made.get("seconds")) or _step_seconds(log.steps),
        tokens=_whole(last.get("tokens")),
        device=_device(made),
        steps=max(int(line["step"]) for line in (*log.steps, *log.evaluations)),
        notes=log.notes,
    )


def read_bench(name: str, path: Path) -> list[Experiment]:
    """One experiment for each row of the bench, the mean over its seeds task by task.

    Raises InputError for a file of another form, or for seeds that were measured on other tasks.
    """
    by_row: dict[str, list[tuple[Path, Mapping[str, Figures]]]] = {}
    sets: dict[str, Any] = {}
    for file in sorted([*path.glob("*-seed*.json"), *path.glob("figures/*-seed*.json")]):
        facts, figures = _kept(file)
        row = file.stem.rpartition("-seed")[0]
        by_row.setdefault(row, []).append((file, figures))
        if sets.setdefault(row, facts[0]) != facts[0]:
            raise InputError(
                f"{file}: measured on other tasks than the other seeds of {row}",
                expected="one set of tasks for all seeds",
                remedy="keep the figures of one set in a folder",
            )
    return [_bench_row(f"{name}/{row}", path, seeds) for row, seeds in by_row.items()]


def _bench_row(
    name: str, path: Path, seeds: Sequence[tuple[Path, Mapping[str, Figures]]]
) -> Experiment:
    ids = [i for i in seeds[0][1] if all(i in figures for _, figures in seeds)]
    if not ids:
        raise InputError(
            f"{seeds[0][0]}: no task that every seed has",
            expected="figures of tasks",
            remedy="measure it again",
        )
    by_task = {
        figure: {i: sum(found[i][figure] for _, found in seeds) / len(seeds) for i in ids}
        for figure in seeds[0][1][ids[0]]
        if all(figure in found[i] for _, found in seeds for i in ids)
    }
    minutes = by_task.pop("minutes", None)
    return Experiment(
        name=name,
        path=path,
        kind="bench",
        columns={figure: Column.mean_of(values) for figure, values in by_task.items()},
        num_tasks=len(ids),
        seconds=None if minutes is None else 60 * sum(minutes.values()),
        notes=(f"the mean of {len(seeds)} seeds",) if len(seeds) > 1 else (),
    )


def _kept(path: Path) -> tuple[list[Any], Mapping[str, Figures]]:
    """The facts, and the figures by task."""
    value = read_json(path)
    record = value if isinstance(value, dict) else {}
    facts, figures = record.get("facts"), record.get("figures")
    if isinstance(facts, list) and facts and isinstance(figures, dict):
        is_table = all(
            isinstance(found, dict) and all(map(_is_finite, found.values()))
            for found in figures.values()
        )
        if is_table:
            return facts, figures
    raise InputError(
        f"{path}: not figures that bench.ttt has kept",
        expected='{"facts": [...], "figures": {task id: {name: number}}}',
        remedy="pass the folder that the bench wrote them to",
    )


def _lines(path: Path, notes: list[str]) -> list[Mapping[str, Any]]:
    """The entries of the file, one a step: a resumed training has written some steps twice."""
    by_step: dict[int, Mapping[str, Any]] = {}
    for number, (text, is_last) in enumerate(_texts(path), 1):
        try:
            line = json.loads(text)
            step = line["step"]
            is_line = type(step) is int and 0 <= step < MOST
        except (ValueError, RecursionError, TypeError, KeyError):
            is_line = False
        if is_line:
            by_step[step] = line
        elif is_last:  # a kill, or a training that is writing just now
            notes.append(f"the last line of {path.name} is cut off and left out")
        else:
            raise InputError(
                f"{path}, line {number}: not an entry of a training",
                expected='one JSON object a line, with a "step"',
                remedy="remove that line, or leave the training out",
            )
    return [by_step[step] for step in sorted(by_step)]


def _texts(path: Path) -> Iterator[tuple[str, bool]]:
    """Each line that is not empty, and whether it is the last one."""
    if not path.is_file():
        return
    try:
        texts = path.read_bytes().decode("utf-8", "replace").split("\n")
    except OSError as fault:
        raise InputError(
            f"{path}: {fault.strerror}", expected="a file that can be read", remedy="copy it again"
        ) from None
    filled = [text for text in texts if text.strip()]
    for number, text in enumerate(filled, 1):
        yield text, number == len(filled)


def _step_seconds(steps: Sequence[Mapping[str, Any]]) -> float | None:
    """Of the steps alone, without evaluations: each line tells the speed since the one before."""
    total, before = 0.0, 0.0
    for line in steps:
        tokens, speed = _number(line.get("tokens")), _number(line.get("tokens_per_s"))
        if tokens is None or not speed:
            return None
        total += (tokens - before) / speed
        before = tokens
    return total or None


def _made_with(path: Path) -> Mapping[str, Any]:
    """What the training says of its machine; nothing where it says nothing."""
    try:
        value = read_json(path / "made_with.json")
    except ApplianceError:
        return {}
    return value if isinstance(value, dict) else {}


def _device(made: Mapping[str, Any]) -> str | None:
    """That of its last start."""
    sessions = made.get("sessions")
    last = sessions[-1] if isinstance(sessions, list) and sessions else None
    device = last.get("device") if isinstance(last, dict) else None
    return device if isinstance(device, str) else None


def _evaluated(path: Path) -> tuple[int | None, int | None]:
    """Tasks and views of its evaluation, as its recipe says; None where it does not."""
    try:
        recipe = read_yaml(path / "recipe.yaml", kind="recipe")
    except ApplianceError:
        return None, None
    plan = recipe.get("evaluation") if isinstance(recipe, dict) else None
    plan = plan if isinstance(plan, dict) else {}
    return _whole(plan.get("limit")), _whole(plan.get("views"))


def _is_finite(value: Any) -> bool:
    """Whether it is a number that something may have measured. NaN is less than nothing."""
    return type(value) in (int, float) and abs(value) < MOST


def _number(value: Any) -> float | None:
    return float(value) if _is_finite(value) else None


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None
