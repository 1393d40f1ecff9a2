"""Which adapters vLLM serves as they are, told from their files before it sees them. No torch.

vLLM refuses some adapters cleanly, and some only while it works, which ends it. Some it serves
wrongly in silence: LoRA on tied embeddings gives other logits than PEFT. All of them are refused
here, by name and with what to do instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.engine.adapter.config import read_config
from appliance.engine.adapter.examine import read_weights
from appliance.engine.adapter.record import check_record
from appliance.errors import InputError

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM has adapter slots for; one larger than the adapter is paid for in full."""

EMBEDDINGS = ("embed_tokens", "lm_head", "wte", "wpe")
"""Names of the modules that turn ids into vectors or back, in the model families we load."""

PLAIN_STARTS = ("gaussian", "eva", "orthogonal")
"""Ways to begin an adapter that leave the base weights as they are.

Others (PiSSA, OLoRA, LoftQ, CorDA) change them.
"""

VARIANTS = (
    "trainable_token_indices",
    "target_parameters",
    "use_qalora",
    "use_bdlora",
    "velora_config",
)
"""Keys that, when set, ask for more than A and B on linear layers."""


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
    read_weights(folder)
    config = read_config(folder)
    check_record(folder, base_sha=base_sha)

    reason = _unservable(config.raw)
    if reason:
        raise InputError(
            f"adapter {folder.name}: {reason}",
            expected="plain LoRA on linear layers",
            remedy="sample with sample.serving=merged",
        )

    rank = max([config.rank, *config.rank_pattern.values()])
    if rank > RANKS[-1]:
        raise InputError(f"adapter {folder.name}: rank {rank}", expected=f"1 to {RANKS[-1]}")
    return AdapterCard(folder, rank, tuple(_targets(config.raw)))


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
    variant = next((key for key in VARIANTS if config.get(key)), None)
    return f"a variant of LoRA ({variant})" if variant else None


def _targets(config: Mapping[str, Any]) -> list[str]:
    targets = config.get("target_modules") or []
    return [targets] if isinstance(targets, str) else sorted(targets)
