"""Memory of sampling, and the sizes of weights and cached tokens that training needs too.

Figures are GiB. The memory of training is counted in train_memory.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.machine.gpu import GIB
from appliance.sizing.costs.coefficients import FITTED, Coefficients
from appliance.sizing.costs.device import Device
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.setups import BYTES_OF, SampleSetup

PACKED_BYTES = {"nf4": 0.5 + 0.127 / 8, "int8": 1.0}
"""Of one weight. nf4: four bits, and the doubly quantised scale of its block of 64 weights (QLoRA,
arXiv 2305.14314)."""

ASLEEP_GIB = 1.0
"""What a sleeping engine keeps on the card, CUDA graphs above all (a guess, not measured)."""


@dataclass(frozen=True)
class SampleMemory:
    memory_gib: float  # what the engine fills
    weights_gib: float
    kv_gib: float
    kv_tokens: int  # that the cache holds
    fits: bool  # the cache holds the longest sequence; without that the engine does not start


def weights_bytes(card: ModelCard, quantization: str, dtype: str) -> float:
    """Only the matrices of the layers are quantised; embeddings, head and norms stay in `dtype`."""
    size = BYTES_OF[dtype]
    if quantization == "none":
        return card.params * size

    linear = card.num_layers * card.layer_linear_params
    return linear * PACKED_BYTES[quantization] + (card.params - linear) * size


def kv_bytes_per_token(card: ModelCard, setup: SampleSetup) -> int:
    return card.kv_bytes_per_token * BYTES_OF[setup.dtype] // 2


def sample_memory(
    card: ModelCard, setup: SampleSetup, device: Device, k: Coefficients = FITTED
) -> SampleMemory:
    """Of an engine that fills its share of the device with KV cache, as vLLM does."""
    allowed = setup.share * device.memory_gib
    weights = weights_bytes(card, setup.quantization, setup.dtype) / GIB

    # By its defaults vLLM reads at most 8,192 tokens and writes at most 256 sequences at once.
    prefill = min(setup.max_seq_tokens, 8192) * k.sampler_token_mlp * card.intermediate_size * 2
    logits = min(setup.batch, 256) * card.vocab_size * 8
    unpacked = 4 * card.intermediate_size * card.hidden_size if setup.quantization != "none" else 0
    fixed = k.sampler_fixed_gib if device.is_gpu else k.cpu_fixed_gib

    kv_gib = allowed - weights - fixed - (prefill + logits + unpacked) / GIB
    # The cache is given out in blocks of 16 tokens.
    kv_tokens = max(0, int(kv_gib * GIB / kv_bytes_per_token(card, setup)) // 16 * 16)
    return SampleMemory(
        allowed, weights, max(0.0, kv_gib), kv_tokens, kv_tokens >= setup.max_seq_tokens
    )
