"""How sampling shares the device with training, and how much of it the engine may fill."""

from __future__ import annotations

from dataclasses import dataclass, replace

from appliance.machine.gpu import GIB
from appliance.sizing.choice import Choice
from appliance.sizing.costs.device import Device
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.sample_memory import (
    ASLEEP_GIB,
    SampleMemory,
    kv_bytes_per_token,
    sample_memory,
)
from appliance.sizing.costs.setups import SampleSetup
from appliance.sizing.costs.speed import turn_s
from appliance.sizing.fit_training import Fitted
from appliance.sizing.memory_ladder import ROOM
from appliance.sizing.pick_engine import choose_engine
from appliance.sizing.pins import sample_setup
from appliance.sizing.request import SizingRequest

MOST_SEQUENCES = 255
"""256, vLLM's own default, ended in illegal memory accesses on several cards (arc24, arc25)."""

CPU_SEQUENCES = 64
"""Most sequences that a CPU writes at once; it gains little from more."""

PROGRAMS_PER_VIEW = 8
"""Programs drawn from one prompt, which is then read only once."""

ALONE_SHARE = 0.9
"""Largest part of a card's memory that an engine is given."""

CPU_SHARE = 0.8
"""Largest part of a worker's room that an engine on a CPU is given."""

MARGIN_GIB = 0.5
"""Left free between training and the engine."""

DEEP_SEQUENCES = 64
"""Sequences of the mean length that the cache holds where memory is short: a deep pass of the most
views and two test inputs."""

HOST_SHARE = 0.5
"""Largest part of a worker's host memory that the weights of engine and trainer may take.

Pinned memory is given out in powers of two, so they may take twice their size."""

FEWEST_SEQUENCES = 4
"""An engine whose cache holds fewer of the longest sequences beside training would crawl."""


@dataclass(frozen=True)
class SampleDraft:
    """The sampling part of a plan before views and times are known."""

    setup: SampleSetup
    memory: SampleMemory
    engine: Choice[str]
    residency: Choice[str]  # beside training: shared, together or in turns
    share: Choice[float]  # of the device's memory
    max_num_seqs: Choice[int]
    is_second_best: bool = False  # vLLM would work beside training, if that left it room

    @property
    def is_vllm(self) -> bool:
        return self.engine.value == "vllm"


def fit_sampling(
    card: ModelCard,
    device: Device,
    request: SizingRequest,
    fitted: Fitted,
    *,
    room_gib: float,
    host_gib: float,
) -> SampleDraft:
    """The sampling that goes with the fitted training.

    room_gib: what the device has free. host_gib: free host memory of one worker.
    """
    setup = replace(
        sample_setup(card, device, request.pins),
        dtype=fitted.setup.dtype,
        quantization=fitted.setup.quantization,
        max_seq_tokens=fitted.setup.max_seq_tokens,
        samples_per_prompt=answers_per_view(card, request),
    )
    engine = choose_engine(card, device, request, setup)
    draft = _draft(card, device, request, fitted, setup, engine, room_gib)

    # Where not even turns are possible, only who asks for vLLM gets it.
    is_asked_for = request.pins.engine is not None or request.settings.sample.grammar != "none"
    if draft.residency.value == "in turns" and not is_asked_for:
        fault = _turns_fault(card, device, fitted, draft, room_gib=room_gib, host_gib=host_gib)
        if fault:
            engine = Choice("transformers", f"vLLM cannot take turns with training: {fault}")
            draft = _draft(card, device, request, fitted, setup, engine, room_gib)
        return replace(draft, is_second_best=True)
    return draft


def samples_per_view(card: ModelCard, request: SizingRequest) -> Choice[int]:
    if request.pins.samples_per_view:
        return Choice(request.pins.samples_per_view, request.reason("samples_per_view", ""))
    if request.settings.sample.mode == "dfs":
        return Choice(1, "a search gives several answers of a view")
    if card.writes_programs:
        why = "programs are drawn at random; samples of one prompt share its reading"
        return Choice(PROGRAMS_PER_VIEW, why)
    return Choice(1, "greedy; answers differ by view")


