"""A plan in words: each value of the fitted training with its reason, and what else to know."""

from __future__ import annotations

from appliance.machine.catalogue import has_bfloat16
from appliance.machine.gpu import GIB
from appliance.machine.machine import Machine
from appliance.sizing.choice import Choice
from appliance.sizing.costs.device import Device, devices_of
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.setups import LOSS_CHUNK_BYTES, TrainSetup
from appliance.sizing.costs.task_costs import Costs
from appliance.sizing.fit_sampling import SampleDraft
from appliance.sizing.fit_training import Fitted
from appliance.sizing.plan import TrainPlan
from appliance.sizing.recipe import Recipe
from appliance.sizing.request import SizingRequest


def gib(value: float) -> str:
    """
    >>> gib(1.26), gib(0.5)
    ('1.3 GiB', '512 MiB')
    """
    return f"{value:.1f} GiB" if value >= 1 else f"{value * 1024:.0f} MiB"


def train_plan(
    card: ModelCard,
    device: Device,
    request: SizingRequest,
    fitted: Fitted,
    *,
    recipe: Recipe,
    trainer: Choice[str],
    steps: Choice[int],
    costs: Costs,
    room_gib: float,
) -> TrainPlan:
    """The fitted training as a plan shows it. room_gib: what it had to fit into."""
    setup, lengths, why = fitted.setup, request.lengths, request.reason
    rows = Choice(setup.micro_batch, why("micro_batch", _rows_reason(request, setup)))
    typical_tokens = lengths.mean_lesson_tokens(setup.max_seq_tokens)

    return TrainPlan(
        trainer=trainer if not request.pins.what_ifs() else Choice(setup.trainer, "a what-if"),
        dtype=Choice(setup.dtype, why("dtype", _dtype_reason(setup.dtype, device))),
        quantization=Choice(
            setup.quantization, why("quantization", _quantization_reason(card, fitted, room_gib))
        ),
        max_seq_tokens=Choice(
            setup.max_seq_tokens,
            why("max_seq_tokens", _length_reason(setup.max_seq_tokens, card, request)),
        ),
        full_finetune=Choice(
            setup.full_finetune, why("full_finetune", _full_reason(setup.full_finetune))
        ),
        lora_rank=Choice(setup.lora_rank, why("lora_rank", _rank_reason(recipe, fitted))),
        alpha=recipe.alpha_at(setup.lora_rank),
        targets=_targets(request, fitted),
        learning_rate=recipe.learning_rate,
        micro_batch=rows,
        rows_per_step=rows,
        gradient_checkpointing=Choice(
            setup.gradient_checkpointing,
            why("gradient_checkpointing", _checkpointing_reason(fitted, room_gib)),
        ),
        fused_loss=_fused_loss(card, request, fitted),
        optimizer=Choice(setup.optimizer, why("optimizer", "fused AdamW, which resumes reliably")),
        attention=Choice(setup.attention, why("attention", _attention_reason(setup, device))),
        parallelism=_parallelism(setup.num_split),
        device_share=_device_share(costs, max(1.0, typical_tokens)),
        steps_per_task=steps,
        max_steps=recipe.max_steps,
        program_learning_rate=recipe.program_learning_rate,
        memory=fitted.memory,
        fits=fitted.fits,
        seconds_per_step=costs.step_s(setup.max_seq_tokens),
        typical_seconds_per_step=costs.step_s(typical_tokens),
    )


_WHAT_IFS_SAID = {
    "fused_loss=True": "fused_loss=True (Liger's kernels, of loss and layers; ours fuse the loss)",
    "fused_loss=False": "fused_loss=False (the logits of all tokens held)",
}
"""Pins whose name alone does not say what no engine does."""


def what_if_note(request: SizingRequest) -> str | None:
    """Says that no run of ours is like this plan, where its pins describe another training."""
    what_ifs = request.pins.what_ifs()
    if not what_ifs:
        return None
    said = (_WHAT_IFS_SAID.get(pin, pin) for pin in what_ifs)
    return (
        f"a what-if: no engine here does {', '.join(said)}; whatever else is open is as in the "
        "published runs, and `submit` would do otherwise"
    )


def notes_of(
    machine: Machine,
    card: ModelCard,
    device: Device,
    fitted: Fitted,
    draft: SampleDraft,
    request: SizingRequest,
) -> tuple[str, ...]:
    """What a person should know of the plan beside its values."""
    notes = []
    if note := what_if_note(request):
        notes.append(note)

    # The machine.
    for gpu in dict.fromkeys(machine.unusable):
        count = machine.unusable.count(gpu)
        notes.append(f"not used: {count} x {gpu}; do: {gpu.remedy}")
    if not device.is_known:
        notes.append(
            f"{device.name} is not in the catalogue: planned with cautious figures; "
            "the probe corrects them"
        )
    if len({d.name for d in devices_of(machine)}) > 1:
        notes.append(
            "the cards differ; planned for the one with least room "
            f"({device.name}, {gib(device.free_gib)})"
        )
    busy = [g for g in machine.gpus if g.other_pids]
    if busy:
        notes.append(
            f"{len(busy)} cards are in use by other processes; planned with the memory that is free"
        )

    # The lengths.
    window, num_tasks = fitted.setup.max_seq_tokens, len(request.lengths)
    cut = num_tasks - request.lengths.num_within(window)
    if cut:
        notes.append(
            f"{cut} of {num_tasks} tasks are longer than {window} tokens; "
            "they lose demonstrations until they fit"
        )
    if window > card.max_positions:
        notes.append(
            f"{window} tokens are more than the {card.max_positions} positions "
            f"that {card.name} was trained on"
        )

    # Memory and time.
    if not fitted.fits:
        need = fitted.memory.memory_gib + fitted.memory.context_gib
        notes.append(
            f"training needs {gib(need)}; pin nf4, a smaller rank, checkpointing or fewer tokens, "
            "or take a smaller model"
        )
    if not draft.memory.fits:
        notes.append(
            f"the cache holds {draft.memory.kv_tokens} tokens, fewer than one sequence; "
            "raise gpu_memory_utilization or pin nf4"
        )
    if request.lengths.source.startswith("no task file"):
        notes.append(request.lengths.source)
    return tuple(notes)


