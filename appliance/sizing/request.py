"""What is asked of sizing: the run as the user wants it, and the core's own view of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from appliance.arc.task import TaskSet
from appliance.config import Layer, Settings, resolve
from appliance.machine.machine import Machine
from appliance.machine.software import EVERYTHING, Software
from appliance.sizing.choice import Choice
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.task_costs import NO_CORRECTION, Correction
from appliance.sizing.costs.task_lengths import TaskLengths
from appliance.sizing.pins import NO_PINS, Pins

T = TypeVar("T")

MEANT_FOR_GPUS = {
    "model.dtype": "auto",
    "model.quantization": "auto",
    "model.engine": "auto",
    "model.trainer": "auto",
    "sample.grammar": "none",  # needs vLLM
    "sample.serving": "auto",
    "run.workers_per_card": 1,
}
"""Settings of a run that lost its cards, over those that the user gave."""


@dataclass(frozen=True)
class PlanRequest:
    """A run to plan, as `plan`, `submit`, `simulate` and `pack` ask for it."""

    machine: Machine  # found here, or imagined
    models: tuple[ModelCard, ...]  # on offer; the plan takes one
    software: Software  # installed on that machine
    tasks: TaskSet | None  # None: lengths spread like those of ARC-AGI-2
    layers: tuple[Layer, ...]  # the settings that the user gave, lowest precedence first
    budget_s: float  # from the start of the command to the deadline
    pins: Pins = NO_PINS  # values fixed for this plan, over all settings

    # On the CPU this one takes the place of those above where they do not get to the end in time.
    stand_in: ModelCard | None = None

    def without_gpus(
        self, software: Software, *, stand_in: ModelCard, can_search: bool = True
    ) -> PlanRequest:
        """The same run on the CPU of that machine, because none of its cards can be used.

        What was asked of engines and number formats was meant for a card, so it is left open; and
        the run searches as well. software: what the CPU can use.
        """
        machine = replace(self.machine, gpus=(), gpu_note="no GPU can be used")
        values: dict[str, object] = dict(MEANT_FOR_GPUS)
        strategy = resolve(self.layers).strategy
        if can_search and "search" not in strategy:
            values["strategy"] = [*strategy, "search"]
        return replace(
            self,
            machine=machine,
            software=software,
            layers=(*self.layers, Layer("without a GPU", values)),
            stand_in=stand_in,
        )


@dataclass(frozen=True)
class SizingRequest:
    """The same, as the core of sizing reads it."""

    lengths: TaskLengths
    budget_s: float
    pins: Pins = NO_PINS
    software: Software = EVERYTHING
    settings: Settings = field(default_factory=Settings)  # with everything that the user set
    correction: Correction = NO_CORRECTION  # measured over planned, from a probe
    # Where a pin comes from, such as "set by train.rank"; one that is missing here was pinned.
    sources: Mapping[str, str] = field(default_factory=dict)
    given_keys: frozenset[str] = frozenset()  # settings that the user set, as dotted keys

    @property
    def is_described(self) -> bool:
        """Pins of `plan --pin` describe a training, such as one that was published: the plan is of
        one worker that does just that."""
        return any(value is not None and name not in self.sources for name, value in self.pins)

    def with_wish(self, pin: str, value: object) -> SizingRequest:
        """The same request with that value fixed, as a setting would fix it."""
        pins = self.pins.model_copy(update={pin: value})
        return replace(self, pins=pins, sources={**self.sources, pin: "tried by the plan"})

    def reason(self, pin: str, otherwise: str) -> str:
        """Why a value was taken: its pin, if there is one."""
        if getattr(self.pins, pin) is None:
            return otherwise
        return self.sources.get(pin, "pinned")

    def given(self, key: str, otherwise: Choice[T]) -> Choice[T]:
        """The setting of that name where the user set it, else what the plan found."""
        if key not in self.given_keys:
            return otherwise
        part, name = key.split(".")
        return Choice(getattr(getattr(self.settings, part), name), f"set by {key}")
