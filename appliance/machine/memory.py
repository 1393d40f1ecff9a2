"""Peak memory of training and sampling, counted tensor by tensor.

Training holds weights, adapter and optimizer all the time, and on top of them the largest of four moments: the loss, the
backward pass of the last layer (all checkpoints alive), that of the first layer (all gradients alive), the optimizer step.
Figures are GiB. Without a GPU it is the resident memory of the worker.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.machine.card import ModelCard
from appliance.machine.coefficients import FITTED, Coefficients
from appliance.machine.device import Device
from appliance.machine.gpu import GIB
from appliance.machine.setup import BYTES_OF, SampleSetup, TrainSetup

NF4_BYTES = 0.5 + 0.127 / 8
"""Four bits a weight and the doubly quantised scale of its block of 64 (QLoRA, arXiv 2305.14314)."""

_STATE_BYTES = {"adamw_8bit": 2, "paged_adamw_8bit": 0, "sgd": 0}
"""Optimizer state per trained weight; paged state lives in host memory. adamw_torch_fused keeps two of the weight's size."""


@dataclass(frozen=True)
class TrainMemory:
    """memory_gib: peak of the tensors on one device. context_gib: beside them. parts: what it is made of."""

    memory_gib: float
    context_gib: float
    parts: dict[str, float]

    def fits(self, memory_gib: float) -> bool:
        return self.memory_gib + self.context_gib <= memory_gib


@dataclass(frozen=True)
class SampleMemory:
    """kv_tokens: tokens that the cache holds; a sequence as long as the window must fit for the engine to start."""

    memory_gib: float
    weights_gib: float
    kv_gib: float
    kv_tokens: int
    fits: bool


def weights_bytes(card: ModelCard, quantization: str, dtype: str, *, embedding_bytes: int | None = None) -> float:
    """embedding_bytes: of one embedding weight where it differs from the rest (float32 in QLoRA training)."""
    size = BYTES_OF[dtype]
    if quantization == "none":
        return card.params * size
    linear = card.num_layers * card.layer_linear_params
    packed = linear * (NF4_BYTES if quantization == "nf4" else 1.0)
    return packed + (card.params - linear) * (embedding_bytes or size)


def train_memory(card: ModelCard, setup: TrainSetup, device: Device, k: Coefficients = FITTED) -> TrainMemory:
    """Peak on the fullest device when one copy of the model trains with that setup."""
    shards = _shards(card, setup)
    return max((_shard_memory(card, setup, device, k, *shard) for shard in shards), key=lambda m: m.memory_gib)


