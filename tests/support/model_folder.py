"""A model folder written without torch, whole unless a test breaks it.

It has the layout of Qwen2, random weights of about 100 KB, and a byte-level tokenizer with ChatML
marks, which `tokenizers` reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from appliance.engine.folder.families import expected_weights
from appliance.engine.folder.tensor_file import BYTES_OF
from tests.support.small_lm import CHATML, SPECIALS

CONFIG: Mapping[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "dtype": "float32",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "vocab_size": 256 + len(SPECIALS),
    "tie_word_embeddings": True,
    "pad_token_id": 256,
    "eos_token_id": 258,
}

Weights = dict[str, tuple[str, tuple[int, ...], bytes]]
"""Type, shape and bytes of each tensor by name."""


def write_model_folder(folder: Path, **changes: Any) -> Path:
    """Write the folder and return it. changes: keys of config.json; None removes one."""
    config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder)
    write_weights(folder / "model.safetensors", weights_of(config))
    return folder


def weights_of(config: Mapping[str, Any]) -> Weights:
    """Random weights for the configuration."""
    expected = expected_weights(config)
    assert expected is not None
    rng = np.random.default_rng(0)
    return {
        name: ("F32", shape, (0.02 * rng.standard_normal(shape)).astype("<f4").tobytes())
        for name, shape in expected.items()
    }


def write_weights(path: Path, weights: Weights) -> None:
    header, data = {}, b""
    for name, (dtype, shape, values) in weights.items():
        offsets = [len(data), len(data) + len(values)]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        data += values
    write_raw(path, header, data)


def write_raw(path: Path, header: object, data: bytes) -> None:
    """A safetensors file with this header, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def write_hollow_weights(path: Path, config: Mapping[str, Any], dtype: str = "BF16") -> None:
    """Weights of any size that are all zero and take no room on disk."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in (expected_weights(config) or {}).items():
        begin, end = end, end + int(np.prod(shape)) * BYTES_OF[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    write_raw(path, header, b"")
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size + end)


def write_adapter(folder: Path, config: Mapping[str, Any]) -> Path:
    """A LoRA adapter of rank 1 on the queries of every layer, and its folder."""
    folder.mkdir()
    said = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 1, "lora_alpha": 1}
    (folder / "adapter_config.json").write_text(json.dumps(said | {"target_modules": ["q_proj"]}))

    width = int(config["hidden_size"])
    ones = np.ones(width, dtype="<f4").tobytes()
    weights: Weights = {}
    for i in range(config["num_hidden_layers"]):
        place = f"base_model.model.model.layers.{i}.self_attn.q_proj"
        weights[f"{place}.lora_A.weight"] = ("F32", (1, width), ones)
        weights[f"{place}.lora_B.weight"] = ("F32", (width, 1), ones)
    write_weights(folder / "adapter_model.safetensors", weights)
    return folder


def write_tokenizer(folder: Path) -> None:
    """tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    marks = [
        {"id": 256 + i, "content": mark, "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for i, mark in enumerate(SPECIALS)
    ]
    by_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": marks,
        "normalizer": None,
        "pre_tokenizer": by_bytes | {"use_regex": False},
        "post_processor": None,
        "decoder": by_bytes | {"use_regex": True},
        "model": {"type": "BPE", "vocab": _byte_names(), "merges": []},
    }
    said = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": SPECIALS[0],
        "eos_token": SPECIALS[2],
        "extra_special_tokens": [SPECIALS[1]],
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    (folder / "chat_template.jinja").write_text(CHATML)


def _byte_names() -> dict[str, int]:
    """One printable character for each byte, as byte-level tokenizers name them."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [value for value in range(256) if value not in plain]
    names = {value: chr(value) for value in plain}
    names |= {value: chr(256 + i) for i, value in enumerate(others)}
    return {name: i for i, name in enumerate(sorted(names.values()))}
