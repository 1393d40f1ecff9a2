"""A pytest plugin: every result becomes a line of JSON as soon as it is known.

    RESULT_LINES=FILE python -m pytest -p bench.test_lines ...

pytest's own reports come at the end, which a run that is stopped in the middle never reaches.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

ERROR_LINES = 8
"""Of a failure, its last ones."""


def pytest_configure(config: pytest.Config) -> None:
    # Of several processes only the one that hands out the tests writes: it hears of all of them.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Lines(Path(os.environ["RESULT_LINES"])))


class _Lines:
    """What is told of results goes to this file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.outcome == "passed":
            return  # set up or taken down: no result yet, or told already

        told = [line for line in report.longreprtext.splitlines() if line.strip()]
        line = {
            "test": report.nodeid.rpartition("/")[2],
            "outcome": report.outcome,
            "end": told[-ERROR_LINES:] if report.outcome == "failed" else [],
        }
        with self._path.open("a") as lines:
            lines.write(json.dumps(line) + "\n")
