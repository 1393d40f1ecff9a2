"""A machine to plan for that is not here: `--gpu L4x4`, with the computer that such cards sit in.

Cards come from the catalogue and their host from the table below, so a plan for an imagined machine
is the same whichever computer it is made on. Only `--gpu none` keeps the host that was found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from appliance.errors import UsageError
from appliance.machine.catalogue import GpuSpec, spec_by_name
from appliance.machine.gpu import GIB, Gpu
from appliance.machine.host import Host
from appliance.machine.machine import IMAGINED, Machine


@dataclass(frozen=True)
class KnownHost:
    """The computer around some cards, as its owner describes it."""

    name: str
    card: str  # a name of the catalogue
    num_cards: int
    num_cores: int
    memory_gib: float
    isa: tuple[str, ...]  # as in Host: instruction sets for matrices, the best first


KNOWN_HOSTS = (
    # Google's g2-standard-48: Cascade Lake, which has AVX-512 but no bfloat16.
    KnownHost("Kaggle's machine with four L4", "L4", 4, 48, 192, ("avx512", "avx2")),
    # Kaggle promises no CPU model here; AVX2 is what all of them have had.
    KnownHost("Kaggle's machine with two T4", "T4", 2, 4, 31, ("avx2",)),
)
"""Hosts of platforms that rent out just these cards in just this number."""

CORES_PER_CARD = 8
"""Of a host that is not in the table: Google's g2-standard-8 has 8 for one L4, its A100s more."""

HOST_GIB_PER_CARD_GIB = 2.0
"""Host memory for each GiB on the cards; Google's g2-standard-8 has 1.3, its a3-highgpu-1g 2.9."""


def imagined(machine: Machine, gpu: str) -> Machine:
    """The machine of these cards ("T4x2", "H100"), or this one without any ("none").

    machine: the one found here, whose platform stays. Raises UsageError for a card that is not in
    the catalogue or a count outside 1-64.
    """
    other = with_cards(machine, gpu)
    if not other.gpus:
        return other

    spec, count = other.gpus[0].spec, len(other.gpus)
    return replace(other, host=host_around(spec, count))


def with_cards(machine: Machine, gpu: str) -> Machine:
    """This machine, host and all, with other cards in it. Raises as `imagined` does."""
    if gpu.strip().lower() in ("none", "cpu", ""):
        return replace(
            machine,
            gpus=(),
            gpu_source=IMAGINED,
            gpu_note="planned without a GPU",
            unusable=(),
        )

    name, count = split_count(gpu)
    spec = spec_by_name(name)
    total = int(spec.memory_gib * GIB)
    gpus = tuple(
        Gpu(i, f"GPU-imagined-{i}", spec.name, spec.capability, total, total, IMAGINED)
        for i in range(count)
    )
    return replace(machine, gpus=gpus, gpu_source=IMAGINED, gpu_note="", unusable=())


def host_around(spec: GpuSpec, count: int) -> Host:
    """The host of so many cards: a known one, or a usual one where no platform is known."""
    known = next((h for h in KNOWN_HOSTS if (h.card, h.num_cards) == (spec.name, count)), None)
    if known is None:
        known = KnownHost(
            name=f"a usual host of {count} x {spec.name}",
            card=spec.name,
            num_cards=count,
            num_cores=CORES_PER_CARD * count,
            memory_gib=HOST_GIB_PER_CARD_GIB * spec.memory_gib * count,
            isa=("avx2",),
        )

    memory_bytes = int(known.memory_gib * GIB)
    reason = f"imagined: {known.name}"
    return Host(
        cpu_model="imagined CPU",
        num_cores=known.num_cores,
        cores_reason=reason,
        memory_bytes=memory_bytes,
        memory_reason=reason,
        memory_free_bytes=memory_bytes,
        isa=known.isa,
    )


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
