"""How many workers share a card: a small model alone leaves a large card waiting most of the time.

Launching the kernels of a training step takes a 0.5B model ten times as long as an H100 computes
them. Several workers, each with a task of its own, fill these gaps; more rows in a step would fill
them as well, but a task learns from its steps, so workers come first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from appliance.machine.gpu import GIB
from appliance.machine.machine import Machine
from appliance.sizing.choice import Choice
from appliance.sizing.costs.device import steady_free_gib
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.plan import Plan
from appliance.sizing.plan_search import CORES_A_GPU
from appliance.sizing.request import SizingRequest

MOST_PER_CARD = 4
"""As the setting run.workers_per_card allows."""

SEARCH_CORES_SHARE = 0.5
"""Part of the cores that stays with search, where the run searches: it solves tasks by itself."""

WORKER_HOST_GIB = 4.0
"""Host memory of a worker beside the weights that it loads: Python, torch and CUDA."""

WORTH_IT = 1.15
"""One more worker a card must raise the work done in an hour at least so many times: it also takes
time to load, host memory, and a part of the card's."""


def share_cards(machine: Machine, request: SizingRequest, plan_with: Callable[[int], Plan]) -> Plan:
    """The plan with as many workers a card as get the most done.

    plan_with: the plan with so many workers on each card. A tiny model keeps its card to itself:
    four workers of arc-mini on an H200 gained little (docs/results/gpu.md), and search makes more
    of the cores that they take.
    """
    best = plan_with(1)
    is_worth_trying = best.fits and best.time.is_in_time and not best.costs.card.is_tiny
    if not (machine.gpus and is_worth_trying):
        return best

    alone_share = best.train.device_share.value
    for per_card in range(2, _most(machine, request, best.costs.card) + 1):
        plan = plan_with(per_card)
        if not _is_alike(plan, best) or _rate(plan) < WORTH_IT * _rate(best):
            break
        best = plan

    num_sharing = best.costs.device.sharers
    if num_sharing == 1:
        return best
    why = (
        f"{best.workers.reason}; one alone would keep it at work for {alone_share:.0%} of its "
        f"training, {num_sharing} for {best.train.device_share.value:.0%}"
    )
    return replace(best, workers=Choice(best.workers.value, why))


def _most(machine: Machine, request: SizingRequest, card: ModelCard) -> int:
    """Workers on each card that tasks, cores and host memory allow."""
    num_cards = len(machine.gpus)
    by_tasks = len(request.lengths) // num_cards

    share = SEARCH_CORES_SHARE if request.settings.searches else 1.0
    by_cores = int(share * machine.host.num_cores / (CORES_A_GPU * num_cards))

    each_gib = WORKER_HOST_GIB + (card.weights_bytes or 2 * card.params) / GIB
    by_memory = int(steady_free_gib(machine.host) / (each_gib * num_cards))
    return min(MOST_PER_CARD, by_tasks, by_cores, by_memory)


def _is_alike(plan: Plan, other: Plan) -> bool:
    """Whether smaller parts of the cards cost nothing but time: same precision, length, engine."""

    def kept(one: Plan) -> tuple[object, ...]:
        train, sample = one.train, one.sample
        return (
            one.model.value,
            one.fits,
            train.quantization.value,
            train.max_seq_tokens.value,
            train.lora_rank.value,
            sample.engine.value,
            sample.residency.value,
        )

    return kept(plan) == kept(other)


def _rate(plan: Plan) -> float:
    """Tasks a second of all workers, each with all the steps and views that it may have."""
    steps = plan.train.max_steps.value if plan.settings.train.enabled else 0
    view_s = plan.time.sample_s / plan.sample.views.value
    task_s = steps * plan.train.typical_seconds_per_step + plan.settings.sample.views * view_s
    return plan.workers.value / max(task_s, 1e-9)
