"""What one shard asks of a batch slot, each value with its reason: floors of the profile, raised to
what the plan needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from appliance.arc.task import TaskSet
from appliance.config import Layer
from appliance.errors import UsageError
from appliance.machine.catalogue import CARDS
from appliance.machine.cuda import OLDEST_CARDS, OLDEST_DRIVERS, PINNED_CUDA
from appliance.machine.gpu import GIB
from appliance.machine.host import Host
from appliance.machine.imagined import with_cards
from appliance.machine.machine import IMAGINED, Machine
from appliance.machine.platforms import Platform
from appliance.machine.profile_check import Expectation
from appliance.machine.software import EVERYTHING
from appliance.sizing.choice import Choice
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.make_plan import make_plan, plan_search_only
from appliance.sizing.plan import Plan, SearchOnlyPlan
from appliance.sizing.plan_search import WORKER_GIB
from appliance.sizing.request import PlanRequest

OLDEST = float(".".join(map(str, OLDEST_CARDS[PINNED_CUDA[0]])))
"""The oldest compute capability that today's torch and vLLM wheels hold kernels for."""

RUNTIME = Choice(
    float(".".join(map(str, PINNED_CUDA))),
    f"CUDA of the pinned torch and vLLM: driver {OLDEST_DRIVERS[PINNED_CUDA[0]]} or newer",
)
"""What the driver of each card must offer (MaxSupportedVersion in the ad of a machine)."""

HOST_GIB = 2.0
"""Python, torch and its libraries, before any weights."""

ORCHESTRATOR_GIB = 0.5
"""The process that shares out the tasks and votes; it never imports torch."""

SEARCH_PROFILE = "condor-cpu"
"""The profile for shards that search without a model."""


@dataclass(frozen=True)
class Slot:
    """What a job asks of the machine that it will run on."""

    num_gpus: Choice[int]  # 0 asks for none
    gpu_memory_mib: Choice[int]  # the least of each card
    capability: Choice[float]  # the least compute capability of each card
    cpus: Choice[int]
    memory_mib: Choice[int]  # of the host
    disk_gib: Choice[int]

    def lines(self) -> str:
        """As submit commands, each with its reason above it."""
        rows = [
            ("request_cpus", str(self.cpus.value), self.cpus.reason),
            ("request_disk", f"{self.disk_gib.value}GB", self.disk_gib.reason),
        ]
        if self.num_gpus.value:
            rows += [
                ("request_gpus", str(self.num_gpus.value), self.num_gpus.reason),
                (
                    "gpus_minimum_memory",
                    str(self.gpu_memory_mib.value),
                    f"MiB; {self.gpu_memory_mib.reason}",
                ),
                ("gpus_minimum_capability", str(self.capability.value), self.capability.reason),
                ("gpus_minimum_runtime", str(RUNTIME.value), RUNTIME.reason),
            ]
        return "\n".join(f"# {reason}\n{name:<24} = {value}" for name, value, reason in rows)


def slot_for(
    tasks: TaskSet,
    card: ModelCard,
    expectation: Expectation,
    layers: tuple[Layer, ...],
    *,
    num_shards: int,
    budget_s: float,
    image_bytes: int,
) -> tuple[Slot, Plan]:
    """The slot of one shard, and the plan for all shards together.

    The card planned with is the smallest known one above the profile's floors on which the model
    fits, so that its memory is the floor of the job.

    Raises UsageError when the model fits none.
    """
    # A machine that just meets the profile, with the smallest card on which the model fits.
    wanted = expectation.num_gpus
    plain = _plain_machine(expectation)
    request = PlanRequest(
        machine=plain,
        models=(card,),
        software=EVERYTHING,  # of our images
        tasks=tasks,
        layers=layers,
        budget_s=budget_s * num_shards,
    )
    names: Sequence[str] = _candidates(expectation) if wanted else ("none",)
    machines = (with_cards(plain, f"{name}x{wanted}" if wanted else name) for name in names)
    plans = (make_plan(replace(request, machine=machine)) for machine in machines)
    plan = next((p for p in plans if p.fits), None)
    if plan is None:
        raise UsageError(
            f"{card.name} fits no known card that the profile allows",
            expected="a model that fits",
            remedy="pin nf4",
        )

    floor_gib = 0.0
    if wanted:
        gpu = next(c for c in CARDS if c.name == plan.device)
        is_smallest = gpu.name == names[0]
        floor_gib = gpu.memory_gib
        if is_smallest and expectation.min_gpu_memory_gib > 0:
            floor_gib = min(gpu.memory_gib, expectation.min_gpu_memory_gib)

    weights_gib = (card.weights_bytes or 2 * card.params) / GIB
    return _slot_of_model(expectation, plan, floor_gib, weights_gib, image_bytes / GIB), plan


