"""Base models in 4 bits (nf4, double quantisation) by bitsandbytes, on a GPU or a CPU, and their way back. Imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.errors import InputError, PrerequisiteError


def load_nf4(folder: Path, *, compute_dtype: str, device: str) -> Any:
    """The causal LM of the folder with its linear layers in nf4, everything else in `compute_dtype`.

    Raises PrerequisiteError without bitsandbytes, InputError when the folder is not a model.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = getattr(torch, compute_dtype)
    plan = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(folder),
            quantization_config=plan,
            dtype=dtype,
            device_map={"": device},
            local_files_only=True,
            attn_implementation="sdpa",
        )
    except ImportError as fault:
        raise PrerequisiteError(
            f"a base in nf4 needs bitsandbytes ({fault})",
            expected="the package bitsandbytes",
            remedy="pip install bitsandbytes, or adaptation.quantization: none",
        ) from fault
    except (OSError, ValueError, KeyError) as fault:
        raise InputError(
            f"model folder {folder}: {str(fault).splitlines()[0]}",
            expected="config.json and *.safetensors of a Transformers causal LM",
            remedy="pass a complete model folder",
        ) from fault
    for module in model.modules():
        # On CPUs with AVX512-BF16 the first forward in evaluation mode repacks the weights for good, and later training
        # forwards then carry no gradient through them, in silence. This switch keeps them as they are.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def dequantized_weights(model: Any) -> dict[str, Any]:
    """Module name to the float32 weight that its nf4 form stands for, of every nf4 layer (adapter wrappers left out)."""
    import bitsandbytes
    import torch

    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            weight = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            found[name] = weight.to(torch.float32).reshape(module.out_features, module.in_features)
    return found
