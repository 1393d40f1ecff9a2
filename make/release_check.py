"""`make release-check`: one version everywhere, before a release is pushed.

The version of pyproject.toml must be the newest entry of CHANGELOG.md, with a date; the label of
both images; and a git tag (`v0.2.0`) on the commit that is checked out. Only the standard library,
so that it runs before anything is installed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[1]

ENTRY = re.compile(r"^## (\S+)(?: \((.+)\))?$", re.MULTILINE)
"""The heading of a changelog entry: `## 0.2.0 (2026-11-27)`."""

LABELS = {
    "Dockerfile": re.compile(r"^ARG VERSION=(\S+)$", re.MULTILINE),
    "apptainer.def": re.compile(r"^ *org\.opencontainers\.image\.version (\S+)$", re.MULTILINE),
}
"""Where each image states the version."""


def faults(root: Path, tags: list[str]) -> list[str]:
    """What disagrees with pyproject.toml, a sentence each; empty when a release may go out.

    tags: the git tags on the commit that is checked out.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = project["version"]
    found = _changelog_faults((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)

    for name, pattern in LABELS.items():
        label = pattern.search((root / name).read_text(encoding="utf-8"))
        if label is None or label[1] != version:
            says = f"version {label[1]}" if label else "no version"
            found.append(f"{name} has {says}; expected: {version}; do: change it there")

    if f"v{version}" not in tags:
        has = f"only {', '.join(tags)}" if tags else "no tag"
        found.append(
            f"the commit has {has}; expected: v{version}; "
            f"do: git tag -a v{version} -m 'Release {version}', once everything else agrees"
        )
    return found


def _changelog_faults(text: str, version: str) -> list[str]:
    entry = ENTRY.search(text)
    if entry is None or entry[1] != version:
        top = f"begins with {entry[1]}" if entry else "has no entry"
        return [
            f"CHANGELOG.md {top}; expected: {version}, as in pyproject.toml; "
            "do: write the entry, or change the version"
        ]

    try:
        date.fromisoformat(entry[2] or "")
    except ValueError:
        today = date.today()  # noqa: DTZ011
        return [
            f"the entry {version} of CHANGELOG.md is dated {entry[2] or 'not at all'!r}; "
            f"expected: the day of the release; do: write ## {version} ({today})"
        ]
    return []


def tags_here(root: Path) -> list[str]:
    """The git tags on the commit that is checked out."""
    command = ["git", "-C", str(root), "tag", "--points-at", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


def main() -> int:
    found = faults(ROOT, tags_here(ROOT))
    for fault in found:
        print(f"release-check: {fault}", file=sys.stderr)
    if not found:
        print("release-check: version, CHANGELOG, image labels and tag agree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
