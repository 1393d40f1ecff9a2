"""A bar that counts what a verb has done, where a person watches a terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from appliance.clock import Deadline, SystemClock
from appliance.program.sandbox import Sandbox
from appliance.program.trial import Draft, Run, Trial, run_drafts

Item = TypeVar("Item")


def counted(items: Iterable[Item], total: int | None = None, *, what: str) -> Iterator[Item]:
    """The items as they are; while they come, a bar on stderr that is gone in the end.

    total: how many there will be, None where nobody knows.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield from items
        return

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(items, total=total)


@contextmanager
def watched(total: float) -> Iterator[Callable[[float, str], None]]:
    """A function that says how far the work is, of the total, and in words: a bar on stderr where
    a person watches, gone in the end; else nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, text: None
        return

    columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=total)
        yield lambda done, text: progress.update(bar, completed=done, description=text)


def counted_runs(sandbox: Sandbox) -> Run:
    """Runs programs in the sandbox until all are through, and counts them."""

    def run(drafts: Sequence[Draft]) -> Iterator[Trial]:
        never = Deadline(math.inf, SystemClock())
        trials = run_drafts(drafts, sandbox, deadline=never)
        return counted(trials, len(drafts), what="programs run")

    return run
