"""From what a model wrote to a program that can run: a module that defines `transform(grid)`.

It looks at the syntax tree, never at the text, so words in comments and strings mean nothing.
Nothing is refused here: what the program does is the sandbox's business.
"""

from __future__ import annotations

import ast
import warnings
from textwrap import indent
from typing import Literal

ENTRY = "transform"
"""The function that the sandbox calls."""
DSL_HEADER = "from dsl import *\n\n\n"
LIBRARY_HEADER = "from common import *\n"
OTHER_ENTRIES = ("task", "main", "solve")
"""What the prompts of arc24 and others call the function; `task` is that of code-from-examples."""
CHANCE_MODULES = frozenset({"random", "secrets", "uuid", "time", "datetime", "numpy.random"})
CHANCE_ATTRIBUTES = frozenset({"random", "urandom", "getrandom"})


def runnable(answer: str, kind: Literal["program", "body"]) -> str:
    """The source that the sandbox runs.

    "body": the dedented body of `transform` in the DSL.
    "program": a module. It gets the library `common`, which BARC's induction models call, and a
    function under another known name becomes `transform`.
    """
    if kind == "body":
        return f"{DSL_HEADER}def {ENTRY}(grid):\n{indent(answer, '    ')}\n"
    tree = parsed(answer)
    source = answer if tree is None or _imports(tree, "common") else LIBRARY_HEADER + answer
    entry = _entry(tree) if tree is not None else ENTRY
    return source + "\n" if entry in (None, ENTRY) else f"{source}\n\n{ENTRY} = {entry}\n"


def same_form(source: str) -> str:
    """A text that is equal for two programs that differ only in comments, blanks and quotes."""
    tree = parsed(source)
    return source if tree is None else ast.unparse(tree)


def uses_chance(source: str) -> bool:
    """Whether the program uses what may differ from run to run: a random generator or a clock.

    A program that does is run a second time with another seed before it counts. `random` in a
    comment, in a string or as a name of its own does not count, nor does an unused import.
    """
    tree = parsed(source)
    if tree is None:
        return False

    nodes = list(ast.walk(tree))
    own = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    own |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    own |= {n.name for n in nodes if isinstance(n, ast.FunctionDef)}

    # `random` even where it is not imported: `from common import *` brings it along.
    names = {"random"} | {name for node in nodes for name in _chance_imports(node)}
    used = {n.id for n in nodes if isinstance(n, ast.Name)} - own
    attributes = {n.attr for n in nodes if isinstance(n, ast.Attribute)}

    # `random_sprite` and its like are functions of `common`.
    has_random_function = any(name.startswith("random_") for name in used)
    return bool(names & used or has_random_function or CHANCE_ATTRIBUTES & attributes)


def _chance_imports(node: ast.AST) -> list[str]:
    """Names that the import binds to a source of chance."""
    if isinstance(node, ast.Import):
        return [
            a.asname or a.name.partition(".")[0] for a in node.names if a.name in CHANCE_MODULES
        ]
    if isinstance(node, ast.ImportFrom) and node.module in CHANCE_MODULES:
        return [a.asname or a.name for a in node.names]

    return []


def parsed(source: str) -> ast.Module | None:
    """The syntax tree, None where the text is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes are the program's own affair
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _imports(tree: ast.Module, module: str) -> bool:
    return any(isinstance(node, ast.ImportFrom) and node.module == module for node in tree.body)


def _entry(tree: ast.Module) -> str | None:
    """The function to call: `transform`, else another known name, else the only function."""
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    for name in (ENTRY, *OTHER_ENTRIES):
        if name in names:
            return name

    return names[0] if len(names) == 1 else None