def search_slot(
    tasks: TaskSet,
    expectation: Expectation,
    layers: tuple[Layer, ...],
    *,
    num_shards: int,
    budget_s: float,
    image_bytes: int,
) -> tuple[Slot, SearchOnlyPlan]:
    """The same for shards that search without a model.

    Raises UsageError for a profile with GPUs, which would stand idle.
    """
    if expectation.num_gpus:
        raise UsageError(
            f"the profile asks for {expectation.num_gpus} GPUs, and search alone uses none",
            expected="a profile without GPUs",
            remedy=f"pass --profile {SEARCH_PROFILE}",
        )

    plan = plan_search_only(
        PlanRequest(
            machine=_plain_machine(expectation),
            models=(),
            software=EVERYTHING,
            tasks=tasks,
            layers=layers,
            budget_s=budget_s * num_shards,
        )
    )
    workers = plan.search.workers.value
    need_gib = ORCHESTRATOR_GIB + workers * WORKER_GIB
    why = f"search workers: {workers}"
    cpus = Choice(max(expectation.min_cores, workers), "one for each search worker")
    return _slot(expectation, cpus, need_gib, why, image_gib=image_bytes / GIB), plan


def _candidates(expectation: Expectation) -> tuple[str, ...]:
    capability = max(OLDEST, expectation.min_capability)
    fitting = [
        c
        for c in CARDS
        if c.memory_gib >= expectation.min_gpu_memory_gib
        and c.capability[0] + c.capability[1] / 10 >= capability
        and expectation.gpu in (None, c.name)
    ]
    return tuple(c.name for c in sorted(fitting, key=lambda c: (c.memory_gib, c.name)))


def _slot_of_model(
    expectation: Expectation, plan: Plan, floor_gib: float, weights_gib: float, image_gib: float
) -> Slot:
    workers = plan.workers.value
    if expectation.num_gpus:
        need_gib = HOST_GIB + workers * (HOST_GIB + 1.2 * weights_gib)
        why = f"{workers} workers that each load {weights_gib:.1f} GiB"
    else:
        need_gib = HOST_GIB + workers * plan.train.memory.memory_gib
        why = f"{workers} workers that train in {plan.train.memory.memory_gib:.1f} GiB"
    if plan.search:
        need_gib += plan.search.workers.value * WORKER_GIB
        why += f", {plan.search.workers.value} that search"

    cores = max(expectation.min_cores, expectation.num_gpus)
    slot = _slot(
        expectation,
        Choice(cores, "cores that the profile asks for"),
        need_gib,
        why,
        image_gib=image_gib,
        weights_gib=weights_gib,
    )
    train_gib = plan.train.memory.memory_gib + plan.train.memory.context_gib
    floor = f"planned on {plan.device}, where training takes {train_gib:.1f} GiB"
    return replace(slot, gpu_memory_mib=Choice(math.floor(floor_gib * 1024), floor))


def _slot(
    expectation: Expectation,
    cpus: Choice[int],
    need_gib: float,
    why: str,
    *,
    image_gib: float,
    weights_gib: float = 0.0,
) -> Slot:
    """need_gib: memory of the host that the plan needs, and why."""
    disk_gib = 2.0 + 2 * image_gib + 2 * weights_gib
    capability = max(OLDEST, expectation.min_capability)
    return Slot(
        num_gpus=Choice(expectation.num_gpus, "cards of one shard"),
        gpu_memory_mib=Choice(0, "no GPU"),
        capability=Choice(capability, "what the engines hold kernels for"),
        cpus=cpus,
        memory_mib=_larger(expectation.min_memory_gib, need_gib, why, unit=1024),
        disk_gib=_larger(expectation.min_disk_gib, disk_gib, "image, weights, and the run folder"),
    )


def _larger(profile: float, need: float, why: str, *, unit: int = 1) -> Choice[int]:
    if need > profile:
        return Choice(math.ceil(need * unit), why)
    return Choice(
        math.ceil(profile * unit), f"of the profile; the plan needs {need:.1f} GiB ({why})"
    )


def _plain_machine(expectation: Expectation) -> Machine:
    """The least host that the profile allows, with plain AVX2 cores and no card."""
    memory = int(max(2.0, expectation.min_memory_gib) * GIB)
    host = Host(
        "any", expectation.min_cores, "of the profile", memory, "of the profile", memory, ("avx2",)
    )
    return Machine((), host, Platform("htcondor"), IMAGINED)
