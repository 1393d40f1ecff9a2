"""The one place where a plan is made (long, for all of its decisions meet here).

It is made from machine, models, tasks, settings, pins and budget.
`appliance plan`, `submit`, `simulate` and `pack` all call `plan_run`; without a model it makes a
plan of search alone. `size` is the pure core of the others: it decides what fits by the memory
model, then how many steps and views each task gets by the time model. A plan never hides that it
does not fit: its `fits` is what its own model says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from appliance.config import Layer, Settings, given_keys, resolve
from appliance.errors import PrerequisiteError, UsageError
from appliance.machine.gpu import GIB
from appliance.machine.machine import Machine, split_cards
from appliance.sizing.choice import Choice
from appliance.sizing.costs.device import Device, device_of_cpu, devices_of, steady_free_gib
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.speed import sample_speed
from appliance.sizing.costs.task_costs import Costs
from appliance.sizing.costs.task_lengths import (
    USUAL_TASKS,
    TaskLengths,
    lengths_of,
    usual_lengths,
)
from appliance.sizing.fit_sampling import (
    SampleDraft,
    answers_per_view,
    fit_sampling,
    samples_per_view,
)
from appliance.sizing.fit_training import Fitted, fit_training
from appliance.sizing.pick_engine import check_engine, choose_serving, is_in_doubt
from appliance.sizing.pins import pins_of_settings, settings_of_pins
from appliance.sizing.plan import AnyPlan, Plan, SamplePlan, SearchOnlyPlan, SearchPlan
from appliance.sizing.plan_search import plan_search
from appliance.sizing.precision import choose_precision, choose_trainer
from appliance.sizing.reasons import notes_of, train_plan
from appliance.sizing.recipe import choose_recipe
from appliance.sizing.request import PlanRequest, SizingRequest
from appliance.sizing.steps_and_views import pace
from appliance.sizing.variants.fewer_cards import wanted_cards
from appliance.sizing.variants.more_steps import USEFUL_STEPS, steps_note
from appliance.sizing.variants.share_cards import share_cards


def plan_run(request: PlanRequest) -> AnyPlan:
    """The plan of a run, with a model or, where only search is asked for, without.

    Raises as `make_plan` does.
    """
    asked = resolve(_layers(request))
    return make_plan(request) if asked.needs_model else plan_search_only(request)


def make_plan(request: PlanRequest) -> Plan:
    """The plan of a run with a model, with the settings that the run will have.

    Raises UsageError for settings that exclude each other, for no model and for no time, and
    PrerequisiteError when something is asked for that is not installed.
    """
    if request.stand_in is not None:
        return _plan_with_stand_in(request, request.stand_in)

    layers = _layers(request)
    asked = resolve(layers)
    check_engine(asked, request.software, request.machine.platform)
    machine, why_fewer = wanted_cards(request.machine, asked, given_keys(layers))
    request = replace(request, machine=machine)
    core = _core(request, asked, _lengths(request))

    def plan_with(per_card: int) -> Plan:
        plan = size(split_cards(request.machine, per_card), request.models, core)
        workers = Choice(plan.workers.value, f"{plan.workers.reason}{why_fewer}")
        return replace(plan, workers=workers)

    # Whoever says how many workers there are is taken at their word.
    is_said = given_keys(layers) & {"run.workers", "run.workers_per_card"}
    if is_said or core.is_described:
        plan = plan_with(asked.run.workers_per_card)
    else:
        plan = share_cards(request.machine, core, plan_with)

    # Below what the user set, so that the plan fills only what was left open.
    values = plan.to_settings()
    # The tasks set no limit to a run, only memory does.
    if plan.train.max_seq_tokens.value < core.lengths.longest():
        values["train.max_seq_tokens"] = max(128, plan.train.max_seq_tokens.value)
    chosen = Layer("plan", {"model.path": plan.model.value})
    return replace(
        plan,
        settings=resolve([Layer("plan", values), *layers, chosen]),
        given_keys=given_keys(layers),
    )


def _plan_with_stand_in(request: PlanRequest, stand_in: ModelCard) -> Plan:
    """The plan with the stand-in among the models, or alone where it is the better choice."""
    asked = tuple(card for card in request.models if card.name != stand_in.name)
    chosen = Choice(stand_in.name, "the models asked for need a package that is missing here")
    with contextlib.suppress(PrerequisiteError):
        plan = make_plan(replace(request, models=(*asked, stand_in), stand_in=None))
        if plan.model.value != stand_in.name or stand_in in request.models:
            return plan
        chosen = plan.model

    # An adapter belongs to the model that it was trained on.
    own = Layer(stand_in.name, {"model.adapter": None, "train.start": "auto"})
    layers = (*request.layers, own)
    plan = make_plan(replace(request, models=(stand_in,), stand_in=None, layers=layers))
    return replace(plan, model=chosen)


def plan_search_only(request: PlanRequest) -> SearchOnlyPlan:
    """The plan of a run that only searches. Raises UsageError for no time."""
    layers = _layers(request)
    asked = resolve(layers)
    _check_time(request.budget_s)

    if asked.sample.predictions is not None:
        raise UsageError(
            "sample.predictions without a model that answers",
            expected="a strategy that asks a model: transduction, induction or both",
            remedy="pass --strategy, or leave predictions out",
        )

    # Search reads no tokens: of the tasks only their number counts.
    core = _core(request, asked, TaskLengths((), "no model"))
    num_tasks = USUAL_TASKS if request.tasks is None else len(request.tasks)
    search = plan_search(request.machine, core, num_tasks=num_tasks, device_workers=0)
    notes = () if request.tasks else (f"no task file: as many tasks as ARC-AGI-2 has, {num_tasks}",)
    return SearchOnlyPlan(
        machine=request.machine,
        search=search,
        budget_s=request.budget_s,
        num_tasks=num_tasks,
        notes=notes,
        settings=resolve([Layer("plan", search.to_settings()), *layers]),
    )


def _layers(request: PlanRequest) -> list[Layer]:
    return [*request.layers, Layer("pins", settings_of_pins(request.pins))]


def _core(request: PlanRequest, asked: Settings, lengths: TaskLengths) -> SizingRequest:
    """The request as the core of sizing reads it. asked: the settings of its layers."""
    given = given_keys(_layers(request))
    wishes, sources = pins_of_settings(asked, given)
    pinned = request.pins.model_dump(exclude_none=True)
    return SizingRequest(
        lengths=lengths,
        budget_s=request.budget_s,
        pins=wishes.model_copy(update=pinned),
        software=request.software,
        settings=asked,
        sources={name: source for name, source in sources.items() if name not in pinned},
        given_keys=given,
    )


def _check_time(budget_s: float) -> None:
    if budget_s <= 0:
        raise UsageError(
            f"budget of {budget_s} s", expected="time above zero", remedy="pass --budget 1h"
        )


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
    _check_time(request.budget_s)

    plans = {card.name: size_one(machine, card, request) for card in cards}
    ranked = sorted(cards, key=lambda c: _merit(plans[c.name], c), reverse=True)
    best = plans[ranked[0].name]

    def steps_of(card: ModelCard, variant: SizingRequest) -> int:
        plan = size_one(machine, card, variant)
        return plan.train.steps_per_task.value if plan.fits else 0

    if note := steps_note(best, request, steps_of):
        best = replace(best, notes=(*best.notes, note))
    if len(cards) == 1:
        return best

    others = "; ".join(f"{c.name} {_verdict(plans[c.name])}" for c in ranked[1:])
    return replace(best, model=Choice(best.model.value, f"{_verdict(best)}; not {others}"))


def size_one(machine: Machine, card: ModelCard, request: SizingRequest) -> Plan:
    """The plan for one model."""
    recipe = choose_recipe(card, request)
    request = replace(request, settings=recipe.applied_to(request.settings))

    workers, threads, device = _workers(machine, card, request)
    search = _search_plan(machine, request, workers.value)
    if search and not search.is_first.value and request.pins.threads is None:
        cores, num_searching = machine.host.num_cores, search.workers.value
        why = f"{cores} cores, of which {num_searching} search, workers: {workers.value}"
        threads = Choice(max(1, (cores - num_searching) // workers.value), why)
    room_gib = device.free_gib if device.is_gpu else _room_gib(machine, workers.value)

    # What fits.
    trainer = choose_trainer(machine, request.settings, request.software)
    fitted, draft = _fit(
        card,
        device,
        request,
        trainer=trainer.value if device.is_gpu else "peft",
        room_gib=room_gib,
        host_gib=_room_gib(machine, workers.value),
        num_devices=len(machine.gpus),
    )
    if fitted.setup.num_split > 1:
        workers = Choice(1, f"one copy is split over {fitted.setup.num_split} cards")

    # How long it takes. Where search goes first, the model gets what it leaves.
    samples = samples_per_view(card, request)
    costs = Costs(
        card, device, fitted.setup, draft.setup, draft.memory.kv_tokens, request.correction
    )
    steps, views, time = pace(
        costs,
        request,
        trains=fitted.fits,
        samples=answers_per_view(card, request),
        workers=workers.value,
        search=search,
        max_steps=recipe.max_steps,
    )
    train = train_plan(
        card,
        device,
        request,
        fitted,
        recipe=recipe,
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
        search=search,
        time=time,
        device=device.name,
        room_gib=room_gib,
        costs=costs,
        notes=notes_of(machine, card, device, fitted, draft, request),
        settings=request.settings,
    )


def _fit(
    card: ModelCard,
    device: Device,
    request: SizingRequest,
    *,
    trainer: str,
    room_gib: float,
    host_gib: float,
    num_devices: int,
) -> tuple[Fitted, SampleDraft]:
    """Training and sampling that fit into the memory together."""

    def fit(asked: SizingRequest) -> tuple[Fitted, SampleDraft]:
        fitted = fit_training(
            card, device, asked, trainer=trainer, room_gib=room_gib, num_devices=num_devices
        )
        draft = fit_sampling(card, device, request, fitted, room_gib=room_gib, host_gib=host_gib)
        return fitted, draft

    fitted, draft = fit(request)
    is_fixed = request.is_described or request.pins.gradient_checkpointing is not None
    if not draft.is_second_best or is_fixed:
        return fitted, draft

    # vLLM is worth the checkpointing of the longest tasks, for the others go without all the same.
    leaner, beside = fit(request.with_wish("gradient_checkpointing", True))
    is_better = leaner.fits and (not beside.is_second_best or beside.is_vllm > draft.is_vllm)
    return (leaner, beside) if is_better else (fitted, draft)


def _search_plan(machine: Machine, request: SizingRequest, num_workers: int) -> SearchPlan | None:
    """Search beside the model's workers, if the run searches."""
    if not request.settings.searches:
        return None
    device_workers = num_workers if machine.gpus else 0
    num_tasks = len(request.lengths)
    return plan_search(machine, request, num_tasks=num_tasks, device_workers=device_workers)


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
        is_compared=is_in_doubt(draft.engine.value, request, costs.device),
        serving=choose_serving(draft.engine.value, draft.setup, request, costs.device),
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


def _room_gib(machine: Machine, num_workers: int) -> float:
    """Of one worker on the CPU: its part of what is free, at most what one process may hold."""
    shared_gib = steady_free_gib(machine.host) / num_workers
    alone = machine.host.process_bytes
    return shared_gib if alone is None else min(shared_gib, alone / GIB)


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
    most_by_memory = max(1, int(steady_free_gib(host) / each_gib))

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
