"""The GPUs that this process may use, asked from NVML, or from `nvidia-smi` where there is no NVML.

Nothing here creates a CUDA context, so asking costs no GPU memory and cannot disturb a worker.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from appliance.machine.catalogue import GpuSpec, spec_of_device

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """One card, or one slice of a card that is split."""

    index: int  # position on the PCI bus, whatever CUDA_VISIBLE_DEVICES says
    uuid: str
    name: str  # as the driver has it
    capability: tuple[int, int] | None  # CUDA compute capability; None where it is not told
    total_bytes: int
    free_bytes: int
    driver: str  # its version
    other_pids: tuple[int, ...] = ()  # processes that hold memory on the card
    is_mig: bool = False  # one slice of a card that is split (Multi-Instance GPU)

    @property
    def spec(self) -> GpuSpec:
        return spec_of_device(self.name, self.capability, self.total_bytes / GIB)


@dataclass(frozen=True)
class GpuFinding:
    gpus: tuple[Gpu, ...]  # those that this process may use
    source: str  # nvml, nvidia-smi or none
    note: str = ""  # why there is no GPU, or what was odd


def find_gpus(*, visible: str | None = None, nvml: ModuleType | None = None) -> GpuFinding:
    """The GPUs of this process. A machine without any is a finding too, not an error.

    visible: the value of CUDA_VISIBLE_DEVICES, None where it is unset (read it with
    `visible_devices`). nvml: a module that answers like pynvml; by default pynvml itself.
    """
    gpus, source, note = _all_gpus(nvml)
    if visible is None or not gpus:
        return GpuFinding(_without_hidden_slices(gpus), source, note)

    chosen, unknown = select_visible(gpus, visible)
    if unknown:
        note = (
            f"CUDA_VISIBLE_DEVICES={visible!r}: no device {unknown!r}; "
            "CUDA ignores it and all that follow"
        )
    elif not chosen:
        note = f"CUDA_VISIBLE_DEVICES={visible!r} hides {len(gpus)} GPUs"
    return GpuFinding(chosen, source, note)


def visible_devices() -> str | None:
    """CUDA_VISIBLE_DEVICES as set from outside, None where it is unset. "" hides every card."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def select_visible(gpus: tuple[Gpu, ...], visible: str) -> tuple[tuple[Gpu, ...], str]:
    """The devices in the order of the list, and the first entry that names none ("" if all do).

    Entries are indices, UUIDs ("GPU-8932f937-...", any unambiguous beginning) or slices ("MIG-...",
    also the old form MIG-GPU-<uuid>/<gi>/<ci>). As in CUDA, the first bad entry ends the list; "",
    "-1" and "NoDevFiles" hide all.
    """
    chosen: list[Gpu] = []
    entries = [e.strip() for e in visible.split(",")] if visible.strip() else []

    for entry in entries:
        if entry in ("-1", "NoDevFiles", "none", "void"):
            return tuple(chosen), ""
        found = _by_entry(gpus, entry)
        if found is None or found in chosen:
            return tuple(chosen), entry
        chosen.append(found)

    return tuple(chosen), ""


def _by_entry(gpus: tuple[Gpu, ...], entry: str) -> Gpu | None:
    if entry.isdigit():
        cards = _without_hidden_slices(gpus)
        return cards[int(entry)] if int(entry) < len(cards) else None

    prefix = entry if entry.startswith(("GPU-", "MIG-")) else f"GPU-{entry}"
    matches = [g for g in gpus if g.uuid.startswith(prefix)]
    return matches[0] if len(matches) == 1 else None


