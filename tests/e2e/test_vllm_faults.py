"""vLLM raises, hangs, is killed or answers wrongly: each is named, and the run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.job import submit_command
from tests.support.fault_injection import faulty_environment
from tests.support.main_job import finish, journal_of, stage_rows, submission_faults

pytestmark = pytest.mark.engine
pytest.importorskip("torch")
pytest.importorskip("vllm")

TASKS = ("copy0", "copy1", "copy2", "copy3")
FAULTS_OF_SAMPLING = """
import os, signal, time
from pathlib import Path
from appliance.engine.sampling.vllm_engine import VllmEngine
from appliance.engine.sampling.vllm_server import VllmServer
from appliance.errors import EngineError, EngineLost

task = [""]
serve, next_logprobs, step = VllmServer.serve, VllmEngine.next_logprobs, VllmEngine.step

def known(self, trainer, *, adapter_dir, batch_tokens):
    task[0] = adapter_dir.name if adapter_dir else ""
    return serve(self, trainer, adapter_dir=adapter_dir, batch_tokens=batch_tokens)

def is_first(name):
    mark = Path(os.environ["FAULTS"]) / name
    return task[0] == name and not mark.exists() and not mark.write_text("")

def faulty(self):
    if is_first("copy0"):
        raise EngineLost("a step of vLLM failed: injected")
    if is_first("copy1"):
        time.sleep(1e6)
    if is_first("copy2"):
        os.kill(os.getpid(), signal.SIGKILL)
    yield from step(self)

def wrong(self, prompts, adapter, *, num_tokens):
    if task[0] == "copy3":
        raise EngineError("canary: injected")
    return next_logprobs(self, prompts, adapter, num_tokens=num_tokens)

VllmServer.serve, VllmEngine.next_logprobs, VllmEngine.step = known, wrong, faulty
"""


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, challenges: Path, tiny_model: Path
) -> tuple[Path, str]:
    """The folder of a run that meets all of these faults, and what it printed.

    Three of them end the engine. A start takes 10 s, so two workers share them.
    """
    folder = tmp_path_factory.mktemp("faults")
    environment = faulty_environment(folder, worker=FAULTS_OF_SAMPLING, FAULTS=folder)
    flags = ["--model", str(tiny_model), "--only", ",".join(TASKS)]
    flags += ["--engine", "vllm", "--budget", "8m"]
    few = (
        "train.max_steps=4",
        "train.rank=4",
        "run.rounds=1",
        "run.workers=2",
        "sample.views=2",
        "sample.stall_s=5",
    )
    command = submit_command(challenges, folder / "out", *flags, settings=few)

    return folder / "out", finish(command, environment=environment).stdout


@pytest.mark.parametrize("task_id", ["copy0", "copy1", "copy2"])
def test_a_lost_engine_is_started_anew_with_the_adapter_and_the_prompts_that_remain(
    task_id: str, finished: tuple[Path, str]
) -> None:
    out, _ = finished
    row = stage_rows(out, "deep")[task_id]
    assert row.status == "done"
    assert row.detail["how"] == "vllm merged"

    with journal_of(out) as journal:
        answers = journal.candidates(task_id)["deep"]
    assert len(answers) == 2
    training = stage_rows(out, "train")[task_id]
    assert {answer.adapter for answer in answers} == {training.detail["adapter_sha"]}


def test_each_loss_is_named(finished: tuple[Path, str]) -> None:
    _, printed = finished
    assert "a step of vLLM failed: injected" in printed
    assert "wrote nothing for" in printed
    assert "died: it was killed by SIGKILL" in printed
    assert printed.count("views are asked again") >= 3


def test_a_wrong_canary_is_sampled_with_transformers_and_counted(
    finished: tuple[Path, str],
) -> None:
    out, printed = finished
    detail = stage_rows(out, "deep")["copy3"].detail
    assert detail["how"] == "transformers"
    assert detail["refused"] == ["merged: canary: injected"]
    assert "transformers 1" in printed
    assert "refused 1 x: merged: canary: injected" in printed


def test_the_submission_is_whole_and_the_scratch_is_gone(
    finished: tuple[Path, str], challenges: Path
) -> None:
    out, _ = finished
    assert submission_faults(out, challenges, TASKS) == []
    assert not (out / "run" / "scratch").exists()