def answers_per_view(card: ModelCard, request: SizingRequest) -> int:
    """Sequences written for a view."""
    return max(samples_per_view(card, request).value, request.settings.sample.answers_per_view)


def _draft(
    card: ModelCard,
    device: Device,
    request: SizingRequest,
    fitted: Fitted,
    setup: SampleSetup,
    engine: Choice[str],
    room_gib: float,
) -> SampleDraft:
    """The plan of sampling with that engine."""
    setup = replace(setup, engine=engine.value)
    share, residency = _share(card, device, request, fitted, setup, room_gib)
    setup = replace(setup, share=share.value, sleeps=residency.value == "in turns")
    memory = sample_memory(card, setup, device)
    sequences = _sequences(device, request, memory, setup)
    setup = replace(setup, batch=sequences.value)
    return SampleDraft(setup, memory, engine, residency, share, sequences)


def _share(
    card: ModelCard,
    device: Device,
    request: SizingRequest,
    fitted: Fitted,
    setup: SampleSetup,
    room_gib: float,
) -> tuple[Choice[float], Choice[str]]:
    """Part of the device's memory that the engine may fill, and how it lives beside training."""
    if not device.is_gpu:
        return _share_of_host(card, device, request, fitted, setup, room_gib)

    pinned = request.pins.gpu_memory_utilization
    train_gib = _train_gib(fitted, room_gib)
    takes = f"training takes {train_gib:.1f} GiB of {room_gib:.1f}"
    # The memory ladder keeps some of what training is left; a plan with pins has no ladder.
    wanted_gib = train_gib if request.is_described else train_gib / ROOM
    beside = (room_gib - wanted_gib - MARGIN_GIB) / device.memory_gib
    alone = max(0.01, round(min(ALONE_SHARE, (room_gib - MARGIN_GIB) / device.memory_gib), 3))

    if setup.engine == "transformers":
        why = "the model that is trained generates the answers itself"
        return Choice(pinned or alone, "nothing else is on the card"), Choice("shared", why)

    if pinned:
        kind = "together" if pinned <= beside else "in turns"
        return Choice(pinned, "pinned"), Choice(kind, takes)

    kept = sample_memory(card, replace(setup, share=max(0.01, beside)), device).kv_gib
    need = _least_cache_gib(card, setup)
    if kept >= need:
        together = Choice("together", f"{takes}; the rest holds weights and cache")
        share = min(ALONE_SHARE, beside)
        # Where the longest tasks need checkpointing, most others do without if they have the room.
        wished = _deep_share(card, device, request, setup, least_gib=need)
        if fitted.setup.gradient_checkpointing and not request.is_described and wished < share:
            why = "cache for a deep pass; with the rest most tasks train without checkpointing"
            return Choice(round(wished, 3), why), together
        return Choice(round(share, 3), "what training leaves"), together

    held_gib = _held_gib(fitted)
    share = max(0.01, round(min(alone, (room_gib - held_gib - MARGIN_GIB) / device.memory_gib), 3))
    seconds = turn_s(card, replace(setup, sleeps=True))
    why = (
        f"beside training ({train_gib:.1f} GiB of {room_gib:.1f}) the cache would not hold four "
        "sequences; whoever waits keeps its weights on the host, which takes "
        f"{seconds:.1f} s a task"
    )
    return Choice(share, "all that a waiting trainer leaves"), Choice("in turns", why)


def _held_gib(fitted: Fitted) -> float:
    """What the trainer holds on the card while its weights and adapter wait on the host."""
    parts = fitted.memory.parts
    return parts["optimizer"] + parts["fixed"] + fitted.memory.context_gib


def _least_cache_gib(card: ModelCard, setup: SampleSetup) -> float:
    return FEWEST_SEQUENCES * setup.max_seq_tokens * kv_bytes_per_token(card, setup) / GIB


