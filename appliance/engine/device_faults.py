"""What a fault of a device means: no room, a process that is spoilt, a device that is lost.

torch is imported inside the functions that need it, so that whoever only asks stays without.
"""

from __future__ import annotations

from appliance.errors import DeviceLost, first_line

_OOM_SIGNS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "cublas_status_alloc_failed",
)
"""Lower-case parts of the messages by which torch, the allocators and cuBLAS say "no room"."""

_POISON_SIGNS = ("cuda error", "cudnn_status", "cublas_status", "device-side assert", "nvml")
"""Lower-case parts of messages after which every further CUDA call of the process fails."""


def check_device(device: str) -> None:
    """Raises DeviceLost when torch cannot use it: no CUDA in torch or driver, or a lost card.

    device: "cpu" or "cuda". To be called first of all: later the same faults would look like those
    of a model.
    """
    if device != "cuda":
        return
    import torch

    try:
        # A sum that is read back: a sick card may give memory and fail at work.
        total = torch.ones(2, device="cuda").sum().item()
    except (RuntimeError, AssertionError) as fault:  # AssertionError: a torch built for the CPU
        raise DeviceLost(f"torch cannot use the GPU: {first_line(fault)}") from fault
    if total != 2:
        raise DeviceLost(f"the GPU says that 1 + 1 is {total}")


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether the fault means that a device or the host had no room.

    Told by its text, because torch reports a full host as a plain RuntimeError.
    """
    text = str(fault).lower()
    return isinstance(fault, MemoryError) or any(sign in text for sign in _OOM_SIGNS)


def poisons_process(fault: BaseException) -> bool:
    """Whether the fault leaves CUDA unusable: every later call of this process would fail too."""
    text = str(fault).lower()
    return not is_out_of_memory(fault) and any(sign in text for sign in _POISON_SIGNS)


def release_memory(fault: BaseException) -> None:
    """Give back what a failed attempt still holds.

    That is the local variables of the frames that it, and what caused it, came through, and torch's
    cache of the device.
    """
    import gc
    import traceback

    import torch

    cause: BaseException | None = fault
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
