"""The checks of `appliance doctor` on machine, packages and platform. Nothing heavy is imported.

Covered: GPUs, whether torch can use them, engines, cores, memory, disk, shared memory, caches, user
name, offline settings, mounts, clock. Not covered: the sandbox, whose own report the verb adds, and
the network, which a run never uses.
"""

from __future__ import annotations

import os
import platform
import pwd
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from appliance.clock import Clock, SystemClock, format_instant
from appliance.machine.cuda import ON_PURPOSE, TO_GPU, TorchBuild, build_of, sort_out, torch_build
from appliance.machine.finding import Check, caution, failed, passed
from appliance.machine.gpu import GIB, Gpu
from appliance.machine.host import disk_free_bytes, is_writable
from appliance.machine.machine import Machine
from appliance.machine.software import ENGINE_PACKAGES, version_of

_EARLIEST_S = 1_735_689_600.0
"""2025-01-01. This program did not exist before, so a clock that shows less is wrong."""

_CACHE_VARIABLES = (
    "HF_HOME",
    "XDG_CACHE_HOME",
    "TRITON_CACHE_DIR",
    "TORCHINDUCTOR_CACHE_DIR",
    "VLLM_CACHE_ROOT",
)
"""Variables that say where libraries keep files and compiled kernels."""


def examine(
    machine: Machine,
    *,
    env: Mapping[str, str] | None = None,
    out: Path | None = None,
    clock: Clock | None = None,
    versions: Mapping[str, str | None] | None = None,
) -> list[Check]:
    """Every check, in the order of the report.

    env: by default os.environ. out: folder that a run would write to. versions: of the installed
    packages, by default looked up.
    """
    env = os.environ if env is None else env
    if versions is None:
        found: Mapping[str, str | None] = {name: version_of(name) for name in ENGINE_PACKAGES}
        build = torch_build()
    else:
        found, torch = versions, versions.get("torch")
        build = build_of(torch) if torch else None

    return [
        passed("platform", str(machine.platform)),
        passed("python", platform.python_version()),
        *_gpus(machine, env),
        *_cuda(machine, build),
        *_engines(machine, found),
        *_host(machine),
        *_disk(machine, out, env),
        *_caches(env),
        *_offline(machine, env),
        *_mounts(machine),
        *_clock(clock or SystemClock()),
    ]


def _gpus(machine: Machine, env: Mapping[str, str]) -> Iterable[Check]:
    if not machine.gpus and not machine.unusable:
        yield caution(
            "GPU",
            machine.gpu_note or "no NVIDIA GPU",
            "nothing for arc-mini, which runs on the CPU; for larger models ask for a GPU",
        )
        return

    for gpu in machine.gpus:
        yield _gpu(gpu)

    names = {g.name for g in machine.gpus}
    if len(names) > 1 and env.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        yield caution(
            "GPU order",
            f"{', '.join(sorted(names))}: CUDA may number them fastest first",
            "export CUDA_DEVICE_ORDER=PCI_BUS_ID",
        )
    if machine.gpu_note:
        yield caution(
            "GPU detection",
            f"{machine.gpu_source}; {machine.gpu_note}",
            "correct CUDA_VISIBLE_DEVICES, or install nvidia-ml-py",
        )


def _gpu(gpu: Gpu) -> Check:
    name, capability = f"GPU {gpu.index}", ".".join(map(str, gpu.spec.capability))
    free, total = gpu.free_bytes / GIB, gpu.total_bytes / GIB
    text = f"{gpu.name}, {free:.1f} of {total:.1f} GiB free, compute capability {capability}"

    if gpu.other_pids or free < 0.9 * total:
        users = ", ".join(map(str, gpu.other_pids)) or "not visible from here"
        remedy = "end them, or choose another card with CUDA_VISIBLE_DEVICES"
        return caution(name, f"{text}; used by other processes (pid {users})", remedy)
    if not gpu.spec.is_known:
        remedy = "nothing; the plan assumes little and a short trial on the card corrects it"
        return caution(name, f"{text}; a card that this program does not know", remedy)
    return passed(name, text + (", one slice of a card (MIG)" if gpu.is_mig else ""))


def _cuda(machine: Machine, build: TorchBuild | None) -> Iterable[Check]:
    """Cards that this torch cannot use, and the driver under the others."""
    usable, refused = sort_out(machine.gpus, build)

    faults = [*machine.unusable, *refused]
    for fault in dict.fromkeys(faults):  # cards of one kind have one fault
        count = faults.count(fault)
        remedy = fault.remedy
        if remedy == TO_GPU:
            remedy = f"{machine.platform.to_install('gpu')}; {ON_PURPOSE}"
        yield failed("CUDA", f"{count} x {fault}" if count > 1 else str(fault), remedy)

    if usable:
        driver = f"driver {usable[0].driver}"
        yield passed("CUDA", f"{driver}, {build}" if build else driver)


def _engines(machine: Machine, versions: Mapping[str, str | None]) -> Iterable[Check]:
    target = "gpu" if machine.gpus or machine.unusable else "cpu"
    install = machine.platform.to_install(target)

    for name in ("torch", "transformers", "peft"):
        version = versions.get(name)
        yield passed(name, version) if version else failed(name, "not installed", install)

    for name, without in (
        ("vllm", "answers are generated by transformers, several times slower"),
        ("unsloth", "training uses peft"),
        ("bitsandbytes", "4-bit weights cannot be used"),
    ):
        version = versions.get(name)
        if not version:
            engines = machine.platform.to_install("engines")
            remedy = install if machine.gpus else f"nothing for arc-mini; else {engines}"
            yield caution(name, f"not installed: {without}", remedy)
        elif name == "vllm" and not machine.gpus and shutil.which("lscpu") is None:
            yield failed(
                name,
                f"{version}, but the command lscpu is missing, which vLLM asks about the CPU",
                "install util-linux, or use an image of ours, which has it",
            )
        else:
            yield passed(name, version)


