"""The first way to train that fits into memory, from the least that is given up to the most."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from appliance.sizing.costs.device import Device
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.setups import TrainSetup
from appliance.sizing.costs.train_memory import TrainMemory, train_memory
from appliance.sizing.pins import native_dtype, train_setup
from appliance.sizing.request import SizingRequest

HEADROOM = 0.08
"""Share of the memory kept free where the plan has a choice: its figures are right within some
percent, and allocators fragment."""

RANK_DIVISOR = 4
"""Where the rank of the settings does not fit, a quarter of it is tried."""

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

    for tokens, quantization, rank, checkpointing in itertools.product(
        lengths, quantizations, ranks, checkpointings
    ):
        yield replace(
            start,
            max_seq_tokens=tokens,
            quantization=quantization,
            lora_rank=rank,
            gradient_checkpointing=checkpointing,
            micro_batch=pins.micro_batch or _rows(request, tokens),
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
        # Logits are made for the answer tokens alone, and are held in float32.
        fused_loss=False,
        target_share=request.lengths.target_share(),
        full_finetune=is_full,
        float32_weights=is_full,
        lora_rank=pins.lora_rank or request.settings.train.rank,
        all_linear=True,
        attention="sdpa" if card.has_fused_attention else "eager",
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


def _rows(request: SizingRequest, tokens: int) -> int:
    """Sequences of one step: as many as its tokens hold, at least one. A what-if takes one."""
    if request.pins.what_ifs():
        return 1
    return max(1, request.settings.train.tokens_per_step // tokens)


def _corrected(memory: TrainMemory, request: SizingRequest) -> TrainMemory:
    return replace(memory, memory_gib=memory.memory_gib * request.correction.memory)
