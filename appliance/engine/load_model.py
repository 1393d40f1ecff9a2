"""Loading a causal LM from a folder, checked: the folder is whole, the logits are finite, the weights have a name (hash).

Imports torch and transformers inside its functions.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from appliance.engine.quantize import keep_trainable, loading_arguments
from appliance.errors import EngineError, InputError, OutOfMemory, first_line

NUM_PROBE_TOKENS = 32
_OOM_SIGNS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "cublas_status_alloc_failed",
)
_POISON_SIGNS = ("cuda error", "cudnn_status", "cublas_status", "device-side assert", "nvml")


def load_causal_lm(folder: Path, *, dtype: str, device: str, quantization: str = "none") -> Any:
    """The model in evaluation mode on `device`, weights in `dtype` ("float32", "bfloat16", "float16"); with quantization
    "nf4" or "int8" the linear layers are stored so and compute in `dtype`.

    Raises InputError for a folder that is not a model, EngineError when its logits are not finite (a bfloat16 model in
    float16 may do that), OutOfMemory, and PrerequisiteError when quantization needs a package that is not there.
    """
    import torch
    from transformers import AutoModelForCausalLM

    arguments = loading_arguments(quantization, compute_dtype=dtype, device=device)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=getattr(torch, dtype),
            local_files_only=True,
            attn_implementation="sdpa",
            **arguments,
        )
        if quantization == "none":
            model.to(device)
    except (OSError, ValueError, KeyError, RuntimeError) as fault:
        if is_out_of_memory(fault):
            raise OutOfMemory(
                f"no room for the weights of {folder} in {dtype} on {device}"
            ) from fault
        if poisons_process(fault):
            raise
        raise InputError(
            f"model folder {folder}: {first_line(fault)}",
            expected="config.json and *.safetensors of a Transformers causal LM",
            remedy="pass --model with a complete model folder",
        ) from fault
    keep_trainable(model)
    check_logits(
        model.eval(),
        f"{folder} in {dtype}" + ("" if quantization == "none" else f", {quantization}"),
    )
    return model


def check_logits(model: Any, name: str) -> None:
    """Raises EngineError when ids from all over the vocabulary give logits that are not finite."""
    import torch

    device = next(model.parameters()).device
    probe = torch.linspace(0, model.config.vocab_size - 1, NUM_PROBE_TOKENS, device=device).long()[
        None
    ]
    with torch.inference_mode():
        if not bool(torch.isfinite(model(input_ids=probe, use_cache=False).logits).all()):
            raise EngineError(
                f"{name} gives logits that are not finite",
                expected="finite logits",
                remedy="choose another dtype: --set model.dtype=float32",
            )


def weights_sha(folder: Path) -> str:
    """SHA-256 over the names and bytes of the folder's weight files, the identity of a base model or an adapter."""
    files = sorted(p for p in folder.glob("*.safetensors"))
    if not files:
        raise InputError(
            f"{folder}: no *.safetensors",
            expected="the weights of a model or an adapter",
            remedy="complete the folder",
        )
    sha = hashlib.sha256()
    for path in files:
        sha.update(path.name.encode())
        with path.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                sha.update(block)
    return sha.hexdigest()


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether the fault means that a device or the host had no room (torch reports the latter as a plain RuntimeError)."""
    text = str(fault).lower()
    return isinstance(fault, MemoryError) or any(sign in text for sign in _OOM_SIGNS)


def poisons_process(fault: BaseException) -> bool:
    """Whether the fault leaves the CUDA context unusable: every later call of this process would fail as well."""
    text = str(fault).lower()
    return not is_out_of_memory(fault) and any(sign in text for sign in _POISON_SIGNS)


def release_memory(fault: BaseException) -> None:
    """Give back what a failed attempt still holds: locals of the frames it came through, and torch's cache of the device."""
    import gc
    import traceback

    import torch

    traceback.clear_frames(fault.__traceback__)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
