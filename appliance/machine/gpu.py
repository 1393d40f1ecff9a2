"""The GPUs that this process may use, asked from NVML, or from `nvidia-smi` where there is no NVML.

Nothing here creates a CUDA context, so asking costs no GPU memory and cannot disturb a worker.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
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
    # Newest CUDA that the driver's library offers here; a newer library may stand over an older
    # driver (forward compatibility). None where it is not told.
    cuda: tuple[int, int] | None = None
    other_pids: tuple[int, ...] = ()  # processes that hold memory on the card
    is_mig: bool = False  # one slice of a card that is split (Multi-Instance GPU)

    @property
    def spec(self) -> GpuSpec:
        return spec_of_device(self.name, self.capability, self.total_bytes / GIB)


@dataclass(frozen=True)
class Unusable:
    """A card that is here, or should be, and that a run cannot use."""

    card: str  # its name, or how it was asked for
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.card}: {self.why}"


@dataclass(frozen=True)
class GpuFinding:
    gpus: tuple[Gpu, ...]  # those that this process may use
    source: str  # nvml, nvidia-smi or none
    note: str = ""  # why there is no GPU, or what was odd
    unusable: tuple[Unusable, ...] = ()  # cards that CUDA will not show


def find_gpus(*, visible: str | None = None, nvml: ModuleType | None = None) -> GpuFinding:
    """The GPUs of this process. A machine without any is a finding too, not an error.

    visible: the value of CUDA_VISIBLE_DEVICES, None where it is unset (read it with
    `visible_devices`). nvml: a module that answers like pynvml; by default pynvml itself.
    """
    found = _all_gpus(nvml)
    if visible is None or not (found.gpus or found.unusable):
        return replace(found, gpus=_without_hidden_slices(found.gpus))

    chosen, unknown = select_visible(found.gpus, visible)
    if unknown:
        note = (
            f"CUDA_VISIBLE_DEVICES={visible!r}: no device {unknown!r}; "
            "CUDA ignores it and all that follow"
        )
        return GpuFinding(chosen, found.source, note, (_missing(unknown),))
    if not chosen:
        hidden = f"CUDA_VISIBLE_DEVICES={visible!r} hides {len(found.gpus)} GPUs"
        return GpuFinding((), found.source, hidden)
    # What was not named is not missed.
    return GpuFinding(chosen, found.source, found.note)


def _missing(entry: str) -> Unusable:
    why = "named by CUDA_VISIBLE_DEVICES, and not there"
    return Unusable(f"GPU {entry}", why, "correct CUDA_VISIBLE_DEVICES, or look for a lost card")


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


def least_used(gpus: Sequence[Gpu], count: int) -> tuple[Gpu, ...]:
    """So many of the cards, in their order: those on which others hold the least memory.

    Of cards that are used alike, those with fewer processes of others, and then the first ones.
    Where CUDA_VISIBLE_DEVICES is set these are cards that it names: no other is ever found.
    """
    by_use = sorted(gpus, key=lambda g: (g.total_bytes - g.free_bytes, len(g.other_pids)))
    chosen = by_use[:count]
    return tuple(gpu for gpu in gpus if gpu in chosen)


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


def _all_gpus(nvml: ModuleType | None) -> GpuFinding:
    """Every GPU and slice of the machine."""
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
        driver, cuda = _text(nvml.nvmlSystemGetDriverVersion()), _cuda(nvml)
        gpus: list[Gpu] = []
        unusable: list[Unusable] = []
        for index in range(count):
            # A card that is lost must not hide the others.
            try:
                cards = list(_cards_of(nvml, index, driver))
            except nvml.NVMLError as error:
                remedy = "start the machine anew, or leave the card out with CUDA_VISIBLE_DEVICES"
                unusable.append(Unusable(f"GPU {index}", f"NVML: {error}", remedy))
                continue
            gpus += [replace(card, cuda=cuda) for card in cards if isinstance(card, Gpu)]
            unusable += [card for card in cards if isinstance(card, Unusable)]
    except nvml.NVMLError as error:
        return _from_smi(f"NVML: {error}")
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()

    note = "" if count else "NVML counts no GPU"
    return GpuFinding(tuple(gpus), "nvml", note, tuple(unusable))


def _cuda(nvml: ModuleType) -> tuple[int, int] | None:
    """(13, 0) where the library that a process would load says 13000."""
    try:
        number = int(nvml.nvmlSystemGetCudaDriverVersion_v2())
    except nvml.NVMLError:  # old drivers do not answer, and a container may lack the library
        return None
    return number // 1000, number % 1000 // 10


def _cards_of(nvml: ModuleType, index: int, driver: str) -> Iterator[Gpu | Unusable]:
    """The card at that index, or its slices where it is split."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    card = replace(_card(nvml, handle, index, driver), capability=_capability(nvml, handle))

    most = _most_slices(nvml, handle)
    slices = list(_slices(nvml, handle, most))
    if most and not slices:
        why = "it is to be split (MIG) and has no slice, so CUDA shows none of it"
        remedy = "make a slice (nvidia-smi mig -cgi ID -C), or end the mode (nvidia-smi -mig 0)"
        yield Unusable(card.name, why, remedy)
    elif not slices:
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


def _most_slices(nvml: ModuleType, handle: Any) -> int:
    """How many slices the card may have; 0 where it is not split."""
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(handle)
        return int(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)) if current else 0
    except nvml.NVMLError:  # cards before Ampere have no such mode
        return 0


def _slices(nvml: ModuleType, handle: Any, most: int) -> Iterator[Any]:
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


def _from_smi(why: str) -> GpuFinding:
    """As `_all_gpus`. why: what NVML failed on, for the note."""
    broken: tuple[Unusable, ...] = ()
    if "mismatch" in why.lower():  # the driver was renewed, and its old module is still loaded
        broken = (Unusable("the driver", why, "start the machine anew after a driver is renewed"),)

    tool = shutil.which("nvidia-smi")
    if tool is None:
        return GpuFinding((), "none", f"{why}; nvidia-smi is not on the path", broken)

    fields = "index,uuid,name,compute_cap,memory.total,memory.free,driver_version"
    cards = _smi(tool, f"--query-gpu={fields}")
    users = _smi(tool, "--query-compute-apps=gpu_uuid,pid")
    gpus = parse_smi(cards, users)
    if not gpus:
        return GpuFinding((), "none", f"{why}; nvidia-smi lists no GPU", broken)
    return GpuFinding(gpus, "nvidia-smi", why)


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