def _turns_fault(
    card: ModelCard,
    device: Device,
    fitted: Fitted,
    draft: SampleDraft,
    *,
    room_gib: float,
    host_gib: float,
) -> str | None:
    """Why training and a sleeping engine, or a waiting trainer and the engine, do not fit."""
    train_gib = fitted.memory.memory_gib + fitted.memory.context_gib
    if train_gib + ASLEEP_GIB > room_gib:
        return (
            f"training takes {train_gib:.1f} GiB of {room_gib:.1f}, "
            f"and vLLM keeps about {ASLEEP_GIB:.1f} while it sleeps"
        )
    if draft.memory.kv_gib < _least_cache_gib(card, draft.setup):
        return (
            f"beside what the trainer holds ({_held_gib(fitted):.1f} GiB of {room_gib:.1f}) "
            "the cache would not hold four sequences"
        )
    waiting_gib = draft.memory.weights_gib + fitted.memory.parts["weights"]
    if waiting_gib > HOST_SHARE * host_gib:
        return (
            f"the weights that wait on the host take {waiting_gib:.1f} GiB, "
            f"more than {HOST_SHARE:.0%} of the {host_gib:.1f} that a worker has"
        )
    return None


def _deep_share(
    card: ModelCard, device: Device, request: SizingRequest, setup: SampleSetup, *, least_gib: float
) -> float:
    """Part of the memory that holds weights and the cache of a deep pass, of least_gib or more."""
    cache_gib = DEEP_SEQUENCES * _typical_tokens(request, setup) * kv_bytes_per_token(card, setup)
    fixed_gib = device.memory_gib - sample_memory(card, replace(setup, share=1.0), device).kv_gib
    return (fixed_gib + max(least_gib, cache_gib / GIB)) / device.memory_gib


def _train_gib(fitted: Fitted, room_gib: float) -> float:
    """What training takes on its own; all there is where it does not fit."""
    return fitted.memory.memory_gib + fitted.memory.context_gib if fitted.fits else room_gib


def _share_of_host(
    card: ModelCard,
    device: Device,
    request: SizingRequest,
    fitted: Fitted,
    setup: SampleSetup,
    room_gib: float,
) -> tuple[Choice[float], Choice[str]]:
    pinned = request.pins.gpu_memory_utilization
    sequence = setup.max_seq_tokens * kv_bytes_per_token(card, setup) / GIB
    alone = sample_memory(card, replace(setup, share=1.0), device)
    fixed = device.memory_gib - alone.kv_gib
    wanted, least = fixed + CPU_SEQUENCES * sequence, fixed + FEWEST_SEQUENCES * sequence
    share = min(CPU_SHARE * room_gib, wanted) / device.memory_gib

    if setup.engine == "transformers":
        residency = Choice("shared", "the model that is trained generates the answers itself")
    else:
        why = "host memory holds the engine's copy of the model beside the trainer's"
        residency = Choice("together", why)
        beside = max(least, room_gib - _train_gib(fitted, room_gib) / ROOM)
        share = min(share, beside / device.memory_gib)

    if pinned:
        return Choice(pinned, "pinned"), residency
    why = f"cache for {CPU_SEQUENCES} longest sequences, as far as training leaves room"
    return Choice(round(share, 4), why), residency


def _typical_tokens(request: SizingRequest, setup: SampleSetup) -> float:
    """Tokens of the cache that a sequence of the mean length takes."""
    lengths = request.lengths
    prompt = lengths.mean_prompt_tokens(setup.max_seq_tokens) / setup.samples_per_prompt
    return prompt + lengths.mean_answer_tokens()


def _sequences(
    device: Device, request: SizingRequest, memory: SampleMemory, setup: SampleSetup
) -> Choice[int]:
    """How many answers are written at once."""
    held = max(1, int(memory.kv_tokens / max(1.0, _typical_tokens(request, setup))))

    most = MOST_SEQUENCES if device.is_gpu else CPU_SEQUENCES
    if held < most:
        why = f"the cache holds {memory.kv_tokens} tokens, {held} sequences of the mean length"
        return Choice(held, why)
    if device.is_gpu:
        return Choice(most, "larger batches have crashed engines")
    return Choice(most, "a CPU gains little from more")