def _shards(card: ModelCard, setup: TrainSetup) -> list[tuple[int, bool, bool]]:
    """(layers, holds the embedding, holds the head) for each device that one copy is spread over. A tied matrix and the
    logits stand on the first device, which therefore takes fewer layers, as published splits do (8/16 of 24)."""
    n, layers = setup.num_split, card.num_layers
    if n == 1:
        return [(layers, True, True)]
    if not card.is_tied:
        even = [layers // n + (i < layers % n) for i in range(n)]
        return [(count, i == 0, i == n - 1) for i, count in enumerate(even)]
    first = max(1, round(layers * 0.37 * 2 / n))
    rest = [(layers - first) // (n - 1) + (i < (layers - first) % (n - 1)) for i in range(n - 1)]
    return [(first, True, True), *((count, False, False) for count in rest)]


def _shard_memory(
    card: ModelCard,
    setup: TrainSetup,
    device: Device,
    k: Coefficients,
    layers: int,
    has_embedding: bool,
    has_head: bool,
) -> TrainMemory:
    quantized = setup.quantization != "none"
    keeps_float32 = quantized or not device.is_gpu or (setup.full_finetune and setup.dtype == "float16")
    weight_size = 4 if keeps_float32 and not quantized else BYTES_OF[setup.dtype]
    work_size = BYTES_OF[setup.dtype]
    embeddings = card.embedding_params * (1 if card.is_tied else int(has_embedding) + int(has_head))
    embeddings *= has_embedding or has_head
    linear = layers * card.layer_linear_params
    others = layers * (card.layer_params - card.layer_linear_params)
    if quantized:
        # Preparing a quantised model for training turns embeddings, head and norms into float32.
        packed = linear * (NF4_BYTES if setup.quantization == "nf4" else 1.0)
        weights = packed + (embeddings + others) * 4
    else:
        weights = (embeddings + linear + others) * weight_size

    trained = embeddings + linear + others
    trained_size = weight_size
    adapter = 0.0
    if not setup.full_finetune:
        trained = card.lora_params(setup.lora_rank, all_linear=setup.all_linear) * layers // card.num_layers
        trained_size = 4
        adapter = trained * 4.0
    state = trained * _STATE_BYTES.get(setup.optimizer, 2 * trained_size)

    tokens = setup.micro_batch * setup.max_seq_tokens
    residual_size = 4 if keeps_float32 else work_size
    checkpoint = tokens * card.hidden_size * residual_size
    saved = tokens * work_size * _saved_widths(card, setup, k) * (1.0 if device.is_gpu else k.cpu_saved)
    saved += _scores(card, setup, k)
    work = tokens * work_size * k.work_mlp * card.intermediate_size
    if quantized:
        work += 2 * card.intermediate_size * card.hidden_size  # one matrix unpacked to 16 bits
    held = layers * (checkpoint if setup.gradient_checkpointing else saved)
    layer_at_work = work + (saved if setup.gradient_checkpointing else 0)

    gradients = trained * trained_size
    head_gradient = embeddings * trained_size if setup.full_finetune and has_head else 0
    layer_gradients = gradients - (embeddings * trained_size if setup.full_finetune else 0)
    loss = _loss_bytes(card, setup, k, tokens, residual_size) if has_head else 0.0
    spare_copies = (1 if setup.fused_loss else 2) * (head_gradient if card.is_tied else head_gradient / 2)
    moments = {
        "loss": held + loss + (head_gradient if setup.fused_loss else 0),
        "last layer": held + layer_at_work + head_gradient,
        "first layer": layer_gradients + head_gradient + layer_at_work,
        "step": gradients + spare_copies,
    }
    moment = max(moments, key=lambda name: moments[name])
    fixed_gib = k.fixed_gib if device.is_gpu else k.cpu_fixed_gib
    parts = {
        "weights": weights / GIB,
        "adapter": adapter / GIB,
        "optimizer": state / GIB,
        f"peak ({moment})": moments[moment] / GIB,
        "fixed": fixed_gib,
    }
    return TrainMemory(sum(parts.values()), k.context_gib if device.is_gpu else 0.0, parts)


def _saved_widths(card: ModelCard, setup: TrainSetup, k: Coefficients) -> float:
    """Elements that one layer keeps per token for its backward pass."""
    mlp, hidden = (k.saved_mlp_fused, k.saved_hidden_fused) if setup.fused_loss else (k.saved_mlp, k.saved_hidden)
    if not setup.full_finetune:
        hidden += k.saved_hidden_adapter
    return mlp * card.intermediate_size + hidden * max(card.hidden_size, card.query_size)


def _scores(card: ModelCard, setup: TrainSetup, k: Coefficients) -> float:
    """Attention scores of one layer where no fused kernel keeps them away: plain attention, and padded batches, whose mask
    puts the fused kernels out of use (8B nf4 at 8,192 tokens: batch 2 fits an A6000, batch 4 does not)."""
    if setup.attention == "eager" or (setup.micro_batch > 1 and not setup.is_packed):
        return setup.micro_batch * card.num_heads * float(setup.max_seq_tokens) ** 2 * k.score_bytes
    return 0.0


def _loss_bytes(card: ModelCard, setup: TrainSetup, k: Coefficients, tokens: int, residual_size: int) -> float:
    if not setup.fused_loss:
        return tokens * card.vocab_size * k.logit_bytes
    chunk = max(1, tokens * card.hidden_size // card.vocab_size)
    return tokens * card.hidden_size * residual_size + chunk * card.vocab_size * 4.0


def sample_memory(card: ModelCard, setup: SampleSetup, device: Device, k: Coefficients = FITTED) -> SampleMemory:
    """What an engine takes that fills its share of the device with KV cache, as vLLM does."""
    allowed = setup.share * device.memory_gib
    weights = weights_bytes(card, setup.quantization, setup.dtype) / GIB
    prefill = min(setup.max_seq_tokens, 8192) * k.sampler_token_mlp * card.intermediate_size * 2
    logits = min(setup.batch, 256) * card.vocab_size * 8
    unpacked = 4 * card.intermediate_size * card.hidden_size if setup.quantization != "none" else 0
    fixed = k.sampler_fixed_gib if device.is_gpu else k.cpu_fixed_gib
    kv_gib = allowed - weights - fixed - (prefill + logits + unpacked) / GIB
    kv_tokens = max(0, int(kv_gib * GIB / kv_bytes_per_token(card, setup)) // 16 * 16)
    return SampleMemory(allowed, weights, max(0.0, kv_gib), kv_tokens, kv_tokens >= setup.max_seq_tokens)


def kv_bytes_per_token(card: ModelCard, setup: SampleSetup) -> int:
    return card.kv_bytes_per_token * BYTES_OF[setup.dtype] // 2
