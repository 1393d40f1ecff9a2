"""Predict, relabel, train and predict again with arc-mini itself, stopped and killed on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance import cli
from appliance.engine.folder.card import read_card
from appliance.errors import EXIT_CHECKPOINTED
from appliance.learn.data.corpus import load_corpus
from tests.support.cases import REPOSITORY
from tests.support.main_job import finish, journal_of
from tests.support.small_lm import save_chat_model

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

FEW = ("program.quick_samples=4", "program.epochs=1", "program.samples_per_epoch=4", "run.rounds=1")
SHORT = ("data.rows_per_step=1", "data.row_tokens=512", "optimization.max_steps=3")
QUICKLY = (
    "optimization.max_steps=8",
    "optimization.learning_rate=0.003",
    "optimization.warmup_steps=0",
)
"""So that even a random model shows that it learns."""

RECIPE = REPOSITORY / "recipes/relabelled.yaml"


def stop_when(command: list[str], is_time: Callable[[], bool], number: signal.Signals) -> int:
    """Start the command, send it the signal when it is time, and return its exit code."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not is_time():
            assert process.poll() is None, "it ended by itself"
            time.sleep(0.1)
        process.send_signal(number)
        return process.wait(timeout=200)
    finally:
        process.kill()


def children_of(out: Path) -> list[int]:
    """Processes that work in this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(out) in command:
                found.append(int(entry.name))
    return found


def test_a_round_is_stopped_killed_and_taken_up_again(challenges: Path, tmp_path: Path) -> None:
    tasks = shutil.copy(challenges, tmp_path / "tasks.json")  # without solutions: no comparison
    out = tmp_path / "rounds"
    words = ["--tasks", str(tasks), "--limit", "3", "--out", str(out), "--budget", "4m"]
    words += [w for setting in FEW for w in ("--set", setting)]
    words += [w for setting in SHORT for w in ("--train-set", setting)]
    command = [sys.executable, "-m", "appliance", "rounds", *words, "--display", "plain"]

    first, pack = out / "round-0/run", out / "round-1/pack"
    code = stop_when(command, (first / "submission.json").is_file, signal.SIGTERM)
    assert code == EXIT_CHECKPOINTED and not pack.exists()

    code = stop_when(command, (pack / "relabelled.jsonl").exists, signal.SIGKILL)
    assert code == -signal.SIGKILL
    report = (first / "run/report.json").read_bytes()
    time.sleep(0.5)
    assert children_of(out) == []

    done = finish(command)
    assert done.stdout.count("done: appliance") == 2 and "$ appliance train" in done.stdout
    assert (first / "run/report.json").read_bytes() == report

    corpus = load_corpus(pack)
    origins = [json.loads(line) for line in (pack / "relabelled.jsonl").read_text().splitlines()]
    assert corpus.families == tuple(o["family"] for o in origins)
    assert corpus.tasks == set(range(len(origins))) and all(corpus.programs)
    assert {o["task"] for o in origins} <= {"copy0", "copy1", "copy2"}
    with journal_of(out / "round-1/run") as journal:
        assert journal.programs()["quick"]

    again = finish(command)
    assert again.stdout.count("done: appliance") == 4 and "$" not in again.stdout


def test_all_weights_learn_from_a_pack_too(
    challenges: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = tmp_path / "own.jsonl"
    source = "from dsl import *\n\n\ndef transform(grid):\n    return flip_h(grid)\n"
    programs.write_text(json.dumps({"task_id": "copy0", "source": source}) + "\n")
    pack, out = tmp_path / "pack", tmp_path / "full"
    packed = ["train", "--pack", pack, "--programs", programs, "--tasks", challenges]
    assert cli.main([str(word) for word in packed]) == 0
    assert "1 relabelled" in capsys.readouterr().out

    words = ["train", "--recipe", RECIPE, "--model", "arc-mini", "--corpus", pack, "--out", out]
    settings = ["adaptation.method=full", "log_every_steps=1", *SHORT, *QUICKLY]
    words += [w for setting in settings for w in ("--set", setting)]
    assert cli.main([str(word) for word in words]) == 0
    card = read_card(out / "model")
    assert card.program_style == "dsl-program-v1" and "induction" in card.strategies
    losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("style", ["code-from-examples-v1", "barc-induction", "program"])
def test_a_pack_of_modules_teaches_a_chat_model(
    style: str, challenges: Path, tmp_path: Path
) -> None:
    source = "from common import *\n\ndef transform(grid):\n    return np.fliplr(grid)\n"
    programs = tmp_path / "own.jsonl"
    programs.write_text(json.dumps({"task_id": "copy0", "source": source}) + "\n")
    pack, out = tmp_path / "pack", tmp_path / "learnt"
    packed = ["train", "--pack", pack, "--programs", programs, "--tasks", challenges]
    assert cli.main([str(word) for word in packed]) == 0

    model = save_chat_model(tmp_path / "model")
    words = ["train", "--recipe", RECIPE, "--model", model, "--corpus", pack, "--out", out]
    datasets = f"{{.: {{style: {style}, encoder: minimal}}}}"
    settings = [f"data.datasets={datasets}", "log_every_steps=1"]
    settings += ["data.row_tokens=4096", "data.rows_per_step=1", *QUICKLY]
    words += [w for setting in settings for w in ("--set", setting)]
    assert cli.main([str(word) for word in words]) == 0
    losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] and (out / "adapter/adapter_model.safetensors").is_file()
