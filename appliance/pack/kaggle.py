"""The upload folder for Kaggle: a dataset (wheels, code, model, manifest) and a notebook.

The notebook installs and runs the dataset without internet.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from appliance.atomic import make_folder, write_atomic
from appliance.clock import format_duration, parse_duration
from appliance.config import Layer, assignments_layer, profile_layer, resolve
from appliance.engine.folder.card import EMBEDDED, model_dir
from appliance.engine.folder.examine import examine
from appliance.errors import InputError, OutputError, UsageError, first_line
from appliance.machine.profile_check import profile_expectation
from appliance.pack.closure import check_closure, names_of, offered, remove_others
from appliance.pack.kaggle_notebook import (
    NOTEBOOK,
    kernel_metadata,
    told_config,
    write_json,
    write_notebook,
)
from appliance.pack.kaggle_rules import dataset_faults, kernel_faults, slug_of
from appliance.pack.wheelhouse import (
    build_appliance,
    download,
    revision_of,
    versions_of,
    without,
)

REPOSITORY = Path(__file__).parents[2]
"""The checkout; packing needs its requirements/ and its sources."""

MANIFEST = "manifest.json"
"""File of the dataset with size and SHA-256 of the others."""

PYTHONS = ("3.12",)
"""That of Kaggle's image. A commit run names another one in its first second."""


@dataclass(frozen=True)
class KaggleRequest:
    """What to pack."""

    owner: str  # Kaggle user name
    title: str  # of dataset and notebook
    competition: str  # slug
    profile: str
    model: str = EMBEDDED  # arc-mini, or a folder
    adapter: Path | None = None
    target: Literal["cpu", "gpu"] = "gpu"  # whose requirements
    pythons: tuple[str, ...] = PYTHONS
    budget: str | None = None  # of the scored run, a duration; None: the profile's
    smoke: str = "10m"  # of the run that Kaggle makes when the notebook is saved
    settings: tuple[str, ...] = ()  # KEY=VALUE
    image: str | None = None  # of the notebook, by digest; None: the one that it was made with


def pack_kaggle(request: KaggleRequest, out: Path) -> None:
    """Write out/dataset and out/notebook. Needs a package index for the wheels.

    Everything that can be known is checked before the wheels, which take up to half an hour. Raises
    UsageError outside a checkout, for names and settings that would fail on Kaggle, InputError for
    a folder that is no model, OutputError where `out` cannot be written, PrerequisiteError for
    wheels that cannot be had.
    """
    lists = _requirement_lists(request.target)
    config = notebook_config(request)
    _check_names(request, config)
    model = _check_model(request, out) if resolve(_layers(request)).needs_model else None

    dataset = out / "dataset"
    wheels = dataset / "wheels"
    _check_ours(out)
    make_folder(out / "notebook")
    _remove_earlier(dataset, wheels)
    print(
        f"wheels for Python {', '.join(request.pythons)} from requirements/{request.target}.txt",
        flush=True,
    )
    for_pictures = names_of(REPOSITORY / "requirements" / "overrides-kaggle.txt")
    with tempfile.TemporaryDirectory() as folder:
        packed = [without(path, for_pictures, Path(folder)) for path in lists]
        download(packed, request.pythons, wheels)
        write_atomic(dataset / "requirements.txt", versions_of(packed).encode())
    remove_others(dataset / "requirements.txt", request.pythons, wheels)
    appliance = build_appliance(REPOSITORY, wheels)
    left_out = (*names_of(REPOSITORY / "requirements" / "overrides-gpu.txt"), *for_pictures)
    check_closure(dataset / "requirements.txt", request.pythons, wheels, left_out=left_out)

    if model is not None:
        _pack_model(request, model, dataset)

    metadata = dataset_metadata(request.owner, request.title)
    write_json(dataset / "dataset-metadata.json", metadata)
    manifest = manifest_of(dataset, request.pythons, appliance, revision_of(REPOSITORY))
    write_json(dataset / MANIFEST, manifest)
    bound = {**config, "package": package_of(dataset)}
    write_notebook(out / "notebook", request.owner, request.title, bound, image=request.image)


