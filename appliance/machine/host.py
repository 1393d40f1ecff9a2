"""The CPU side: cores and memory that this process may really use, instruction sets, disk.

Inside a container the usual calls describe the whole machine; the limits stand in the affinity
mask, in cgroups (v1 or v2) and in RLIMIT_AS. The smallest one counts.

psutil knows neither cgroups nor instruction sets, and reads the same line of /proc/meminfo for the
memory of the machine. So all is read here, below one root, which a test can make up.
"""

from __future__ import annotations

import math
import os
import re
import resource
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.config import CPU_BF16_VARIABLE
from appliance.errors import UsageError

BF16_UNITS = ("amx-bf16", "avx512-bf16")
"""Instruction sets with which a CPU multiplies bfloat16 faster than float32."""

EMULATED_BF16 = "emulated-bf16"
"""Stands in `Host.isa` where the user wants bfloat16 of a CPU that has no units for it."""

_NO_LIMIT_BYTES = 2**60
"""cgroup v1 writes about 2**63 where nothing is limited."""

_MAPPED_BYTES = 700 * 2**20
"""Address space of a worker beyond its resident memory: libraries of torch, stacks, arenas.
Measured: 1.19 GiB mapped where 0.49 GiB were resident."""


@dataclass(frozen=True)
class Limit:
    value: float
    reason: str


@dataclass(frozen=True)
class Host:
    """CPU and memory as far as this process may use them."""

    cpu_model: str
    num_cores: int  # whole cores to start threads on
    cores_reason: str
    memory_bytes: int  # most that this process may hold
    memory_reason: str
    memory_free_bytes: int
    isa: tuple[str, ...]  # of amx-bf16, avx512-bf16, avx512, avx2, best first; emulated-bf16 last
    process_bytes: int | None = None  # may stay resident under an address space limit, if any
    is_bf16_forced: bool = False  # APPLIANCE_CPU_BF16 says on or off

    @property
    def can_bf16(self) -> bool:
        """Whether products in bfloat16 are the better choice here, or the one that is forced."""
        return bool({*BF16_UNITS, EMULATED_BF16} & set(self.isa))

    @property
    def bf16_reason(self) -> str:
        if self.is_bf16_forced:
            return f"{CPU_BF16_VARIABLE}={'on' if self.can_bf16 else 'off'}"
        return (
            "this CPU multiplies bfloat16 natively"
            if self.can_bf16
            else "this CPU has no fast bfloat16"
        )


def find_host(
    root: Path = Path("/"),
    *,
    cores_given: int | None = None,
    memory_given_bytes: int | None = None,
    env: Mapping[str, str] | None = None,
) -> Host:
    """root: where proc/ and sys/ stand (tests give a folder).

    *_given: limits that a batch system announced. env: by default os.environ.
    Raises UsageError for a value of APPLIANCE_CPU_BF16 other than auto, on and off.
    """
    wish = _bf16_wish(os.environ if env is None else env)
    cpuinfo = _read(root / "proc/cpuinfo")
    total, available = _meminfo(_read(root / "proc/meminfo"))

    cores = [Limit(_affinity(), "cores in the affinity mask")]
    cores += [Limit(q, "CPU quota of the control group") for q in _cgroup_cpu_quotas(root)]
    if cores_given:
        cores.append(Limit(cores_given, "cores of the batch slot"))

    memory = [Limit(total, "physical memory")]
    groups = list(_cgroup_memory(root))
    memory += [Limit(limit, "memory limit of the control group") for limit, _ in groups]
    shared = [limit.value for limit in memory]  # what all processes have together

    process_bytes = None
    soft_as, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft_as != resource.RLIM_INFINITY:
        memory.append(Limit(soft_as, "address space limit (ulimit -v)"))
        process_bytes = max(0, soft_as - _MAPPED_BYTES)
    if memory_given_bytes:
        memory.append(Limit(memory_given_bytes, "memory of the batch slot"))
        shared.append(memory_given_bytes)

    fewest = min(cores, key=lambda limit: limit.value)
    least = min(memory, key=lambda limit: limit.value)
    return Host(
        cpu_model=_field(cpuinfo, "model name") or "unknown CPU",
        num_cores=max(1, math.floor(fewest.value + 0.01)),
        cores_reason=fewest.reason,
        memory_bytes=int(least.value),
        memory_reason=least.reason,
        memory_free_bytes=int(
            max(0.0, min([available, *shared, *(limit - used for limit, used in groups)]))
        ),
        isa=_with_bf16(instruction_sets(_field(cpuinfo, "flags")), wish),
        process_bytes=process_bytes,
        is_bf16_forced=wish != "auto",
    )


