"""`appliance pack kaggle`: a dataset (wheels, code, model, manifest) and a notebook that runs it without internet."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.atomic import write_atomic
from appliance.clock import format_duration, parse_duration
from appliance.config import assignments_layer, profile_layer, resolve
from appliance.engine.model_folder import EMBEDDED, model_dir, read_card
from appliance.errors import EXIT_DONE, InputError, UsageError
from appliance.machine.profile_check import profile_expectation
from appliance.pack.kaggle_rules import dataset_faults, kernel_faults, slug_of
from appliance.pack.templates import read_template
from appliance.pack.wheelhouse import build_appliance, check_closure, download, versions_of

REPOSITORY = Path(__file__).parents[2]
NOTEBOOK = "arc-appliance.ipynb"
MANIFEST = "manifest.json"
PYTHONS = ("3.12", "3.13")
"""Kaggle's image of 2026 and the one announced after it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="gets dataset/ and notebook/"
    )
    parser.add_argument(
        "--check", action="store_true", help="only check what --out holds, byte for byte"
    )
    parser.add_argument("--owner", metavar="USER", help="Kaggle user name")
    parser.add_argument(
        "--competition", default="arc-prize-2026", metavar="SLUG", help="whose tasks are solved"
    )
    parser.add_argument(
        "--title", default="ARC appliance", help="of dataset and notebook (default: ARC appliance)"
    )
    parser.add_argument("--model", default=EMBEDDED, metavar="DIR|arc-mini", help="packed along")
    parser.add_argument(
        "--adapter", type=Path, metavar="DIR", help="LoRA adapter to start from, packed along"
    )
    parser.add_argument(
        "--profile", default="kaggle-l4x4", metavar="NAME", help="accelerator and settings"
    )
    parser.add_argument(
        "--target", choices=["cpu", "gpu"], default="gpu", help="which requirements (default gpu)"
    )
    parser.add_argument(
        "--python", action="append", metavar="3.N", help=f"default {' and '.join(PYTHONS)}"
    )
    parser.add_argument(
        "--budget", metavar="TIME", help="of the scored rerun (default: the profile's)"
    )
    parser.add_argument(
        "--smoke", default="10m", metavar="TIME", help="of the commit run (default 10m)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the run"
    )


def run(args: argparse.Namespace) -> int:
    if not args.check:
        pack(args)
    faults = check_folder(args.out)
    if faults:
        raise InputError(
            "; ".join(faults), expected="a folder as it was packed", remedy="pack it anew"
        )
    size = sum(p.stat().st_size for p in (args.out / "dataset").rglob("*") if p.is_file())
    print(
        f"{args.out}: {size / 2**20:.0f} MiB, every file as its manifest says, metadata within Kaggle's rules"
    )
    return EXIT_DONE


def pack(args: argparse.Namespace) -> None:
    if not args.owner:
        raise UsageError(
            "no Kaggle user named",
            expected="--owner USER",
            remedy="the name in your profile's address",
        )
    lists = [
        REPOSITORY / "requirements" / f"{name}.txt"
        for name in (f"torch-{args.target}", args.target)
    ]
    for path in lists:
        if not path.is_file():
            raise UsageError(
                f"no {path}", expected="a checkout", remedy="run pack kaggle from the checkout"
            )
    config = _config(args)
    pythons = tuple(args.python or PYTHONS)
    for python in pythons:
        if not re.fullmatch(r"3\.\d{1,2}", python):
            raise UsageError(f"--python {python}", expected="such as 3.12")
    dataset = args.out / "dataset"
    for name in ("model", "adapter"):
        shutil.rmtree(dataset / name, ignore_errors=True)
    dataset.mkdir(parents=True, exist_ok=True)
    wheels = dataset / "wheels"
    for old in wheels.glob("arc_appliance-*.whl"):
        old.unlink()
    print(f"wheels for Python {', '.join(pythons)} from requirements/{args.target}.txt", flush=True)
    download(lists, pythons, wheels)
    appliance = build_appliance(REPOSITORY, wheels)
    write_atomic(dataset / "requirements.txt", versions_of(lists).encode())
    check_closure(dataset / "requirements.txt", pythons, wheels)
    if args.model != EMBEDDED:
        _copy_model(Path(args.model), dataset / "model")
    else:
        read_card(model_dir(EMBEDDED))
    if args.adapter:
        shutil.copytree(args.adapter, dataset / "adapter")
    _write_json(dataset / "dataset-metadata.json", dataset_metadata(args.owner, args.title))
    _write_json(dataset / MANIFEST, manifest_of(dataset, pythons, appliance))
    write_notebook(args.out / "notebook", args.owner, args.title, config)


