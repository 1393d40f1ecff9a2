"""How long a training step and a batch of answers take, in seconds.

Operations and bytes, divided by what the device reaches, plus fixed costs. A GPU is held back by
kernel launches on short sequences, by arithmetic on long ones, and by bandwidth when it writes
answers; a CPU by arithmetic and by a fixed cost per token.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.machine.catalogue import AMPERE
from appliance.sizing.costs.coefficients import FITTED, Coefficients
from appliance.sizing.costs.device import Device
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.sample_memory import kv_bytes_per_token, weights_bytes
from appliance.sizing.costs.setups import SampleSetup, TrainSetup

TERA = 1e12

CPU_THREAD_GAIN = 0.9
"""What each further thread adds in training, in cores: two were 1.8-2.1 times as fast as one."""

CPU_SAMPLE_THREAD_GAIN = 0.1
"""The same in sampling: two threads wrote answers of tiny models hardly faster than one."""

HOST_COPY_GB_S = 10.0
"""What one card copies from and to pinned host memory, in 1e9 bytes a second.

An L4 hangs on 8 lanes of PCIe 4, which promise 16; not measured."""


SHARED_RATE = 0.85
"""What is left of a card's rate where several processes take turns on it: a guess, which no run of
ours has measured."""


def train_step_s(
    card: ModelCard,
    setup: TrainSetup,
    device: Device,
    *,
    tokens: float | None = None,
    k: Coefficients = FITTED,
) -> float:
    """One optimizer step on one micro-batch.

    Further micro-batches of the same step cost `optimizer_s` less.

    tokens: length of each sequence, by default the longest of the setup.
    """
    length = setup.max_seq_tokens if tokens is None else tokens
    if not device.is_gpu:
        work_s = _train_work_s(card, setup, device, length, k) * setup.micro_batch
        return setup.micro_batch * length * k.cpu_token_s * _cpu_depth(card) + work_s

    if setup.trainer == "unsloth":
        launches_s = card.num_layers * k.launch_unsloth_s
    else:
        launches_s = card.num_layers * k.launch_s + (k.fused_s if setup.fused_layers else 0.0)
    return _shared_s(launches_s, train_busy_s(card, setup, device, tokens=length, k=k), device)


def train_busy_s(
    card: ModelCard,
    setup: TrainSetup,
    device: Device,
    *,
    tokens: float,
    k: Coefficients = FITTED,
) -> float:
    """Of a training step on a GPU, the time in which the card computes; else it waits for work."""
    busy_s = _train_work_s(card, setup, device, tokens, k) * setup.micro_batch
    busy_s += optimizer_s(card, setup, device, k)
    if setup.quantization != "none":
        passes = 3 if setup.gradient_checkpointing else 2
        busy_s += k.nf4_unpack_s * passes * card.num_layers * card.layer_linear_params / 1e9
    return busy_s


def _shared_s(launches_s: float, busy_s: float, device: Device) -> float:
    """A pass for which the card computes busy_s, beside the like passes of the other workers on it.

    They compute while this one launches its kernels, until the card has no time left.
    """
    alone_s = launches_s + busy_s
    if device.sharers == 1:
        return alone_s
    return max(alone_s, device.sharers * busy_s / SHARED_RATE)


def optimizer_s(
    card: ModelCard, setup: TrainSetup, device: Device, k: Coefficients = FITTED
) -> float:
    """One update of all trained weights."""
    if setup.full_finetune:
        trained = card.params
    else:
        trained = card.lora_params(setup.lora_rank, all_linear=setup.all_linear)

    if setup.optimizer.startswith("paged"):
        return k.paged_optimizer_s * trained / 1e9  # its state comes over the bus
    # AdamW reads and writes about 20 bytes for each: weight, gradient and two states.
    return 20.0 * trained / (device.bandwidth_gb_s * 1e9)


def _train_work_s(
    card: ModelCard, setup: TrainSetup, device: Device, length: float, k: Coefficients
) -> float:
    """Arithmetic of forward, backward and recomputation for one sequence."""
    forward = forward_operations(card, length)
    attention = attention_operations(card, length)
    again = 1 if setup.gradient_checkpointing else 0

    # The backward pass costs a forward pass for the gradients of the activations, and one more for
    # those of the weights, which frozen weights do without.
    matrices = forward * (3 if setup.full_finetune or card.is_tiny else 2)
    total = matrices + forward * again + attention * (3.5 + again)
    slowdown = k.nf4_slowdown_float32 if _computes_in_float32(setup, device) else 1.0
    return total * slowdown / (device.tflops(setup.dtype) * TERA * _train_share(device, k))


def _computes_in_float32(setup: TrainSetup, device: Device) -> bool:
    """Whether quantised weights are unpacked to float32.

    bitsandbytes does so unless it is told otherwise, and unsloth tells it.
    """
    is_left_alone = setup.quantized_compute == "float32" and setup.trainer == "peft"
    return setup.quantization != "none" and is_left_alone and device.is_gpu


def _train_share(device: Device, k: Coefficients) -> float:
    if not device.is_gpu:
        return _thread_share(device, CPU_THREAD_GAIN)
    return k.train_share if device.capability >= AMPERE else k.train_share_turing


def _thread_share(device: Device, gain: float) -> float:
    """What threads reach together, as a part of all their cores.

    gain: what each thread after the first adds, in cores.
    """
    return (1 + gain * (device.threads - 1)) / device.threads


def _cpu_depth(card: ModelCard) -> float:
    """The fixed cost per token grows with the layers; it was measured at about 8 of them."""
    return card.num_layers / 8


def forward_operations(card: ModelCard, tokens: float) -> float:
    """Of all matrices, head included: two per weight and token."""
    return 2.0 * tokens * (card.num_layers * card.layer_linear_params + card.embedding_params)


def attention_operations(card: ModelCard, tokens: float) -> float:
    """Scores and weighted values of a causal forward pass over that many tokens."""
    return 2.0 * tokens * tokens * card.query_size * card.num_layers


def load_s(card: ModelCard, device: Device) -> float:
    """Process start, imports and reading the weights once.

    Published: 14-20 s for 8B models on Kaggle, a few seconds for a tiny one.
    """
    return (12.0 if device.is_gpu else 6.0) + (card.weights_bytes or 2 * card.params) / 1e9


def turn_s(card: ModelCard, setup: SampleSetup) -> float:
    """The sampling engine's turn on the card.

    Its weights come from the host and go back there, those of the trainer the other way.
    """
    if not setup.sleeps:
        return 0.0
    return 4 * weights_bytes(card, setup.quantization, setup.dtype) / (HOST_COPY_GB_S * 1e9)


@dataclass(frozen=True)
class SampleSpeed:
    tokens_per_second: float  # written, over all sequences; reading the prompts is included
    prefill_tokens_per_second: float  # of prompts, read
    decode_step_s: float  # one token for each sequence of the batch
    batch: int  # sequences written at once


def sample_speed(
    card: ModelCard,
    setup: SampleSetup,
    device: Device,
    *,
    kv_tokens: int,
    prompt_tokens: float,
    answer_tokens: float,
    k: Coefficients = FITTED,
) -> SampleSpeed:
    """With a full batch: as many sequences as the setup asks for and the cache holds.

    Samples of one prompt share its reading and its place in the cache.
    """
    shared = max(1, setup.samples_per_prompt)
    need = prompt_tokens + shared * answer_tokens
    room = max(1, int(kv_tokens / max(1.0, need) * shared))
    batch = max(1, min(setup.batch, room))

    step_s = decode_step_s(
        card, setup, device, batch=batch, context_tokens=prompt_tokens + answer_tokens / 2, k=k
    )
    read_s = prefill_s(card, setup, device, prompt_tokens=prompt_tokens, k=k)
    per_answer_s = step_s * answer_tokens / batch + read_s / shared
    return SampleSpeed(answer_tokens / per_answer_s, prompt_tokens / read_s, step_s, batch)


def decode_step_s(
    card: ModelCard,
    setup: SampleSetup,
    device: Device,
    *,
    batch: int,
    context_tokens: float,
    k: Coefficients = FITTED,
) -> float:
    """One token for each of `batch` sequences, each with that many tokens before it."""
    read_bytes = weights_bytes(card, setup.quantization, setup.dtype)
    if setup.quantization != "none":  # unpacked by every step before it is multiplied
        read_bytes *= k.nf4_decode
    operations = batch * (
        forward_operations(card, 1) + 4.0 * context_tokens * card.query_size * card.num_layers
    )
    # On a CPU with 16-bit arithmetic, reading the cache was measured to cost nothing beside it.
    if device.is_gpu or setup.dtype == "float32":
        read_bytes += batch * context_tokens * kv_bytes_per_token(card, setup)

    if not device.is_gpu:
        memory_s = read_bytes / (device.bandwidth_gb_s * 1e9)
        return _cpu_pass_s(card, setup, device, tokens=batch, operations=operations, k=k) + memory_s

    memory_s = read_bytes / (device.bandwidth_gb_s * 1e9 * k.decode_share)
    work_s = operations / (device.tflops(setup.dtype) * TERA * k.prefill_share)
    if setup.engine == "transformers":
        launches_s = k.generate_launch_s * card.num_layers
    else:
        launches_s = k.decode_step_s
    return _shared_s(launches_s, memory_s + work_s, device)


def prefill_s(
    card: ModelCard,
    setup: SampleSetup,
    device: Device,
    *,
    prompt_tokens: float,
    k: Coefficients = FITTED,
) -> float:
    """Reading one prompt."""
    operations = forward_operations(card, prompt_tokens) + attention_operations(card, prompt_tokens)
    if device.is_gpu:
        work_s = operations / (device.tflops(setup.dtype) * TERA * k.prefill_share)
        return _shared_s(k.decode_step_s, work_s, device)
    return _cpu_pass_s(card, setup, device, tokens=prompt_tokens, operations=operations, k=k)


def _cpu_pass_s(
    card: ModelCard,
    setup: SampleSetup,
    device: Device,
    *,
    tokens: float,
    operations: float,
    k: Coefficients,
) -> float:
    """One forward pass over that many tokens, in whatever number of sequences."""
    reach = device.tflops(setup.dtype) * TERA * _thread_share(device, CPU_SAMPLE_THREAD_GAIN)

    launches_s, slowdown = k.cpu_decode_step_s, 1.0
    if setup.engine == "transformers":
        if setup.dtype == "float32":
            launches_s = k.generate_launch_s * card.num_layers
        else:
            slowdown = k.cpu_generate_slowdown
    elif setup.dtype == "float32":
        launches_s = k.cpu_vllm_launches * k.generate_launch_s * card.num_layers

    work_s = tokens * k.cpu_sample_token_s * _cpu_depth(card) + operations / reach
    return launches_s + slowdown * work_s
