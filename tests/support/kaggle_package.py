"""A package for Kaggle with a stand-in for its wheels, which need an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from appliance.pack import kaggle, kaggle_notebook

TITLE = "ARC appliance"


def config(profile: str) -> dict[str, Any]:
    return kaggle.notebook_config(
        kaggle.KaggleRequest("someone", TITLE, "arc-prize-2026", profile=profile)
    )


def packed(out: Path, revision: str = "1a2b3c4d5e6f") -> Path:
    """A package with stand-ins for wheels, whole by its manifest."""
    dataset = out / "dataset"
    (dataset / "wheels").mkdir(parents=True)
    (dataset / "wheels/a-1-py3-none-any.whl").write_bytes(b"wheel")
    (dataset / "requirements.txt").write_text("a==1\n")
    wheel = "arc_appliance-0.1.0-py3-none-any.whl"
    manifest = kaggle.manifest_of(dataset, ("3.12",), wheel, revision)
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    (dataset / "dataset-metadata.json").write_text(
        json.dumps(kaggle.dataset_metadata("someone", TITLE))
    )
    bound = {**config("kaggle-l4x4"), "package": kaggle.package_of(dataset)}
    kaggle_notebook.write_notebook(out / "notebook", "someone", TITLE, bound)
    return out
