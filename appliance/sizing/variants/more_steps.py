"""What would give a task more training steps, where it gets too few: computed, not guessed.

Each remedy is tried as a plan of its own, and told with the steps that a task gets in that plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from appliance.sizing.costs.model_card import SHIPPED, ModelCard
from appliance.sizing.plan import Plan
from appliance.sizing.request import SizingRequest

USEFUL_STEPS = 32
"""A larger model that gets fewer steps a task is no better than a smaller one that gets more."""

SHORTER_TOKENS = (4096, 2048, 1024)
"""Lengths that a remedy may cut sequences to, the longest first."""

MORE_SHARE = 0.85
"""The part of a task's time that training may take in a remedy, which leaves time for few views."""

BUDGET_STEP_S = 600.0
"""A longer budget is told in whole steps of this."""

StepsOf = Callable[[ModelCard, SizingRequest], int]
"""Training steps of a task in the plan for that model and request; 0 where it does not fit."""


def steps_note(plan: Plan, request: SizingRequest, steps_of: StepsOf) -> str | None:
    """A warning where a task gets too few steps to be of use, with what would help.

    None where all is well, where training does not fit, and where few steps are asked for.
    """
    steps, asked = plan.train.steps_per_task.value, request.settings.train
    is_wanted = asked.enabled and request.pins.steps_per_task is None
    most = min(USEFUL_STEPS, plan.train.max_steps.value)
    if steps >= most or not is_wanted or not plan.fits:
        return None

    helps = [
        f"{name} gives {more} steps"
        for name, card, variant in _remedies(plan, request, steps_of)
        if (more := steps_of(card, variant)) > steps
    ]
    told = "; of what would help, " + ", ".join(helps) if helps else ""
    return f"a task gets {steps} training steps; fewer than {most} teach little{told}"


def _remedies(
    plan: Plan, request: SizingRequest, steps_of: StepsOf
) -> Iterator[tuple[str, ModelCard, SizingRequest]]:
    """What may be tried, as the user would write it, with the model and request that it makes."""
    card, pins = plan.costs.card, request.pins

    smaller = [c for c in SHIPPED.values() if c.params < card.params and _can_stand_in(c, plan)]
    smaller.sort(key=lambda c: -c.params)
    if smaller:
        useful = (c for c in smaller if steps_of(c, request) >= USEFUL_STEPS)
        model = next(useful, smaller[-1])
        yield f"--model {model.name}", model, request

    is_plain = plan.train.quantization.value == "none" and pins.quantization is None
    can_pack = plan.costs.device.is_gpu and request.software.has_bitsandbytes
    if is_plain and can_pack and not pins.full_finetune:
        yield "--set model.quantization=nf4", card, request.with_wish("quantization", "nf4")

    if pins.max_seq_tokens is None:
        shorter = [t for t in SHORTER_TOKENS if t < plan.train.max_seq_tokens.value]
        cuts = [(t, _with(request, "train", max_seq_tokens=t)) for t in shorter]
        useful_cuts = (cut for cut in cuts if steps_of(card, cut[1]) >= USEFUL_STEPS)
        for tokens, cut in [next(useful_cuts, cuts[-1])] if cuts else []:
            yield f"--set train.max_seq_tokens={tokens}", card, cut

    if request.settings.train.max_share < MORE_SHARE:
        shared = _with(request, "train", max_share=MORE_SHARE)
        yield f"--set train.max_share={MORE_SHARE} (fewer views)", card, shared
    if request.settings.sample.quick_views > 1:
        yield "--set sample.quick_views=1", card, _with(request, "sample", quick_views=1)

    budget_s = _useful_budget_s(plan, request)
    hours, minutes = divmod(round(budget_s / 60), 60)
    yield f"--budget {hours}h{minutes}m", card, replace(request, budget_s=budget_s)


def _can_stand_in(card: ModelCard, plan: Plan) -> bool:
    """Whether a model may take the planned one's place: it writes the same kind of answers, and its
    window is as long as the plan's."""
    is_alike = card.writes_programs == plan.costs.card.writes_programs
    return is_alike and card.max_positions >= plan.train.max_seq_tokens.value


def _with(request: SizingRequest, part: str, **values: object) -> SizingRequest:
    """The request with other settings in that part."""
    settings = request.settings
    changed = getattr(settings, part).model_copy(update=values)
    return replace(request, settings=settings.model_copy(update={part: changed}))


def _useful_budget_s(plan: Plan, request: SizingRequest) -> float:
    """The budget that pays for enough steps of the planned kind."""
    time, num = plan.time, max(1, plan.time.num_tasks)
    step_s = sum(plan.costs.step_s(t.lesson_tokens) for t in request.lengths.tasks) / num

    trained_s = USEFUL_STEPS * step_s / max(0.01, request.settings.train.max_share)
    tasks_s = (time.quick_s + trained_s) * num / plan.workers.value
    whole_s = tasks_s + time.load_s + time.reserve_s + time.search_s
    return BUDGET_STEP_S * math.ceil(1.02 * whole_s / BUDGET_STEP_S)
