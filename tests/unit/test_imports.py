"""Imports point down only.

`pytest -s tests/unit/test_imports.py` prints who imports whom, by folder.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.support.cases import REPOSITORY

PACKAGE = REPOSITORY / "appliance"
HEAVY = {
    "torch", "transformers", "peft", "accelerate", "unsloth", "vllm", "bitsandbytes", "tokenizers",
    "safetensors",
}  # fmt: skip

LEVELS = (
    ("cli_page", "__main__"),
    ("cli",),
    ("commands",),
    ("run", "learn", "report", "pack"),
    ("record",),
    ("solve",),
    ("search",),
    ("engine", "program"),
    ("sizing",),
    ("machine",),
    ("models", "predictions"),
    ("arc",),
    ("config",),
    ("names", "atomic", "process", "yaml_text"),
    ("clock", "seeds", "foreign_text"),
    ("errors",),
)
"""From the roof to the ground. A part imports lower levels only, so siblings never meet."""

MOST_FILES = 16
"""A folder with more names than this is not read at one look."""

FILES = sorted(PACKAGE.rglob("*.py"))
DEPTH = {part: depth for depth, parts in enumerate(reversed(LEVELS)) for part in parts}
MODULE = re.compile(r"\bappliance((?:\.[a-z_][a-z_0-9]*)+)\b")


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules_named(tree: ast.AST) -> set[str]:
    """What a file imports: at its top, inside functions, and in code that it holds as text."""
    found = set()
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:  # relative ones stay in their folder
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and id(node) not in docstrings:
            found |= {f"appliance{m.group(1)}" for m in MODULE.finditer(str(node.value))}
    return found


def parts_used(path: Path) -> set[str]:
    """The other parts of the package that a file names."""
    names = modules_named(ast.parse(path.read_text()))
    parts = {name.split(".")[1] for name in names if name.startswith("appliance.")}
    return (parts & DEPTH.keys()) - {part_of(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_only_what_lies_below_it(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        return

    above = {used for used in parts_used(path) if DEPTH[used] >= DEPTH[part]}
    assert not above, f"{path.relative_to(PACKAGE)} imports {above}, which is not below {part}"


def test_every_part_has_a_level() -> None:
    parts = {part_of(path) for path in FILES} - {"__init__"}
    assert parts <= DEPTH.keys()


def test_folders_import_each_other_in_one_direction(capsys: pytest.CaptureFixture[str]) -> None:
    arrows: dict[str, Counter[str]] = defaultdict(Counter)
    for path in FILES:
        arrows[part_of(path)].update(parts_used(path))

    for part in sorted(arrows, key=lambda p: -DEPTH.get(p, 0)):
        print(
            f"{part:10} -> {', '.join(f'{used} ({n})' for used, n in arrows[part].most_common())}"
        )

    circles = {(a, b) for a in arrows for b in arrows[a] if a in arrows[b]}
    assert not circles


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=str)
def test_a_folder_reads_as_a_table_of_contents(folder: Path) -> None:
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    # One file a theme of training tasks, and one a verb, as many as there are.
    if folder.name not in ("themes", "commands"):
        assert len(files) <= MOST_FILES


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_inside_functions_only(path: Path) -> None:
    tree = ast.parse(path.read_text())
    top = ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], [])
    names = {name.split(".")[0] for name in modules_named(top)}
    assert not names & HEAVY
