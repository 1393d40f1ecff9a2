"""How a model is trained and sampled on a device: what the memory and time model take, and what pins set."""

from __future__ import annotations

from dataclasses import dataclass

BYTES_OF = {"float32": 4, "bfloat16": 2, "float16": 2}
QUANTIZATIONS = ("none", "int8", "nf4")
OPTIMIZERS = ("adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "sgd")
ATTENTIONS = ("flash", "sdpa", "eager")


@dataclass(frozen=True)
class TrainSetup:
    """attention: flash (FlashAttention 2), sdpa (torch's fused kernels), eager (scores are held). num_split: cards over
    which the layers of one copy are split. trainer: peft (a plain loop) or unsloth, whose kernels launch less and whose
    checkpoints stand in host memory. all_linear: adapters on the MLP too, not only on q, k, v, o. quantized_compute:
    float32 (bitsandbytes' own default) or native, the dtype. is_packed: rows of a batch are full, so that no mask is needed."""

    dtype: str = "bfloat16"
    quantization: str = "none"
    max_seq_tokens: int = 8192
    micro_batch: int = 1
    gradient_checkpointing: bool = True
    fused_loss: bool = True
    full_finetune: bool = False
    lora_rank: int = 32
    all_linear: bool = False
    optimizer: str = "adamw_torch_fused"
    attention: str = "flash"
    trainer: str = "peft"
    num_split: int = 1
    quantized_compute: str = "float32"
    is_packed: bool = False


@dataclass(frozen=True)
class SampleSetup:
    """share: part of the device's memory that the engine may fill (vLLM's gpu_memory_utilization). batch: sequences that
    are written at once. samples_per_prompt: sequences that share one prompt in the cache."""

    engine: str = "vllm"
    dtype: str = "bfloat16"
    quantization: str = "none"
    max_seq_tokens: int = 8192
    share: float = 0.9
    batch: int = 255
    samples_per_prompt: int = 1
