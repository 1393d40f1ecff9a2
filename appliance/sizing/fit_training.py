"""The training setup that fits: from the comfortable one down, rung by rung, until the model says that there is room.

Rungs, dearest first: everything kept for the backward pass; gradient checkpointing; a smaller adapter; 4-bit weights; shorter
sequences. Pins take rungs away. The order is that of the loss: recomputing costs a third more time and nothing else, while
a shorter sequence loses demonstrations.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from appliance.sizing.costs.device import Device
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.setups import TrainSetup
from appliance.sizing.costs.train_memory import TrainMemory, train_memory
from appliance.sizing.pins import Pins, train_setup

HEADROOM = 0.08
"""Kept free where the plan chooses by itself: the model is right within a few percent, the allocator fragments the rest."""

_RANKS = (64, 16)
_SHORTEST_TOKENS = 1024
_ROWS_TOKENS = 4096


@dataclass(frozen=True)
class Fitted:
    setup: TrainSetup
    memory: TrainMemory
    fits: bool


def fit_training(
    card: ModelCard,
    device: Device,
    pins: Pins,
    *,
    room_gib: float,
    needed_tokens: int,
    num_devices: int = 1,
    memory_ratio: float = 1.0,
) -> Fitted:
    """The first rung that fits, or the last one with fits False.

    room_gib: what the device has free. needed_tokens: the longest sequence of the tasks. num_devices: cards over which the
    layers may be split when the pins leave no other rung. memory_ratio: measured over predicted.
    """
    rungs = list(_rungs(card, device, pins, needed_tokens))
    is_open = len({(r.max_seq_tokens, r.quantization, r.gradient_checkpointing) for r in rungs}) > 1
    room = room_gib * (1 - HEADROOM) if is_open else room_gib
    for setup in rungs:
        memory = _scaled(train_memory(card, setup, device), memory_ratio)
        if memory.fits(room):
            return Fitted(setup, memory, True)
    last = rungs[-1]
    if num_devices > 1 and pins.max_seq_tokens is not None:
        last = replace(last, num_split=num_devices)
    memory = _scaled(train_memory(card, last, device), memory_ratio)
    return Fitted(last, memory, memory.fits(room_gib))


def _rungs(card: ModelCard, device: Device, pins: Pins, needed_tokens: int) -> Iterator[TrainSetup]:
    start = train_setup(card, device, pins)
    if card.stored_quantization in ("nf4", "int8"):
        start = replace(start, quantization=card.stored_quantization)
    quantizations = [start.quantization]
    if (
        pins.quantization is None
        and start.quantization == "none"
        and device.is_gpu
        and not start.full_finetune
    ):
        quantizations.append("nf4")
    ranks = (
        [pins.lora_rank]
        if pins.lora_rank
        else [start.lora_rank]
        if start.full_finetune
        else list(_RANKS)
    )
    checkpointings = (
        [False, True] if pins.gradient_checkpointing is None else [pins.gradient_checkpointing]
    )
    lengths = [pins.max_seq_tokens] if pins.max_seq_tokens else list(_lengths(card, needed_tokens))
    for tokens, quantization, rank, checkpointing in itertools.product(
        lengths, quantizations, ranks, checkpointings
    ):
        yield replace(
            start,
            max_seq_tokens=tokens,
            quantization=quantization,
            lora_rank=rank,
            gradient_checkpointing=checkpointing,
            micro_batch=pins.micro_batch or _rows(card, device, tokens),
            is_packed=start.is_packed or card.is_tiny,
        )


def _lengths(card: ModelCard, needed_tokens: int) -> Iterator[int]:
    """From what the tasks need, in steps of about a fifth, down to the shortest that is worth training on."""
    tokens = max(64, min(needed_tokens, card.max_positions))
    yield tokens
    while tokens > _SHORTEST_TOKENS:
        tokens = max(_SHORTEST_TOKENS, int(tokens * 0.8) // 128 * 128)
        yield tokens


def _rows(card: ModelCard, device: Device, tokens: int) -> int:
    """Packed rows of one step: tiny models want some thousand tokens a step, large ones take one sequence."""
    return max(1, _ROWS_TOKENS // tokens) if card.is_tiny else 1


def _scaled(memory: TrainMemory, ratio: float) -> TrainMemory:
    return replace(memory, memory_gib=memory.memory_gib * ratio) if ratio != 1.0 else memory
