"""What a DAG of HTCondor says of its jobs."""

from __future__ import annotations

import re


def variables_of(dag: str) -> dict[str, dict[str, str]]:
    """The VARS of each job, in the order of the file."""
    found: dict[str, dict[str, str]] = {}
    for line in dag.splitlines():
        if line.startswith("VARS "):
            job = line.split()[1]
            found.setdefault(job, {}).update(re.findall(r'(\w+)="([^"]*)"', line))
    return found
