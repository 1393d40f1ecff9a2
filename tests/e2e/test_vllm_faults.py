"""A run with vLLM whose engine raises, hangs, is killed and sings wrong: each with its named outcome, and the run completes.

The faults are put into the worker process from outside, as in test_faults.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.arc.source import load_tasks
from appliance.arc.submission import read_submission, validate
from appliance.record.journal import Journal, StageRow
from bench.job import submit_command

pytestmark = pytest.mark.engine
pytest.importorskip("torch")
pytest.importorskip("vllm")

INJECTION = """
import os, signal, sys, time
if "appliance.solve.worker" in getattr(sys, "orig_argv", ()):
    from pathlib import Path
    from appliance.engine.sampling import vllm_server
    from appliance.engine.sampling.vllm_engine import VllmEngine
    from appliance.errors import EngineError, EngineLost
    task = [""]
    serve, check, step = vllm_server.VllmServer.serve, vllm_server.VllmServer._check, VllmEngine.step

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

    def wrong(self, expected, adapter):
        if task[0] == "copy3":
            raise EngineError("canary: injected")
        check(self, expected, adapter)

    vllm_server.VllmServer.serve, vllm_server.VllmServer._check, VllmEngine.step = known, wrong, faulty
"""
TASKS = ("copy0", "copy1", "copy2", "copy3")


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, challenges: Path, tiny_model: Path
) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "sitecustomize.py").write_text(INJECTION)
    few = [
        "train.max_steps=4",
        "train.rank=4",
        "run.rounds=1",
        "sample.views=2",
        "run.workers=1",
        "sample.stall_s=8",
    ]
    flags = [
        "--model",
        str(tiny_model),
        "--only",
        ",".join(TASKS),
        "--engine",
        "vllm",
        "--budget",
        "8m",
    ]
    command = submit_command(challenges, folder / "out", *flags, settings=few)
    path = os.pathsep.join([str(folder), *(p for p in sys.path if p)])
    environment = os.environ | {"PYTHONPATH": path, "FAULTS": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out", done.stdout


def deep_rows(out: Path) -> dict[str, StageRow]:
    journal = Journal(out / "run" / "journal.sqlite")
    rows = {r.task_id: r for r in journal.stages() if r.stage == "deep"}
    journal.close()
    return rows


@pytest.mark.parametrize("task_id", ["copy0", "copy1", "copy2"])
def test_a_lost_engine_is_started_anew_with_the_adapter_and_the_prompts_that_remain(
    task_id: str, finished: tuple[Path, str]
) -> None:
    out, _ = finished
    row = deep_rows(out)[task_id]
    assert row.status == "done"
    assert row.detail["how"] == "vllm merged"
    journal = Journal(out / "run" / "journal.sqlite")
    answers = journal.candidates(task_id)["deep"]
    trainings = [r for r in journal.stages() if r.task_id == task_id and r.stage == "train"]
    journal.close()
    assert len(answers) == 2
    assert {a.adapter for a in answers} == {trainings[0].detail["adapter_sha"]}


def test_each_loss_is_named(finished: tuple[Path, str]) -> None:
    _, printed = finished
    assert "a step of vLLM failed: injected" in printed
    assert "wrote nothing for" in printed
    assert "died with code -9" in printed
    assert printed.count("views are asked again") >= 3


def test_a_wrong_canary_is_sampled_with_transformers_and_counted(
    finished: tuple[Path, str],
) -> None:
    out, printed = finished
    detail = deep_rows(out)["copy3"].detail
    assert detail["how"] == "transformers"
    assert detail["refused"] == ["merged: canary: injected"]
    assert "transformers 1" in printed
    assert "1 times not merged: canary: injected" in printed


def test_the_submission_is_whole_and_the_scratch_is_gone(
    finished: tuple[Path, str], challenges: Path
) -> None:
    out, _ = finished
    assert (
        validate(
            read_submission(out / "submission.json"), load_tasks(str(challenges)).select(TASKS)
        )
        == []
    )
    assert not (out / "run" / "scratch").exists()
