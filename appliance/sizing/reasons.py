"""The training part of a plan in words: each value of the fitted setup with the reason why it was taken."""

from __future__ import annotations

from appliance.machine.catalogue import has_bfloat16
from appliance.sizing.choice import Choice
from appliance.sizing.costs.device import Device
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.task_costs import Costs
from appliance.sizing.costs.task_lengths import TaskLengths
from appliance.sizing.fit_training import Fitted
from appliance.sizing.pins import Pins
from appliance.sizing.plan import TrainPlan


def gib(value: float) -> str:
    return f"{value:.1f} GiB" if value >= 1 else f"{value * 1024:.0f} MiB"


def train_plan(
    card: ModelCard,
    device: Device,
    pins: Pins,
    fitted: Fitted,
    *,
    steps: Choice[int],
    costs: Costs,
    lengths: TaskLengths,
    room_gib: float,
) -> TrainPlan:
    setup = fitted.setup

    def why(pin: object, otherwise: str) -> str:
        return "pinned" if pin is not None else otherwise

    return TrainPlan(
        trainer=Choice(
            setup.trainer,
            why(pins.trainer, "a plain loop, reused from task to task: no start-up for each"),
        ),
        dtype=Choice(setup.dtype, why(pins.dtype, _dtype_reason(setup.dtype, device))),
        quantization=Choice(
            setup.quantization, why(pins.quantization, _quantization_reason(card, fitted, room_gib))
        ),
        max_seq_tokens=Choice(
            setup.max_seq_tokens,
            why(pins.max_seq_tokens, _length_reason(setup.max_seq_tokens, card, lengths)),
        ),
        full_finetune=Choice(
            setup.full_finetune, why(pins.full_finetune, _whole_reason(card, setup.full_finetune))
        ),
        lora_rank=Choice(setup.lora_rank, why(pins.lora_rank, _rank_reason(fitted))),
        lora_targets=Choice(
            "all" if setup.all_linear else "attention",
            why(
                pins.lora_targets,
                "q, k, v, o as in the published runs"
                if not setup.all_linear
                else "a tiny model can afford all",
            ),
        ),
        micro_batch=Choice(
            setup.micro_batch, why(pins.micro_batch, _batch_reason(card, setup.micro_batch))
        ),
        gradient_checkpointing=Choice(
            setup.gradient_checkpointing,
            why(pins.gradient_checkpointing, _checkpointing_reason(fitted, room_gib)),
        ),
        fused_loss=Choice(
            setup.fused_loss, why(pins.fused_loss, _fused_reason(card, setup.fused_loss))
        ),
        optimizer=Choice(
            setup.optimizer,
            why(pins.optimizer, "resumes reliably; paged 8-bit state failed on resume"),
        ),
        attention=Choice(
            setup.attention, why(pins.attention, _attention_reason(setup.attention, device))
        ),
        parallelism=_parallelism(setup.num_split),
        steps_per_task=steps,
        memory=fitted.memory,
        fits=fitted.fits,
        seconds_per_step=costs.step_s(setup.max_seq_tokens),
        typical_seconds_per_step=costs.step_s(lengths.mean_lesson_tokens(setup.max_seq_tokens)),
    )


def _dtype_reason(dtype: str, device: Device) -> str:
    if not device.is_gpu:
        return (
            "bfloat16 autocast over float32 weights: the CPU multiplies it fast"
            if dtype == "bfloat16"
            else "no bfloat16 units"
        )
    major, minor = device.capability
    return f"compute capability {major}.{minor} {'has' if has_bfloat16(device.capability) else 'has no'} bfloat16"


def _quantization_reason(card: ModelCard, fitted: Fitted, room_gib: float) -> str:
    if card.stored_quantization != "none":
        return "as the weights are stored"
    if fitted.setup.quantization == "none":
        return f"unquantised weights take {gib(fitted.memory.parts['weights'])} of {gib(room_gib)} and train faster"
    return f"16-bit weights do not leave room for training in {gib(room_gib)}"


def _length_reason(tokens: int, card: ModelCard, lengths: TaskLengths) -> str:
    longest = lengths.longest()
    if tokens >= longest:
        return f"the longest of {len(lengths)} tasks"
    if tokens >= card.max_positions:
        return f"the model's window; the longest task has {longest} tokens"
    return (
        f"longer does not fit; {lengths.num_within(tokens)} of {len(lengths)} tasks are within it"
    )


def _whole_reason(card: ModelCard, is_full: bool) -> str:
    if is_full:
        return f"{card.params / 1e6:.1f} M weights: training all of them costs no more than an adapter and learns better"
    return "an adapter: its gradients and optimizer state are a small part of the model's"


def _rank_reason(fitted: Fitted) -> str:
    if fitted.setup.full_finetune:
        return "not used: all weights are trained"
    return (
        "64 did as well as 128 on the leaderboard"
        if fitted.setup.lora_rank >= 64
        else "64 does not fit"
    )


def _batch_reason(card: ModelCard, rows: int) -> str:
    if card.is_tiny:
        return f"{rows} packed row{'s' if rows > 1 else ''} a step: at least about 4096 tokens, or one of the longest"
    return "larger batches cost memory and bring no speed (measured on A6000)"


def _checkpointing_reason(fitted: Fitted, room_gib: float) -> str:
    if fitted.setup.gradient_checkpointing:
        return f"keeping every activation does not fit in {gib(room_gib)}"
    return "every activation fits, so nothing is computed twice"


def _fused_reason(card: ModelCard, is_fused: bool) -> str:
    if is_fused:
        return f"logits of {card.vocab_size} entries a token are never held whole"
    return (
        "the kernels need a GPU; the loss is cheap on a small vocabulary"
        if card.is_tiny
        else "the kernels need a GPU"
    )


def _attention_reason(attention: str, device: Device) -> str:
    if attention == "flash":
        return "FlashAttention 2 runs from capability 8.0"
    if attention == "sdpa":
        return "torch's fused kernels" + (
            "; FlashAttention 2 needs capability 8.0" if device.is_gpu else ""
        )
    return "the model's code has no fused path below capability 8.0"


def _parallelism(num_split: int) -> Choice[str]:
    if num_split == 1:
        return Choice("replicate", "one copy per device")
    return Choice(
        "split",
        f"one card cannot hold it; layers over {num_split} cards, one at work at a time (what-if: engines here replicate)",
    )
