"""The texts of a folder for HTCondor: DAG, submit descriptions, job script, tasks of each shard."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.arc.source import challenges_json
from appliance.arc.task import TaskSet
from appliance.clock import parse_duration
from appliance.engine.folder.card import EMBEDDED
from appliance.errors import EXIT_COVERAGE, UsageError
from appliance.pack.lines import is_resource, submit_lines
from appliance.pack.site import NO_SITE, site_lines
from appliance.pack.slot import Slot
from appliance.pack.templates import read_template, render, template_path

DAG = "appliance.dag"
"""File of the folder that is submitted."""

MERGE_S = 60
"""Seconds that the vote over all shards takes at most; they choose the category of its job."""


@dataclass(frozen=True)
class CondorJob:
    """What is rendered."""

    image: str  # as the submit description names it
    model: str | None  # arc-mini, or the path of a folder that goes along with each shard
    profile: str
    budget: str  # of each shard, a duration such as 8h
    every: str  # a shard saves its files this often, a duration such as 1h
    shards: tuple[tuple[str, ...], ...]  # task ids
    submit: tuple[str, ...] = ()  # further arguments of `appliance submit`
    lines: tuple[str, ...] = ()  # further submit commands
    retries: int = 4  # of each node of the DAG
    site: str = NO_SITE
    model_from: str | None = None  # address of the model as a tar file, in place of the folder


def render_condor(tasks: TaskSet, job: CondorJob, slot: Slot) -> dict[str, str]:
    """Every file of the folder: its path in the folder to its text."""
    num_digits = len(str(len(job.shards) - 1))
    names = [f"shard-{index:0{num_digits}}" for index in range(len(job.shards))]
    shards = {
        f"tasks/{name}.json": challenges_json(tasks.select(ids))
        for name, ids in zip(names, job.shards, strict=True)
    }

    return {
        DAG: _dag(names, len(tasks), job.retries),
        "shard.sub": _shard_description(job, slot),
        "merge.sub": _merge_description(names, job, slot),
        "job.sh": template_path("condor", "job.sh").read_text(encoding="utf-8"),
        "tasks.json": challenges_json(tasks),
        **shards,
    }


def _shard_description(job: CondorJob, slot: Slot) -> str:
    sent = [] if job.model in (None, EMBEDDED) else [job.model_from or str(job.model)]
    leg = ["python", "-m", "appliance.pack.leg", "--out", "$(shard)"]
    leg += ["--budget", job.budget, "--every", job.every]
    leg += ["--unpack", job.model_from.rpartition("/")[2]] if job.model_from and sent else []
    submit = ["--tasks", "$(shard).json", "--profile", job.profile]
    submit += ["--model", Path(job.model).name] if job.model else []
    submit += ["--display", "plain", *job.submit]

    site = site_lines(
        job.site,
        budget_s=parse_duration(job.budget),
        has_gpu=bool(slot.num_gpus.value),
        files=[job.image, *sent],
    )
    values = {
        "checkpoint_every": job.every,
        "resources": slot.lines(),
        "memory_mib": slot.memory_mib.value,
        "image": job.image,
        "arguments": condor_arguments([*leg, "--", *submit]),
        "extra_inputs": "".join(f", {file}" for file in sent),
        "lines": submit_lines(site, job.lines),
    }
    return render(read_template("condor", "shard.sub"), values | _parts())


def _merge_description(names: Sequence[str], job: CondorJob, slot: Slot) -> str:
    site = site_lines(job.site, budget_s=MERGE_S, has_gpu=False, files=[job.image])
    values = {
        "merge_disk_gib": slot.disk_gib.value,
        "image": job.image,
        "arguments": condor_arguments(["python", "-m", "appliance.pack.merge", ".", "--out", "."]),
        "inputs": ", ".join(["tasks.json", *names]),
        "lines": submit_lines(site, [line for line in job.lines if not is_resource(line)]),
    }
    return render(read_template("condor", "merge.sub"), values | _parts())


def _parts() -> dict[str, str]:
    """What every description holds."""
    return {name: read_template("condor", f"{name}.sub").rstrip() for name in ("memory", "held")}


def _dag(names: Sequence[str], num_tasks: int, retries: int) -> str:
    lines = [
        f"# {num_tasks} tasks in {len(names)} shards, then one vote over all. "
        f"condor_submit_dag {DAG}",
        f"# Exit code {EXIT_COVERAGE}: a stage below its floor. To start again would gain nothing.",
    ]
    for name in names:
        lines += [
            f"JOB {name} shard.sub",
            f'VARS {name} shard="{name}"',
            f"RETRY {name} {retries} UNLESS-EXIT {EXIT_COVERAGE}",
        ]
    lines += [
        "# The vote comes last whatever became of the shards. Its exit code is that of the whole.",
        "FINAL merge merge.sub",
    ]
    return "\n".join(lines) + "\n"


def condor_arguments(arguments: Sequence[str]) -> str:
    """For `arguments = "..."`: parts with blanks or quotes in single quotes, quotes doubled.

    Raises UsageError for text that no quotes protect.

    >>> condor_arguments(["a", "b c", "it's"])
    "a 'b c' 'it''s'"
    """
    quoted = []
    for text in arguments:
        if re.search(r"[\x00-\x1f]|\$\(", text.replace("$(shard)", "")):
            raise UsageError(
                f"{text!r}: a submit file cannot hold this argument",
                expected="one line, without $(, which begins a macro of HTCondor",
                remedy="leave it away",
            )
        doubled = text.replace('"', '""').replace("'", "''")
        needs_quotes = not text or any(c in text for c in " \t'\"")
        quoted.append(f"'{doubled}'" if needs_quotes else doubled)
    return " ".join(quoted)
