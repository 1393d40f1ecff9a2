"""Environment variables that every process with torch in it needs, set before torch is imported."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.machine.gpu import least_used, visible_devices
from appliance.machine.host import is_writable
from appliance.machine.machine import Machine
from appliance.machine.software import version_of

QUIET_AND_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONHASHSEED": "0",
}

CPU = {
    # Threads that spin while they wait cost 5-10 times as much beside any other work
    # (measured: 2,371 against 11,130 tokens/s).
    "OMP_WAIT_POLICY": "PASSIVE",
    # oneDNN keeps up to 1,024 compiled kernels, one per shape. Training sees a new shape in every
    # step: 7 MB a step, up to 7 GB.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
    # Freed blocks are kept. generate() makes a new KV cache for every token; giving 200 MB back
    # each time cost half of it in page faults (146 against 74 ms a token, 8 x 3,072 tokens;
    # training 4 % faster, its peak within 4 %).
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
}

VLLM = {
    # One process: with children of its own vLLM takes 2 GB and 12-40 s to start, and a kill leaves
    # them and shared memory behind.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    # Both compile with nvcc on their first use, which neither our images nor most machines have;
    # vLLM then does not start (vllm issue 49497). FlashInfer's sampler draws from the top p of all
    # rows at once, and ours are greedy or have seeds of their own. DeepGEMM is for 8-bit weights.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_USE_DEEP_GEMM": "0",
}

CACHES = {
    "VLLM_CACHE_ROOT": "vllm",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
}
"""For each variable the folder of what an engine compiles and keeps: see `compile_caches`."""

VLLM_CPU = {
    # The first log-probability would compile C++ for 7 s; without a compiler the engine hangs.
    "TORCHDYNAMO_DISABLE": "1",
}


VLLM_NF4_PLUGIN = "bitsandbytes"
"""The entry point of vllm-bnb-plugin, by which vLLM packs base weights to nf4 while it loads them.
"""


def vllm_variables(*, device: str, quantization: str) -> dict[str, str]:
    """What vLLM reads of its environment. device: "cpu" or "cuda". quantization: of base weights.

    No plug-in is loaded but the one that is needed: each that is installed may change the engine.
    """
    plugin = VLLM_NF4_PLUGIN if quantization == "nf4" else ""
    return VLLM | {"VLLM_PLUGINS": plugin} | (VLLM_CPU if device == "cpu" else {})


def compile_caches(scratch: Path) -> dict[str, str]:
    """Folders for what engines compile on a GPU, each by the variable that names it.

    They outlive the run, because a cold start compiles for a minute or more. What is set in the
    environment stays so; else it is the user's cache folder (XDG_CACHE_HOME, ~/.cache), one for
    each version, and the run's `scratch` where that cannot be written. Workers may share them: all
    three engines write a file under another name first (torch 2.13, Triton 3.7, vLLM 0.32).
    """
    home = Path(os.environ.get("HOME") or os.devnull)  # in which nothing can be made
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    versions = "-".join(f"{name}-{version_of(name)}" for name in ("torch", "vllm"))
    folder = user_cache / "arc-appliance" / versions
    if not is_writable(folder):
        folder = scratch
    return {name: os.environ.get(name) or str(folder / cache) for name, cache in CACHES.items()}


def prepare_process() -> None:
    """Set them for this process where the user has not; call before torch is imported."""
    for name, value in (QUIET_AND_OFFLINE | CPU | VLLM).items():
        os.environ.setdefault(name, value)
    hush_kernel_hub()


def take_one_card(machine: Machine) -> None:
    """Let this process see only the least used of several cards; call before torch is imported.

    Where CUDA_VISIBLE_DEVICES is set, somebody has chosen already.
    """
    if visible_devices() is None and len(machine.gpus) > 1:
        (chosen,) = least_used(machine.gpus, 1)
        os.environ["CUDA_VISIBLE_DEVICES"] = chosen.uuid


_KERNELS_LOGGER = "bitsandbytes.backends.cpu.ops"


def _is_worth_reading(record: logging.LogRecord) -> bool:
    return "gemm_4bit_forward" not in record.msg


def hush_kernel_hub() -> None:
    """Leave out one message of bitsandbytes on CPUs with AVX-512; call before it is imported.

    PEFT imports it wherever it is installed. It then looks for a faster kernel on a model hub, and
    complains that it has not found it. We fetch no code, and compute as well without that kernel.
    """
    logging.getLogger(_KERNELS_LOGGER).addFilter(_is_worth_reading)


def hide_flashinfer() -> None:
    """Make Python say that the package FlashInfer is not there; call before vLLM is imported.

    vLLM requires it, and takes its attention, its tuning and its top-k wherever it finds it. Each
    compiles with nvcc on its first use (see VLLM above), on some cards while vLLM starts. Without
    it vLLM takes kernels that it brings along, or Triton's. One that is already imported stays.
    """
    sys.modules.setdefault("flashinfer", None)  # type: ignore[arg-type]


def hide_scipy() -> None:
    """Make Python say that the package SciPy is not there; call before transformers is imported.

    Transformers imports it with every model, for losses of object detection: 390 modules, a tenth
    of what the start of a worker costs.
    """
    sys.modules.setdefault("scipy", None)  # type: ignore[arg-type]


@contextmanager
def unchanged(name: str) -> Iterator[None]:
    """However it is set inside the `with`, the variable is afterwards what it was before."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """For a `with` that imports engines: Python does not look for garbage meanwhile.

    It would go through all that is already imported again and again, and find nothing. Without it a
    worker is ready after 1.6 instead of 2.1 s, with vLLM after 5.7 instead of 6.5 s (2026-11-27,
    two cores).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
