"""The two precisions that a CPU may choose. Tests whose outcome depends on it run in both."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CpuPrecision:
    name: str
    switch: str  # value of APPLIANCE_CPU_BF16
    loss_tolerance: float  # relative, between losses whose products were rounded in another order


CPU_PRECISIONS = (
    # Measured here: 1e-6 at most after six steps.
    CpuPrecision("float32", "off", 1e-4),
    # Numbers have 8 significant bits, so one rounding changes them by 2^-9 at most; the mean over
    # a batch changes by less. Measured: 1.0e-4 on a CPU with units for bfloat16.
    CpuPrecision("bfloat16", "on", 2**-9),
)
