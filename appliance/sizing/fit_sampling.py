"""How sampling shares the device with training: both resident, or in turns, and what the engine may fill."""

from __future__ import annotations

from dataclasses import dataclass, replace

from appliance.machine.gpu import GIB
from appliance.sizing.choice import Choice
from appliance.sizing.costs.device import Device
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.sample_memory import SampleMemory, kv_bytes_per_token, sample_memory
from appliance.sizing.costs.setups import SampleSetup
from appliance.sizing.fit_training import Fitted
from appliance.sizing.pick_engine import choose_engine
from appliance.sizing.pins import Pins, sample_setup
from appliance.sizing.request import SizingRequest

MOST_SEQUENCES = 255
"""256, vLLM's own default, ended in illegal memory accesses on several cards (arc24, arc25)."""
_CPU_SEQUENCES = 64
_PROGRAMS_PER_VIEW = 8
_ALONE_SHARE = 0.9
_MARGIN_GIB = 0.5


@dataclass(frozen=True)
class SampleDraft:
    setup: SampleSetup
    memory: SampleMemory
    engine: Choice[str]
    residency: Choice[str]
    share: Choice[float]
    max_num_seqs: Choice[int]


def fit_sampling(
    card: ModelCard, device: Device, request: SizingRequest, fitted: Fitted, *, room_gib: float
) -> SampleDraft:
    setup = replace(
        sample_setup(card, device, request.pins),
        quantization=fitted.setup.quantization,
        max_seq_tokens=fitted.setup.max_seq_tokens,
        samples_per_prompt=samples_per_view(card, request.pins).value,
    )
    engine = choose_engine(card, device, request, setup)
    setup = replace(setup, engine=engine.value)
    share, residency = _share(card, device, request, fitted, setup, room_gib)
    setup = replace(setup, share=share.value)
    memory = sample_memory(card, setup, device)
    sequences = _sequences(device, request, memory, setup)
    return SampleDraft(
        replace(setup, batch=sequences.value), memory, engine, residency, share, sequences
    )


def samples_per_view(card: ModelCard, pins: Pins) -> Choice[int]:
    if pins.samples_per_view:
        return Choice(pins.samples_per_view, "pinned")
    if card.writes_programs:
        return Choice(
            _PROGRAMS_PER_VIEW,
            "programs are drawn at random; samples of one prompt share its reading",
        )
    return Choice(1, "greedy; answers differ by view")


def _share(
    card: ModelCard,
    device: Device,
    request: SizingRequest,
    fitted: Fitted,
    setup: SampleSetup,
    room_gib: float,
) -> tuple[Choice[float], Choice[str]]:
    pinned = request.pins.gpu_memory_utilization
    if not device.is_gpu:
        wanted = _CPU_SEQUENCES * setup.max_seq_tokens * kv_bytes_per_token(card, setup) / GIB
        alone = sample_memory(card, replace(setup, share=1.0), device)
        fixed = device.memory_gib - alone.kv_gib
        share = min(0.8 * room_gib, fixed + wanted) / device.memory_gib
        together = Choice("together", "a tiny model is loaded twice for less than a hundred MB")
        return Choice(
            pinned or round(share, 4),
            "pinned" if pinned else f"cache for {_CPU_SEQUENCES} longest sequences",
        ), together
    train_gib = fitted.memory.memory_gib + fitted.memory.context_gib if fitted.fits else room_gib
    beside = (room_gib - train_gib - _MARGIN_GIB) / device.memory_gib
    need = 4 * setup.max_seq_tokens * kv_bytes_per_token(card, setup) / GIB
    room_for_four = (
        sample_memory(card, replace(setup, share=max(0.01, beside)), device).kv_gib >= need
    )
    if pinned:
        is_free = pinned <= beside
        why = f"training takes {train_gib:.1f} GiB of {room_gib:.1f}"
        return Choice(pinned, "pinned"), Choice("together" if is_free else "in turns", why)
    if room_for_four:
        share = round(min(_ALONE_SHARE, beside), 3)
        why = f"training takes {train_gib:.1f} GiB of {room_gib:.1f}; the rest holds weights and cache"
        return Choice(share, "what training leaves"), Choice("together", why)
    share = round(min(_ALONE_SHARE, (room_gib - _MARGIN_GIB) / device.memory_gib), 3)
    why = f"beside training ({train_gib:.1f} GiB of {room_gib:.1f}) the cache would not hold four sequences"
    return Choice(max(0.01, share), "the engine is alone while it samples"), Choice("in turns", why)


def _sequences(
    device: Device, request: SizingRequest, memory: SampleMemory, setup: SampleSetup
) -> Choice[int]:
    lengths = request.lengths
    typical = (
        lengths.mean_prompt_tokens(setup.max_seq_tokens) / setup.samples_per_prompt
        + lengths.mean_answer_tokens()
    )
    held = max(1, int(memory.kv_tokens / max(1.0, typical)))
    most = MOST_SEQUENCES if device.is_gpu else _CPU_SEQUENCES
    if held < most:
        return Choice(
            held, f"the cache holds {memory.kv_tokens} tokens, {held} sequences of the mean length"
        )
    return Choice(
        most, "larger batches hit faults in engines" if device.is_gpu else "more give a CPU little"
    )
