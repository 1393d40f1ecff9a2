"""Figures that take long are kept in a file, so that a bench goes on where it was stopped.

And a row that was to train, and did not, is refused: its figures are those of an untrained model.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
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


def require_trained(row: str, untrained: Iterable[str | None]) -> None:
    """untrained: for each training why it gave nothing, None where it went well.

    Raises SystemExit, naming the commonest reason, where no training of the row went well.
    """
    reasons = list(untrained)
    if all(reason is not None for reason in reasons):
        told = Counter(str(reason) for reason in reasons).most_common(1)
        why = told[0][0] if told else "no task came to training; is it switched off?"
        raise SystemExit(f"{row}: nothing was trained, so the row would be false: {why}")
