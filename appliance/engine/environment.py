"""Environment variables that every process with torch in it needs, set before torch is imported."""

from __future__ import annotations

import os

QUIET_AND_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONHASHSEED": "0",
}

CPU = {
    # Threads that spin while they wait cost 5-10x beside any other work (measured: 2,371 against 11,130 tokens/s).
    "OMP_WAIT_POLICY": "PASSIVE",
    # oneDNN keeps up to 1,024 compiled kernels, one per shape; training sees a new shape every step: 7 MB a step, to 7 GB.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
}


def prepare_process() -> None:
    """Set them for this process where the user has not; call before torch is imported."""
    for name, value in (QUIET_AND_OFFLINE | CPU).items():
        os.environ.setdefault(name, value)
