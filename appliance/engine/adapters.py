"""What an adapter folder holds, told from its files before an engine sees it. No torch.

vLLM refuses some adapters cleanly, and some only while it works, which ends it. Some it serves
wrongly in silence: LoRA on tied embeddings gives other logits than PEFT. All of them are refused
here, by name and with what to do instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.engine.folder.card import read_record
from appliance.engine.folder.tensor_file import read_tensors
from appliance.errors import InputError

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM has adapter slots for; one larger than the adapter is paid for in full."""

EMBEDDINGS = ("embed_tokens", "lm_head", "wte", "wpe")
"""Names of the modules that turn ids into vectors or back, in the model families we load."""

PLAIN_STARTS = ("gaussian", "eva", "orthogonal")
"""Ways to begin an adapter that leave the base weights as they are.

Others (PiSSA, OLoRA, LoftQ, CorDA) change them.
"""


@dataclass(frozen=True)
class AdapterCard:
    """An adapter that vLLM can serve as it is."""

    folder: Path
    rank: int  # the highest of any module
    targets: tuple[str, ...]  # names of the modules that it adapts


def read_adapter(folder: Path, *, base_sha: str) -> AdapterCard:
    """The adapter in the folder, if vLLM may put it on base weights of that hash as it is.

    Raises InputError for one that is missing, damaged, of another base, or of a kind that is only
    right when it is merged.
    """
    check_base(folder, base_sha=base_sha)
    config = _config(folder)
    read_tensors(folder / "adapter_model.safetensors")

    reason = _unservable(config)
    if reason:
        raise InputError(
            f"adapter {folder.name}: {reason}",
            expected="plain LoRA on linear layers",
            remedy="sample with sample.serving=merged",
        )

    rank = max([int(config["r"]), *(int(r) for r in (config.get("rank_pattern") or {}).values())])
    if not 1 <= rank <= RANKS[-1]:
        raise InputError(f"adapter {folder.name}: rank {rank}", expected=f"1 to {RANKS[-1]}")
    return AdapterCard(folder, rank, tuple(_targets(config)))


def check_base(folder: Path, *, base_sha: str) -> None:
    """Raises InputError when the adapter was trained on another base model.

    One that another program made names no base and passes.
    """
    found = read_record(folder).get("base_sha", base_sha)
    if found != base_sha:
        raise InputError(
            f"adapter {folder} was trained on base {found[:12]}",
            expected=f"this model, {base_sha[:12]}",
            remedy="give the base that it was trained on",
        )


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise InputError(
            f"adapter {folder}: adapter_config.json cannot be read ({fault})",
            expected="a PEFT adapter folder",
            remedy="train it again, or sample with sample.serving=merged",
        ) from fault
    if not isinstance(config, dict) or "r" not in config:
        raise InputError(
            f"adapter {folder}: adapter_config.json names no rank", expected="a LoRA configuration"
        )
    return config


def _unservable(config: Mapping[str, Any]) -> str | None:
    """Why this adapter must be merged to be served, None when it need not."""
    start = config.get("init_lora_weights", True)
    named = [t for t in _targets(config) if t in EMBEDDINGS]
    if config.get("use_dora"):
        return "DoRA, which vLLM does not have"
    if config.get("modules_to_save"):
        whole = ", ".join(config["modules_to_save"])
        return f"whole modules beside the adapter (modules_to_save: {whole})"
    if named:
        return f"adapts embeddings ({', '.join(named)}), which come out wrong where they are tied"
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        return "trains biases"
    if isinstance(start, str) and start.lower() not in PLAIN_STARTS:
        return f"begun with {start}, which changes the base weights"
    if config.get("peft_type", "LORA") != "LORA":
        return f"type {config['peft_type']}"
    return None


def _targets(config: Mapping[str, Any]) -> list[str]:
    targets = config.get("target_modules") or []
    return [targets] if isinstance(targets, str) else sorted(targets)
