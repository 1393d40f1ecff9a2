"""How a model stretches its rotary positions, as config.json tells it. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from appliance.engine.folder.json_file import shown

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "proportional": (),
}
"""The kinds that Transformers 5.17 knows (modeling_rope_utils.py), and what each must give."""

_RENAMED = {"su": "longrope"}
"""Kinds under an old name. Transformers reads it for Phi-3, whose first release had it."""

_READS_OLD_NAMES = ("phi3",)

Fault = tuple[str, str, str]
"""What was found, what was expected, what to do."""

_REMEDY = "take config.json from the model's newest release"


def rope_fault(config: Mapping[str, Any]) -> Fault | None:
    """What is wrong with rope_scaling, rope_parameters or rope_theta; None for nothing."""
    theta = config.get("rope_theta")
    if theta is not None and not _is_positive(theta):
        return f"rope_theta is {shown(theta)}", "a positive number", _REMEDY

    for key in ("rope_scaling", "rope_parameters"):
        said = config.get(key)
        if said is None:
            continue
        if not isinstance(said, dict):
            return f"{key} is {shown(said)}", "an object or null", _REMEDY
        # Models with two kinds of attention have one object for each.
        nested = [value for value in said.values() if isinstance(value, dict)]
        for part in nested or [said]:
            fault = _fault_of(part, key, config)
            if fault:
                return fault
    return None


def _fault_of(said: Mapping[str, Any], key: str, config: Mapping[str, Any]) -> Fault | None:
    kind = said.get("rope_type", said.get("type", "default"))
    new = _RENAMED.get(kind) if isinstance(kind, str) else None
    if new and config["model_type"] in _READS_OLD_NAMES:
        kind = new
    elif new:
        remedy = f'write "{new}" in its place, or {_REMEDY}'
        return f'{key} of the kind "{kind}", the old name of {new}', new, remedy
    if not isinstance(kind, str) or kind not in _NEEDED:
        known = "one of " + ", ".join(_NEEDED)
        return f"{key} of the unknown kind {shown(kind)}", known, _REMEDY

    missing = [name for name in _NEEDED[kind] if said.get(name) is None]
    if missing:
        return f"{key} of the kind {kind} without {', '.join(missing)}", "these values", _REMEDY
    for name in ("factor", "low_freq_factor", "high_freq_factor", "rope_theta"):
        if said.get(name) is not None and not _is_positive(said[name]):
            return f"{key}: {name} is {shown(said[name])}", "a positive number", _REMEDY
    for name in ("short_factor", "long_factor"):
        values = said.get(name)
        if values is None:
            continue
        if not isinstance(values, list) or not all(_is_positive(v) for v in values):
            return f"{key}: {name} is {shown(values)}", "a list of positive numbers", _REMEDY
        wanted = _rotary_size(said, config) // 2
        if len(values) != wanted:
            found = f"{key}: {name} has {len(values)} numbers"
            return found, f"{wanted}, half the size of a head", _REMEDY
    return None


def _rotary_size(said: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """Numbers of a head that are turned."""
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    share = said.get("partial_rotary_factor", config.get("partial_rotary_factor")) or 1.0
    return int(head * share) if _is_positive(share) else int(head)


def _is_positive(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value < math.inf
