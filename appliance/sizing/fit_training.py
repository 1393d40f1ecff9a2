"""The first way to train that fits into memory, from the least that is given up to the most."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from appliance.sizing.costs.device import Device
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.setups import TrainSetup, loss_chunk_rows
from appliance.sizing.costs.speed import train_step_s
from appliance.sizing.costs.train_memory import TrainMemory, train_memory
from appliance.sizing.pins import native_dtype, train_setup
from appliance.sizing.request import SizingRequest

HEADROOM = 0.08
"""Share of the memory kept free where the plan has a choice: its figures are right within some
percent, and allocators fragment."""

RANK_DIVISOR = 4
"""Where the rank of the settings does not fit, a quarter of it is tried."""

MOST_ROWS = 4
"""Lessons of the mean length that the plan puts into a step where a card waits for work. Published
trainings on one task take one or two a step (docs/engines.md#how-a-card-is-kept-busy)."""

LONGER_STEP = 1.25
"""A step of more rows may take this many times as long: the card computes them while it would have
waited for kernels."""

SHORTEST_TOKENS = 1024
"""The plan cuts no sequence below this: too little of a task would be left to learn from."""


@dataclass(frozen=True)
class Fitted:
    """How to train, and what it takes."""

    setup: TrainSetup
    memory: TrainMemory
    fits: bool


def fit_training(
    card: ModelCard,
    device: Device,
    request: SizingRequest,
    *,
    trainer: str,
    room_gib: float,
    num_devices: int = 1,
) -> Fitted:
    """The first option that fits, or the last one with `fits` False.

    trainer: peft or unsloth. room_gib: what the device has free. num_devices: cards over which the
    layers of a what-if may be split when its pins leave no other option.
    """
    options = list(_options(card, device, request, trainer))

    # Pins that leave one option are taken at their word, without headroom.
    has_choice = (
        len({(o.max_seq_tokens, o.quantization, o.gradient_checkpointing) for o in options}) > 1
    )
    room = room_gib * (1 - HEADROOM) if has_choice else room_gib

    for setup in options:
        memory = _corrected(train_memory(card, setup, device), request)
        if memory.fits(room):
            return Fitted(setup, memory, True)

    last = options[-1]
    if num_devices > 1 and request.pins.what_ifs() and request.pins.max_seq_tokens is not None:
        last = replace(last, num_split=num_devices)
    memory = _corrected(train_memory(card, last, device), request)
    return Fitted(last, memory, memory.fits(room_gib))


def _options(
    card: ModelCard, device: Device, request: SizingRequest, trainer: str
) -> Iterator[TrainSetup]:
    """Shorter sequences come last, after fewer bits, a smaller rank and checkpointing."""
    pins = request.pins
    if pins.what_ifs():
        start = train_setup(card, device, pins)
    else:
        start = _as_engines_do(card, device, request, trainer)

    if card.stored_quantization in ("nf4", "int8"):
        start = replace(start, quantization=card.stored_quantization)

    quantizations = [start.quantization]
    can_pack_weights = (
        device.is_gpu and not start.full_finetune and request.software.has_bitsandbytes
    )
    if pins.quantization is None and start.quantization == "none" and can_pack_weights:
        quantizations.append("nf4")

    ranks = [start.lora_rank]
    can_shrink = request.settings.model.adapter is None  # a given adapter has the rank it has
    if pins.lora_rank is None and not start.full_finetune and can_shrink:
        ranks = [request.settings.train.rank, max(1, request.settings.train.rank // RANK_DIVISOR)]

    checkpoints = pins.gradient_checkpointing
    checkpointings = [False, True] if checkpoints is None else [checkpoints]
    lengths = [pins.max_seq_tokens] if pins.max_seq_tokens else list(_lengths(card, request))

    step_tokens = _step_tokens(card, device, request, start)
    for tokens, quantization, rank, checkpointing, step in itertools.product(
        lengths, quantizations, ranks, checkpointings, step_tokens
    ):
        yield replace(
            start,
            max_seq_tokens=tokens,
            quantization=quantization,
            lora_rank=rank,
            gradient_checkpointing=checkpointing,
            micro_batch=pins.micro_batch or max(1, step // tokens),
            step_tokens=step,
            is_packed=start.is_packed or card.is_tiny,
        )


def _as_engines_do(
    card: ModelCard, device: Device, request: SizingRequest, trainer: str
) -> TrainSetup:
    """What the trainers in engine/training really do, whatever is published elsewhere."""
    pins = request.pins
    is_full = bool(pins.full_finetune)
    return TrainSetup(
        dtype=pins.dtype or native_dtype(device),
        quantization=pins.quantization or "none",
        # Logits are made for the answer tokens alone, chunk by chunk; the layers are plain.
        fused_loss=True,
        loss_chunk_rows=loss_chunk_rows(card.vocab_size),
        fused_layers=False,
        target_share=request.lengths.target_share(),
        full_finetune=is_full,
        float32_weights=is_full,
        lora_rank=pins.lora_rank or request.settings.train.rank,
        all_linear=True,
        attention="sdpa",
        trainer=trainer,
        quantized_compute="native",
        # Rows are packed without padding, so no mask puts the fused attention out of use.
        is_packed=True,
    )


def _lengths(card: ModelCard, request: SizingRequest) -> Iterator[int]:
    """From what the tasks need down to the shortest worth training on, each a fifth shorter."""
    needed = min(request.lengths.longest(), request.settings.train.max_seq_tokens)
    tokens = max(64, min(needed, card.max_positions))
    yield tokens

    while tokens > SHORTEST_TOKENS:
        tokens = max(SHORTEST_TOKENS, int(tokens * 0.8) // 128 * 128)
        yield tokens


def _step_tokens(
    card: ModelCard, device: Device, request: SizingRequest, setup: TrainSetup
) -> list[int]:
    """Tokens of one step that are tried, the most first; 0 where a pin counts the sequences.

    More than the settings hold only where they are nobody's wish and the step of a small model on a
    large card takes hardly longer for them.
    """
    pins, least = request.pins, request.settings.train.tokens_per_step
    if pins.what_ifs() or pins.micro_batch:
        return [0]
    if pins.tokens_per_step or request.is_described or not device.is_gpu:
        return [least]

    limit = min(request.settings.train.max_seq_tokens, card.max_positions)
    typical = max(1, math.ceil(request.lengths.mean_lesson_tokens(limit)))

    def seconds(rows: int) -> float:
        return train_step_s(card, replace(setup, micro_batch=rows), device, tokens=typical)

    few = max(1, least // typical)
    for rows in range(MOST_ROWS, few, -1):
        if seconds(rows) <= LONGER_STEP * seconds(few):
            return [rows * typical, least]
    return [least]


def _corrected(memory: TrainMemory, request: SizingRequest) -> TrainMemory:
    return replace(memory, memory_gib=memory.memory_gib * request.correction.memory)
