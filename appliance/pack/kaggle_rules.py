"""What Kaggle's own command line refuses in metadata files, checked before an upload.

Source: kaggle 2.x, dataset_create_new and kernels_push. A notebook without a kernelspec dies at
once (kaggle-cli #689).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TITLE = range(6, 51)
"""Characters of a dataset's title and slug."""

SUBTITLE = range(20, 81)
"""Characters of a dataset's subtitle."""


def slug_of(title: str) -> str:
    """The slug that Kaggle makes of a title."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def dataset_faults(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Faults of dataset-metadata.json."""
    owner, _, slug = str(metadata.get("id", "")).partition("/")

    if not owner or "INSERT" in owner or slug != slug_of(slug) or len(slug) not in TITLE:
        yield (
            f"dataset id {metadata.get('id')!r}: expected owner/slug, "
            "the slug of 6 to 50 characters a-z, 0-9 and -"
        )
    if len(str(metadata.get("title", ""))) not in TITLE:
        yield f"dataset title {metadata.get('title')!r}: expected 6 to 50 characters"
    if "subtitle" in metadata and len(metadata["subtitle"]) not in SUBTITLE:
        yield f"dataset subtitle of {len(metadata['subtitle'])} characters: expected 20 to 80"
    if len(metadata.get("licenses", ())) != 1:
        yield "dataset licenses: expected exactly one"


def kernel_faults(metadata: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Faults of kernel-metadata.json, which lies in `folder` with its notebook."""
    owner, _, slug = str(metadata.get("id", "")).partition("/")

    if not owner or len(slug) < 5:
        yield (
            f"kernel id {metadata.get('id')!r}: expected owner/slug, "
            "the slug of 5 characters or more"
        )
    if slug != slug_of(str(metadata.get("title", ""))):
        yield f"kernel title {metadata.get('title')!r} does not give the slug {slug!r}"
    if metadata.get("kernel_type") != "notebook" or metadata.get("language") != "python":
        yield "kernel_type and language: expected notebook and python"
    if metadata.get("enable_internet") is not False:
        yield "enable_internet: expected false, the competition allows no internet"
    if not (folder / str(metadata.get("code_file", ""))).is_file():
        yield f"code_file {metadata.get('code_file')!r}: not there"

    for key in ("dataset_sources", "kernel_sources", "model_sources"):
        for source in metadata.get(key, ()):
            if "/" not in source:
                yield f"{key}: {source!r} has no owner"
