"""The one device that a worker owns: a GPU or cores of the CPU, with its memory and speed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from appliance.machine.catalogue import has_bfloat16
from appliance.machine.gpu import GIB, Gpu
from appliance.machine.host import Host
from appliance.machine.machine import Machine

FREE_STEPS = 32
"""Free host memory is rounded down to 32nds of all memory, so that two looks see the same."""

_CORE_GFLOPS = {"amx-bf16": (205, 95), "avx512-bf16": (255, 95), "avx512": (0, 80), "avx2": (0, 57)}
"""GFLOP/s that training reaches on one core, in bf16 autocast (0: no units for it) and in float32.

Measured with torch 2.13 on a server with AMX (before attention by blocks), on an EPYC with
AVX512-BF16, and for AVX2 on an EPYC of the third generation; the rest are guesses."""

_UNKNOWN_CORE_GFLOPS = (0, 10)
"""Of a core with none of these instruction sets."""

_CORE_GB_S = 8.0
"""Memory bandwidth that one core reaches."""


@dataclass(frozen=True)
class Device:
    """Memory and speed of one device. The speed is what a GPU promises, and what a CPU reaches."""

    name: str
    is_gpu: bool
    memory_gib: float
    free_gib: float  # of it, what other processes leave
    bandwidth_gb_s: float
    tflops_16: float  # 1e12 operations a second with 16-bit weights
    tflops_32: float  # the same with 32-bit weights
    capability: tuple[int, int] = (0, 0)  # CUDA compute capability
    is_known: bool = True  # False where the figures are a careful guess
    threads: int = 1  # of torch, on a CPU
    sharers: int = 1  # workers on the card, this one included; the memory is this one's part

    def tflops(self, dtype: str) -> float:
        """Speed with weights of that type."""
        if dtype == "float32":
            return self.tflops_32
        # Emulated where the card has no units for it: 4 times slower than float16 on a T4.
        if dtype == "bfloat16" and self.is_gpu and not has_bfloat16(self.capability):
            return self.tflops_16 / 4
        return self.tflops_16


def device_of_gpu(gpu: Gpu, *, sharers: int = 1) -> Device:
    spec = gpu.spec
    return Device(
        name=gpu.name,
        is_gpu=True,
        memory_gib=gpu.total_bytes / GIB,
        free_gib=gpu.free_bytes / GIB,
        bandwidth_gb_s=spec.bandwidth_gb_s,
        tflops_16=spec.tflops,
        tflops_32=spec.tflops / 8,
        capability=spec.capability,
        is_known=spec.is_known,
        sharers=sharers,
    )


def device_of_cpu(host: Host, threads: int) -> Device:
    """The CPU as one worker sees it: its share of the cores, all of the memory that may be used."""
    best = next((name for name in _CORE_GFLOPS if name in host.isa), None)
    gflops_16, gflops_32 = _CORE_GFLOPS[best] if best else _UNKNOWN_CORE_GFLOPS

    return Device(
        name=host.cpu_model,
        is_gpu=False,
        memory_gib=host.memory_bytes / GIB,
        free_gib=host.memory_free_bytes / GIB,
        bandwidth_gb_s=_CORE_GB_S * threads,
        tflops_16=(gflops_16 or gflops_32) * threads / 1000,
        tflops_32=gflops_32 * threads / 1000,
        is_known=best is not None,
        threads=threads,
    )


def devices_of(machine: Machine) -> tuple[Device, ...]:
    """One per worker: every GPU, or the CPU with all its cores."""
    if machine.gpus:
        sharers = Counter(g.uuid for g in machine.gpus)
        return tuple(device_of_gpu(g, sharers=sharers[g.uuid]) for g in machine.gpus)
    return (device_of_cpu(machine.host, machine.host.num_cores),)


def steady_free_gib(host: Host) -> float:
    """Free memory in whole steps, but at least what is free of one: a busy machine has room too."""
    free_gib, step_gib = host.memory_free_bytes / GIB, host.memory_bytes / GIB / FREE_STEPS
    if step_gib <= 0:
        return free_gib
    return max(free_gib // step_gib * step_gib, min(step_gib, free_gib))