def _without_hidden_slices(gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """Whole cards and the first slice: CUDA shows no second slice to a process that names none."""
    first_slice = next((g for g in gpus if g.is_mig), None)
    return tuple(g for g in gpus if not g.is_mig or g is first_slice)


def _all_gpus(nvml: ModuleType | None) -> tuple[tuple[Gpu, ...], str, str]:
    """Every GPU and slice, where it was asked, and a note: the parts of a GpuFinding."""
    if nvml is None:
        try:
            import pynvml as nvml_module
        except ImportError:
            return _from_smi("pynvml is not installed")
        nvml = nvml_module

    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return _from_smi(f"NVML: {error}")

    try:
        count = nvml.nvmlDeviceGetCount()
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        gpus = [g for i in range(count) for g in _cards_of(nvml, i, driver)]
    except nvml.NVMLError as error:
        return _from_smi(f"NVML: {error}")
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()

    return tuple(gpus), "nvml", "" if gpus else "NVML counts no GPU"


def _cards_of(nvml: ModuleType, index: int, driver: str) -> Iterator[Gpu]:
    """The card at that index, or its slices where it is split."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    card = replace(_card(nvml, handle, index, driver), capability=_capability(nvml, handle))

    slices = list(_slices(nvml, handle))
    if not slices:
        yield card
    for piece in slices:
        yield replace(
            _card(nvml, piece, index, driver),
            name=card.name,
            capability=card.capability,
            is_mig=True,
        )


def _card(nvml: ModuleType, handle: Any, index: int, driver: str) -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        index=index,
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        name=_text(nvml.nvmlDeviceGetName(handle)),
        capability=None,
        total_bytes=int(memory.total),
        free_bytes=int(memory.free),
        driver=driver,
        other_pids=_other_pids(nvml, handle),
    )


def _capability(nvml: ModuleType, handle: Any) -> tuple[int, int] | None:
    try:
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    except nvml.NVMLError:  # old drivers do not answer; the catalogue knows the card by name
        return None
    return int(major), int(minor)


def _slices(nvml: ModuleType, handle: Any) -> Iterator[Any]:
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(handle)
        most = nvml.nvmlDeviceGetMaxMigDeviceCount(handle) if current else 0
    except nvml.NVMLError:  # cards before Ampere have no such mode
        return

    for position in range(most):
        try:
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, position)
        except nvml.NVMLError:  # no slice stands at this position
            continue


def _other_pids(nvml: ModuleType, handle: Any) -> tuple[int, ...]:
    try:
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:  # containers may not see processes; memory in use is still known
        return ()
    return tuple(sorted({int(p.pid) for p in processes} - {os.getpid()}))


def _from_smi(why: str) -> tuple[tuple[Gpu, ...], str, str]:
    """As `_all_gpus`. why: what NVML failed on, for the note."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return (), "none", f"{why}; nvidia-smi is not on the path"

    fields = "index,uuid,name,compute_cap,memory.total,memory.free,driver_version"
    cards = _smi(tool, f"--query-gpu={fields}")
    users = _smi(tool, "--query-compute-apps=gpu_uuid,pid")
    gpus = parse_smi(cards, users)
    if not gpus:
        return (), "none", f"{why}; nvidia-smi lists no GPU"
    return gpus, "nvidia-smi", why


def _smi(tool: str, query: str) -> str:
    """What the tool prints; empty where it fails or hangs, as it does on a sick driver."""
    try:
        done = subprocess.run(
            [tool, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def parse_smi(cards: str, users: str = "") -> tuple[Gpu, ...]:
    """The cards in the CSV output of nvidia-smi, which does not tell slices (MIG) apart.

    cards: of --query-gpu=index,uuid,name,compute_cap,memory.total,memory.free,driver_version (MiB).
    users: of --query-compute-apps=gpu_uuid,pid.
    """
    holders: dict[str, list[int]] = {}
    for line in users.strip().splitlines():
        uuid, _, pid = (part.strip() for part in line.partition(","))
        if pid.isdigit():
            holders.setdefault(uuid, []).append(int(pid))

    rows = [[part.strip() for part in line.split(",")] for line in cards.strip().splitlines()]
    return tuple(_smi_card(row, holders) for row in rows if len(row) == 7 and row[0].isdigit())


def _smi_card(row: list[str], holders: dict[str, list[int]]) -> Gpu:
    index, uuid, name, capability, total, free, driver = row
    major, _, minor = capability.partition(".")
    return Gpu(
        index=int(index),
        uuid=uuid,
        name=name,
        capability=(int(major), int(minor)) if major.isdigit() and minor.isdigit() else None,
        total_bytes=_mib(total),
        free_bytes=_mib(free),
        driver=driver,
        other_pids=tuple(sorted(set(holders.get(uuid, [])) - {os.getpid()})),
    )


def _mib(text: str) -> int:
    """Bytes of "15360" or "15360 MiB"; 0 of "[N/A]", for cards that share the host's memory."""
    found = re.match(r"\d+", text)
    return int(found.group()) * 2**20 if found else 0


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
