"""What is asked of sizing, beside the machine and the models."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.sizing.costs.task_costs import NO_CORRECTION, Correction
from appliance.sizing.costs.task_lengths import TaskLengths
from appliance.sizing.pins import NO_PINS, Pins


@dataclass(frozen=True)
class SizingRequest:
    """engines: installed ones, best first. correction: what a probe measured. reserve_s: kept free for the last write."""

    lengths: TaskLengths
    budget_s: float
    pins: Pins = NO_PINS
    engines: tuple[str, ...] = ("vllm", "transformers")
    correction: Correction = NO_CORRECTION
    reserve_s: float = 3.0
