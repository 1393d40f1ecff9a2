"""Peak memory of training, counted tensor by tensor, in GiB.

On a GPU these are the tensors on the card, on a CPU the resident memory of the worker. Weights,
adapter and optimizer are held all the time. On top of them comes the largest of four moments: the
loss, the backward pass of the last layer (all checkpoints alive), that of the first layer (all
gradients alive), and the optimizer step.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.machine.gpu import GIB
from appliance.sizing.costs.coefficients import FITTED, Coefficients
from appliance.sizing.costs.device import Device
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.sample_memory import PACKED_BYTES
from appliance.sizing.costs.setups import BYTES_OF, TrainSetup

_STATE_BYTES = {"adamw_8bit": 2, "paged_adamw_8bit": 0, "sgd": 0}
"""Bytes of optimizer state per trained weight; paged state lives in host memory.

AdamW, which is not listed, keeps two numbers of the weight's own size."""

_FIRST_SHARE = 0.74
"""Layers on the first card of a split, as a part of an equal share, because it also holds the tied
matrix and the logits. Published splits gave it 8 of 24 and 11 of 28 layers."""


@dataclass(frozen=True)
class TrainMemory:
    memory_gib: float  # peak on the fullest device
    context_gib: float  # CUDA context and slack, beside it
    parts: dict[str, float]  # what memory_gib is the sum of, in GiB

    @property
    def growing_gib(self) -> float:
        """The part that grows with the length of a task; the rest is the same for all of them."""
        return sum(gib for name, gib in self.parts.items() if name.startswith("peak"))

    def fits(self, memory_gib: float) -> bool:
        return self.memory_gib + self.context_gib <= memory_gib


@dataclass(frozen=True)
class _ModelPart:
    """The part of the model on one device."""

    layers: int
    embedding_params: int  # weights of the vocabulary matrices that stand here
    has_head: bool  # the logits are made here

    def linear_params(self, card: ModelCard) -> int:
        return self.layers * card.layer_linear_params

    def other_params(self, card: ModelCard) -> int:
        return self.layers * (card.layer_params - card.layer_linear_params) + self.embedding_params


def train_memory(
    card: ModelCard, setup: TrainSetup, device: Device, k: Coefficients = FITTED
) -> TrainMemory:
    """Peak on the fullest device when one copy of the model trains with that setup."""
    parts_of_model = _parts_of(card, setup.num_split)
    return max(
        (_part_memory(card, setup, device, part, k) for part in parts_of_model),
        key=lambda m: m.memory_gib,
    )


def _parts_of(card: ModelCard, num: int) -> list[_ModelPart]:
    if num == 1:
        return [_ModelPart(card.num_layers, card.all_embedding_params, True)]

    if card.is_tied:
        first = max(1, round(card.num_layers / num * _FIRST_SHARE))
        rest = _evenly(card.num_layers - first, num - 1)
        return [
            _ModelPart(first, card.embedding_params, True),
            *(_ModelPart(n, 0, False) for n in rest),
        ]

    # Not tied: the input matrix stands on the first card, the head on the last.
    even = _evenly(card.num_layers, num)
    ends = (0, num - 1)
    return [
        _ModelPart(n, card.embedding_params if i in ends else 0, i == num - 1)
        for i, n in enumerate(even)
    ]