def _host(machine: Machine) -> Iterable[Check]:
    host = machine.host
    instructions = ", ".join(host.isa) or "no AVX2 or AVX-512"
    yield passed(
        "cores", f"{host.num_cores} ({host.cores_reason}), {host.cpu_model}, {instructions}"
    )

    free, total = host.memory_free_bytes / GIB, host.memory_bytes / GIB
    text = f"{free:.1f} of {total:.1f} GiB free ({host.memory_reason})"
    if free < 1.5:
        yield failed(
            "memory", text, "free memory or raise the limit: the smallest run takes 1.5 GiB"
        )
    elif free < 4:
        yield caution("memory", text, "fine for arc-mini; raise the limit for more than one worker")
    else:
        yield passed("memory", text)

    # Data loaders and vLLM pass tensors between processes there; Docker gives it 64 MiB by default.
    shm = Path("/dev/shm")
    if machine.gpus and shm.is_dir() and shutil.disk_usage(shm).total < 256 * 2**20:
        size = shutil.disk_usage(shm).total / 2**20
        yield caution(
            "shared memory",
            f"/dev/shm has {size:.0f} MiB",
            "start the container with --shm-size=1g or --ipc=host",
        )


def _disk(machine: Machine, asked: Path | None, env: Mapping[str, str]) -> Iterable[Check]:
    """asked: --out. Without it, the first place that may be written: a container begins in one that
    may not, and has a scratch folder."""
    here = Path.cwd()
    others = [env[name] for name in ("TMPDIR", "HOME") if env.get(name)]
    places = [machine.platform.scratch or here, here, *map(Path, others), Path("/tmp")]
    out = asked or next((place for place in places if is_writable(place)), places[0])

    free = disk_free_bytes(out) / GIB
    text = f"{free:.1f} GiB free for {out}"
    if asked is None and out != places[0]:
        text += f" (results go there, by --out; {places[0]} cannot be written)"
    if not is_writable(out):
        yield failed(
            "disk", f"{out} cannot be written", "pass --out with a folder that you may write to"
        )
    elif free < 0.2:
        yield failed("disk", text, "free at least 1 GiB, or write elsewhere with --out")
    elif free < 2:
        yield caution("disk", text, "free more: a long run keeps adapters, and 2 GiB are safe")
    else:
        yield passed("disk", text)


def _caches(env: Mapping[str, str]) -> Iterable[Check]:
    """Folders that engines write compiled kernels to at run time.

    In containers the commonest fault is that HOME cannot be written.
    """
    home = Path(env.get("HOME") or "/nonexistent")
    home_cache = Path(env.get("XDG_CACHE_HOME") or home / ".cache")
    folders = {name: Path(env[name]) for name in _CACHE_VARIABLES if env.get(name)}
    folders.setdefault("XDG_CACHE_HOME", home_cache)

    bad = {name: path for name, path in folders.items() if not is_writable(path)}
    if bad:
        places = ", ".join(f"{name}={path}" for name, path in bad.items())
        yield failed(
            "caches",
            f"cannot be written: {places}",
            "export XDG_CACHE_HOME, HF_HOME and TRITON_CACHE_DIR to a scratch folder",
        )
    else:
        yield passed("caches", ", ".join(sorted({str(path) for path in folders.values()})))

    if not (env.get("USER") or env.get("LOGNAME")) and not _has_account():
        yield failed(
            "user name",
            f"uid {os.getuid()} has no account; torch and vLLM ask for its name",
            "export USER=appliance",
        )


def _offline(machine: Machine, env: Mapping[str, str]) -> Iterable[Check]:
    wanted = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    unset = [name for name in wanted if env.get(name, "0").lower() in ("", "0", "false")]
    if not unset:
        yield passed("offline", "Hugging Face libraries are told to stay offline")
    elif machine.platform.site == "kaggle":
        yield caution(
            "offline",
            f"{', '.join(unset)} not set: libraries would wait for a network that is not there",
            "export " + " ".join(f"{n}=1" for n in unset),
        )
    else:
        yield passed("offline", "not set here; a run sets it for its workers")


def _mounts(machine: Machine) -> Iterable[Check]:
    place = machine.platform
    if place.site == "kaggle":
        if place.layout:
            yield passed("mounts", f"/kaggle/input, {place.layout} layout")
        else:
            yield failed(
                "mounts",
                "/kaggle/input is empty: a fault of the platform, not of the run",
                "add competition, code and model as inputs of the notebook, then start again",
            )
    elif place.site == "htcondor":
        if place.scratch and is_writable(place.scratch):
            yield passed("mounts", f"scratch {place.scratch}")
        else:
            yield failed(
                "mounts",
                f"scratch {place.scratch} cannot be written",
                "check _CONDOR_SCRATCH_DIR and the container's bind mounts",
            )


def _clock(clock: Clock) -> Iterable[Check]:
    now = clock.now()
    if now < _EARLIEST_S:
        yield caution(
            "clock",
            f"{format_instant(now)} cannot be right",
            "set the clock, or give the time with --budget, not with --deadline",
        )
    else:
        yield passed("clock", format_instant(now))


def _has_account() -> bool:
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True
