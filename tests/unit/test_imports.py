"""Imports point down only: cli -> run -> solve -> engine, program -> machine -> arc -> config, errors, clock."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "appliance"
LEVELS = {
    "errors": 0, "clock": 0, "seeds": 0, "config": 1, "arc": 1, "models": 2, "machine": 2, "engine": 3, "program": 3,
    "solve": 4, "run": 5, "learn": 6, "report": 6, "pack": 6, "cli": 7,
}  # fmt: skip
HEAVY = {"torch", "transformers", "peft", "accelerate", "unsloth", "vllm", "bitsandbytes", "tokenizers", "safetensors"}
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.append(node.module)
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_only_its_own_level_and_below(path: Path) -> None:
    level = LEVELS.get(part_of(path))
    if level is None:
        return
    for name in imports(ast.parse(path.read_text())):
        if name.startswith("appliance.") and name.split(".")[1] != part_of(path):
            assert LEVELS[name.split(".")[1]] <= level, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_inside_functions_only(path: Path) -> None:
    tree = ast.parse(path.read_text())
    top = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
    names = {name.split(".")[0] for node in top for name in imports(node)}
    assert not names & HEAVY
