"""The one place where a plan is made, from machine, models, tasks, settings, pins and budget.

`appliance plan`, `submit`, `simulate` and `pack` all call `make_plan`. `size` is its pure core: it
decides what fits by the memory model, then how many steps and views each task gets by the time
model. A plan never hides that it does not fit: its `fits` is what its own model says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from appliance.config import Layer, given_keys, resolve
from appliance.errors import UsageError
from appliance.machine.gpu import GIB
from appliance.machine.host import Host
from appliance.machine.machine import Machine, split_cards
from appliance.sizing.choice import Choice
from appliance.sizing.costs.device import Device, device_of_cpu, devices_of
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.speed import sample_speed
from appliance.sizing.costs.task_costs import Costs
from appliance.sizing.costs.task_lengths import TaskLengths, lengths_of, usual_lengths
from appliance.sizing.fit_sampling import SampleDraft, fit_sampling, samples_per_view
from appliance.sizing.fit_training import Fitted, fit_training
from appliance.sizing.pick_engine import check_engine
from appliance.sizing.pins import pins_of_settings, settings_of_pins
from appliance.sizing.plan import Plan, SamplePlan, TimePlan
from appliance.sizing.precision import choose_precision, choose_trainer
from appliance.sizing.reasons import gib, train_plan, what_if_note
from appliance.sizing.request import PlanRequest, SizingRequest
from appliance.sizing.steps_and_views import pace

USEFUL_STEPS = 32
"""A larger model that gets fewer steps a task is no better than a smaller one that gets more."""

FREE_STEPS = 32
"""Free host memory is rounded down to 32nds of all memory, so that two looks see the same."""


def make_plan(request: PlanRequest) -> Plan:
    """The plan of a run, with the settings that the run will have.

    Raises UsageError for settings that exclude each other, for no model and for no time, and
    PrerequisiteError when something is asked for that is not installed.
    """
    layers = [*request.layers, Layer("pins", settings_of_pins(request.pins))]
    asked = resolve(layers)
    machine = split_cards(request.machine, asked.run.workers_per_card)

    check_engine(asked, request.software)

    wishes, sources = pins_of_settings(asked, given_keys(layers))
    pinned = request.pins.model_dump(exclude_none=True)
    core = SizingRequest(
        lengths=_lengths(request),
        budget_s=request.budget_s,
        pins=wishes.model_copy(update=pinned),
        software=request.software,
        settings=asked,
        sources={name: source for name, source in sources.items() if name not in pinned},
    )
    plan = size(machine, request.models, core)

    # Below what the user set, so that the plan fills only what was left open.
    values = plan.to_settings()
    # The tasks set no limit to a run, only memory does.
    if plan.train.max_seq_tokens.value < core.lengths.longest():
        values["train.max_seq_tokens"] = max(128, plan.train.max_seq_tokens.value)
    chosen = Layer("plan", {"model.path": plan.model.value})
    return replace(plan, settings=resolve([Layer("plan", values), *layers, chosen]))


def size(machine: Machine, cards: Sequence[ModelCard], request: SizingRequest) -> Plan:
    """The plan for the largest model on offer that fits and has time to train on every task.

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
    room_gib = device.free_gib if device.is_gpu else _room_gib(machine, workers.value)

    # What fits.
    trainer = choose_trainer(machine, request.settings, request.software)
    fitted = fit_training(
        card,
        device,
        request,
        trainer=trainer.value if device.is_gpu else "peft",
        room_gib=room_gib,
        num_devices=len(machine.gpus),
    )
    if fitted.setup.num_split > 1:
        workers = Choice(1, f"one copy is split over {fitted.setup.num_split} cards")
    draft = fit_sampling(card, device, request, fitted, room_gib=room_gib)

    # How long it takes.
    samples = samples_per_view(card, request)
    costs = Costs(
        card, device, fitted.setup, draft.setup, draft.memory.kv_tokens, request.correction
    )
    steps, views, time = pace(
        costs, request, trains=fitted.fits, samples=samples.value, workers=workers.value
    )
    train = train_plan(
        card,
        device,
        request,
        fitted,
        trainer=trainer,
        steps=steps,
        costs=costs,
        room_gib=room_gib,
    )
    return Plan(
        machine=machine,
        model=Choice(card.name, f"{card.params / 1e6:,.1f} M parameters, the only model on offer"),
        workers=workers,
        threads=threads,
        precision=choose_precision(machine, request.settings, train.quantization, request.software),
        train=train,
        sample=_sample_plan(draft, request, costs, views=views, samples=samples),
        time=time,
        device=device.name,
        room_gib=room_gib,
        costs=costs,
        notes=_notes(machine, card, device, fitted, draft, time, request),
        settings=request.settings,
    )


def _sample_plan(
    draft: SampleDraft,
    request: SizingRequest,
    costs: Costs,
    *,
    views: Choice[int],
    samples: Choice[int],
) -> SamplePlan:
    """The sampling part, with the speed on prompts and answers of the mean length."""
    lengths, correction = request.lengths, request.correction
    speed = sample_speed(
        costs.card,
        draft.setup,
        costs.device,
        kv_tokens=draft.memory.kv_tokens,
        prompt_tokens=max(1.0, lengths.mean_prompt_tokens(draft.setup.max_seq_tokens)),
        answer_tokens=max(1.0, lengths.mean_answer_tokens()),
    )
    return SamplePlan(
        engine=draft.engine,
        serving=_serving(draft, request, costs.device),
        residency=draft.residency,
        gpu_memory_utilization=draft.share,
        max_num_seqs=draft.max_num_seqs,
        views=views,
        samples_per_view=samples,
        memory=draft.memory,
        fits=draft.memory.fits,
        tokens_per_second=speed.tokens_per_second / correction.write_time,
        prefill_tokens_per_second=speed.prefill_tokens_per_second / correction.read_time,
    )


