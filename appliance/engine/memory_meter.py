"""What training takes of a device's memory, apart from all else that a worker holds there.

The worker's process also holds the sampling engine, so a peak of the whole process says nothing of
training. Here it is put together from two parts: what the trainer holds by itself, and how far a
training step rises above whatever was held when it began. Figures are bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from appliance.machine.gpu import GIB

PEAK_OF_RSS = "5"
"""Written to clear_refs it starts the peak of the process anew (Linux since 4.0, proc(5))."""


class MemoryMeter(Protocol):
    """Reads the memory that this process holds on one device."""

    def held_bytes(self) -> int:
        """Now. Raises OSError where it cannot be read."""

    def restart_peak(self) -> None:
        """`peak_bytes` begins at what is held now. Raises OSError where that is not allowed."""

    def peak_bytes(self) -> int:
        """The most that was held since `restart_peak`."""


class CudaMeter:
    """Tensors on the one card that this process sees, as torch's allocator counts them."""

    def held_bytes(self) -> int:
        import torch

        return int(torch.cuda.memory_allocated())

    def restart_peak(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> int:
        import torch

        return int(torch.cuda.max_memory_allocated())


class HostMeter:
    """Resident memory of this process, from Linux's /proc.

    psutil knows what is held, but no peak that can be started anew; both must come from one place.
    """

    def __init__(self, process: Path = Path("/proc/self")) -> None:
        self._process = process

    def held_bytes(self) -> int:
        return self._status("VmRSS")

    def restart_peak(self) -> None:
        # Not by Path.write_text: the file may be written to, but neither made nor cut short.
        file = os.open(self._process / "clear_refs", os.O_WRONLY)
        try:
            os.write(file, PEAK_OF_RSS.encode())
        finally:
            os.close(file)

    def peak_bytes(self) -> int:
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        text = (self._process / "status").read_text()
        found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
        if found is None:
            raise OSError(f"{self._process / 'status'} holds no {name}")
        return 1024 * int(found.group(1))


def meter_of(device: str) -> MemoryMeter:
    """device: "cpu" or "cuda"."""
    return HostMeter() if device == "cpu" else CudaMeter()


class TrainingMemory:
    """Keeps count of what training takes, from the moment that the trainer is loaded.

    >>> memory = TrainingMemory(meter)        # the trainer is loaded, nothing else is
    >>> with memory.watched():                # whatever else may have been loaded since
    ...     train_a_step()
    >>> memory.peak_gib
    """

    def __init__(self, meter: MemoryMeter) -> None:
        """To be made when the trainer is loaded and nothing else: all that is held is its own."""
        self._meter = meter
        self._rise_bytes: int | None = None
        self._own_bytes = 0
        self.fault = ""  # why nothing can be measured here
        try:
            self._own_bytes = meter.held_bytes()
        except OSError as fault:
            self.fault = str(fault)

    @property
    def peak_gib(self) -> float | None:
        """The trainer and the highest rise that was watched; None where none could be."""
        if self.fault or self._rise_bytes is None:
            return None
        return (self._own_bytes + self._rise_bytes) / GIB

    @contextmanager
    def joined(self) -> Iterator[None]:
        """What is held more at the end of the `with` than at its beginning is the trainer's too."""
        if self.fault:
            yield
            return

        began_bytes = self._meter.held_bytes()
        yield
        self._own_bytes += max(0, self._meter.held_bytes() - began_bytes)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Training steps are done inside: measure how far they rise above what is held before."""
        began_bytes = 0
        if not self.fault:
            try:
                began_bytes = self._meter.held_bytes()
                self._meter.restart_peak()
            except OSError as fault:
                self.fault = f"its peak cannot be started anew: {fault}"

        yield
        if not self.fault:
            self._rise_bytes = max(0, self._meter.peak_bytes() - began_bytes)