def _evenly(layers: int, num: int) -> list[int]:
    return [layers // num + (i < layers % num) for i in range(num)]


def _part_memory(
    card: ModelCard, setup: TrainSetup, device: Device, part: _ModelPart, k: Coefficients
) -> TrainMemory:
    trained, trained_size = _trained(card, setup, device, part)
    weights = _weights_bytes(card, setup, device, part)
    adapter = 0.0 if setup.full_finetune else trained * float(trained_size)
    state = trained * float(_STATE_BYTES.get(setup.optimizer, 2 * trained_size))

    moments = _moments(card, setup, device, part, k)
    moment = max(moments, key=lambda name: moments[name])
    parts = {
        "weights": weights / GIB,
        "adapter": adapter / GIB,
        "optimizer": state / GIB,
        f"peak ({moment})": moments[moment] / GIB,
        "fixed": k.fixed_gib if device.is_gpu else k.cpu_fixed_gib,
    }
    return TrainMemory(sum(parts.values()), k.context_gib if device.is_gpu else 0.0, parts)


def _weight_size(setup: TrainSetup, device: Device) -> int:
    """Of an unquantised weight. A CPU and full training in float16 keep float32 masters."""
    is_half_trained = setup.full_finetune and setup.dtype == "float16"
    keeps_masters = not device.is_gpu or is_half_trained or setup.float32_weights
    return 4 if keeps_masters else BYTES_OF[setup.dtype]


def _residual_size(setup: TrainSetup, device: Device) -> int:
    """Bytes of one element that flows between layers.

    peft turns embeddings and norms of a quantised model into float32, and so all that flows between
    the layers; unsloth does not.
    """
    if setup.quantization != "none":
        return 4 if setup.trainer == "peft" else BYTES_OF[setup.dtype]
    return _weight_size(setup, device)


def _weights_bytes(card: ModelCard, setup: TrainSetup, device: Device, part: _ModelPart) -> float:
    linear, others = part.linear_params(card), part.other_params(card)

    if setup.quantization != "none":
        return linear * PACKED_BYTES[setup.quantization] + others * _residual_size(setup, device)
    return float((linear + others) * _weight_size(setup, device))


def _trained(
    card: ModelCard, setup: TrainSetup, device: Device, part: _ModelPart
) -> tuple[int, int]:
    """How many weights are trained on this device, and bytes of each: adapters are float32."""
    if setup.full_finetune:
        return part.linear_params(card) + part.other_params(card), _weight_size(setup, device)

    whole = card.lora_params(setup.lora_rank, all_linear=setup.all_linear)
    return whole * part.layers // card.num_layers, 4


def _moments(
    card: ModelCard, setup: TrainSetup, device: Device, part: _ModelPart, k: Coefficients
) -> dict[str, float]:
    """Bytes beside weights, adapter and state at the four moments that may be the peak."""
    tokens, size = setup.micro_batch * setup.max_seq_tokens, BYTES_OF[setup.dtype]
    residual_size = _residual_size(setup, device)
    is_autocast = not device.is_gpu and setup.dtype != "float32"

    # What a layer saves for its backward pass, and what it needs while it is at work.
    saved = tokens * size * _saved_widths(card, setup, k) * (k.cpu_saved if is_autocast else 1.0)
    saved += _score_bytes(card, setup, k)
    work = tokens * size * k.work_mlp * card.intermediate_size
    if setup.quantization != "none":
        work += 2 * card.intermediate_size * card.hidden_size  # one matrix unpacked to 16 bits

    # What is held for all layers until the backward pass comes to them.
    if not setup.gradient_checkpointing:
        held = part.layers * saved
    elif setup.trainer == "unsloth":
        held, work = 0.0, work + saved  # its checkpoints stand in host memory
    else:
        held = part.layers * tokens * card.hidden_size * float(residual_size)
        work += saved

    trained, trained_size = _trained(card, setup, device, part)
    gradients = float(trained * trained_size)
    embedding_gradient = float(part.embedding_params * trained_size) if setup.full_finetune else 0.0
    head_gradient = embedding_gradient if part.has_head else 0.0
    layer_gradients = gradients - embedding_gradient
    spare_copies = (1.0 if setup.fused_loss else 2.0) * head_gradient / (1 if card.is_tied else 2)
    loss = _loss_bytes(card, setup, device, k) if part.has_head else 0.0

    return {
        "loss": held + loss + (head_gradient if setup.fused_loss else 0.0),
        "last layer": held + work + head_gradient,
        "first layer": layer_gradients + head_gradient + work,
        "step": gradients + spare_copies,
    }


def _saved_widths(card: ModelCard, setup: TrainSetup, k: Coefficients) -> float:
    """Elements that one layer keeps per token for its backward pass."""
    if setup.fused_layers:
        mlp, hidden = k.saved_mlp_fused, k.saved_hidden_fused
    else:
        mlp, hidden = k.saved_mlp, k.saved_hidden
    if not setup.full_finetune:
        hidden += k.saved_hidden_adapter
    return mlp * card.intermediate_size + hidden * max(card.hidden_size, card.query_size)


def _score_bytes(card: ModelCard, setup: TrainSetup, k: Coefficients) -> float:
    """Attention scores of one layer, where no fused kernel does without them.

    That is plain attention, and padded batches: their mask puts the fused kernels out of use (8B in
    nf4 at 8,192 tokens: batch 2 fits an A6000, batch 4 does not).
    """
    if setup.attention == "eager" or (setup.micro_batch > 1 and not setup.is_packed):
        return setup.micro_batch * card.num_heads * float(setup.max_seq_tokens) ** 2 * k.score_bytes
    return 0.0


def _loss_bytes(card: ModelCard, setup: TrainSetup, device: Device, k: Coefficients) -> float:
    """Logits and their gradient: all at once, or chunk by chunk where the loss is fused."""
    tokens, residual_size = setup.micro_batch * setup.max_seq_tokens, _residual_size(setup, device)
    targets = tokens * setup.target_share
    if not setup.fused_loss:
        return targets * card.vocab_size * k.logit_bytes

    if setup.loss_chunk_rows is None:
        # Liger makes a chunk of logits as large as the hidden states of all tokens.
        chunk = max(1, tokens * card.hidden_size // card.vocab_size)
        return tokens * card.hidden_size * residual_size + chunk * card.vocab_size * 4.0

    # Ours, engine/training/cross_entropy.py, holds the hidden states of all tokens, those of the
    # targets, the gradient of these, and the logits of a chunk. (What is one chunk anyway is a
    # whole loss; of several, each takes a little less.)
    held = (tokens + 2 * targets) * card.hidden_size * residual_size
    held += min(targets, setup.loss_chunk_rows) * card.vocab_size * k.logit_bytes

    # The head's weights stand in the type of products, too, where that is not their own. If they
    # are trained, a chunk has a gradient of them in both types beside the sum over chunks.
    size = BYTES_OF[setup.dtype]
    cast = size if residual_size != size else 0
    head_sizes = cast + (cast + residual_size if setup.full_finetune else 0)
    return held + float(card.embedding_params * head_sizes)
