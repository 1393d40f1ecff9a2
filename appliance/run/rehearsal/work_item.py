"""One piece of an imagined job, and the spread of what it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from appliance.solve.messages import Event


@dataclass(frozen=True)
class WorkItem:
    """One piece of a job: its kind as in Span, how long it takes, and the event at its end."""

    kind: str
    task_id: str
    seconds: float
    event: Event
    num: int = 0  # as in Span


def log_normal(rng: np.random.Generator, spread: float) -> float:
    """A factor of mean 1. spread: sigma of its logarithm."""
    return math.exp(spread * float(rng.standard_normal()) - spread**2 / 2)
