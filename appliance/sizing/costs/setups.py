"""How a model is trained and sampled on a device: what memory and time are computed from."""

from __future__ import annotations

from dataclasses import dataclass

BYTES_OF = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Of one number of that type."""

LOSS_CHUNK_BYTES = 128 * 2**20
"""Of the logits in float32 that training makes at a time. With half as much, the head's weights are
read so often that it takes a sixth longer; twice as much is not faster (`python -m bench.loss`)."""


def loss_chunk_rows(vocab_size: int) -> int:
    """Tokens whose logits training makes at a time.

    >>> loss_chunk_rows(151_936)
    220
    """
    return max(1, LOSS_CHUNK_BYTES // (4 * vocab_size))


@dataclass(frozen=True)
class TrainSetup:
    """One way to train; the defaults are those of the published 8B runs."""

    dtype: str = "bfloat16"
    quantization: str = "none"  # of the base weights: none, int8 or nf4
    max_seq_tokens: int = 8192
    micro_batch: int = 1  # sequences of one forward and backward pass, of the longest
    # Tokens of a step, in as many sequences as they hold; 0: always micro_batch sequences.
    step_tokens: int = 0
    gradient_checkpointing: bool = True
    fused_loss: bool = True  # logits are made and dropped chunk by chunk, none are kept
    # Tokens of a chunk; None: as Liger chooses, with as many logits as hidden states of all tokens.
    loss_chunk_rows: int | None = None
    fused_layers: bool = True  # Liger's kernels for the layers, too: they keep fewer activations
    full_finetune: bool = False
    lora_rank: int = 32
    all_linear: bool = False  # adapters on the MLP too, not only on q, k, v, o
    optimizer: str = "adamw_torch_fused"  # or adamw_8bit, paged_adamw_8bit, sgd
    # flash: FlashAttention 2; sdpa: torch's fused kernels; eager: the scores are held in memory.
    attention: str = "flash"
    # peft: a plain loop; unsloth: fewer kernel launches, checkpoints held in host memory.
    trainer: str = "peft"
    num_split: int = 1  # cards over which the layers of one copy are spread
    # What quantised weights are unpacked to: float32 (default of bitsandbytes), or native: dtype.
    quantized_compute: str = "float32"
    is_packed: bool = False  # the rows of a batch are full, so that no mask is needed
    target_share: float = 1.0  # part of the tokens that logits are made of
    float32_weights: bool = False  # they are trained themselves, so small steps must not be lost

    def rows(self, tokens: float) -> int:
        """Sequences of a step, where each has that many tokens."""
        if not self.step_tokens:
            return self.micro_batch
        return max(1, int(self.step_tokens / max(1.0, tokens)))


@dataclass(frozen=True)
class SampleSetup:
    """One way to generate answers."""

    engine: str = "vllm"  # or transformers
    dtype: str = "bfloat16"
    quantization: str = "none"
    max_seq_tokens: int = 8192
    share: float = 0.9  # of the device's memory, for the engine (vLLM: gpu_memory_utilization)
    batch: int = 255  # sequences that are written at once
    samples_per_prompt: int = 1  # sequences that share one prompt in the cache
    sleeps: bool = False  # the engine takes turns with training on the card
