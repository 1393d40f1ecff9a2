"""One value for all that we run on: GPUs, host and platform, found here or imagined (`--gpu T4x2`)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance.errors import UsageError
from appliance.machine.catalogue import spec_by_name
from appliance.machine.gpu import GIB, Gpu, GpuFinding, find_gpus
from appliance.machine.host import Host, find_host
from appliance.machine.platforms import Platform, find_platform


@dataclass(frozen=True)
class Machine:
    """gpus: those this process may use, in CUDA's order. gpu_source: nvml, nvidia-smi, none, or imagined."""

    gpus: tuple[Gpu, ...]
    host: Host
    platform: Platform
    gpu_source: str = "none"
    gpu_note: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "summary": self.summary(),
            "gpus": [
                {
                    "name": g.name,
                    "memory_gib": round(g.total_bytes / GIB, 2),
                    "capability": list(g.spec.capability),
                }
                for g in self.gpus
            ],
            "cores": self.host.num_cores,
            "memory_gib": round(self.host.memory_bytes / GIB, 2),
            "platform": str(self.platform),
        }

    def summary(self) -> str:
        """One line: `2 x Tesla T4 (14.6 GiB, capability 7.5), 4 cores, 31.4 GiB, Kaggle (rerun)`."""
        cores = (
            f"{self.host.num_cores} cores, {self.host.memory_bytes / GIB:.1f} GiB, {self.platform}"
        )
        if not self.gpus:
            return f"no GPU, {cores}"
        kinds = dict.fromkeys(
            (g.name, round(g.total_bytes / GIB, 1), g.capability) for g in self.gpus
        )
        cards = []
        for name, memory_gib, capability in kinds:
            count = sum(
                g.name == name and round(g.total_bytes / GIB, 1) == memory_gib for g in self.gpus
            )
            text = (
                f"capability {capability[0]}.{capability[1]}"
                if capability
                else "capability unknown"
            )
            cards.append(f"{count} x {name} ({memory_gib} GiB, {text})")
        return ", ".join([*cards, cores])


def find_machine(env: Mapping[str, str] | None = None) -> Machine:
    """The machine under this process. env: its environment, by default os.environ."""
    env = os.environ if env is None else env
    platform = find_platform(env)
    finding: GpuFinding = find_gpus(visible=env.get("CUDA_VISIBLE_DEVICES"))
    host = find_host(
        Path("/"), cores_given=platform.cores, memory_given_bytes=platform.memory_bytes, env=env
    )
    return Machine(finding.gpus, host, platform, finding.source, finding.note)


def shared(machine: Machine, workers_per_card: int) -> Machine:
    """The machine as its workers may plan with it: each card once for every worker that shares it, with its part of memory."""
    parts = tuple(
        replace(
            g,
            total_bytes=g.total_bytes // workers_per_card,
            free_bytes=g.free_bytes // workers_per_card,
        )
        for g in machine.gpus
        for _ in range(workers_per_card)
    )
    return replace(machine, gpus=parts)


def imagined(machine: Machine, gpu: str) -> Machine:
    """This machine with other GPUs: "T4x2", "H100", "none".

    Raises UsageError for a card that is not in the catalogue or a count outside 1-64.
    """
    if gpu.strip().lower() in ("none", "cpu", ""):
        return replace(machine, gpus=(), gpu_source="imagined", gpu_note="planned without a GPU")
    name, count = split_count(gpu)
    spec = spec_by_name(name)
    total = int(spec.memory_gib * GIB)
    gpus = tuple(
        Gpu(i, f"GPU-imagined-{i}", spec.name, spec.capability, total, total, "imagined")
        for i in range(count)
    )
    return replace(machine, gpus=gpus, gpu_source="imagined", gpu_note="")


def split_count(gpu: str) -> tuple[str, int]:
    """("T4", 2) of "T4x2", "T4 x 2", "2xT4" or "T4:2"."""
    text = gpu.strip()
    if before := re.fullmatch(r"(\d{1,2})\s*[x*]\s*(\D.*)", text):
        count, name = int(before.group(1)), before.group(2)
    elif after := re.fullmatch(r"(.*[^\s_x*:-])[\s_-]*[x*:]\s*(\d{1,2})", text, re.IGNORECASE):
        name, count = after.group(1), int(after.group(2))
    else:
        return text, 1
    if not 1 <= count <= 64:
        raise UsageError(
            f"--gpu {gpu!r} asks for {count} cards", expected="1 to 64", remedy="pass --gpu T4x2"
        )
    return name, count
