"""Folders of a small base model and of LoRA adapters for it, written without torch.

The base has names and shapes of Qwen2 and nothing that runs; the adapters are as PEFT saves them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROWS, HIDDEN, INNER, KEYS = 20, 8, 16, 4
"""Rows of the embedding, and outputs of the hidden state, the MLP, and keys and values."""

SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KEYS, HIDDEN),
    "self_attn.v_proj": (KEYS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
"""(out, in) of the linear layers of each layer."""

CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "peft_version": "0.21.2",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": [name.rpartition(".")[2] for name in SHAPES],
    "base_model_name_or_path": "base",
    "init_lora_weights": True,
}

Tensors = dict[str, np.ndarray[Any, Any]]
TYPES = {"float32": "F32", "float16": "F16", "int8": "I8", "uint8": "U8"}


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Write a safetensors file."""
    header, blocks, begin = {}, [], 0
    for name, values in tensors.items():
        block = values.tobytes()
        header[name] = {
            "dtype": TYPES[str(values.dtype)],
            "shape": list(values.shape),
            "data_offsets": [begin, begin + len(block)],
        }
        blocks.append(block)
        begin += len(block)

    said = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(said)) + said + b"".join(blocks))


def values(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def save_base(folder: Path, *, num_layers: int = 2, is_tied: bool = True) -> Path:
    tensors: Tensors = {"model.embed_tokens.weight": values(ROWS, HIDDEN)}
    for layer in range(num_layers):
        for name, shape in SHAPES.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = values(*shape)
        tensors[f"model.layers.{layer}.input_layernorm.weight"] = values(HIDDEN)
    tensors["model.norm.weight"] = values(HIDDEN)
    if not is_tied:
        tensors["lm_head.weight"] = values(ROWS, HIDDEN)

    folder.mkdir()
    save_tensors(folder / "model.safetensors", tensors)
    return folder


def lora(module: str, shape: tuple[int, int], *, rank: int = 2) -> Tensors:
    """A and B of one linear layer, under the names that PEFT gives them."""
    name = f"base_model.model.{module}"
    return {
        f"{name}.lora_A.weight": values(rank, shape[1]),
        f"{name}.lora_B.weight": values(shape[0], rank),
    }


def weights(num_layers: int = 2) -> Tensors:
    """An adapter on all linear layers."""
    tensors: Tensors = {}
    for layer in range(num_layers):
        for name, shape in SHAPES.items():
            tensors |= lora(f"model.layers.{layer}.{name}", shape)
    return tensors


def save_adapter(
    folder: Path,
    tensors: Mapping[str, np.ndarray[Any, Any]] | None = None,
    /,
    **config: object,
) -> Path:
    """An adapter folder; by default a good one for `save_base`."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    save_tensors(folder / "adapter_model.safetensors", weights() if tensors is None else tensors)
    return folder
