"""Programs become training data: each is right for the task that its own outputs make.

The programs of runs are run again, because a journal does not hold what they gave for the
demonstrations. What gives no legal grids, or other grids than in its run, is left out and counted.
The best different programs of each task (`program/relabel.py`) become families of a pack.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from appliance.arc.grid import to_lists
from appliance.atomic import whole_folder, write_atomic
from appliance.errors import InputError
from appliance.learn.data.corpus import FamilyPairs, assemble, save_corpus
from appliance.learn.data.written import Written
from appliance.program.relabel import pick, rank, relabel
from appliance.program.source import runnable, same_form
from appliance.program.trial import Draft, Run, Trial

PROVENANCE = "relabelled.jsonl"
"""Where each family of the pack comes from, one a line. Only packs of this kind hold it."""

Solved = Literal["keep", "drop", "only"]
"""What is done with tasks of which a program gets all demonstrations right: they are kept with all
that was picked; left out; or kept alone, and of them the right programs alone."""


@dataclass(frozen=True)
class Relabelling:
    """The families of a pack, and what became of the programs."""

    families: tuple[FamilyPairs, ...]
    provenance: tuple[Mapping[str, Any], ...]  # one for each family
    num_programs: int  # that were given
    num_same: int  # of these, repetitions of another one for the same task
    left_out: Mapping[str, int]  # how many gave no grids, or other ones, by the reason
    num_tasks: int  # that have a family
    num_solved: int  # of these, tasks with a program that gets all demonstrations right

    def as_json(self) -> dict[str, Any]:
        return {
            "families": len(self.families),
            "tasks": self.num_tasks,
            "solved": self.num_solved,
            "programs": self.num_programs,
            "repeated": self.num_same,
            "left_out": dict(self.left_out),
        }


def relabel_written(
    programs: Sequence[Written],
    run: Run,
    *,
    num_picked: int,
    solved: Solved,
    is_diverse: bool,
) -> Relabelling:
    """The num_picked best different programs of each task, those of all runs together.

    Raises InputError where nothing is left.
    """
    left_out: Counter[str] = Counter()
    valid = [w for w in programs if w.program.outcome == "ok"]
    left_out.update(w.program.outcome for w in programs if w.program.outcome != "ok")

    unique = _unique(valid)
    trials = _tried(unique, run, left_out)

    families: list[FamilyPairs] = []
    provenance: list[Mapping[str, Any]] = []
    num_tasks, num_solved = 0, 0
    for task_id, found in trials.items():
        is_solved = any(trial.fits for trial, _ in found)
        if solved == "drop" and is_solved:
            continue

        origin = dict(found)
        candidates = [trial for trial, _ in found if trial.fits or solved != "only"]
        picked = pick(candidates, num_picked, is_diverse=is_diverse)
        num_tasks += bool(picked)
        num_solved += bool(picked) and is_solved
        for number, trial in enumerate(picked, 1):
            families.append(family_of(trial, f"{task_id}~{number}"))
            provenance.append(_origin(families[-1].name, trial, origin[trial]))

    if not families:
        raise InputError(
            f"none of {len(programs)} programs is left (--solved {solved}): "
            + (", ".join(f"{n} {reason}" for reason, n in left_out.most_common()) or "all dropped"),
            expected="programs that give a grid for every input of their task",
            remedy="give the runs more time, or pass another --solved",
        )
    return Relabelling(
        tuple(families),
        tuple(provenance),
        len(programs),
        len(valid) - len(unique),
        left_out,
        num_tasks,
        num_solved,
    )


def family_of(trial: Trial, name: str) -> FamilyPairs:
    """The task that the program solves, test inputs included, as its view shows it."""
    task, view = relabel(trial).task, trial.draft.view
    tests = [
        (grid, view.apply(output))
        for grid, output in zip(task.test, trial.test, strict=True)
        if output is not None
    ]

    answer = trial.draft.answer
    is_module = trial.draft.source != runnable(answer, "body")
    return FamilyPairs(
        name,
        [*((pair.input, pair.output) for pair in task.train), *tests],
        answer if is_module else answer.rstrip("\n") + "\n",
        is_module=is_module,
        is_task=True,
    )


def write_pack(made: Relabelling, out: Path, *, sources: Iterable[str]) -> None:
    """The folder of a pack, whole or not at all. Raises OutputError for a folder of another kind,
    which stays."""
    with whole_folder(out, mark=PROVENANCE) as part:
        save_corpus(assemble(made.families), part, sources=list(sources))
        lines = "".join(json.dumps(record) + "\n" for record in made.provenance)
        write_atomic(part / PROVENANCE, lines.encode())


def _unique(programs: Sequence[Written]) -> list[Written]:
    """Of those of a task that differ in layout alone, the one that would be picked."""
    first: dict[tuple[str, str], Written] = {}
    forms: dict[str, str] = {}
    for written in sorted(programs, key=_rank_of):
        source = written.program.source
        if source not in forms:
            forms[source] = same_form(source)
        first.setdefault((written.task.task_id, forms[source]), written)

    kept = set(first.values())
    return [written for written in programs if written in kept]


def _rank_of(written: Written) -> tuple[float, float, str]:
    program = written.program
    return rank(
        program.demo_score,
        logprob=program.logprob,
        num_tokens=program.num_tokens,
        source=program.source,
    )


def _tried(
    programs: Sequence[Written], run: Run, left_out: Counter[str]
) -> dict[str, list[tuple[Trial, Written]]]:
    """The programs that give the same legal grids again, by task in the order of the programs."""
    drafts = {_draft(written): written for written in programs}
    trials: dict[str, list[tuple[Trial, Written]]] = {w.task.task_id: [] for w in programs}

    for trial in run(list(drafts)):
        written = drafts[trial.draft]
        if not trial.is_valid:
            left_out[trial.outcome] += 1
        elif _tests(trial) != written.program.test:
            left_out["other grids than in its run"] += 1
        else:
            trials[written.task.task_id].append((trial, written))

    return trials


def _draft(written: Written) -> Draft:
    program = written.program
    return Draft(
        task=written.task,
        view=written.view,
        answer=program.answer,
        source=program.source,
        logprob=program.logprob,
        num_tokens=program.num_tokens,
        adapter=program.adapter,
    )


def _tests(trial: Trial) -> list[Any]:
    return [None if grid is None else to_lists(grid) for grid in trial.test]


def _origin(family: str, trial: Trial, written: Written) -> dict[str, Any]:
    draft = trial.draft
    return {
        "family": family,
        "task": draft.task.task_id,
        "run": written.run,
        "stage": written.stage,
        "round": written.round,
        "view": draft.view.name,
        "adapter": draft.adapter,
        "demo_score": trial.demo_score,
        "logprob": draft.logprob if math.isfinite(draft.logprob) else None,
        "num_tokens": draft.num_tokens,
    }
