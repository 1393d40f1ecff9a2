"""The programs that runs wrote, each with its task: read from their journals, and checked.

A journal holds no grids of its tasks. They are read again from where the run read them, and must be
the very same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from appliance.arc.read import read_json
from appliance.arc.source import load_tasks
from appliance.arc.task import Task, TaskSet
from appliance.arc.view import View
from appliance.errors import ApplianceError, InputError, UsageError
from appliance.foreign_text import as_shown
from appliance.names import a_few
from appliance.program.sandbox import Limits
from appliance.record.journal import Journal
from appliance.record.rows import TaskRow
from appliance.record.run_folder import RunFolder
from appliance.solve.messages import ProgramMessage


@dataclass(frozen=True, eq=False)
class Written:
    """A program that a run wrote for a task."""

    run: str  # the folder, as the user named it
    stage: str
    round: int
    task: Task
    view: View  # how the model saw the task
    program: ProgramMessage


@dataclass(frozen=True)
class RunsRead:
    """What the journals of runs hold together."""

    programs: tuple[Written, ...]
    limits: Limits  # that a program could use in any of the runs
    accept_level: Literal["no-seccomp"] | None  # that any of them accepted
    notes: tuple[str, ...]  # what people must know, each a sentence


class _Program(BaseModel):
    """What settings of a run say of its sandbox."""

    cpu_s: float = Field(Limits().cpu_s, ge=0.01, le=3600)
    memory_mb: int = Field(Limits().memory_mb, ge=16, le=1 << 20)
    accept_level: Literal["no-seccomp"] | None = None


class _Config(BaseModel):
    """The part of a run's config.json that matters here; other versions may have other keys."""

    program: _Program = _Program()


def read_runs(runs: Iterable[Path], *, source: str | None) -> RunsRead:
    """Every program of the runs, in the order of the runs and of their journals.

    source: of the tasks, for `load_tasks`; None: each run's own, which its journal names.

    Raises InputError for a folder that holds no run, a damaged journal, tasks that cannot be read
    or are not those of the run, and where no run has a program; UsageError for a run that does not
    say where its tasks are.
    """
    programs: list[Written] = []
    notes: list[str] = []
    used: list[_Program] = []
    sources: dict[str, TaskSet] = {}
    known: dict[str, tuple[Task, Path]] = {}
    seen: set[Path] = set()

    for path in runs:
        if path.resolve() in seen:
            notes.append(f"{path} is given twice, and counts once")
            continue
        seen.add(path.resolve())

        with _journal_of(path) as journal:
            found = list(_written(journal, path, source, sources))
            notes += journal.notes()
        for written in found:
            _compare(known, written.task, path)

        programs += found
        used.append(_sandbox_of(path))
        if not found:
            notes.append(f"{path} has no programs: it gives nothing")
        if not RunFolder(path).is_finished():
            notes.append(f"{path} is not finished: the programs that it has so far are taken")

    if not programs:
        raise InputError(
            f"no programs in {a_few(seen, 5)}",
            expected="runs in which a model wrote programs",
            remedy="run: appliance submit --strategy induction ...",
        )

    limits = Limits(max(u.cpu_s for u in used), max(u.memory_mb for u in used))
    levels = [u.accept_level for u in used if u.accept_level]
    return RunsRead(tuple(programs), limits, levels[0] if levels else None, tuple(notes))


@contextmanager
def _journal_of(path: Path) -> Iterator[Journal]:
    journal = Journal(RunFolder(path).existing_journal())
    try:
        journal.check_pages()
        yield journal
    finally:
        journal.close()


def _written(
    journal: Journal, path: Path, source: str | None, sources: dict[str, TaskSet]
) -> Iterator[Written]:
    """The programs of one run. sources: tasks that have been read, by their source."""
    rows = {row.task_id: row for row in journal.tasks()}
    checked: dict[str, Task] = {}

    for stage, number, program in journal.program_rows():
        task_id = program.task_id
        if task_id not in checked:
            tasks = _tasks_of(journal, path, source, sources)
            checked[task_id] = _task_of(rows.get(task_id), task_id, tasks, path)

        view = _view_of(program.view, checked[task_id])
        if view is not None:
            yield Written(str(path), stage, number, checked[task_id], view, program)


def _tasks_of(
    journal: Journal, path: Path, source: str | None, sources: dict[str, TaskSet]
) -> TaskSet:
    """The tasks that were named, or else those with which the run was started."""
    named = source or journal.fact("tasks", str | None)
    if named is None:
        raise UsageError(
            f"{path} does not say where its tasks are",
            expected="a journal that does, or --tasks",
            remedy="pass --tasks",
        )
    if named not in sources:
        try:
            sources[named] = load_tasks(named)
        except ApplianceError as fault:
            if source is not None:
                raise
            raise InputError(
                f"{path}: its tasks cannot be read ({fault})",
                expected=f"the tasks that the run was started with, at {as_shown(named)}",
                remedy="pass --tasks",
            ) from fault
    return sources[named]


def _task_of(row: TaskRow | None, task_id: str, tasks: TaskSet, path: Path) -> Task:
    """The task, which must be the run's own. Journals without a digest tell only the number of test
    inputs."""
    if task_id not in tasks.ids():
        raise InputError(
            f"{path}: its task {as_shown(task_id)} is not in {tasks.name}",
            expected="the tasks that the run was started with",
            remedy="pass them as --tasks",
        )

    task = tasks[task_id]
    is_other = row is not None and (
        len(task.test) != row.num_tests or (row.digest and row.digest != task.digest())
    )
    if is_other:
        raise InputError(
            f"{path}: task {as_shown(task_id)} is not the one in {tasks.name}: its grids differ",
            expected="the tasks that the run was started with",
            remedy="pass them as --tasks, or leave out this run",
        )
    return task


def _compare(known: dict[str, tuple[Task, Path]], task: Task, path: Path) -> None:
    first, where = known.setdefault(task.task_id, (task, path))
    if first is not task and first != task:
        raise InputError(
            f"task {as_shown(task.task_id)} in {path} is not the one in {where}: its grids differ",
            expected="runs of the same version of every task",
            remedy="leave out the runs of the other version",
        )


def _view_of(name: str, task: Task) -> View | None:
    """None for what names no view of this task."""
    try:
        view = View.parse(name)
    except ValueError:
        return None
    return view if len(view.order) in (0, len(task.train)) else None


def _sandbox_of(path: Path) -> _Program:
    """The limits that the run had; the usual ones where it does not say."""
    try:
        return _Config.model_validate(read_json(RunFolder(path).config)).program
    except (InputError, ValidationError):
        return _Program()
