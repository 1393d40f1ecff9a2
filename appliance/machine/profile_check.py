"""Is this the machine that the profile asks for?

Asked in the first seconds of a run, because platforms give other hardware without an error.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliance.config import read_profile
from appliance.errors import UsageError
from appliance.machine.catalogue import spec_by_name
from appliance.machine.finding import Check, caution, failed, passed
from appliance.machine.gpu import GIB
from appliance.machine.machine import Machine


class Expectation(BaseModel):
    """The `machine:` part of a profile: the least that it runs well on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: str | None = None  # name of a card; None: any card will do
    num_gpus: int = Field(0, ge=0, le=64)
    min_gpu_memory_gib: float = Field(0, ge=0)  # of each card
    min_capability: float = Field(0, ge=0)  # of each card: 8.9 is CUDA compute capability (8, 9)
    min_cores: int = Field(1, ge=1)
    min_memory_gib: float = Field(0, ge=0)  # of the host
    min_disk_gib: float = Field(0, ge=0)
    kaggle_machine_shape: str | None = None  # the name of this machine in Kaggle's metadata


def profile_expectation(name: str) -> Expectation:
    """What a shipped profile asks of the machine.

    Raises UsageError for an unknown profile or a bad `machine:` part.
    """
    values = read_profile(name)
    try:
        return Expectation.model_validate(values.get("machine", {}))
    except ValidationError as fault:
        raise UsageError(
            f"profile {name}: {fault}", expected="keys " + ", ".join(Expectation.model_fields)
        ) from fault


def check_expectation(machine: Machine, expectation: Expectation) -> list[Check]:
    """Findings for `doctor` and `submit`.

    Fewer or smaller GPUs than asked for fail. Other cards as large are a caution: times differ.
    """
    return [*_gpu_checks(machine, expectation), *_host_checks(machine, expectation)]


def _gpu_checks(machine: Machine, expectation: Expectation) -> list[Check]:
    if not expectation.num_gpus:
        return []

    asked = f"{expectation.num_gpus} x {expectation.gpu or 'any GPU'}"
    shape = expectation.kaggle_machine_shape
    if shape and machine.platform.site == "kaggle":
        remedy = (
            f"choose the accelerator {shape} in the notebook's settings"
            " (machine_shape in kernel-metadata.json)"
        )
    else:
        remedy = "ask the batch system for it, or run with another --profile"

    if len(machine.gpus) < expectation.num_gpus:
        found = f"{len(machine.gpus)} GPUs, the profile asks for {asked}; {machine.summary()}"
        return [failed("expected GPUs", found, remedy)]

    checks = []
    small = [g for g in machine.gpus if g.total_bytes / GIB < expectation.min_gpu_memory_gib]
    old = [g for g in machine.gpus if g.spec.capability < _version(expectation.min_capability)]
    if small:
        found = (
            f"{small[0].name} has {small[0].total_bytes / GIB:.1f} GiB,"
            f" the profile asks for {expectation.min_gpu_memory_gib}"
        )
        checks.append(failed("expected GPU memory", found, remedy))
    if old:
        major, minor = old[0].spec.capability
        found = (
            f"{old[0].name} has compute capability {major}.{minor},"
            f" the profile asks for {expectation.min_capability}"
        )
        checks.append(failed("expected capability", found, remedy))

    if not checks and expectation.gpu:
        wanted = spec_by_name(expectation.gpu).name
        others = sorted({g.name for g in machine.gpus if g.spec.name != wanted})
        if others:
            found = (
                f"{', '.join(others)}, the profile asks for {wanted};"
                " large enough, but the profile's times are for another card"
            )
            return [caution("expected GPUs", found, "nothing; the plan is made for the card found")]

    return checks or [passed("expected GPUs", f"{asked}, as the profile asks")]


def _host_checks(machine: Machine, expectation: Expectation) -> list[Check]:
    host, checks = machine.host, []

    if host.num_cores < expectation.min_cores:
        found = (
            f"{host.num_cores} cores ({host.cores_reason}),"
            f" the profile asks for {expectation.min_cores}"
        )
        remedy = "ask for more cores, or expect longer times"
        checks.append(caution("expected cores", found, remedy))

    if host.memory_bytes / GIB < expectation.min_memory_gib:
        found = (
            f"{host.memory_bytes / GIB:.1f} GiB ({host.memory_reason}),"
            f" the profile asks for {expectation.min_memory_gib}"
        )
        remedy = "ask for more memory, or run with another --profile"
        checks.append(failed("expected memory", found, remedy))

    disk = machine.platform.disk_bytes
    if disk is not None and disk / GIB < expectation.min_disk_gib:
        found = f"{disk / GIB:.1f} GiB in the slot, the profile asks for {expectation.min_disk_gib}"
        checks.append(failed("expected disk", found, "raise request_disk"))

    return checks


def _version(number: float) -> tuple[int, int]:
    """(8, 9) of 8.9."""
    major, _, minor = str(number).partition(".")
    return int(major), int(minor or 0)
