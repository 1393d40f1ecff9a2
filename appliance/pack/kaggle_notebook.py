"""The notebook of the package: what it is told, what it runs, and its metadata for Kaggle."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.atomic import make_folder, write_atomic
from appliance.errors import InputError, first_line
from appliance.pack.kaggle_rules import slug_of
from appliance.pack.templates import read_template

NOTEBOOK = "arc-appliance.ipynb"
"""File name of the notebook."""

CONFIG = "CONFIG = "
"""How the cell begins that tells the notebook what it runs."""


def kernel_metadata(
    owner: str, title: str, config: Mapping[str, Any], *, image: str | None = None
) -> dict[str, Any]:
    """image: by digest, to run in; None: the one of Kaggle's that was new when it was made."""
    # The notebook's title differs from the dataset's: Kaggle makes an address of one user from
    # each.
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
    pinned = {"docker_image": image} if image else {"docker_image_pinning_type": "original"}
    return metadata | pinned | ({"machine_shape": shape} if shape else {})


def notebook(config: Mapping[str, Any]) -> dict[str, Any]:
    """Two cells of code: the configuration, then submission/run.py."""
    told = CONFIG + _python_literal(config)
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


def write_notebook(
    folder: Path,
    owner: str,
    title: str,
    config: Mapping[str, Any],
    *,
    image: str | None = None,
) -> None:
    make_folder(folder)
    write_json(folder / NOTEBOOK, notebook(config))
    metadata = kernel_metadata(owner, title, config, image=image)
    write_json(folder / "kernel-metadata.json", metadata)


def told_config(folder: Path) -> dict[str, Any]:
    """What the notebook in this folder is told. Raises InputError where it is not one of ours."""
    path = folder / NOTEBOOK
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        source = next(cell["source"] for cell in cells if cell.get("id") == "config")
        config = ast.literal_eval(source.removeprefix(CONFIG))
        if isinstance(config, dict):
            return config
        found = f"its configuration is a {type(config).__name__}"
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError) as fault:
        found = first_line(fault)
    except (LookupError, TypeError, AttributeError, StopIteration):
        found = "it has no configuration"
    raise InputError(
        f"{path}: {found}", expected="the notebook of a package", remedy="pack it anew"
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


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_atomic(path, (json.dumps(value, indent=1) + "\n").encode())
