"""What to give up when a task does not fit into memory, one rung at a time, least painful first."""

from __future__ import annotations

from dataclasses import replace

from appliance.engine.base import TuneSettings

RUNGS = (
    "as planned",
    "gradient checkpointing on",
    "batch halved",
    "sequences halved (demonstrations dropped)",
    "adapter rank quartered",
    "sampled untrained",
)
LAST_RUNG = len(RUNGS) - 1


def tune_settings_at(settings: TuneSettings, rung: int) -> TuneSettings | None:
    """The settings after climbing down `rung` rungs, all of them kept; None on the last, where nothing is trained.

    Sequences are cut by `seq_tokens_at`, because lessons are made before they are packed.
    """
    if rung >= LAST_RUNG:
        return None
    if rung >= 1:
        settings = replace(settings, gradient_checkpointing=True)
    if rung >= 2:
        settings = replace(settings, rows_per_step=max(1, settings.rows_per_step // 2))
    if rung >= 4:
        settings = replace(settings, rank=max(1, settings.rank // 4), alpha=settings.alpha / 4)
    return settings


def seq_tokens_at(max_seq_tokens: int, rung: int) -> int:
    """The longest lesson in tokens on this rung."""
    return max_seq_tokens // 2 if rung >= 3 else max_seq_tokens


def batch_tokens_at(batch_tokens: int, rung: int) -> int:
    """The sampling batch in tokens on this rung: halved at every step down."""
    return max(1, batch_tokens >> rung)
