"""A program taken apart into steps, each a program of its own that returns what is there by then.

    out = fall(rot180(grid), LEFT)      becomes     rot180(grid)
    return swap(out, 1, 2)                          out = fall(rot180(grid), LEFT)
                                                    return swap(out, 1, 2)

It looks at the syntax tree and runs nothing: whoever wants to see the steps runs them in the
sandbox, as any other program.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from appliance.program.source import ENTRY, parsed

MOST_STEPS = 12
"""Of one program; a longer one is shown up to there."""

_HELPER = """

def _as_picture(value):
    value = getattr(value, "grid", value)
    return value.astype(int) if getattr(value, "dtype", None) == bool else value
"""
"""Objects and masks, too, can be drawn."""


@dataclass(frozen=True)
class Step:
    """One call, or one line, of a program."""

    code: str  # for people
    source: str  # a module whose `transform` returns what the step gives
    is_line: bool  # a whole line, not a call inside of one


def steps_of(source: str) -> list[Step]:
    """The steps of the function `transform`, in the order in which they run; none where the text is
    no such program."""
    tree = parsed(source)
    entries = [n for n in tree.body if isinstance(n, ast.FunctionDef)] if tree else []
    entry = next((node for node in entries if node.name == ENTRY), None)
    if tree is None or entry is None:
        return []

    steps = []
    for number, line in enumerate(entry.body):
        for code, shown, needs_line in _of_line(line):
            before = entry.body[: number + needs_line]
            result = ast.Return(ast.Call(ast.Name("_as_picture", ast.Load()), [shown], []))
            cut = ast.FunctionDef(**{**vars(entry), "body": [*before, result]})
            body = [cut if node is entry else node for node in tree.body]
            module = ast.fix_missing_locations(ast.Module(body, []))
            is_line = needs_line or (isinstance(line, ast.Return) and shown is line.value)
            steps.append(Step(code, ast.unparse(module) + _HELPER, is_line))
            if len(steps) == MOST_STEPS:
                return steps
    return steps


def _of_line(line: ast.stmt) -> Iterator[tuple[str, ast.expr, bool]]:
    """Its calls from the innermost one on, then the line: text, what to show, and whether the line
    must have run before."""
    value = getattr(line, "value", None)
    if isinstance(line, ast.Assign | ast.Return) and value is not None:
        for call in _calls_in(value):
            if call is not value:
                yield ast.unparse(call), call, False
    if isinstance(line, ast.Return):
        if value is not None:
            yield ast.unparse(line), value, False
        return

    stored = [
        n.id for n in ast.walk(line) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    ]
    if stored:  # the last name of `original, grid = grid, swap(grid)`, or of a loop
        yield ast.unparse(line), ast.Name(stored[-1], ast.Load()), True


def _calls_in(node: ast.AST) -> Iterator[ast.Call]:
    """Those that run exactly once, in the order in which they do."""
    if isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        return
    if isinstance(node, ast.IfExp | ast.BoolOp):  # only one side of them may run
        return
    for child in ast.iter_child_nodes(node):
        yield from _calls_in(child)
    if isinstance(node, ast.Call):
        yield node