def _check_names(request: KaggleRequest, config: Mapping[str, Any]) -> None:
    """Raises UsageError for what Kaggle would refuse at the upload."""
    for python in request.pythons:
        if not re.fullmatch(r"3\.[0-9]{1,2}", python):
            raise UsageError(f"--python {python}", expected="such as 3.12")

    faults = (
        *dataset_faults(dataset_metadata(request.owner, request.title)),
        *kernel_faults(_kernel_metadata_of(request, config), None),
    )
    if faults:
        raise UsageError(
            "; ".join(dict.fromkeys(faults)),
            expected="names that Kaggle takes",
            remedy="correct --owner, --title, --competition or --image",
        )


def _kernel_metadata_of(request: KaggleRequest, config: Mapping[str, Any]) -> dict[str, Any]:
    return kernel_metadata(request.owner, request.title, config, image=request.image)


def _check_model(request: KaggleRequest, out: Path) -> Path:
    """The real folder of the model. Raises InputError for a model or adapter that is none,
    UsageError for one that lies where this package will be."""
    model = examine(model_dir(request.model), request.adapter).folder
    dataset = (out / "dataset").resolve()
    for folder in (model, request.adapter):
        if folder and folder.resolve().is_relative_to(dataset):
            raise UsageError(
                f"{folder} lies in {dataset}, which is made anew",
                expected="a model and an adapter from elsewhere",
                remedy="copy it to another place",
            )
    return model


def _requirement_lists(target: str) -> list[Path]:
    lists = [REPOSITORY / "requirements" / f"{name}.txt" for name in (f"torch-{target}", target)]
    for path in lists:
        if not path.is_file():
            raise UsageError(
                f"no {path}", expected="a checkout", remedy="run pack kaggle from the checkout"
            )
    return lists


def _check_ours(out: Path) -> None:
    """Raises UsageError where files that packing replaces are there and were not packed by us."""
    dataset, kernel = out / "dataset", out / "notebook"
    if (dataset / MANIFEST).is_file():
        return

    replaced = [dataset / "model", dataset / "adapter", dataset / "dataset-metadata.json"]
    replaced += [kernel / "kernel-metadata.json", kernel / NOTEBOOK]
    for path in replaced:
        if os.path.lexists(path):
            raise UsageError(
                f"{path} is there, and no {dataset / MANIFEST}",
                expected="a folder that `appliance pack kaggle` made, or a new one",
                remedy="pass another --out, or remove what a stopped packing left",
            )


def _remove_earlier(dataset: Path, wheels: Path) -> None:
    """Remove what an earlier packing left, but not the downloaded wheels: they take minutes."""
    for name in ("model", "adapter"):
        shutil.rmtree(dataset / name, ignore_errors=True)
    make_folder(dataset)

    for old in wheels.glob("arc_appliance-*.whl"):
        old.unlink()


def notebook_config(request: KaggleRequest) -> dict[str, Any]:
    """What the notebook is told. Raises UsageError for settings that would fail there."""
    settings = resolve(_layers(request))

    budget_s = parse_duration(request.budget) if request.budget else settings.run.budget_s
    if budget_s is None:
        raise UsageError(
            f"profile {request.profile} has no budget",
            expected="--budget",
            remedy="such as --budget 10h30m",
        )

    smoke_s = parse_duration(request.smoke)
    if smoke_s > budget_s:
        raise UsageError(
            f"--smoke {request.smoke} is longer than the run of {format_duration(budget_s)}"
        )

    return {
        "competition": request.competition,
        "dataset": f"{request.owner}/{slug_of(request.title)}",
        "profile": request.profile,
        "machine": profile_expectation(request.profile).model_dump(exclude_none=True),
        "budget_s": budget_s,
        "smoke_s": smoke_s,
        "settings": list(request.settings),
    }


