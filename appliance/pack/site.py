"""Sites: submit commands that a pool of HTCondor wants beside the resources (condor/sites.yaml)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from appliance.clock import format_duration
from appliance.errors import InputError, UsageError
from appliance.pack.templates import read_template, template_path
from appliance.yaml_text import parse_yaml

NO_SITE = "none"
"""Name of a pool that wants nothing more."""


class Category(BaseModel):
    """A class of jobs that a pool tells apart by their length."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hours: float  # that a job of this class may run
    gpu: bool = False  # only for jobs that ask for a GPU
    lines: dict[str, str]  # submit commands, name to value


class Address(BaseModel):
    """A folder of the access point that machines of the pool can fetch from by themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str  # as it is called on the access point
    url: str  # the same for a job
    lines: dict[str, str] = {}  # submit commands for jobs that fetch from there


class Site(BaseModel):
    """What a pool wants of a job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lines: dict[str, str] = {}  # submit commands, name to value
    gpu_lines: dict[str, str] = {}  # further ones for jobs that ask for a GPU
    categories: tuple[Category, ...] = ()  # empty: jobs of any length
    addresses: tuple[Address, ...] = ()

    def address_of(self, path: Path) -> str:
        """How a job names that file of the access point: by its address where it has one."""
        for address in self.addresses:
            if path.is_relative_to(address.folder):
                return f"{address.url}/{path.relative_to(address.folder)}"
        return str(path)


def read_sites() -> dict[str, Site]:
    """All known sites by name. Raises InputError when the file breaks its form."""
    text = read_template("condor", "sites.yaml")
    values: dict[str, Any] = parse_yaml(text, place="condor/sites.yaml")
    try:
        sites = {name: Site.model_validate(value) for name, value in values.items()}
    except ValidationError as fault:
        raise InputError(f"{template_path('condor', 'sites.yaml')}: {fault}") from fault

    return sites | {NO_SITE: Site()}


def site_named(name: str) -> Site:
    """Raises UsageError for an unknown one."""
    sites = read_sites()
    if name not in sites:
        raise UsageError(
            f"no site {name!r}",
            expected="one of " + ", ".join(sites),
            remedy="or add it to sites.yaml",
        )
    return sites[name]


def site_lines(
    name: str, *, budget_s: float, has_gpu: bool, files: Sequence[str] = ()
) -> dict[str, str]:
    """Submit commands, name to value, for a job of that length: of the shortest category that
    holds it.

    files: image and inputs as the job names them.

    Raises UsageError for an unknown site, or when the budget is longer than every category.
    """
    site = site_named(name)
    lines = site.lines | (site.gpu_lines if has_gpu else {})
    for address in site.addresses:
        if any(file.startswith(f"{address.url}/") for file in files):
            lines |= address.lines

    categories = [c for c in site.categories if has_gpu or not c.gpu]
    if categories:
        holding = [c for c in categories if c.hours * 3600 >= budget_s]
        if not holding:
            longest = max(c.hours for c in categories)
            raise UsageError(
                f"a shard of {format_duration(budget_s)} fits no category of {name}",
                expected=f"at most {longest:g} h",
                remedy="pass a smaller --budget, or more --shards",
            )
        lines |= min(holding, key=lambda c: c.hours).lines

    return lines
