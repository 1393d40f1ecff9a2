"""The conformance suites on the device: do its engines do what every engine must?

All of them at once, as far as there are cores: their models are tiny, and nothing is timed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from appliance.clock import Deadline
from bench.process import ROOT, run


@dataclass(frozen=True)
class Suite:
    """A file of tests, with the trainer that is under test in it."""

    file: str  # below tests/
    trainer: str = "peft"

    @property
    def name(self) -> str:
        return f"tests/{self.file}, {self.trainer}"


SUITES = (
    Suite("e2e/test_engine_conformance.py"),
    Suite("e2e/test_engine_conformance.py", "unsloth"),
    Suite("e2e/test_samplers.py"),
    Suite("e2e/test_scorers.py"),
    Suite("e2e/test_number_types.py"),
    Suite("gpu"),
)

USUAL_S = {"cuda": 150.0, "cpu": 600.0}
"""All of them together. On the host of an H200 peft's took 40 s; unsloth's had done 12 of 20 tests
after 97 s."""

CORES_PER_SUITE = 2
"""One for the test, one for what it starts."""

LOG_END = 8000
"""Characters that the report keeps of what a suite printed that did not pass."""


def run_suites(
    device: str, variables: Mapping[str, str], deadline: Deadline
) -> list[dict[str, Any]]:
    """A row for each; those that are not over at the deadline have the outcome "no time".

    variables: laid over the environment.
    """
    wanted = [suite for suite in SUITES if device == "cuda" or suite.file != "gpu"]
    at_once = max(1, len(os.sched_getaffinity(0)) // CORES_PER_SUITE)
    with ThreadPoolExecutor(at_once) as threads:
        return list(threads.map(lambda s: _run(s, device, variables, deadline), wanted))


def _run(
    suite: Suite, device: str, variables: Mapping[str, str], deadline: Deadline
) -> dict[str, Any]:
    row: dict[str, Any] = {"name": suite.name}
    for module in ("pytest", suite.trainer):
        if find_spec(module) is None:
            return row | {"outcome": "skipped", "told": f"{module} is not installed"}
    left_s = deadline.remaining_s()
    if left_s <= 0:
        return row | {"outcome": "no time", "told": "not begun"}

    command = [sys.executable, "-m", "pytest", str(ROOT / "tests" / suite.file)]
    command += ["-W", "ignore", "-p", "no:cacheprovider"]
    own = {"CONFORMANCE_TRAINER": suite.trainer, "CONFORMANCE_DEVICE": device}
    ended = run(command, left_s, deadline.clock, {**variables, **own})

    row |= {"outcome": ended.outcome(), "seconds": ended.seconds, "told": ended.last_line()}
    return row if row["outcome"] == "ok" else row | {"log": ended.text[-LOG_END:]}
