"""The first-seconds check: is this the machine that the profile asked for? Platforms substitute hardware without an error."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliance.config import read_profile
from appliance.errors import UsageError
from appliance.machine.catalogue import spec_by_name
from appliance.machine.finding import Check, caution, failed, passed
from appliance.machine.gpu import GIB
from appliance.machine.machine import Machine


class Expectation(BaseModel):
    """The `machine:` part of a profile. gpu: name of a card, or none; num_gpus: at least that many. min_gpu_memory_gib,
    min_capability: of each card. min_memory_gib, min_disk_gib: of the host. kaggle_machine_shape: what to ask Kaggle for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: str | None = None
    num_gpus: int = Field(0, ge=0, le=64)
    min_gpu_memory_gib: float = Field(0, ge=0)
    min_capability: float = Field(0, ge=0)
    min_cores: int = Field(1, ge=1)
    min_memory_gib: float = Field(0, ge=0)
    min_disk_gib: float = Field(0, ge=0)
    kaggle_machine_shape: str | None = None


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
    """Fewer or smaller GPUs than asked for fail; other ones that are as good are a caution, for times will differ."""
    return [*_gpu_checks(machine, expectation), *_host_checks(machine, expectation)]


def _gpu_checks(machine: Machine, expectation: Expectation) -> list[Check]:
    if not expectation.num_gpus:
        return []
    asked = f"{expectation.num_gpus} x {expectation.gpu or 'any GPU'}"
    shape = expectation.kaggle_machine_shape
    remedy = (
        f"choose the accelerator {shape} in the notebook's settings (machine_shape in kernel-metadata.json)"
        if shape and machine.platform.site == "kaggle"
        else "ask the batch system for it, or run with another --profile"
    )
    if len(machine.gpus) < expectation.num_gpus:
        return [
            failed(
                "expected GPUs",
                f"{len(machine.gpus)} GPUs, profile asks for {asked}; {machine.summary()}",
                remedy,
            )
        ]
    checks = []
    small = [g for g in machine.gpus if g.total_bytes / GIB < expectation.min_gpu_memory_gib]
    old = [g for g in machine.gpus if g.spec.capability < _version(expectation.min_capability)]
    if small:
        found = f"{small[0].name} has {small[0].total_bytes / GIB:.1f} GiB, profile asks for {expectation.min_gpu_memory_gib}"
        checks.append(failed("expected GPU memory", found, remedy))
    if old:
        major, minor = old[0].spec.capability
        found = f"{old[0].name} has capability {major}.{minor}, profile asks for {expectation.min_capability}"
        checks.append(failed("expected capability", found, remedy))
    if not checks and expectation.gpu:
        wanted = spec_by_name(expectation.gpu).name
        others = sorted({g.name for g in machine.gpus if g.spec.name != wanted})
        if others:
            found = f"{', '.join(others)}, profile asks for {wanted}; as large, but the profile's times are for another card"
            return [caution("expected GPUs", found, "nothing; the plan is made for the card found")]
    return checks or [passed("expected GPUs", f"{asked}, as the profile asks")]


def _host_checks(machine: Machine, expectation: Expectation) -> list[Check]:
    host, checks = machine.host, []
    if host.num_cores < expectation.min_cores:
        found = f"{host.num_cores} cores ({host.cores_reason}), profile asks for {expectation.min_cores}"
        checks.append(
            caution("expected cores", found, "ask for more cores, or expect longer times")
        )
    if host.memory_bytes / GIB < expectation.min_memory_gib:
        found = f"{host.memory_bytes / GIB:.1f} GiB ({host.memory_reason}), profile asks for {expectation.min_memory_gib}"
        checks.append(
            failed("expected memory", found, "ask for more memory, or run with another --profile")
        )
    disk = machine.platform.disk_bytes
    if disk is not None and disk / GIB < expectation.min_disk_gib:
        found = f"{disk / GIB:.1f} GiB in the slot, profile asks for {expectation.min_disk_gib}"
        checks.append(failed("expected disk", found, "raise request_disk"))
    return checks


def _version(number: float) -> tuple[int, int]:
    major, _, minor = str(number).partition(".")
    return int(major), int(minor or 0)
