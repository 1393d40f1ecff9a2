"""One value for all that a run stands on: GPUs, host and platform."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance.machine.cuda import sort_out, torch_build
from appliance.machine.gpu import GIB, Gpu, Unusable, find_gpus
from appliance.machine.host import Host, find_host
from appliance.machine.platforms import Platform, find_platform

IMAGINED = "imagined"
"""The source of GPUs that are not here but planned for."""


@dataclass(frozen=True)
class Machine:
    """What a plan is made for: found here, or imagined (see `imagined.py`)."""

    gpus: tuple[Gpu, ...]  # those that this process can use, in CUDA's order
    host: Host
    platform: Platform
    gpu_source: str = "none"  # nvml, nvidia-smi, none or imagined
    gpu_note: str = ""  # why there is no GPU, or what was odd about finding them
    unusable: tuple[Unusable, ...] = ()  # cards that are here and do not work with what is here

    @property
    def is_imagined(self) -> bool:
        return self.gpu_source == IMAGINED

    def to_json(self) -> dict[str, Any]:
        """Every card once, however many workers share it."""
        cards = {gpu.uuid: gpu for gpu in self.gpus}
        whole_bytes: Counter[str] = Counter()
        for gpu in self.gpus:
            whole_bytes[gpu.uuid] += gpu.total_bytes

        return {
            "summary": self.summary(),
            "gpus": [
                {
                    "name": g.name,
                    "memory_gib": round(whole_bytes[g.uuid] / GIB, 2),
                    "capability": list(g.spec.capability),
                }
                for g in cards.values()
            ],
            "unusable_gpus": [str(card) for card in self.unusable],
            "cores": self.host.num_cores,
            "memory_gib": round(self.host.memory_bytes / GIB, 2),
            "platform": str(self.platform),
        }

    def summary(self) -> str:
        """One line for people, such as

        2 x Tesla T4 (14.6 GiB, capability 7.5), 4 cores, 31.4 GiB, Kaggle (rerun)
        1 x A6000 (47.5 GiB, capability 8.6), 8 cores, 95.1 GiB, imagined: a usual host of 1 x A6000
        """
        host = self.host
        if self.is_imagined and self.gpus:
            place = host.cores_reason
        elif self.is_imagined:
            place = f"{self.platform}, its GPUs left out"
        else:
            place = str(self.platform)
        size = f"{host.num_cores} cores, {host.memory_bytes / GIB:.1f} GiB"
        return ", ".join([*self._cards(), size, place])

    def _cards(self) -> list[str]:
        """Cards of one kind together; "no GPU" where there is none."""
        if not self.gpus:
            return ["no GPU that can be used" if self.unusable else "no GPU"]

        kinds = [(g.name, round(g.total_bytes / GIB, 1), g.capability) for g in self.gpus]
        cards = []
        for kind in dict.fromkeys(kinds):
            name, memory_gib, capability = kind
            number = ".".join(map(str, capability)) if capability else "unknown"
            parts = [g for g, k in zip(self.gpus, kinds, strict=True) if k == kind]
            num_cards = len({g.uuid for g in parts})

            shared = len(parts) // num_cards  # workers that share a card, each with its part
            in_parts = f" in {shared} parts of {memory_gib} GiB" if shared > 1 else ""
            whole_gib = round(shared * parts[0].total_bytes / GIB, 1)
            cards.append(f"{num_cards} x {name} ({whole_gib} GiB{in_parts}, capability {number})")
        return cards


def find_machine(env: Mapping[str, str] | None = None) -> Machine:
    """The machine under this process. env: its environment, by default os.environ.

    A card that the installed torch cannot use is none of its `gpus`, but stands beside them.
    """
    env = os.environ if env is None else env
    platform = find_platform(env)
    finding = find_gpus(visible=env.get("CUDA_VISIBLE_DEVICES"))
    host = find_host(
        Path("/"), cores_given=platform.cores, memory_given_bytes=platform.memory_bytes, env=env
    )
    gpus, refused = sort_out(finding.gpus, torch_build())
    unusable = (*finding.unusable, *refused)
    return Machine(gpus, host, platform, finding.source, finding.note, unusable)


def split_cards(machine: Machine, workers_per_card: int) -> Machine:
    """The machine that its workers plan with: a card stands once for each worker that shares it.

    Each of these parts has its share of the card's memory.
    """
    parts = tuple(
        replace(
            gpu,
            total_bytes=gpu.total_bytes // workers_per_card,
            free_bytes=gpu.free_bytes // workers_per_card,
        )
        for gpu in machine.gpus
        for _ in range(workers_per_card)
    )
    return replace(machine, gpus=parts)
