"""unsloth passes the suite of trainers.

In a process of its own, because importing unsloth changes transformers and peft for good.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).with_name("test_engine_conformance.py")

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(
        importlib.util.find_spec("unsloth") is None, reason="unsloth is not installed"
    ),
]


def test_the_suite_of_trainers_passes_with_unsloth() -> None:
    """In one go: importing unsloth takes 10 s, so all of its tests share one import."""
    command = [sys.executable, "-m", "pytest", str(SUITE), "-W", "ignore", "-p", "no:cacheprovider"]
    environment = os.environ | {"CONFORMANCE_TRAINER": "unsloth"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=SUITE.parents[2]
    )

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    last_line = done.stdout.splitlines()[-1]
    assert " passed" in last_line and "skipped" not in last_line