def _config(args: argparse.Namespace) -> dict[str, Any]:
    """What the notebook is told. Raises UsageError for settings that would fail there."""
    layers = [profile_layer(args.profile), assignments_layer(args.set)]
    settings = resolve(layers)
    budget_s = parse_duration(args.budget) if args.budget else settings.run.budget_s
    if budget_s is None:
        raise UsageError(
            f"profile {args.profile} has no budget",
            expected="--budget",
            remedy="such as --budget 10h30m",
        )
    smoke_s = parse_duration(args.smoke)
    if smoke_s > budget_s:
        raise UsageError(
            f"--smoke {args.smoke} is longer than the run of {format_duration(budget_s)}"
        )
    return {
        "competition": args.competition,
        "dataset": f"{args.owner}/{slug_of(args.title)}",
        "profile": args.profile,
        "machine": profile_expectation(args.profile).model_dump(exclude_none=True),
        "budget_s": budget_s,
        "smoke_s": smoke_s,
        "settings": args.set,
    }


def dataset_metadata(owner: str, title: str) -> dict[str, Any]:
    return {
        "title": title,
        "subtitle": "Wheels, code and model that solve ARC tasks without internet",
        "id": f"{owner}/{slug_of(title)}",
        "licenses": [{"name": "apache-2.0"}],
    }


def kernel_metadata(owner: str, title: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The notebook's own title differs from the dataset's, for both become addresses of one user."""
    shape = config["machine"].get("kaggle_machine_shape")
    metadata = {
        "id": f"{owner}/{slug_of(title)}-run",
        "title": f"{title} run",
        "code_file": NOTEBOOK,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": bool(config["machine"].get("num_gpus")),
        "enable_tpu": False,
        "enable_internet": False,
        "dataset_sources": [config["dataset"]],
        "competition_sources": [config["competition"]],
        "kernel_sources": [],
        "model_sources": [],
    }
    return metadata | ({"machine_shape": shape} if shape else {})


def notebook(config: Mapping[str, Any]) -> dict[str, Any]:
    """Two cells: what is run, and submission/run.py."""
    told = "CONFIG = " + _python_literal(config)
    code = read_template("submission", "run.py") + "\n\nmain(CONFIG)"
    text = "Made by `appliance pack kaggle`; its source is submission/run.py of the appliance."
    return {
        "cells": [
            {"cell_type": "markdown", "id": "about", "metadata": {}, "source": text},
            _code_cell("config", told),
            _code_cell("run", code),
        ],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def write_notebook(folder: Path, owner: str, title: str, config: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / NOTEBOOK, notebook(config))
    _write_json(folder / "kernel-metadata.json", kernel_metadata(owner, title, config))


def manifest_of(dataset: Path, pythons: tuple[str, ...], appliance: str) -> dict[str, Any]:
    """Size and SHA-256 of every file that the notebook reads."""
    skipped = {MANIFEST, "dataset-metadata.json"}
    paths = sorted(p for p in dataset.rglob("*") if p.is_file() and p.name not in skipped)
    return {
        "pythons": list(pythons),
        "appliance": f"arc-appliance=={appliance.split('-')[1]}",
        "has_model": (dataset / "model").is_dir(),
        "has_adapter": (dataset / "adapter").is_dir(),
        "files": {
            str(p.relative_to(dataset)): {"bytes": p.stat().st_size, "sha256": file_sha256(p)}
            for p in paths
        },
    }


def check_folder(out: Path) -> list[str]:
    """What is wrong with a packed folder: files against the manifest, metadata against Kaggle's rules."""
    dataset, kernel = out / "dataset", out / "notebook"
    try:
        manifest = json.loads((dataset / MANIFEST).read_text(encoding="utf-8"))
        kernel_meta = json.loads((kernel / "kernel-metadata.json").read_text(encoding="utf-8"))
        dataset_meta = json.loads((dataset / "dataset-metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise InputError(
            f"{out}: {fault}", expected="dataset/ and notebook/", remedy="appliance pack kaggle"
        ) from None
    now = manifest_of(
        dataset, tuple(manifest["pythons"]), manifest["appliance"].replace("==", "-")
    )["files"]
    faults = [f"{name}: missing" for name in manifest["files"] if name not in now]
    faults += [f"{name}: not in the manifest" for name in now if name not in manifest["files"]]
    faults += [
        f"{name}: changed since it was packed"
        for name in now
        if manifest["files"].get(name, now[name]) != now[name]
    ]
    return [*faults, *dataset_faults(dataset_meta), *kernel_faults(kernel_meta, kernel)]


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _copy_model(source: Path, target: Path) -> None:
    read_card(source)
    shutil.copytree(
        source, target, ignore=shutil.ignore_patterns("*.tmp", "optimizer*", "__pycache__")
    )


def _code_cell(name: str, source: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": name,
        "metadata": {},
        "outputs": [],
        "source": source,
    }


def _python_literal(value: Mapping[str, Any]) -> str:
    rows = [f"    {key!r}: {entry!r}," for key, entry in value.items()]
    return "\n".join(["{", *rows, "}"])


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_atomic(path, (json.dumps(value, indent=1) + "\n").encode())
