"""A folder that `condor_submit_dag` takes as it is: shards of equal cost, then one vote."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.arc.task import TaskSet
from appliance.atomic import make_folder, write_atomic
from appliance.clock import parse_duration
from appliance.config import Layer, assignments_layer, profile_layer, resolve
from appliance.engine.folder.card import EMBEDDED, model_dir
from appliance.engine.folder.examine import examine
from appliance.errors import InputError, UsageError, shorten
from appliance.foreign_text import is_short_path
from appliance.machine.profile_check import profile_expectation
from appliance.pack.render_condor import DAG, CondorJob, render_condor
from appliance.pack.site import NO_SITE
from appliance.pack.slot import Slot, search_slot, slot_for
from appliance.pack.templates import template_path
from appliance.sizing.balance import balance, predicted_costs
from appliance.sizing.costs.model_card import load_card
from appliance.sizing.plan import AnyPlan

URL_IMAGE_BYTES = 4 * 2**30
"""Assumed size of an image that is named by an address: the GPU image, rounded up."""

PLAIN_PATH = re.compile(r"([\w.:@%+=~-]{0,255}/)*[\w.:@%+=~-]{1,255}")
"""What a list of a submit file holds without quotes; each name as long as Linux lets it be."""

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


def pack_condor(tasks: TaskSet, request: CondorRequest, out: Path) -> Packed:
    """Write the folder.

    Shards that only search need no model, and none goes along.

    Raises InputError when image or model are not there, UsageError when the folder holds a DAG
    already or the model fits no card that the profile allows.
    """
    _check(request)
    image, image_bytes = _image(request.image)
    profile = request.profile
    layers = (profile_layer(profile), assignments_layer(request.settings))
    has_model = resolve(layers).needs_model
    model = _model(request.model) if has_model else None

    slot, plan = _planned(tasks, request, layers, model, image_bytes)
    costs = predicted_costs(tasks, plan)
    shards = balance(costs, request.num_shards)

    job = CondorJob(
        image=image,
        model=model,
        profile=profile,
        budget=_compact(request.budget),
        every=_compact(request.every),
        shards=shards,
        submit=("--seed", str(request.seed), *_set_flags(request.settings)),
        lines=request.lines,
        site=request.site or _site_of(profile),
    )
    _write(out, render_condor(tasks, job, slot))
    return Packed(shards, costs, slot, plan)


def _check(request: CondorRequest) -> None:
    """Raises UsageError for what a submit file cannot hold, or what the jobs would refuse."""
    parse_duration(request.every)
    for line in request.lines:
        if not re.fullmatch(r"\+?[A-Za-z_][\w.]*\s*=[^\x00-\x1f]*", line):
            raise UsageError(
                f"--line {shorten(line)!r}",
                expected="one submit command: NAME = VALUE, in one line",
            )


def _compact(duration: str) -> str:
    """As parse_duration reads it, in one word."""
    return duration.strip().replace(" ", "")


def _plain_path(path: str, what: str) -> str:
    """Raises UsageError unless it can stand in a submit file: lists there are split at commas and
    blanks, and $( begins a macro."""
    if not PLAIN_PATH.fullmatch(path) or not is_short_path(path.encode()):
        raise UsageError(
            f"{what} {shorten(path)!r}: a submit file cannot hold this path",
            expected="letters, digits and . / : @ % + = ~ _ -",
            remedy="copy or rename it: short, without blanks, commas and quotes",
        )
    return path


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


def _model(name: str) -> str:
    """The model as the shards name it. Raises InputError for a folder that is none."""
    if name == EMBEDDED:
        return name
    folder = examine(model_dir(_plain_path(name, "model"))).folder
    return _plain_path(str(folder.resolve()), "model")


def _set_flags(settings: tuple[str, ...]) -> list[str]:
    return [part for text in settings for part in ("--set", text)]


def _image(image: str) -> tuple[str, int]:
    """The image as the submit description names it, and its size in bytes."""
    if "://" in image:
        return _plain_path(image, "image"), URL_IMAGE_BYTES

    path = Path(_plain_path(image, "image")).resolve()
    if not path.is_file():
        raise InputError(
            f"image {image}: not there", expected="a .sif file or a URL", remedy="make sif"
        )
    return _plain_path(str(path), "image"), path.stat().st_size


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
        write_atomic(out / name, text.encode())
    shutil.copymode(template_path("condor", "job.sh"), out / "job.sh")
