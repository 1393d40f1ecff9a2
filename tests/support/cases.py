"""The case files in tests/cases, each explained in tests/cases/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CASES = Path(__file__).parents[1] / "cases"
GOLDEN_FILES = CASES.parent / "golden"
REPOSITORY = CASES.parents[1]


def read_case(name: str) -> Any:
    """The value of a JSON file in tests/cases."""
    return json.loads((CASES / name).read_text())


def read_case_lines(name: str) -> list[Any]:
    """The values of a file in tests/cases with one JSON value a line."""
    return [json.loads(line) for line in (CASES / name).read_text().splitlines()]
