"""Sites: submit commands that a pool of HTCondor wants beside the resources (condor/sites.yaml)."""

from __future__ import annotations

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


class Site(BaseModel):
    """What a pool wants of a job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lines: dict[str, str] = {}  # submit commands, name to value
    gpu_lines: dict[str, str] = {}  # further ones for jobs that ask for a GPU
    categories: tuple[Category, ...] = ()  # empty: jobs of any length


def read_sites() -> dict[str, Site]:
    """All known sites by name. Raises InputError when the file breaks its form."""
    text = read_template("condor", "sites.yaml")
    values: dict[str, Any] = parse_yaml(text, place="condor/sites.yaml")
    try:
        sites = {name: Site.model_validate(value) for name, value in values.items()}
    except ValidationError as fault:
        raise InputError(f"{template_path('condor', 'sites.yaml')}: {fault}") from fault

    return sites | {NO_SITE: Site()}


def site_lines(name: str, *, budget_s: float, has_gpu: bool) -> str:
    """Submit commands for a job of that length, of the shortest category that holds it.

    Raises UsageError for an unknown site, or when the budget is longer than every category.
    """
    sites = read_sites()
    if name not in sites:
        raise UsageError(
            f"no site {name!r}",
            expected="one of " + ", ".join(sites),
            remedy="or add it to sites.yaml",
        )

    site = sites[name]
    lines = site.lines | (site.gpu_lines if has_gpu else {})
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

    return "".join(f"\n{key:<18} = {value}" for key, value in lines.items())
