"""From what a model wrote to a program that can run: a module that defines `transform(grid)`. Everything by the syntax tree.

Nothing is refused here: what the text does is the sandbox's business. Words in comments and strings mean nothing.
"""

from __future__ import annotations

import ast
import warnings
from textwrap import indent
from typing import Literal

ENTRY = "transform"
DSL_HEADER = "from dsl import *\n\n\n"
LIBRARY_HEADER = "from common import *\n"
OTHER_ENTRIES = ("task", "main", "solve")
"""What prompts of the prior systems call the function; `task` is that of code-from-examples."""
CHANCE_MODULES = frozenset({"random", "secrets", "uuid", "time", "datetime", "numpy.random"})
CHANCE_ATTRIBUTES = frozenset({"random", "urandom", "getrandom"})


def runnable(answer: str, kind: Literal["program", "body"]) -> str:
    """The source that the sandbox runs.

    body: the dedented body of `transform` in the DSL. program: a module; it finds the library `common`, which is what the
    induction models of BARC call, and a function under another known name is called `transform` as well.
    """
    if kind == "body":
        return f"{DSL_HEADER}def {ENTRY}(grid):\n{indent(answer, '    ')}\n"
    tree = parsed(answer)
    source = answer if tree is None or _imports(tree, "common") else LIBRARY_HEADER + answer
    entry = _entry(tree) if tree is not None else ENTRY
    return source + "\n" if entry in (None, ENTRY) else f"{source}\n\n{ENTRY} = {entry}\n"


def same_form(source: str) -> str:
    """A text that two programs share exactly when they differ in comments, blanks and quotes at most."""
    tree = parsed(source)
    return source if tree is None else ast.unparse(tree)


def uses_chance(source: str) -> bool:
    """Whether the program reaches for something that may differ from run to run: a random generator or a clock.

    A program that does is run a second time with another seed before it counts. `random` in a comment, in a string or as a
    name of its own is none of it, nor is an import that nothing uses.
    """
    tree = parsed(source)
    if tree is None:
        return False
    nodes = list(ast.walk(tree))
    own = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    own |= {n.arg for n in nodes if isinstance(n, ast.arg)} | {
        n.name for n in nodes if isinstance(n, ast.FunctionDef)
    }
    names = {"random"} | {
        name for node in nodes for name in _chance_imports(node)
    }  # `common` brings `random` along
    used = {n.id for n in nodes if isinstance(n, ast.Name)} - own
    attributes = {n.attr for n in nodes if isinstance(n, ast.Attribute)}
    return bool(
        names & used or any(u.startswith("random_") for u in used) or CHANCE_ATTRIBUTES & attributes
    )


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
            warnings.simplefilter(
                "ignore"
            )  # invalid escapes and the like are the program's own affair
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _imports(tree: ast.Module, module: str) -> bool:
    return any(isinstance(node, ast.ImportFrom) and node.module == module for node in tree.body)


def _entry(tree: ast.Module) -> str | None:
    """The function to call: `transform`, else one of the other names, else the only function there is."""
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    for name in (ENTRY, *OTHER_ENTRIES):
        if name in names:
            return name
    return names[0] if len(names) == 1 else None
