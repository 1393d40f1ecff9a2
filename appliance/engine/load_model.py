"""Load a causal LM from a folder, open an adapter on it, and tell what went wrong when that fails.

What is loaded is checked: the folder is whole, the logits are finite, and the weights have an
identity (a hash). Imports torch, transformers and peft inside its functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance.engine.adapter.loaded import NUM_PROBE_TOKENS, check_effect, put_on
from appliance.engine.adapter.record import check_record
from appliance.engine.attention import use_cpu_attention
from appliance.engine.device_faults import is_out_of_memory, poisons_process
from appliance.engine.load_report import refuse_incomplete
from appliance.engine.quantize import keep_trainable, loading_arguments
from appliance.errors import (
    EngineError,
    InputError,
    OutOfMemory,
    PrerequisiteError,
    first_line,
)


def load_causal_lm(folder: Path, *, dtype: str, device: str, quantization: str = "none") -> Any:
    """The model in evaluation mode on `device`.

    dtype: of the weights, "float32", "bfloat16" or "float16". quantization: "nf4" or "int8" store
    the linear layers so and compute in `dtype`.

    Raises InputError for a folder that is not a model, or whose weights are not exactly those that
    its config.json describes. Raises EngineError when its logits are not finite
    (a bfloat16 model in float16 may do that), OutOfMemory, and PrerequisiteError when a package is
    missing that the quantization needs, asked for or stored.
    """
    import torch
    from transformers import AutoModelForCausalLM

    arguments = loading_arguments(quantization, compute_dtype=dtype, device=device)

    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=getattr(torch, dtype),
            local_files_only=True,
            trust_remote_code=False,  # None would ask on the terminal, or on the job's pipe
            attn_implementation="sdpa",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report, and refused with their names
            **arguments,
        )
        if quantization == "none":  # else bitsandbytes has put it there already
            model.to(device)
    except ImportError as fault:  # weights stored by bitsandbytes, and no bitsandbytes
        raise PrerequisiteError(
            f"model folder {folder}: {first_line(fault)}",
            expected="the package that its weights need",
            remedy="install it, or use the unquantised weights of this model",
        ) from fault
    except Exception as fault:  # whatever the family's own code says of config.json and weights
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

    refuse_incomplete(report, folder)
    keep_trainable(model)
    use_cpu_attention(model)
    stored = dtype if quantization == "none" else f"{dtype}, {quantization}"
    check_logits(model.eval(), f"{folder} in {stored}")
    return model


def open_adapter(
    model: Any, folder: Path, *, base_sha: str, remedy: str, is_trainable: bool = False
) -> Any:
    """The model with the PEFT adapter of the folder on, as a PeftModel.

    base_sha: hash of the weights that the model was loaded from. remedy: what a person does about
    an adapter that does not fit. Raises InputError when it was trained on another base model, is
    not as its record says, cannot be read, does not fit in every part, or changes nothing.
    """
    from peft import PeftModel

    with adapter_faults(folder, base_sha=base_sha, remedy=remedy):
        adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=is_trainable)
        put_on(adapted, folder)
        check_effect(adapted, folder)
        return adapted


@contextmanager
def adapter_faults(folder: Path, *, base_sha: str, remedy: str) -> Iterator[None]:
    """Check the adapter's record, then turn whatever is raised inside into InputError.

    Out of memory and a lost GPU stay what they are, because they say nothing about the adapter.
    """
    check_record(folder, base_sha=base_sha)
    try:
        yield
    except Exception as fault:  # whatever PEFT says of the values in its files
        if isinstance(fault, InputError) or is_out_of_memory(fault) or poisons_process(fault):
            raise
        raise InputError(
            f"adapter {folder}: {first_line(fault)}",
            expected="a PEFT adapter folder that fits the model",
            remedy=remedy,
        ) from fault


def check_logits(model: Any, name: str) -> None:
    """Raises EngineError when ids from all over the vocabulary give logits that are not finite."""
    import torch

    device = next(model.parameters()).device
    last_id = model.config.vocab_size - 1
    probe = torch.linspace(0, last_id, NUM_PROBE_TOKENS, device=device).long()[None]

    with torch.inference_mode():
        logits = model(input_ids=probe, use_cache=False).logits
        if not bool(torch.isfinite(logits).all()):
            in_float32 = model.dtype == torch.float32
            raise EngineError(
                f"{name} gives logits that are not finite",
                expected="finite logits",
                remedy="download the model again, or take another release of it"
                if in_float32
                else "choose another dtype: --set model.dtype=float32",
            )
