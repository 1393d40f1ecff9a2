"""Fewer workers than cards, where the user wants so: others may work on the machine as well."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from appliance.config import Settings
from appliance.machine.gpu import least_used
from appliance.machine.machine import Machine


def wanted_cards(machine: Machine, asked: Settings, given: Set[str]) -> tuple[Machine, str]:
    """The machine with as many cards as workers are wanted, the least used ones.

    given: the keys that somebody set. Returns also why it has no more cards, "" where it has all.
    """
    num_cards, num_wanted = len(machine.gpus), asked.run.workers
    if "run.workers" not in given or num_wanted >= num_cards:
        return machine, ""
    fewer = replace(machine, gpus=least_used(machine.gpus, num_wanted))
    return fewer, f"; run.workers = {num_wanted}: the least used of {num_cards} cards"
