"""Programs of your own, each with its task, as families of a corpus.

A program that is wrong for its task is not lost: it is relabelled, as those of a model are
(`relabelled.py`). One that gives no grid for an input is left out.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

from pydantic import BaseModel, ConfigDict

from appliance.arc.source import load_tasks
from appliance.arc.task import Task, task_from_json
from appliance.arc.view import IDENTITY
from appliance.errors import InputError
from appliance.foreign_text import as_shown
from appliance.learn.data.corpus import FamilyPairs
from appliance.learn.data.relabelled import family_of
from appliance.program.program_file import read_records
from appliance.program.source import parsed, runnable, same_form
from appliance.program.trial import Draft, Run

FORM = '{"task_id": ID, "source": Python text}, or with "task": {"train": [...], "test": [...]}'
"""One line of a file of own programs, for people."""

DSL_FORM = re.compile(
    r"\s*from dsl import \*\s*\ndef (?:transform|task)\(grid\):[^\S\n]*\n(.*)", re.DOTALL
)
"""A module whose function body is what models that write in the DSL alone can learn."""


@dataclass(frozen=True)
class OwnPrograms:
    """The families, and what became of the lines."""

    families: tuple[FamilyPairs, ...]
    num_right: int  # families whose program is right for its task
    num_relabelled: int  # families whose task is made of what the program gives
    num_same: int  # lines that repeat another one
    left_out: Mapping[str, int]  # how many gave no grid for an input, by the reason

    def told(self) -> str:
        reasons = ", ".join(f"{n} {reason}" for reason, n in self.left_out.items())
        return (
            f"{self.num_right} right, {self.num_relabelled} relabelled by what they do, "
            f"{self.num_same} repeated, {sum(self.left_out.values())} left out"
            + (f" ({reasons})" if reasons else "")
        )


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)

    task_id: str | None = None
    task: dict[str, Any] | None = None
    source: str


def read_own_programs(path: Path, sources: Sequence[str]) -> list[Draft]:
    """The programs of a JSON-lines file, each with its task; empty lines are left out.

    sources: of the tasks that lines name by their id. Raises InputError naming the line.
    """
    tasks = {task.task_id: task for source in sources for task in load_tasks(source)}
    drafts = []

    for place, line in read_records(path, _Line, form=FORM):
        fault = _fault(line)
        if fault:
            raise InputError(f"{place}: {fault}", expected=FORM, remedy="correct the file")
        answer = _answer(line.source)
        is_module = answer == line.source
        source = runnable(answer, "program" if is_module else "body")
        drafts.append(Draft(_task(line, tasks, place), IDENTITY, answer, source))

    if not drafts:
        raise InputError(f"{path}: no programs", expected=f"a program a line: {FORM}")
    return drafts


def own_families(drafts: Sequence[Draft], run: Run) -> OwnPrograms:
    """A family of each program that gives a grid for every input of its task.

    Raises InputError where none does.
    """
    first: dict[tuple[str, str], Draft] = {}
    for draft in drafts:
        first.setdefault((draft.task.task_id, same_form(draft.source)), draft)

    families: list[FamilyPairs] = []
    left_out: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    num_right = 0
    for trial in run(list(first.values())):
        if not trial.is_valid:
            left_out[trial.outcome] += 1
            continue

        task_id = trial.draft.task.task_id
        numbers[task_id] += 1
        families.append(family_of(trial, f"{task_id}~own-{numbers[task_id]}"))
        num_right += trial.fits

    if not families:
        raise InputError(
            f"none of {len(drafts)} programs gives a grid for every input of its task: "
            + ", ".join(f"{n} {reason}" for reason, n in left_out.items()),
            expected="programs that define transform(grid) or task(grid)",
            remedy="correct the programs",
        )
    return OwnPrograms(
        tuple(families),
        num_right,
        len(families) - num_right,
        len(drafts) - len(first),
        left_out,
    )


def _answer(source: str) -> str:
    """The body alone of a program that is one function in the DSL; any other as it stands."""
    tree, form = parsed(source), DSL_FORM.fullmatch(source)
    if form is None or tree is None or len(tree.body) != 2:
        return source
    function = tree.body[1]
    return dedent(form[1]) if isinstance(function, ast.FunctionDef) else source


def _task(line: _Line, tasks: Mapping[str, Task], place: str) -> Task:
    if line.task is not None:
        name = line.task_id or place.rpartition(", ")[2].replace(" ", "-")
        return task_from_json(name, line.task, place=place)[0]

    task_id = line.task_id or ""
    if task_id not in tasks:
        raise InputError(
            f"{place}: task {as_shown(task_id)} is not among those of --tasks",
            expected="the id of one of them, or the task itself" if tasks else FORM,
            remedy="pass its source as --tasks",
        )
    return tasks[task_id]


def _fault(line: _Line) -> str:
    """What a program cannot be learnt for; "" for nothing."""
    if any("\ud800" <= sign <= "\udfff" for sign in line.source):
        return "source: not UTF-8"  # no tokenizer can read it
    return "neither task_id nor task" if line.task_id is None and line.task is None else ""
