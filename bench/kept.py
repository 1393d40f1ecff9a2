"""Figures that take long are kept in a file, so that a bench goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def kept(path: Path, facts: list[Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures in the file if they were measured under the same facts, else measured now."""
    if path.is_file():
        record = json.loads(path.read_text())
        if record["facts"] == json.loads(json.dumps(facts)):
            return dict(record["figures"])

    figures = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"facts": facts, "figures": figures}))
    return figures
