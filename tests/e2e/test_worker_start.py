"""What a worker imports at its start, and what it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliance.config import Settings
from appliance.engine.folder.card import EMBEDDED, model_dir
from appliance.solve.messages import Ready, parse_event
from tests.support.worker_setup import cpu_setup

pytest.importorskip("torch")
pytestmark = pytest.mark.engine

NEVER_NEEDED = ("scipy", "peft", "vllm", "unsloth")
"""By the plain model on a CPU; PEFT comes with the first training."""


def test_a_worker_is_ready_without_packages_that_it_may_never_need(tmp_path: Path) -> None:
    setup = cpu_setup(
        model_dir(EMBEDDED), tmp_path, Settings(), engine="transformers", trainer="peft"
    )
    log = tmp_path / "log"
    with log.open("w") as stream:
        worker = subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", "appliance.solve.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    assert worker.stdin and worker.stdout
    worker.stdin.write(setup.model_dump_json() + "\n")
    worker.stdin.flush()
    ready = parse_event(worker.stdout.readline())
    worker.communicate()  # its input ends, and so does the worker

    assert isinstance(ready, Ready) and ready.slowdown >= 1
    imported = {line.rpartition("|")[2].strip() for line in log.read_text().splitlines()}
    packages = {name.partition(".")[0] for name in imported}
    assert "transformers" in packages
    assert not packages & set(NEVER_NEEDED)
