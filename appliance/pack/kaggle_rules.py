"""What Kaggle's own command line refuses in metadata files, checked before an upload.

Source: kaggle 2.x, dataset_create_new and kernels_push. A notebook without a kernelspec dies at
once (kaggle-cli #689).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from appliance.foreign_text import is_file_name

TITLE = range(6, 51)
"""Characters of a dataset's title and slug."""

SUBTITLE = range(20, 81)
"""Characters of a dataset's subtitle."""


IMAGE = re.compile(r"[a-z0-9.-]+(/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}")
"""A container image by digest: its tag may come to mean another Python."""

OWNER = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
"""A user's or an organisation's name, as it stands in addresses."""

Faults = Iterator[str]
"""Each one line: what was found, what was expected."""


def slug_of(title: str) -> str:
    """The slug that Kaggle makes of a title."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def dataset_faults(metadata: Any) -> Faults:
    """Faults of dataset-metadata.json."""
    if not isinstance(metadata, dict):
        yield f"dataset metadata: a {type(metadata).__name__}, expected an object"
        return

    owner, slug = _id_parts(metadata)
    yield from owner_faults(owner)
    if slug != slug_of(slug) or len(slug) not in TITLE:
        yield (
            f"dataset id {metadata.get('id')!r}: expected owner/slug, "
            "the slug of 6 to 50 characters a-z, 0-9 and -"
        )

    title, subtitle = metadata.get("title"), metadata.get("subtitle", " " * SUBTITLE[0])
    if not isinstance(title, str) or len(title) not in TITLE or not title.isprintable():
        yield f"dataset title {title!r}: expected 6 to 50 characters"
    if not isinstance(subtitle, str) or len(subtitle) not in SUBTITLE:
        yield f"dataset subtitle {subtitle!r}: expected 20 to 80 characters"
    if len(_list(metadata, "licenses")) != 1:
        yield "dataset licenses: expected exactly one"


def owner_faults(owner: str) -> Faults:
    if not OWNER.fullmatch(owner):
        yield (
            f"owner {owner!r}: expected the user name as it stands in the address of the profile, "
            "of a-z, 0-9 and -"
        )


def kernel_faults(metadata: Any, folder: Path | None) -> Faults:
    """Faults of kernel-metadata.json, which lies in `folder` with its notebook.

    folder: None where neither has been written yet.
    """
    if not isinstance(metadata, dict):
        yield f"kernel metadata: a {type(metadata).__name__}, expected an object"
        return

    owner, slug = _id_parts(metadata)
    yield from owner_faults(owner)
    if len(slug) < 5:
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

    image = metadata.get("docker_image")
    if image is not None and not (isinstance(image, str) and IMAGE.fullmatch(image)):
        yield f"docker_image {image!r}: expected gcr.io/.../python@sha256: and 64 digits"

    name = metadata.get("code_file")
    is_name = isinstance(name, str) and is_file_name(name)
    if folder is not None and not (is_name and (folder / str(name)).is_file()):
        yield f"code_file {name!r}: not there"

    for key in ("dataset_sources", "kernel_sources", "model_sources"):
        for source in _list(metadata, key):
            if not isinstance(source, str) or "/" not in source:
                yield f"{key}: {source!r} has no owner"
    for source in _list(metadata, "competition_sources"):
        if not isinstance(source, str) or not OWNER.fullmatch(source):
            yield f"competition_sources: {source!r}: expected a slug of a-z, 0-9 and -"


def _id_parts(metadata: Mapping[str, Any]) -> tuple[str, str]:
    """Owner and slug."""
    owner, _, slug = str(metadata.get("id", "")).partition("/")
    return owner, slug


def _list(metadata: Mapping[str, Any], key: str) -> Sequence[Any]:
    """A value that is no list counts as one wrong entry."""
    value = metadata.get(key, [])
    return value if isinstance(value, list) else [value]
