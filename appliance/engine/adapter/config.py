"""What adapter_config.json says, every key checked before PEFT reads it. No torch.

PEFT leaves out keys that it does not know with a warning, and takes values of a wrong type until it
computes with them. Here both are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.engine.folder.json_file import read_object, shown
from appliance.errors import InputError

CONFIG_FILE = "adapter_config.json"

MOST = 10**9
"""Bound of every number: far beyond all ranks, scales and token ids in use."""

LONGEST_PATTERN = 1000
"""Characters of a regular expression; longer ones take minutes to compile or to match."""

KNOWN_KEYS = {
    "alora_invocation_tokens", "alpha_pattern", "arrow_config", "auto_mapping",
    "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying", "eva_config",
    "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "kasa_config",
    "layer_replication", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha",
    "lora_bias", "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core",
    "modules_to_save", "monteclora_config", "peft_type", "peft_version", "qalora_group_size",
    "r", "rank_pattern", "revision", "runtime_config", "target_modules", "target_parameters",
    "task_type", "trainable_token_indices", "use_bdlora", "use_dora", "use_qalora",
    "use_rslora", "velora_config",
}  # fmt: skip
"""The fields of LoraConfig in the pinned PEFT (0.21), which a test compares with it."""

OTHER_TASKS = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "SEQ_2_SEQ_LM")
"""Task types of models that do not continue a text."""

UNUSABLE = {
    "megatron_config": "an adapter for layers of Megatron",
    "layer_replication": "an adapter that copies layers, which the models here cannot run",
    "alora_invocation_tokens": "an adapter that is off until its invocation tokens are read",
}
"""Keys that, when set, ask for what no engine here does."""

PROMPT_KINDS = ("PROMPT", "P_TUNING", "PREFIX", "CPT", "CARTRIDGE", "ADAPTION")
"""Parts of the names of the kinds that put vectors before the text and change no weight."""


@dataclass(frozen=True)
class AdapterConfig:
    """A LoRA configuration whose values have the types that PEFT computes with."""

    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]  # of modules whose name ends so (a regular expression)
    alpha_pattern: Mapping[str, float]
    raw: Mapping[str, Any]  # the whole file
    notes: tuple[str, ...]  # what is left out of account

    def rank_of(self, module: str) -> int:
        return self.rank_pattern.get(_pattern_of(self.rank_pattern, module), self.rank)

    def alpha_of(self, module: str) -> float:
        return self.alpha_pattern.get(_pattern_of(self.alpha_pattern, module), self.alpha)

    def is_target(self, module: str) -> bool:
        """Whether PEFT gives the module of that name slots, if it is a layer that can have them.

        The same rules as PEFT's check_target_module_exists.
        """
        raw = self.raw
        if _matches(raw.get("exclude_modules") or [], module):
            return False
        saved = raw.get("modules_to_save") or []
        if any(re.match(rf"(^|.*\.){name}($|\..*)", module) for name in saved):
            return False

        targets = raw.get("target_modules") or []
        if not _matches(targets, module):
            return False
        if isinstance(targets, str) or module in targets:
            return True
        return self._is_in_layers(module)

    def _is_in_layers(self, module: str) -> bool:
        layers = self.raw.get("layers_to_transform")
        if layers is None or layers == []:
            return True

        patterns = self.raw.get("layers_pattern") or [r"[^.]*"]
        patterns = [patterns] if isinstance(patterns, str) else patterns
        found = (re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", module) for pattern in patterns)
        match = next(filter(None, found), None)
        numbers = [layers] if isinstance(layers, int) else layers
        return match is not None and int(match[1]) in numbers

    @property
    def is_on_every_layer(self) -> bool:
        """ "all-linear", which only the loaded model can spell out."""
        targets = self.raw.get("target_modules")
        return isinstance(targets, str) and targets.lower() == "all-linear"


def read_config(folder: Path) -> AdapterConfig:
    """The configuration of the adapter in the folder.

    Raises InputError for one that cannot be read, is of another kind than LoRA, has a value of a
    wrong type, or switches on what this PEFT does not know.
    """
    raw = read_object(folder / CONFIG_FILE)
    where = f"adapter {folder}: {CONFIG_FILE}"
    _check_kind(raw, where)

    for key, (is_right, expected) in _RULES.items():
        if key in raw and not is_right(raw[key]):
            raise InputError(
                f"{where}: {key} is {shown(raw[key])}",
                expected=expected,
                remedy="copy the adapter again, or correct the key",
            )
    if "r" not in raw:
        raise InputError(
            f"{where} names no rank (r)",
            expected="the configuration of a LoRA adapter",
            remedy="copy the adapter again",
        )
    if not raw.get("target_modules") and not raw.get("target_parameters"):
        raise InputError(
            f"{where} names no target_modules",
            expected="the layers that the adapter was trained on",
            remedy="copy the adapter again",
        )

    return AdapterConfig(
        rank=raw["r"],
        alpha=raw.get("lora_alpha", 8),  # PEFT's default
        rank_pattern=raw.get("rank_pattern") or {},
        alpha_pattern=raw.get("alpha_pattern") or {},
        raw=raw,
        notes=_unknown(raw, where),
    )


def _check_kind(raw: Mapping[str, Any], where: str) -> None:
    kind = raw.get("peft_type", "LORA")
    if kind != "LORA":
        is_prompt = isinstance(kind, str) and any(word in kind.upper() for word in PROMPT_KINDS)
        merging = "merge it with PEFT's merge_and_unload and pass the result as --model"
        raise InputError(
            f"{where}: an adapter of the kind {shown(kind)}",
            expected="LORA",
            remedy="train a LoRA adapter; this kind changes no weight, so that it cannot be merged"
            if is_prompt
            else f"train a LoRA adapter, or {merging}",
        )

    task = raw.get("task_type")
    if task in OTHER_TASKS:
        raise InputError(
            f"{where}: an adapter for another task ({task})",
            expected="CAUSAL_LM",
            remedy="pass an adapter that was trained to continue text",
        )
    unusable = next((key for key in UNUSABLE if raw.get(key)), None)
    if unusable:
        raise InputError(
            f"{where}: {UNUSABLE[unusable]} ({unusable})",
            expected="LoRA on the layers that the base has, for every token",
            remedy="train a plain LoRA adapter",
        )


def _unknown(raw: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """What to tell of keys that this PEFT does not know. Raises InputError for one that matters."""
    unknown = sorted(raw.keys() - KNOWN_KEYS)
    matters = [key for key in unknown if not _is_off(key, raw)]
    version = f" (of PEFT {raw['peft_version'][:20]})" if raw.get("peft_version") else ""
    if matters:
        named = ", ".join(f"{shown(key)} = {shown(raw[key])}" for key in matters[:3])
        raise InputError(
            f"{where}{version}: not known here: {named}",
            expected="a LoRA adapter of PEFT 0.21 or older",
            remedy="export the adapter without it; take the key out only if it is without effect",
        )
    if unknown:
        named = ", ".join(map(shown, unknown[:3]))
        return (f"{where}{version}: left out, because off: {named}",)
    return ()


def _is_off(key: str, raw: Mapping[str, Any]) -> bool:
    """Whether an unknown key switches nothing on.

    That is null, false and what is empty; also a number or text that belongs to a switch which is
    off, as swirl_size to use_swirl.
    """
    value = raw[key]
    if value is None or value is False or value in ([], {}, ""):
        return True
    is_detail = isinstance(value, int | float | str) and value is not True
    switch = f"use_{key.partition('_')[0]}"
    return is_detail and switch in raw and raw[switch] in (False, None)


def _pattern_of(patterns: Mapping[str, Any], module: str) -> str:
    """The first pattern that the name ends with, as PEFT looks it up."""
    return next((p for p in patterns if re.match(rf"(.*\.)?({p})$", module)), "")


def _matches(names: str | list[str], module: str) -> bool:
    """names: a regular expression, or names that a module's name ends with."""
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return module in names or any(module.endswith(f".{name}") for name in names)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST


