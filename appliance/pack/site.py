"""Sites: what a pool asks of a job beside its resources (condor/sites.yaml), and the category that holds a budget."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from appliance.clock import format_duration
from appliance.errors import InputError, UsageError
from appliance.pack.templates import read_template, template_path

NO_SITE = "none"


class Category(BaseModel):
    """A class of jobs that may run up to `hours`; gpu: only for jobs that ask for one."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    hours: float
    gpu: bool = False
    lines: dict[str, str]


class Site(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    lines: dict[str, str] = {}
    gpu_lines: dict[str, str] = {}
    categories: tuple[Category, ...] = ()


def read_sites() -> dict[str, Site]:
    """Raises InputError when the file breaks its form."""
    values: dict[str, Any] = yaml.safe_load(read_template("condor", "sites.yaml"))
    try:
        return {name: Site.model_validate(value) for name, value in values.items()} | {
            NO_SITE: Site()
        }
    except ValidationError as fault:
        raise InputError(f"{template_path('condor', 'sites.yaml')}: {fault}") from fault


def site_lines(name: str, *, budget_s: float, has_gpu: bool) -> str:
    """Submit commands for a job of that length. Raises UsageError for an unknown site or a budget no category holds."""
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
