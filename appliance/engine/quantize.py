"""Base weights in 4 or 8 bits (bitsandbytes), on a GPU or a CPU: how to load and to train them.

Imports torch.
"""

from __future__ import annotations

from typing import Any

from appliance.errors import PrerequisiteError, UsageError

QUANTIZATIONS = ("none", "nf4", "int8")
"""Ways to store the base weights."""


def loading_arguments(quantization: str, *, compute_dtype: str, device: str) -> dict[str, Any]:
    """What `from_pretrained` must be told; nothing for "none".

    nf4 takes double quantisation and computes in `compute_dtype`. Raises PrerequisiteError without
    bitsandbytes, UsageError for an unknown name.
    """
    import torch

    if quantization not in QUANTIZATIONS:
        raise UsageError(
            f"quantization {quantization!r}", expected="one of " + ", ".join(QUANTIZATIONS)
        )
    if quantization == "none":
        return {}

    try:
        import bitsandbytes  # noqa: F401
        from transformers import BitsAndBytesConfig
    except ImportError as fault:
        raise PrerequisiteError(
            f"base weights in {quantization} need bitsandbytes ({fault})",
            expected="the package bitsandbytes",
            remedy="pip install bitsandbytes, or --set model.quantization=none",
        ) from fault

    if quantization == "int8":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, compute_dtype),
        )
    return {"quantization_config": config, "device_map": {"": device}}


def keep_trainable(model: Any) -> None:
    """Keep bitsandbytes from repacking nf4 weights.

    On CPUs with AVX512-BF16 it does so for good in the first forward pass in evaluation mode, and
    later training passes no gradient through them, in silence (bitsandbytes 0.50).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
