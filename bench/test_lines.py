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


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # the process that hands out the tests hears of all of them
    if report.when != "call" and report.outcome == "passed":
        return  # set up or taken down: no result yet, or told already

    told = [line for line in report.longreprtext.splitlines() if line.strip()]
    line = {
        "test": report.nodeid.rpartition("/")[2],
        "outcome": report.outcome,
        "end": told[-ERROR_LINES:] if report.outcome == "failed" else [],
    }
    with Path(os.environ["RESULT_LINES"]).open("a") as lines:
        lines.write(json.dumps(line) + "\n")
