"""A submission is always whole and valid, and a file is written whole or not at all."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.arc.fallback import fallback_attempts, predicted_shape
from appliance.arc.grid import as_grid, to_lists
from appliance.arc.submission import build, read_submission, score, validate, write_submission
from appliance.arc.task import Pair, Task, TaskSet
from appliance.errors import InputError, OutputError
from tests.support.cases import REPOSITORY

GridLists = list[list[int]]
A, B = as_grid([[1, 2]]), as_grid([[3], [4]])
TASKS = TaskSet(
    "two.json",
    (
        Task("x", (Pair(A, B),), (A, as_grid([[5, 6]]))),
        Task("y", (Pair(as_grid([[0]]), as_grid([[0]])),), (A,)),
    ),
)


def task(pairs: list[tuple[GridLists, GridLists]], test: GridLists) -> Task:
    return Task("t", tuple(Pair(as_grid(i), as_grid(o)) for i, o in pairs), (as_grid(test),))


def test_votes_come_first_and_fallbacks_fill_up() -> None:
    submission = build(TASKS, {("x", 0): [B], ("x", 1): [A, B]})
    assert submission["x"][0]["attempt_1"] == [[3], [4]]
    assert submission["x"][0]["attempt_2"] != [[3], [4]]
    assert submission["x"][1] == {"attempt_1": [[1, 2]], "attempt_2": [[3], [4]]}
    assert validate(submission, TASKS) == []


def test_a_vote_for_the_fallback_itself_leaves_two_attempts_that_differ() -> None:
    for first in fallback_attempts(TASKS["x"], 0, num_attempts=9):
        entry = build(TASKS, {("x", 0): [first]})["x"][0]
        assert entry["attempt_1"] != entry["attempt_2"]


@pytest.mark.parametrize(
    ("pairs", "test", "shape"),
    [
        ([([[1, 1]], [[2, 2]]), ([[1]], [[2]])], [[1], [1], [1]], (3, 1)),
        ([([[1, 1]], [[2]]), ([[1, 1], [1, 1]], [[2]])], [[1, 1, 1]], (1, 1)),
        ([([[1]], [[2, 2], [2, 2]]), ([[1, 1]], [[2] * 4] * 2)], [[1, 1, 1]], (2, 6)),
        ([([[1, 1], [1, 1]], [[2, 2]]), ([[1]] * 4, [[2]] * 2)], [[1]] * 6, (3, 1)),
        ([([[1, 1], [1, 1]], [[2, 2]]), ([[1]] * 4, [[2]] * 2)], [[1]] * 5, (5, 1)),
        ([([[1]], [[2] * 3] * 3), ([[1, 1]], [[2] * 6] * 3)], [[1] * 20], (1, 20)),
        ([([[1]], [[2, 2]]), ([[1]], [[2], [2]])], [[1, 1]], (1, 2)),
    ],
    ids=["same", "constant", "doubled", "halved", "halves do not fit", "too large", "no rule"],
)
def test_the_shape_follows_the_demonstrations(
    pairs: list[tuple[GridLists, GridLists]], test: GridLists, shape: tuple[int, int]
) -> None:
    assert predicted_shape(task(pairs, test), 0) == shape


def test_fallback_of_the_same_shape_is_the_input_first() -> None:
    first, second = fallback_attempts(task([([[1, 2]], [[2, 1]])], [[7, 8]]), 0)
    assert to_lists(first) == [[7, 8]]
    assert to_lists(second) == [[2, 1]]


def test_fallback_is_never_the_zero_cell() -> None:
    guesses = fallback_attempts(task([([[0]], [[0]])], [[0]]), 0, num_attempts=9)
    assert len(guesses) == 9
    assert [[0]] not in [to_lists(g) for g in guesses]


GOOD = build(TASKS, {})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda s: [], "$: [] is not an object of tasks"),
        (lambda s: {**s, "z": []}, "$.z: no task of two.json has this id"),
        (lambda s: {"x": s["x"]}, "$.y: missing"),
        (lambda s: {**s, "y": None}, "$.y: null is not a list of test outputs"),
        (lambda s: {**s, "x": s["x"][:1]}, "$.x: 1 entries for 2 test inputs"),
        (lambda s: {**s, "y": [[]]}, "$.y[0]: [] is not an object of attempts"),
        (lambda s: {**s, "y": [{"attempt_1": [[1]]}]}, "$.y[0].attempt_2: missing"),
        (
            lambda s: {**s, "y": [{**s["y"][0], "attempt_3": [[1]]}]},
            "$.y[0].attempt_3: not an attempt",
        ),
    ],
)
def test_each_fault_of_structure_is_named_with_its_place(
    change: Callable[[Any], object], fault: str
) -> None:
    assert validate(change(GOOD), TASKS) == [fault]


@pytest.mark.parametrize(
    ("grid", "fault"),
    [
        ([], ": 0 rows"),
        ([[]], "[0]: 0 cells"),
        ([[1], [1, 2]], "[1]: 2 cells, the first row has 1"),
        ([[1]] * 31, ": 31 rows"),
        ([[1] * 31], "[0]: 31 cells"),
        ([[1, True]], "[0][1]: true is not a whole number"),
        ([[1.0]], "[0][0]: 1.0 is not a whole number"),
        ([["1"]], '[0][0]: "1" is not a whole number'),
        ([[None]], "[0][0]: null is not a whole number"),
        ([[10]], "[0][0]: 10 is not a colour"),
        ([[-1]], "[0][0]: -1 is not a colour"),
        ([1], "[0]: 1 is not a row"),
        (7, ": 7 is not a list of rows"),
        ([[np.int64(1)]], "[0][0]: a numpy.int64 is not a whole number"),
        (np.ones((1, 1), int), ": a numpy.ndarray is not a list of rows"),
        ([[10**5000]], "[0][0]: a builtins.int is not a colour"),
        ([[float("nan")]], "[0][0]: NaN is not a whole number"),
    ],
)
def test_each_fault_of_a_grid_is_named_with_its_place(grid: object, fault: str) -> None:
    submission = {**GOOD, "y": [{"attempt_1": grid, "attempt_2": [[1]]}]}
    assert validate(submission, TASKS) == [f"$.y[0].attempt_1{fault}"]


def test_every_fault_is_listed_not_only_the_first() -> None:
    submission = {"y": [{"attempt_1": [[11, 12], [13]], "attempt_2": 0}], "z": 1}
    assert len(validate(submission, TASKS)) == 7


def test_score_counts_outputs_and_tasks_and_passes_over_what_is_not_legal() -> None:
    submission = build(TASKS, {("x", 0): [B], ("y", 0): [B]})
    submission["y"][0]["attempt_1"] = [[99]]
    figures = score(submission, {"x": (B, as_grid([[9]])), "y": (as_grid([[9]]),), "never": (A,)})
    assert figures == pytest.approx({"by_output": 1 / 4, "by_task": 1 / 6})


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "submission.json"
    write_submission(path, GOOD)
    assert read_submission(path) == GOOD
    assert [p.name for p in tmp_path.iterdir()] == ["submission.json"]


def test_a_device_without_room_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "submission.json"
    write_submission(path, GOOD)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))

    try:
        with pytest.raises(OutputError, match="cannot be written"):
            write_submission(path, GOOD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["submission.json"]


def test_a_kill_in_the_middle_of_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from appliance.arc.submission import write_submission\n"
        "big = {'x': [{'attempt_1': [[1] * 30] * 30, 'attempt_2': [[2] * 30] * 30}] * 200}\n"
        "while True: write_submission(Path(sys.argv[1]), big); print(1, flush=True)"
    )
    path = tmp_path / "submission.json"

    for num_writes in (1, 3):
        writer = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, cwd=REPOSITORY
        )
        with writer:
            assert writer.stdout is not None
            for _ in range(num_writes):
                writer.stdout.readline()
            writer.kill()
        assert len(read_submission(path)["x"]) == 200

    write_submission(path, GOOD)

    assert [p.name for p in tmp_path.iterdir()] == ["submission.json"]


def test_values_that_json_cannot_hold_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "submission.json"
    write_submission(path, GOOD)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_submission(path, {"x": [{"attempt_1": [[np.int64(1)]]}]})  # type: ignore[list-item]
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        write_submission(tmp_path / "no" / "submission.json", GOOD)


def test_a_file_that_names_a_task_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "submission.json"
    path.write_text('{"x": [], "x": []}')
    with pytest.raises(InputError, match="'x' stands twice"):
        read_submission(path)


def test_booleans_of_a_json_file_are_faults(tmp_path: Path) -> None:
    path = tmp_path / "submission.json"
    path.write_text(json.dumps(GOOD).replace("1, 2", "true, 1.0"))
    assert len(validate(read_submission(path), TASKS)) > 0