def dataset_metadata(owner: str, title: str) -> dict[str, Any]:
    return {
        "title": title,
        "subtitle": "Wheels, code and model that solve ARC tasks without internet",
        "id": f"{owner}/{slug_of(title)}",
        "licenses": [{"name": "apache-2.0"}],
    }


def package_of(dataset: Path) -> dict[str, str]:
    """What a notebook is bound to: the dataset, by its manifest, and the revision of its code."""
    manifest = json.loads((dataset / MANIFEST).read_text(encoding="utf-8"))
    return {
        "manifest_sha256": file_sha256(dataset / MANIFEST),
        "revision": str(manifest.get("revision", "unknown")),
    }


def manifest_of(
    dataset: Path, pythons: tuple[str, ...], appliance: str, revision: str
) -> dict[str, Any]:
    """Size and SHA-256 of every file that the notebook reads, and the wheels of each Python."""
    return {
        "revision": revision,
        "pythons": list(pythons),
        "wheels": {
            python: sorted(w.path.name for w in offered(dataset / "wheels", python).values())
            for python in pythons
        },
        "appliance": f"arc-appliance=={appliance.split('-')[1]}",
        "has_model": (dataset / "model").is_dir(),
        "has_adapter": (dataset / "adapter").is_dir(),
        "files": _files_of(dataset),
    }


def _files_of(dataset: Path) -> dict[str, Any]:
    skipped = {MANIFEST, "dataset-metadata.json"}
    paths = sorted(p for p in dataset.rglob("*") if p.is_file() and p.name not in skipped)
    return {
        str(p.relative_to(dataset)): {"bytes": p.stat().st_size, "sha256": file_sha256(p)}
        for p in paths
    }


def check_folder(out: Path) -> list[str]:
    """What is wrong with a packed folder, by its manifest and by Kaggle's rules for metadata."""
    dataset, kernel = out / "dataset", out / "notebook"
    try:
        manifest = json.loads((dataset / MANIFEST).read_text(encoding="utf-8"))
        kernel_meta = json.loads((kernel / "kernel-metadata.json").read_text(encoding="utf-8"))
        dataset_meta = json.loads((dataset / "dataset-metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise InputError(
            f"{out}: {first_line(fault)}",
            expected="dataset/ and notebook/",
            remedy="appliance pack kaggle",
        ) from None

    form = {"appliance": str, "pythons": list, "wheels": dict, "files": dict}
    if not isinstance(manifest, dict) or not all(
        isinstance(manifest.get(key), kind) for key, kind in form.items()
    ):
        raise InputError(
            f"{dataset / MANIFEST}: not the manifest of a package",
            expected=f"an object with {', '.join(form)}",
            remedy="pack it anew",
        )
    now = _files_of(dataset)
    then = manifest["files"]

    faults = [f"{name}: missing" for name in then if name not in now]
    faults += [f"{name}: not in the manifest" for name in now if name not in then]
    faults += [
        f"{name}: changed since it was packed"
        for name in now
        if then.get(name, now[name]) != now[name]
    ]
    if told_config(kernel).get("package") != package_of(dataset):
        faults.append(f"{NOTEBOOK}: packed with another dataset")
    return [*faults, *dataset_faults(dataset_meta), *kernel_faults(kernel_meta, kernel)]


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _layers(request: KaggleRequest) -> list[Layer]:
    return [profile_layer(request.profile), assignments_layer(request.settings)]


def _pack_model(request: KaggleRequest, model: Path, dataset: Path) -> None:
    """Model and adapter beside the wheels; the wheel of the appliance holds the embedded one."""
    unneeded = shutil.ignore_patterns("*.tmp", "optimizer*", "__pycache__")
    try:
        if request.model != EMBEDDED:
            shutil.copytree(model, dataset / "model", ignore=unneeded)
        if request.adapter:
            shutil.copytree(request.adapter, dataset / "adapter")
    except (OSError, shutil.Error) as fault:
        raise OutputError(
            f"{dataset}: the model cannot be copied: {first_line(fault)}",
            expected="a readable model, and room for it",
            remedy="free space, or pass another --out",
        ) from fault
