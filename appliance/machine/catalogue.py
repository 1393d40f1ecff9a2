"""Known NVIDIA cards, with what their data sheets promise.

How much of that is reached in practice stands in sizing/costs/coefficients.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from appliance.errors import UsageError

AMPERE = (8, 0)
"""First compute capability that multiplies bfloat16 and runs FlashAttention 2."""


def has_bfloat16(capability: tuple[int, int]) -> bool:
    """Whether cards of this compute capability multiply bfloat16 in hardware."""
    return capability >= AMPERE


@dataclass(frozen=True)
class GpuSpec:
    """One kind of card."""

    name: str
    capability: tuple[int, int]  # CUDA compute capability
    # What a process sees (torch's `total_memory`), less than the name says: 22.03 of an L4 "24 GB".
    memory_gib: float
    bandwidth_gb_s: float  # 1e9 bytes a second
    # 1e12 dense 16-bit operations a second with 32-bit accumulation, which GeForce cards of the
    # 30 series do at half the rate.
    tflops: float
    is_known: bool = True  # False: not in the catalogue, the figures are a careful guess


CARDS = (
    GpuSpec("P100", (6, 0), 15.89, 732, 18.7),
    GpuSpec("V100", (7, 0), 15.77, 900, 112),
    GpuSpec("V100-32GB", (7, 0), 31.73, 900, 112),
    GpuSpec("T4", (7, 5), 14.56, 320, 65),
    GpuSpec("RTX 2080 Ti", (7, 5), 10.57, 616, 54),
    GpuSpec("RTX 3060", (8, 6), 11.63, 360, 25),
    GpuSpec("RTX 3080", (8, 6), 9.64, 760, 60),
    GpuSpec("RTX 3090", (8, 6), 23.57, 936, 71),
    GpuSpec("A10", (8, 6), 22.06, 600, 125),
    GpuSpec("A40", (8, 6), 44.43, 696, 150),
    GpuSpec("A6000", (8, 6), 47.54, 768, 155),
    GpuSpec("A100", (8, 0), 79.15, 2039, 312),
    GpuSpec("A100-40GB", (8, 0), 39.39, 1555, 312),
    GpuSpec("L4", (8, 9), 22.03, 300, 121),
    GpuSpec("L40S", (8, 9), 44.39, 864, 362),
    GpuSpec("L40", (8, 9), 44.39, 864, 181),
    GpuSpec("RTX 4070", (8, 9), 11.6, 504, 58),
    GpuSpec("RTX 4090", (8, 9), 23.52, 1008, 165),
    GpuSpec("RTX 6000 Ada", (8, 9), 47.4, 960, 364),
    GpuSpec("H100", (9, 0), 79.11, 3350, 989),
    GpuSpec("GH200", (9, 0), 94.5, 4000, 989),
    GpuSpec("H200", (9, 0), 139.8, 4800, 989),
    GpuSpec("RTX 5090", (12, 0), 31.36, 1792, 210),
    GpuSpec("RTX PRO 6000", (12, 0), 94.97, 1792, 400),
)


def _words(name: str) -> frozenset[str]:
    """What tells cards apart: {a100} of "NVIDIA A100-SXM4-40GB" and of "A100 40GB".

    The memory in the name is compared elsewhere.
    """
    # "rtx3090" becomes 3090, "2080ti" parts into 2080 and ti; AWS's A10G counts as an A10.
    spaced = re.sub(r"rtx(?=[a\d])|(?<=\d)(?=ti\b)", " ", name.lower().replace("a10g", "a10"))
    return frozenset(re.findall(r"[a-z]*\d+[a-z]*|pro|ti|ada", spaced))


def _gib_in_name(name: str) -> float | None:
    found = re.search(r"(\d+) ?gi?b", name.lower())
    return float(found.group(1)) if found else None


def _same_card(name: str) -> list[GpuSpec]:
    """Rows whose every word stands in the name: of these, the ones with the most words."""
    words = _words(name)
    rows = [(_words(s.name.split("-")[0]), s) for s in CARDS]
    fitting = [(len(own), s) for own, s in rows if own <= words]
    most = max((n for n, _ in fitting), default=0)
    return [s for n, s in fitting if n == most]


def spec_by_name(name: str) -> GpuSpec:
    """The card of that name as a user writes it: T4, rtx-3090, "A100 40GB", a6000.

    Raises UsageError with the known names.
    """
    rows = _same_card(name)
    if not rows:
        raise UsageError(
            f"no card named {name!r}",
            expected="one of " + ", ".join(s.name for s in CARDS) + ", with xN for several",
            remedy="pass --gpu T4x2, or --gpu none to plan for the CPU",
        )

    wanted_gib = _gib_in_name(name)
    return min(rows, key=lambda s: abs(s.memory_gib - wanted_gib)) if wanted_gib else rows[0]


def spec_of_device(name: str, capability: tuple[int, int] | None, memory_gib: float) -> GpuSpec:
    """The row for a card as its driver names it ("NVIDIA A100-SXM4-40GB"), with the memory found.

    A card that is not in the table gets a careful row: slow figures for its generation, and
    is_known False.
    """
    rows = _same_card(name)
    if rows:
        best = min(rows, key=lambda s: abs(s.memory_gib - memory_gib))
        return GpuSpec(
            best.name, capability or best.capability, memory_gib, best.bandwidth_gb_s, best.tflops
        )

    generation = capability or (6, 0)
    bandwidth, tflops = (300.0, 25.0) if generation >= AMPERE else (200.0, 8.0)
    return GpuSpec(name, generation, memory_gib, bandwidth, tflops, is_known=False)