def memory_now(root: Path = Path("/")) -> tuple[int, int]:
    """Bytes that all processes of a run may hold together, and those of them that are free now."""
    total, available = _meminfo(_read(root / "proc/meminfo"))
    groups = list(_cgroup_memory(root))
    free = min([available, *(limit - used for limit, used in groups)])
    return int(min([total, *(limit for limit, _ in groups)])), int(max(0.0, free))


def _bf16_wish(env: Mapping[str, str]) -> str:
    wish = env.get(CPU_BF16_VARIABLE, "").strip().lower() or "auto"
    if wish not in ("auto", "on", "off"):
        raise UsageError(
            f"{CPU_BF16_VARIABLE} = {env[CPU_BF16_VARIABLE]!r}",
            expected="auto, on or off",
            remedy=f"unset {CPU_BF16_VARIABLE}: then the CPU decides",
        )
    return wish


def _with_bf16(isa: tuple[str, ...], wish: str) -> tuple[str, ...]:
    """The instruction sets as the rest of the program shall see them."""
    has_units = bool(set(BF16_UNITS) & set(isa))
    if wish == "off":
        return tuple(name for name in isa if name not in BF16_UNITS)
    return (*isa, EMULATED_BF16) if wish == "on" and not has_units else isa


def instruction_sets(flags: str) -> tuple[str, ...]:
    """Those that matter for matrix work, best first, from the `flags` line of /proc/cpuinfo."""
    words = set(flags.split())

    known = {
        "amx-bf16": {"amx_bf16", "amx_tile"},
        "avx512-bf16": {"avx512_bf16"},
        "avx512": {"avx512f"},
        "avx2": {"avx2"},
    }
    return tuple(name for name, needed in known.items() if needed <= words)


def is_writable(folder: Path) -> bool:
    """Whether a file could be made there: asked of the folder, or the first above that exists."""
    here = folder.absolute()
    while not here.exists() and here != here.parent:
        here = here.parent
    return here.is_dir() and os.access(here, os.W_OK | os.X_OK)


def disk_free_bytes(folder: Path) -> int:
    """Free space where the folder is, or would be made."""
    here = folder.resolve()
    while not here.exists():
        here = here.parent
    return shutil.disk_usage(here).free


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _meminfo(text: str) -> tuple[float, float]:
    kib = {
        key: float(value) for key, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)
    }
    total = kib.get("MemTotal", 0.0) * 1024
    return total, kib.get("MemAvailable", kib.get("MemFree", 0.0)) * 1024


def _cgroup_folders(root: Path, controller: str) -> list[Path]:
    """Folders whose limits hold for this process: its own group and all above it, in v2 and v1."""
    folders: list[Path] = []

    for line in _read(root / "proc/self/cgroup").splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0":
            bases = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        elif controller in controllers.split(","):
            bases = [root / "sys/fs/cgroup" / controller, root / "sys/fs/cgroup" / controllers]
        else:
            continue
        # Inside a container the path may be that of the host and not exist here; the limits then
        # stand in the root folder.
        parts = [p for p in path.split("/") if p and p != ".."]
        for base in bases:
            folders += [base.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]

    return folders


def _cgroup_cpu_quotas(root: Path) -> list[float]:
    quotas = []
    for folder in _cgroup_folders(root, "cpu"):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not period:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.strip().isdigit() and period.strip().isdigit() and int(quota) > 0:
            quotas.append(int(quota) / int(period))
    return quotas


def _cgroup_memory(root: Path) -> Iterator[tuple[float, float]]:
    """(limit, used) of every limited group.

    File cache that the kernel would give back does not count as used.
    """
    for folder in _cgroup_folders(root, "memory"):
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes")
        cache = re.search(
            r"^(?:total_)?inactive_file (\d+)$", _read(folder / "memory.stat"), re.MULTILINE
        )
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            limit = _number(folder / name)
            if 0 < limit < _NO_LIMIT_BYTES:
                yield limit, max(0.0, used - (float(cache.group(1)) if cache else 0.0))


def _number(path: Path) -> float:
    text = _read(path).strip()
    return float(text) if text.isdigit() else 0.0


def _field(cpuinfo: str, key: str) -> str:
    found = re.search(rf"^{key}\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    return found.group(1).strip() if found else ""


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # absent in this kernel or hidden by the container: no limit is known from it
        return ""