def _dtype_reason(dtype: str, device: Device) -> str:
    if device.is_gpu:
        major, minor = device.capability
        has = "has" if has_bfloat16((major, minor)) else "has no"
        return f"compute capability {major}.{minor} {has} bfloat16"
    if dtype == "bfloat16":
        return "bfloat16 autocast over float32 weights: the CPU multiplies it fast"
    return "this CPU has no fast bfloat16"


def _quantization_reason(card: ModelCard, fitted: Fitted, room_gib: float) -> str:
    if card.stored_quantization != "none":
        return "as the weights are stored"
    if fitted.setup.quantization == "none":
        weights = gib(fitted.memory.parts["weights"])
        return f"unquantised weights take {weights} of {gib(room_gib)} and train faster"
    return f"16-bit weights do not leave room for training in {gib(room_gib)}"


def _length_reason(tokens: int, card: ModelCard, request: SizingRequest) -> str:
    lengths = request.lengths
    longest, limit = lengths.longest(), request.settings.train.max_seq_tokens
    if tokens >= longest:
        return f"the longest of {len(lengths)} tasks"
    if tokens >= card.max_positions:
        return f"the model's window; the longest task has {longest} tokens"
    within = f"{lengths.num_within(tokens)} of {len(lengths)} tasks are within it"
    if tokens >= limit:
        return f"train.max_seq_tokens allows no more; {within}"
    return f"longer does not fit; {within}"


def _full_reason(is_full: bool) -> str:
    if is_full:
        return "set by train.method"
    return "an adapter: its gradients and optimizer state are a small part of the model's"


def _rank_reason(recipe: Recipe, fitted: Fitted) -> str:
    if fitted.setup.full_finetune:
        return "not used: all weights are trained"
    if fitted.setup.lora_rank >= recipe.rank.value:
        return recipe.rank.reason
    return f"{recipe.rank.value} does not fit"


def _targets(request: SizingRequest, fitted: Fitted) -> Choice[str]:
    if fitted.setup.all_linear:
        return Choice("all", request.reason("lora_targets", "every matrix of the layers"))
    return Choice("attention", request.reason("lora_targets", "q, k, v, o as in published runs"))


def _rows_reason(request: SizingRequest, setup: TrainSetup) -> str:
    if request.pins.what_ifs():
        return "one sequence a step, as in the published runs"

    holds = f"train.tokens_per_step = {setup.step_tokens} holds, at least one"
    why = f"sequences of this length that {holds}"
    asked = request.settings.train.tokens_per_step
    if setup.step_tokens > asked:
        why += f"; raised from {asked}, because the card would wait for kernels most of a step"
    return why


def _device_share(costs: Costs, tokens: float) -> Choice[float]:
    """How busy training keeps the device, by the model of its speed."""
    share = round(costs.device_share(tokens), 3)
    if not costs.device.is_gpu:
        return Choice(share, "a CPU computes all the time")

    rows, sharers = costs.train.rows(tokens), costs.device.sharers
    lessons = "one lesson" if rows == 1 else f"{rows} lessons"
    rest = "the rest is the launching of kernels" if share < 1 else "it could not do more"
    by = "one worker" if sharers == 1 else f"{sharers} workers"
    return Choice(share, f"{by} with {lessons} of {tokens:.0f} tokens a step; {rest}")


def _checkpointing_reason(fitted: Fitted, room_gib: float) -> str:
    if fitted.setup.gradient_checkpointing:
        return (
            "for the longest tasks, whose activations do not all fit beside what else is in "
            f"{gib(room_gib)}"
        )
    return "every activation fits, so nothing is computed twice"


def _fused_loss(card: ModelCard, request: SizingRequest, fitted: Fitted) -> Choice[bool]:
    setup = fitted.setup
    if setup.loss_chunk_rows is not None:
        otherwise = (
            f"logits of {card.vocab_size} entries are made for answer tokens alone, "
            f"{setup.target_share:.0%} of the longest lesson, in chunks of at most "
            f"{gib(LOSS_CHUNK_BYTES / GIB)}; none are kept"
        )
    elif setup.fused_loss:
        otherwise = f"logits of {card.vocab_size} entries a token are never held whole"
    else:
        otherwise = f"logits of {card.vocab_size} entries are held for every token"
    return Choice(setup.fused_loss, request.reason("fused_loss", otherwise))


def _attention_reason(setup: TrainSetup, device: Device) -> str:
    if setup.attention == "flash":
        return "FlashAttention 2 runs from capability 8.0"
    if setup.attention == "sdpa" and not device.is_gpu and setup.dtype == "bfloat16":
        return "torch's fused kernels, or blocks of our own in bfloat16 (engine/attention.py)"
    if setup.attention == "sdpa" and setup.trainer == "unsloth":
        return "torch's fused kernels, or FlashAttention where unsloth finds its package"
    if setup.attention == "sdpa":
        return "torch's fused kernels"
    return "the model's code has no fused attention; all its scores are held in memory"


def _parallelism(num_split: int) -> Choice[str]:
    if num_split == 1:
        return Choice("replicate", "one copy per device")
    return Choice(
        "split",
        f"a what-if: layers over {num_split} cards, one at work at a time; engines here replicate",
    )
