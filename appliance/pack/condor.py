"""A folder that `condor_submit_dag` takes as it is: shards of equal cost, then one vote."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.arc.task import TaskSet
from appliance.atomic import make_folder, write_atomic, write_part
from appliance.clock import parse_duration
from appliance.config import Layer, assignments_layer, profile_layer, resolve
from appliance.engine.folder.card import EMBEDDED, model_dir
from appliance.engine.folder.examine import examine
from appliance.errors import UsageError
from appliance.machine.profile_check import profile_expectation
from appliance.pack.image import Image, find_image, plain_path
from appliance.pack.lines import check_lines, is_resource, with_lines
from appliance.pack.render_condor import DAG, CondorJob, render_condor
from appliance.pack.site import NO_SITE, site_named
from appliance.pack.slot import Slot, search_slot, slot_for
from appliance.pack.templates import template_path
from appliance.sizing.balance import balance, predicted_costs
from appliance.sizing.costs.model_card import load_card
from appliance.sizing.plan import AnyPlan

SITES_NAMED_BY_PROFILES = ("chtc", "ospool")
"""A profile whose name begins with one of these is for that site."""


@dataclass(frozen=True)
class CondorRequest:
    """What to pack."""

    image: str  # a .sif file, or an address with ://
    model: str  # arc-mini, or a folder
    profile: str
    budget: str  # of each shard, a duration such as 8h
    every: str  # a shard saves its files this often, a duration such as 1h
    num_shards: int
    site: str | None = None  # None: by the profile's name
    model_from: str | None = None  # address of a tar file that holds the model folder
    seed: int = 0  # of all shards
    settings: tuple[str, ...] = ()  # of the runs, such as train.rank=32
    lines: tuple[str, ...] = ()  # further submit commands


@dataclass(frozen=True)
class Packed:
    """What was packed."""

    shards: tuple[tuple[str, ...], ...]  # task ids
    costs: Mapping[str, float]  # predicted seconds of a device, or a core, by task id
    slot: Slot
    plan: AnyPlan
    image: Image
    sent_bytes: int  # image and model, where the access point sends them to every shard
    expressions: tuple[str, ...]  # lines about resources that only HTCondor can evaluate


def pack_condor(tasks: TaskSet, request: CondorRequest, out: Path) -> Packed:
    """Write the folder.

    Shards that only search need no model, and none goes along.

    Raises InputError when image or model are not there, UsageError when the folder holds a DAG
    already, the model fits no card that the profile allows, or what is asked for does not fit
    together.
    """
    parse_duration(request.every)
    check_lines(request.lines)
    profile, site = request.profile, request.site or _site_of(request.profile)
    image = find_image(request.image, site_named(site))
    expectation = profile_expectation(profile)

    layers = (profile_layer(profile), assignments_layer(request.settings))
    has_model = resolve(layers).needs_model
    model = _model(request.model, request.model_from) if has_model else None

    slot, plan = _planned(tasks, request, layers, model, image.num_bytes)
    slot, lines = with_lines(slot, expectation, request.lines)
    _check_image(image, request, slot)
    costs = predicted_costs(tasks, plan)
    shards = balance(costs, request.num_shards)

    job = CondorJob(
        image=image.name,
        model=model,
        profile=profile,
        budget=_compact(request.budget),
        every=_compact(request.every),
        shards=shards,
        submit=("--seed", str(request.seed), *_set_flags(request.settings)),
        lines=lines,
        site=site,
        model_from=request.model_from,
    )
    _write(out, render_condor(tasks, job, slot))

    is_model_sent = model not in (None, EMBEDDED) and not request.model_from
    model_bytes = _num_bytes(Path(str(model))) if is_model_sent else 0
    sent_bytes = image.num_bytes * image.is_sent + model_bytes
    expressions = tuple(line for line in lines if is_resource(line))
    return Packed(shards, costs, slot, plan, image, sent_bytes, expressions)


def _check_image(image: Image, request: CondorRequest, slot: Slot) -> None:
    """Raises UsageError for GPUs that the image cannot use: every shard would refuse its slot."""
    if image.target == "cpu" and slot.num_gpus.value:
        raise UsageError(
            f"image {request.image} is for CPUs, and the profile {request.profile} or --line asks "
            f"for {slot.num_gpus.value} GPU a shard",
            expected="an image for GPUs, or a profile without",
            remedy="make sif TARGET=gpu, or pass --profile ospool-medium, or condor-cpu to search "
            "without a model",
        )


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _compact(duration: str) -> str:
    """As parse_duration reads it, in one word."""
    return duration.strip().replace(" ", "")


def _planned(
    tasks: TaskSet,
    request: CondorRequest,
    layers: tuple[Layer, ...],
    model: str | None,
    image_bytes: int,
) -> tuple[Slot, AnyPlan]:
    """The slot of a shard, and the plan for all of them."""
    expectation = profile_expectation(request.profile)
    num_shards, budget_s = request.num_shards, parse_duration(request.budget)
    if model is None:
        return search_slot(
            tasks,
            expectation,
            layers,
            num_shards=num_shards,
            budget_s=budget_s,
            image_bytes=image_bytes,
        )

    return slot_for(
        tasks,
        load_card(model),
        expectation,
        layers,
        num_shards=num_shards,
        budget_s=budget_s,
        image_bytes=image_bytes,
    )


def _model(name: str, address: str | None) -> str:
    """The model as the shards name it. Raises InputError for a folder that is none, UsageError for
    an address that does not hold it."""
    if name == EMBEDDED:
        return name

    found = examine(model_dir(plain_path(name, "model"))).folder
    folder = plain_path(str(found.resolve()), "model")
    if address is not None:
        file = plain_path(address, "model").rpartition("/")[2]
        names = [f"{Path(folder).name}{ending}" for ending in (".tar", ".tar.gz", ".tgz")]
        if "://" not in address or file not in names:
            raise UsageError(
                f"--model-from {address}",
                expected=f"the address of {', '.join(names[:-1])} or {names[-1]}, with that folder "
                "in it",
                remedy=f"tar -C {Path(folder).parent} -cf {names[0]} {Path(folder).name}, and put "
                "it where the pool fetches from",
            )
    return folder


def _set_flags(settings: tuple[str, ...]) -> list[str]:
    return [part for text in settings for part in ("--set", text)]


def _site_of(profile: str) -> str:
    return next((site for site in SITES_NAMED_BY_PROFILES if profile.startswith(site)), NO_SITE)


def _write(out: Path, files: Mapping[str, str]) -> None:
    if (out / DAG).exists():
        raise UsageError(
            f"{out} holds a DAG already",
            expected="a new folder",
            remedy="pass another --out, or remove it",
        )

    foreign = next((name for name in files if os.path.lexists(out / name)), None)
    if foreign is not None:
        raise UsageError(
            f"{out} holds {foreign} already", expected="a new folder", remedy="pass another --out"
        )

    # shard.sub lists the shard's folder among its inputs, so it must exist before the first leg.
    shard_folders = (Path(name).stem for name in files if name.startswith("tasks/"))
    for folder in ("logs", "tasks", *shard_folders):
        make_folder(out / folder)

    for name, text in files.items():
        if name != DAG:
            write_part(out / name, text.encode())
    shutil.copymode(template_path("condor", "job.sh"), out / "job.sh")
    write_atomic(out / DAG, files[DAG].encode())  # last: with it the folder can be submitted
