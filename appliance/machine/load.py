"""How busy this machine is at the moment: cores, memory and cards.

Asked every few seconds of a run, so nothing here starts a process or keeps a card busy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from appliance.machine.host import memory_now


@dataclass(frozen=True)
class HostLoad:
    """Cores and memory."""

    cpu_share: float  # of all cores of the machine, 0 to 1
    used_bytes: int
    total_bytes: int  # that this process and its children may hold


@dataclass(frozen=True)
class CardLoad:
    """One card."""

    share: float | None  # of the time that it computes, 0 to 1; None where it is not told
    used_bytes: int
    total_bytes: int


class LoadMeter:
    """Measures on demand. Cards that do not answer are left out.

    A driver may fail in ways of its own, and a figure on the screen is never worth a run: whatever
    asking a card raises, there is no figure.
    """

    def __init__(
        self, uuids: Sequence[str] = (), *, root: Path = Path("/"), nvml: ModuleType | None = None
    ) -> None:
        """uuids: of the cards. root, nvml: as in `find_host` and `find_gpus`."""
        self._root = root
        self._nvml: Any = nvml
        self._handles: dict[str, Any] = {}
        psutil.cpu_percent()  # the next call tells of the time since this one
        if uuids:
            self._open(uuids)

    def _open(self, uuids: Sequence[str]) -> None:
        if self._nvml is None:
            try:
                import pynvml
            except ImportError:
                return
            self._nvml = pynvml
        with contextlib.suppress(Exception):
            self._nvml.nvmlInit()
            for uuid in uuids:
                with contextlib.suppress(Exception):
                    self._handles[uuid] = self._nvml.nvmlDeviceGetHandleByUUID(uuid)

    def host(self) -> HostLoad:
        total, free = memory_now(self._root)
        return HostLoad(psutil.cpu_percent() / 100, total - free, total)

    def cards(self) -> dict[str, CardLoad]:
        """By UUID."""
        found = {}
        for uuid, handle in self._handles.items():
            with contextlib.suppress(Exception):
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
                found[uuid] = CardLoad(self._share(handle), int(memory.used), int(memory.total))
        return found

    def _share(self, handle: Any) -> float | None:
        with contextlib.suppress(Exception):  # slices of a card do not tell
            return float(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100
        return None