def _lengths(request: PlanRequest) -> TaskLengths:
    """Of the model with the wordiest encoder, so that what fits it fits all on offer."""
    if request.tasks is None:
        each = [usual_lengths(card) for card in request.models]
    else:
        each = [lengths_of(request.tasks, card) for card in request.models]
    return max(each, key=TaskLengths.longest, default=TaskLengths((), "no model"))


def _serving(draft: SampleDraft, request: SizingRequest, device: Device) -> Choice[str]:
    """How the engine gets the adapter of a task."""
    if draft.engine.value == "transformers":
        return Choice("in place", "the trained model generates the answers itself")
    asked = request.settings.sample.serving
    if asked != "auto":
        return Choice(asked, "set by sample.serving")
    if device.is_gpu:
        return Choice("on-the-fly", "the engine loads an adapter beside its weights")
    return Choice("merged", "on a CPU merged weights answer faster")


def _room_gib(machine: Machine, num_workers: int) -> float:
    """Of one worker on the CPU: its part of what is free, at most what one process may hold."""
    shared_gib = _steady_free_gib(machine.host) / num_workers
    alone = machine.host.process_bytes
    return shared_gib if alone is None else min(shared_gib, alone / GIB)


def _steady_free_gib(host: Host) -> float:
    """Free memory in whole steps, but at least what is free of one: a busy machine has room too."""
    free_gib, step_gib = host.memory_free_bytes / GIB, host.memory_bytes / GIB / FREE_STEPS
    if step_gib <= 0:
        return free_gib
    return max(free_gib // step_gib * step_gib, min(step_gib, free_gib))


def _workers(
    machine: Machine, card: ModelCard, request: SizingRequest
) -> tuple[Choice[int], Choice[int], Device]:
    """How many workers, with how many threads, on what device (the one with the least room)."""
    cores, pins = machine.host.num_cores, request.pins
    if machine.gpus:
        device = min(devices_of(machine), key=lambda d: d.free_gib)
        count = len(machine.gpus)
        num_cards = len({gpu.uuid for gpu in machine.gpus})
        one = f"{count // num_cards} on each" if count > num_cards else "one per"
        threads = pins.threads or max(1, cores // count)
        return (
            Choice(count, f"{one} GPU, each with its own copy of the model"),
            Choice(threads, request.reason("threads", f"{cores} cores, workers: {count}")),
            device,
        )

    workers, threads_each = _cpu_workers(machine, card, request)
    return workers, threads_each, device_of_cpu(machine.host, threads_each.value)


def _cpu_workers(
    machine: Machine, card: ModelCard, request: SizingRequest
) -> tuple[Choice[int], Choice[int]]:
    host, pins = machine.host, request.pins
    cores = host.num_cores
    if pins.workers:
        count = min(pins.workers, cores)
        threads = pins.threads or max(1, cores // count)
        return (
            Choice(count, request.reason("workers", "")),
            Choice(threads, request.reason("threads", f"{cores} cores over {count} workers")),
        )

    if pins.threads:
        threads, why = min(pins.threads, cores), "pinned"
    elif card.is_tiny:
        threads = 1
        why = "a tiny model gains little from a second thread; a second worker doubles the rate"
    else:
        threads, why = cores, "one worker takes all cores"

    # Python and torch, and 16 bytes a parameter: weights, gradients and both moments in float32.
    each_gib = 1.5 + 16 * card.params / GIB
    most_by_memory = max(1, int(_steady_free_gib(host) / each_gib))

    wanted = cores // threads
    count = max(1, min(wanted, most_by_memory, max(1, len(request.lengths))))

    reason = f"no GPU; {cores} cores ({host.cores_reason})"
    if count < wanted:
        threads = pins.threads or max(1, cores // count)
        is_memory = count == most_by_memory
        limit = f"memory for {most_by_memory}" if is_memory else f"{len(request.lengths)} tasks"
        reason = f"{reason}, {limit}"
    return Choice(count, reason), Choice(threads, why)


def _merit(plan: Plan, card: ModelCard) -> tuple[bool, bool, bool, int]:
    """Fits at all, finishes in time, has time for training that helps; then the larger, the better.

    Among models that have not, the smaller one comes first: it gets more steps.
    """
    in_time = plan.time.is_in_time
    useful = plan.fits and in_time and plan.train.steps_per_task.value >= USEFUL_STEPS
    return plan.fits, plan.fits and in_time, useful, card.params if useful else -card.params


def _verdict(plan: Plan) -> str:
    if not plan.fits:
        what = "training" if not plan.train.fits else "sampling"
        return f"does not fit ({what} on {plan.device})"

    if not plan.time.is_in_time:
        return "has no time for every task"

    steps, views = plan.train.steps_per_task.value, plan.sample.views.value
    return f"fits and has time for {steps} steps and {views} views a task"


def _notes(
    machine: Machine,
    card: ModelCard,
    device: Device,
    fitted: Fitted,
    draft: SampleDraft,
    time: TimePlan,
    request: SizingRequest,
) -> tuple[str, ...]:
    """What a person should know of the plan beside its values."""
    notes = []
    if note := what_if_note(request):
        notes.append(note)

    # The machine.
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
