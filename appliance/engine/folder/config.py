"""What config.json must say of a model that we can load and train. No torch.

Covered: types and ranges of what sizing and the engines read, the family, custom code, stored
quantisation, rotary positions. Not covered: values that only the family's own code knows; those are
told when the model is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from appliance.engine.folder.families import FAMILIES
from appliance.engine.folder.json_file import shown
from appliance.engine.folder.known_classes import causal_lm_classes
from appliance.engine.folder.rope import rope_fault
from appliance.errors import InputError

MOST: Mapping[str, int] = {
    "hidden_size": 1 << 17,
    "intermediate_size": 1 << 20,
    "num_hidden_layers": 1 << 10,
    "num_attention_heads": 1 << 12,
    "num_key_value_heads": 1 << 12,
    "head_dim": 1 << 14,
    "vocab_size": 1 << 24,
    "max_position_embeddings": 1 << 30,
}
"""Numbers of config.json and the largest that is believed: many times those of any public model."""

_OPTIONAL = ("num_key_value_heads", "head_dim")
"""Numbers that may be null: Transformers then takes them from others."""

_DTYPES = ("float32", "bfloat16", "float16", "float64", "auto")
"""Types of weights that a config.json may name, with or without "torch." before it."""

_RELEASE = "take config.json from the model's release"


def check_config(config: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    """Raises InputError for a model that cannot be loaded; returns what to tell of one that can."""
    notes = _check_kind(config, folder)
    _check_quantization(config, folder)
    _check_numbers(config, folder)
    _check_others(config, folder)

    fault = rope_fault(config)
    if fault:
        found, expected, remedy = fault
        raise _refused(folder, found, expected, remedy)
    return notes


def stored_bits(config: Mapping[str, Any]) -> int | None:
    """4 or 8 for weights that bitsandbytes has quantised, None for others."""
    stored = config.get("quantization_config")
    if not isinstance(stored, dict) or _method(stored) != "bitsandbytes":
        return None
    return 8 if stored.get("load_in_8bit") else 4


def _method(stored: Mapping[str, Any]) -> str:
    """Name of the quantisation method. Old files of bitsandbytes do not name it."""
    is_unnamed = stored.get("load_in_4bit") or stored.get("load_in_8bit")
    return str(stored.get("quant_method") or ("bitsandbytes" if is_unnamed else "unknown"))


def _check_kind(config: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    """A decoder-only causal LM of a family that Transformers has code for."""
    kind, classes = config.get("model_type"), config.get("architectures") or []
    if not isinstance(kind, str) or not kind:
        raise _refused(
            folder,
            f"model_type is {shown(kind)}" if kind is not None else "no model_type",
            "the name of a model family, such as qwen2",
        )
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise _refused(folder, f"architectures is {shown(classes)}", "a list of class names")

    decoder = "a decoder-only language model, such as Llama, Qwen or Phi-3"
    if config.get("is_encoder_decoder") is True or kind in ("t5", "mt5", "umt5", "bart", "mbart"):
        raise _refused(
            folder, f"an encoder-decoder ({kind})", decoder, "pass --model with another model"
        )
    parts = [key for key in config if key.endswith("_config") and isinstance(config[key], dict)]
    if "text_config" in parts or "vision_config" in parts or "audio_config" in parts:
        raise _refused(
            folder,
            f"a multimodal model ({kind} with {', '.join(sorted(parts))})",
            decoder,
            "take the text-only release of this model",
        )

    known = causal_lm_classes()
    native = known.get(kind) if known is not None else None
    is_known = native is not None or kind in FAMILIES
    has_own_code = bool(config.get("auto_map"))
    if not is_known and has_own_code:
        raise _refused(
            folder,
            f"needs code of its own ({kind}, auto_map in config.json), which is never run",
            "a model that Transformers has code for",
            "take a model of another family",
        )
    if not is_known and known is not None:
        raise _refused(
            folder,
            f"the installed Transformers has no causal LM of the type {shown(kind)}",
            decoder,
            "correct model_type, or take a model of another family",
        )
    _check_class(classes, kind, native, folder)
    if has_own_code:
        return (f"code in {folder} (auto_map) is not run: Transformers has its own for {kind}",)
    return ()


def _check_class(classes: list[str], kind: str, native: str | None, folder: Path) -> None:
    """vLLM goes by the class, Transformers by the type: both must mean the same model."""
    if not classes:
        return
    if not any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in classes):
        raise _refused(
            folder,
            f"weights of {classes[0][:100]}, which has no head that writes text",
            "a causal LM, such as " + (native or "LlamaForCausalLM"),
            "take the model that was made for generation",
        )
    if native and native.lower() not in [name.lower() for name in classes]:
        raise _refused(
            folder,
            f"model_type {kind} with architectures {shown(classes)}",
            f"{native} for that type",
        )


def _check_quantization(config: Mapping[str, Any], folder: Path) -> None:
    stored = config.get("quantization_config") or config.get("compression_config")
    if stored is None:
        return
    if not isinstance(stored, dict):
        raise _refused(folder, f"quantization_config is {shown(stored)}", "an object")
    method = _method(stored)
    if method != "bitsandbytes":
        raise _refused(
            folder,
            f"weights quantised with {method[:50]}, which cannot be trained here",
            "weights in 16 or 32 bits",
            "use the unquantised weights of this model; "
            "--set model.quantization=nf4 stores them in 4 bits",
        )


def _check_numbers(config: Mapping[str, Any], folder: Path) -> None:
    for key, most in MOST.items():
        value = config.get(key)
        may_lack = key in _OPTIONAL or (key == "max_position_embeddings" and key not in config)
        if value is None and may_lack:
            continue
        if value is None and config["model_type"] not in FAMILIES and key not in config:
            continue  # families have names of their own; sizing tells those that it cannot read
        if not (_is_int(value) and 0 < value <= most):
            found = f"{key} is {shown(value)}" if key in config else f"no {key}"
            raise _refused(
                folder,
                found,
                f"a whole number from 1 to {most}",
            )

    family = FAMILIES.get(config["model_type"])
    heads, kv_heads = config.get("num_attention_heads"), config.get("num_key_value_heads")
    has_own_size = family is None or family.head_size or config.get("head_dim")
    if not has_own_size and config["hidden_size"] % config["num_attention_heads"]:
        raise _refused(
            folder,
            f"hidden_size {config['hidden_size']} for {heads} attention heads",
            "a multiple, or a head_dim",
        )
    if heads and kv_heads and heads % kv_heads:
        raise _refused(
            folder,
            f"{heads} attention heads for {kv_heads} key-value heads",
            "a multiple",
        )


def _check_others(config: Mapping[str, Any], folder: Path) -> None:
    """Values that would end the loading with a riddle."""
    vocab, layers = config.get("vocab_size", math.inf), config.get("num_hidden_layers")
    pad = config.get("pad_token_id")
    dtypes = [config.get("dtype"), config.get("torch_dtype")]
    kinds = config.get("layer_types")
    wrong = {
        "tie_word_embeddings": not isinstance(config.get("tie_word_embeddings"), bool | None),
        "attention_bias": not isinstance(config.get("attention_bias"), bool | None),
        "mlp_bias": not isinstance(config.get("mlp_bias"), bool | None),
        "hidden_act": not isinstance(config.get("hidden_act"), str | None),
        # -1 is what early Llama models say for "none".
        "pad_token_id": pad is not None and not (_is_int(pad) and -1 <= pad < vocab),
        "eos_token_id": not _are_ids(config.get("eos_token_id")),
        "bos_token_id": not _are_ids(config.get("bos_token_id")),
        "dtype": any(d is not None and not _is_dtype(d) for d in dtypes),
        "rms_norm_eps": not _is_positive(config.get("rms_norm_eps", 1e-6)),
        "layer_types": kinds is not None and not (isinstance(kinds, list) and len(kinds) == layers),
    }
    for key, is_wrong in wrong.items():
        if is_wrong:
            value = config.get(key, config.get("torch_dtype"))
            found = f"{len(kinds)} layer_types for {layers} layers" if (
                key == "layer_types" and isinstance(kinds, list)
            ) else f"{key} is {shown(value)}"  # fmt: skip
            raise _refused(
                folder,
                found,
                f"what Transformers writes for {config['model_type']}",
            )


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_ids(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return value is None or all(_is_int(v) for v in values)


def _is_dtype(value: Any) -> bool:
    return isinstance(value, str) and value.removeprefix("torch.") in _DTYPES


def _is_positive(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value < math.inf


def _refused(folder: Path, found: str, expected: str, remedy: str = _RELEASE) -> InputError:
    return InputError(f"model folder {folder}: {found}", expected=expected, remedy=remedy)
