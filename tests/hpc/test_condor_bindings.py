"""The rendered files as HTCondor's own bindings read them: the package htcondor, and no pool."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.dag import variables_of

# Or the bindings complain that there is no pool.
os.environ.setdefault("CONDOR_CONFIG", "/dev/null")
htcondor = pytest.importorskip("htcondor2", reason="pip install htcondor")

pytestmark = pytest.mark.hpc
GOLDEN = Path(__file__).parents[1] / "golden" / "condor"
CONDOR = Path(__file__).parents[2] / "condor"


@pytest.mark.parametrize(
    "path", sorted(GOLDEN.glob("*/*.sub")), ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_the_bindings_read_every_description(path: Path) -> None:
    submit = htcondor.Submit(path.read_text())
    assert submit["universe"] == "container"
    merged = "submission.json, coverage.json"
    result = {"shard.sub": "$(shard)", "merge.sub": merged}[path.name]
    assert submit["transfer_output_files"] == result


def test_a_shard_asks_for_its_checkpoint_and_for_floors_not_for_a_card() -> None:
    submit = htcondor.Submit((GOLDEN / "chtc-short" / "shard.sub").read_text())
    assert submit["checkpoint_exit_code"] == "85"
    assert submit["gpus_minimum_memory"] == "20480"
    assert submit["gpus_minimum_runtime"] == "13.0"
    assert "requirements" not in dict(submit)


def test_the_generic_description_takes_a_command() -> None:
    submit = htcondor.Submit((CONDOR / "appliance.sub").read_text())
    submit["command"] = "appliance train --recipe recipe.yaml"
    assert submit.expand("arguments") == "appliance train --recipe recipe.yaml"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a stand-in for condor_dagman: only looked for, never started."""
    stand_in = tmp_path / "bin" / "condor_dagman"
    stand_in.parent.mkdir()
    stand_in.write_text("#!/bin/sh\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_dag_is_one_that_dagman_takes(work: Path) -> None:
    for name in ("appliance.dag", "shard.sub", "merge.sub"):
        (work / name).write_text((GOLDEN / "chtc-short" / name).read_text())
    assert htcondor.Submit.from_dag("appliance.dag", {"force": True})


def test_every_job_of_the_rounds_is_one_that_the_generic_description_takes(work: Path) -> None:
    shutil.copytree(CONDOR, work / "condor")
    assert htcondor.Submit.from_dag("condor/rounds.dag", {"force": True})

    for values in variables_of((CONDOR / "rounds.dag").read_text()).values():
        submit = htcondor.Submit((CONDOR / "appliance.sub").read_text())
        for name, value in values.items():
            submit[name] = value
        assert submit.expand("container_image") == values["image"]
        assert submit.expand("arguments") == values["command"]
        assert submit.expand("transfer_input_files") == values["inputs"]
        assert submit.expand("transfer_output_files") == values["outputs"]
