"""Loading a causal LM from a folder, checked: the folder is whole, the logits are finite, the weights have a name (hash).

Imports torch and transformers inside its functions.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from appliance.errors import EngineError, InputError, OutOfMemory

_OOM_SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


def load_causal_lm(folder: Path, *, dtype: str, device: str) -> Any:
    """The model in evaluation mode on `device`, weights in `dtype` ("float32", "bfloat16", "float16").

    Raises InputError for a folder that is not a model, EngineError when one token of prompt gives logits that are not
    finite (a bfloat16 model in float16 may do that).
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=getattr(torch, dtype), local_files_only=True, attn_implementation="sdpa"
        )
    except (OSError, ValueError, KeyError, RuntimeError) as fault:
        if is_out_of_memory(fault):
            raise OutOfMemory(f"no room for the weights of {folder} in {dtype} on {device}") from fault
        raise InputError(
            f"model folder {folder}: {_first_line(fault)}",
            expected="config.json and *.safetensors of a Transformers causal LM",
            remedy="pass --model with a complete model folder",
        ) from fault
    model.to(device).eval()
    probe = torch.tensor([[model.config.bos_token_id or 0]], device=device)
    with torch.inference_mode():
        if not bool(torch.isfinite(model(input_ids=probe, use_cache=False).logits).all()):
            raise EngineError(
                f"{folder} gives logits that are not finite in {dtype}",
                expected="finite logits",
                remedy="choose another dtype: --set model.dtype=float32",
            )
    return model


def weights_sha(folder: Path) -> str:
    """SHA-256 over the names and bytes of the folder's weight files, the identity of a base model or an adapter."""
    files = sorted(p for p in folder.glob("*.safetensors"))
    if not files:
        raise InputError(
            f"{folder}: no *.safetensors", expected="the weights of a model or an adapter", remedy="complete the folder"
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


def _first_line(fault: BaseException) -> str:
    return (str(fault) or type(fault).__name__).splitlines()[0][:300]
