"""`make release-check` names what disagrees, and is silent when nothing does."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
faults: Callable[[Path, list[str]], list[str]] = runpy.run_path(
    str(ROOT / "make" / "release_check.py")
)["faults"]

FILES = {
    "pyproject.toml": '[project]\nversion = "1.2.0"\n',
    "CHANGELOG.md": "# Changelog\n\n## 1.2.0 (2026-11-27)\n\n- New.\n\n## 1.1.0 (2026-01-01)\n",
    "Dockerfile": "FROM base\nARG VERSION=1.2.0\n",
    "apptainer.def": "%labels\n    org.opencontainers.image.version 1.2.0\n",
}


def write_all(root: Path, **changed: str) -> Path:
    for name, text in (FILES | changed).items():
        (root / name).write_text(text)
    return root


def test_nothing_to_say_where_all_agree(tmp_path: Path) -> None:
    assert faults(write_all(tmp_path), ["v1.2.0", "latest"]) == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("pyproject.toml", '[project]\nversion = "1.3.0"\n', "CHANGELOG.md begins with 1.2.0"),
        ("CHANGELOG.md", "# Changelog\n", "CHANGELOG.md has no entry"),
        ("CHANGELOG.md", "## 1.2.0 (unreleased)\n", "dated 'unreleased'"),
        ("CHANGELOG.md", "## 1.2.0\n", "dated 'not at all'"),
        ("Dockerfile", "ARG VERSION=1.1.0\n", "Dockerfile has version 1.1.0"),
        ("apptainer.def", "%labels\n", "apptainer.def has no version"),
    ],
)
def test_what_disagrees_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    found = faults(write_all(tmp_path, **{name: text}), ["v1.2.0", "v1.3.0"])
    assert said in found[0]


@pytest.mark.parametrize(("tags", "said"), [([], "no tag"), (["v1.1.0"], "only v1.1.0")])
def test_the_commit_needs_the_tag_of_its_version(
    tmp_path: Path, tags: list[str], said: str
) -> None:
    (found,) = faults(write_all(tmp_path), tags)
    assert said in found
    assert "git tag -a v1.2.0" in found


def test_the_files_of_this_repository_agree() -> None:
    """All but the tag, which only a release has."""
    assert [f for f in faults(ROOT, []) if "git tag" not in f] == []