def _is_number(value: object) -> bool:
    is_any = isinstance(value, int | float) and not isinstance(value, bool)
    return is_any and -MOST <= value <= MOST  # type: ignore[operator]


def _is_flag(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _is_name(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_pattern(value: object) -> bool:
    """Whether it is a regular expression that can be used."""
    if not isinstance(value, str) or len(value) > LONGEST_PATTERN:
        return False
    try:
        re.compile(f"({value})")
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _is_list(of: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or (isinstance(value, list) and all(map(of, value)))


def _is_table(of: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: (
        value is None
        or (
            isinstance(value, dict)
            and all(map(_is_pattern, value))
            and all(map(of, value.values()))
        )
    )


def _is_modules(value: object) -> bool:
    is_names = _is_list(lambda name: isinstance(name, str))
    return _is_pattern(value) if isinstance(value, str) else is_names(value)


def _is_tokens(value: object) -> bool:
    indices = _is_list(_is_index)
    return all(map(indices, value.values())) if isinstance(value, dict) else indices(value)


_MODULES = "a list of names of modules, or one regular expression"
_RULES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "r": (_is_count, f"a whole number from 1 to {MOST}"),
    "lora_alpha": (_is_number, "a finite number"),
    "lora_dropout": (lambda v: _is_number(v) and 0 <= v < 1, "a number from 0 to below 1"),  # type: ignore[operator]
    "rank_pattern": (_is_table(_is_count), "an object: pattern of names to rank"),
    "alpha_pattern": (_is_table(_is_number), "an object: pattern of names to number"),
    "target_modules": (_is_modules, _MODULES),
    "exclude_modules": (_is_modules, _MODULES),
    "modules_to_save": (_is_list(_is_pattern), "a list of names of modules"),
    "target_parameters": (_is_list(_is_pattern), "a list of names of parameters"),
    "layers_to_transform": (
        lambda v: _is_index(v) or _is_list(_is_index)(v),
        "a number of a layer, or a list of them",
    ),
    "layers_pattern": (
        lambda v: _is_pattern(v) or _is_list(_is_pattern)(v),
        "a name, or a list of names",
    ),
    "trainable_token_indices": (_is_tokens, "a list of token ids, or an object of such lists"),
    "bias": (lambda v: v in ("none", "all", "lora_only"), "none, all or lora_only"),
    "init_lora_weights": (lambda v: _is_flag(v) or _is_name(v), "true, false or a name"),
    "base_model_name_or_path": (_is_name, "a name"),
    "peft_version": (_is_name, "a name"),
    "task_type": (_is_name, "CAUSAL_LM"),
    **dict.fromkeys(
        ("use_dora", "use_rslora", "lora_bias", "fan_in_fan_out", "use_qalora"),
        (_is_flag, "true or false"),
    ),
}
"""What each key may hold, and how a message says so."""
