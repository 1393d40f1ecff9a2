"""Sizing: the pure function (machine, models on offer, task lengths, budget, pins) -> Plan.

It decides what fits by the memory model, then how many steps and views each task gets by the time model. A plan never hides
that it does not fit: its `fits` is what its own model says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from appliance.errors import UsageError
from appliance.machine.gpu import GIB
from appliance.machine.machine import Machine
from appliance.sizing.choice import Choice
from appliance.sizing.costs.device import Device, device_of_cpu, devices_of
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.sample_memory import SampleMemory
from appliance.sizing.costs.speed import sample_speed
from appliance.sizing.costs.task_costs import Costs
from appliance.sizing.fit_sampling import fit_sampling, samples_per_view
from appliance.sizing.fit_training import Fitted, fit_training
from appliance.sizing.plan import Plan, SamplePlan
from appliance.sizing.reasons import gib, train_plan
from appliance.sizing.request import SizingRequest
from appliance.sizing.steps_and_views import pace

USEFUL_STEPS = 32
"""A larger model that gets fewer steps a task is no better than a smaller one that gets more."""


def size(machine: Machine, cards: Sequence[ModelCard], request: SizingRequest) -> Plan:
    """The plan for the largest model on offer that fits and has time to train on every task; the plan says why.

    Raises UsageError when no model is offered or the budget is not above zero.
    """
    if not cards:
        raise UsageError(
            "no model to plan for",
            expected="--model DIR or a known name",
            remedy="pass --model arc-mini",
        )
    if request.budget_s <= 0:
        raise UsageError(
            f"budget of {request.budget_s} s", expected="time above zero", remedy="pass --budget 1h"
        )
    plans = {card.name: size_one(machine, card, request) for card in cards}
    ranked = sorted(cards, key=lambda c: _merit(plans[c.name], c), reverse=True)
    best = plans[ranked[0].name]
    if len(cards) == 1:
        return best
    others = "; ".join(f"{c.name} {_verdict(plans[c.name])}" for c in ranked[1:])
    return replace(best, model=Choice(best.model.value, f"{_verdict(best)}; not {others}"))


def size_one(machine: Machine, card: ModelCard, request: SizingRequest) -> Plan:
    """The plan for one model."""
    workers, threads, device = _workers(machine, card, request)
    room_gib = device.free_gib if device.is_gpu else _room_gib(machine, device, workers.value)
    fitted = fit_training(
        card,
        device,
        request.pins,
        room_gib=room_gib,
        needed_tokens=request.lengths.longest(),
        num_devices=len(machine.gpus),
        memory_ratio=request.correction.memory,
    )
    if fitted.setup.num_split > 1:
        workers = Choice(1, f"one copy is split over {fitted.setup.num_split} cards")
    draft = fit_sampling(card, device, request, fitted, room_gib=room_gib)
    samples = samples_per_view(card, request.pins)
    costs = Costs(
        card, device, fitted.setup, draft.setup, draft.memory.kv_tokens, request.correction
    )
    steps, views, time = pace(
        costs, request, trains=fitted.fits, samples=samples.value, workers=workers.value
    )
    lengths = request.lengths
    speed = sample_speed(
        card,
        draft.setup,
        device,
        kv_tokens=draft.memory.kv_tokens,
        prompt_tokens=max(1.0, lengths.mean_prompt_tokens(draft.setup.max_seq_tokens)),
        answer_tokens=max(1.0, lengths.mean_answer_tokens()),
    )
    sample = SamplePlan(
        engine=draft.engine,
        residency=draft.residency,
        gpu_memory_utilization=draft.share,
        max_num_seqs=draft.max_num_seqs,
        views=views,
        samples_per_view=samples,
        memory=draft.memory,
        fits=draft.memory.fits,
        tokens_per_second=speed.tokens_per_second / request.correction.write_time,
        prefill_tokens_per_second=speed.prefill_tokens_per_second / request.correction.read_time,
    )
    train = train_plan(
        card,
        device,
        request.pins,
        fitted,
        steps=steps,
        costs=costs,
        lengths=lengths,
        room_gib=room_gib,
    )
    reason = f"{card.params / 1e6:,.1f} M parameters, the only model on offer"
    return Plan(
        model=Choice(card.name, reason),
        workers=workers,
        threads=threads,
        train=train,
        sample=sample,
        time=time,
        device=device.name,
        room_gib=room_gib,
        costs=costs,
        notes=_notes(machine, card, device, fitted, draft.memory, request),
    )


def _room_gib(machine: Machine, device: Device, num_workers: int) -> float:
    """Of one worker on the CPU: its part of what is free, and no more than one process may hold."""
    shared_gib, alone = device.free_gib / num_workers, machine.host.process_bytes
    return shared_gib if alone is None else min(shared_gib, alone / GIB)


def _workers(
    machine: Machine, card: ModelCard, request: SizingRequest
) -> tuple[Choice[int], Choice[int], Device]:
    """How many workers, with how many threads, on what device (the one with least room, where they differ)."""
    if machine.gpus:
        device = min(devices_of(machine), key=lambda d: d.free_gib)
        count = len(machine.gpus)
        threads = max(1, min(8, machine.host.num_cores // count))
        return (
            Choice(count, "one per GPU, each with its own copy of the model"),
            Choice(
                request.pins.threads or threads, f"{machine.host.num_cores} cores, workers: {count}"
            ),
            device,
        )
    cores, host = machine.host.num_cores, machine.host
    if request.pins.threads:
        threads_each, why = min(request.pins.threads, cores), "pinned"
    elif card.is_tiny:
        threads_each, why = (
            1,
            "a tiny model gains little from a second thread; a second worker doubles the rate",
        )
    else:
        threads_each, why = cores, "one worker takes all cores"
    each_gib = 1.5 + 16 * card.params / GIB
    most_by_memory = max(1, int(host.memory_free_bytes / GIB / each_gib))
    count = max(1, min(cores // threads_each, most_by_memory, max(1, len(request.lengths))))
    if count < cores // threads_each:
        limit = (
            f"memory for {most_by_memory}"
            if count == most_by_memory
            else f"{len(request.lengths)} tasks"
        )
        threads_each = request.pins.threads or max(1, cores // count)
        reason = f"no GPU; {cores} cores ({host.cores_reason}), {limit}"
    else:
        reason = f"no GPU; {cores} cores ({host.cores_reason})"
    return Choice(count, reason), Choice(threads_each, why), device_of_cpu(host, threads_each)


def _merit(plan: Plan, card: ModelCard) -> tuple[bool, bool, bool, int]:
    """Fits at all, finishes in time, has time for training that helps; then the more parameters the better. Among models
    that have not, the smaller one comes first: it gets more steps."""
    in_time = plan.time.total_s <= plan.time.budget_s * 1.001
    useful = plan.fits and in_time and plan.train.steps_per_task.value >= USEFUL_STEPS
    return plan.fits, plan.fits and in_time, useful, card.params if useful else -card.params


def _verdict(plan: Plan) -> str:
    if not plan.fits:
        what = "training" if not plan.train.fits else "sampling"
        return f"does not fit ({what} on {plan.device})"
    if plan.time.total_s > plan.time.budget_s * 1.001:
        return "has no time for every task"
    steps, views = plan.train.steps_per_task.value, plan.sample.views.value
    return f"fits and has time for {steps} steps and {views} views a task"


def _notes(
    machine: Machine,
    card: ModelCard,
    device: Device,
    fitted: Fitted,
    sampling: SampleMemory,
    request: SizingRequest,
) -> tuple[str, ...]:
    notes = []
    if not device.is_known:
        notes.append(
            f"{device.name} is not in the catalogue: planned with careful figures; the probe step corrects them"
        )
    if len({d.name for d in devices_of(machine)}) > 1:
        notes.append(
            f"the cards differ; planned for the one with least room ({device.name}, {gib(device.free_gib)})"
        )
    busy = [g for g in machine.gpus if g.other_pids]
    if busy:
        notes.append(
            f"{len(busy)} cards are in use by other processes; planned with the memory that is free"
        )
    window = fitted.setup.max_seq_tokens
    cut = len(request.lengths) - request.lengths.num_within(window)
    if cut:
        notes.append(
            f"{cut} of {len(request.lengths)} tasks are longer than {window} tokens; they lose demonstrations until they fit"
        )
    if window > card.max_positions:
        notes.append(
            f"{window} tokens are more than the {card.max_positions} positions that {card.name} was trained on"
        )
    if not fitted.fits:
        need = fitted.memory.memory_gib + fitted.memory.context_gib
        notes.append(
            f"training needs {gib(need)}; pin nf4, a smaller rank, checkpointing or fewer tokens, or take a smaller model"
        )
    if not sampling.fits:
        notes.append(
            f"the cache holds {sampling.kv_tokens} tokens, fewer than one sequence; raise the share or pin nf4"
        )
    if request.lengths.source.startswith("no task file"):
        notes.append(request.lengths.source)
    return tuple(notes)
