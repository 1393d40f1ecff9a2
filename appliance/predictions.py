"""N predictions: over how many views, samples and rounds they are spread. It is decided here alone.

With `sample.predictions` a task gets so many answers to each test output, neither more nor fewer,
and so many programs where the run writes programs. They come in one pass: there is no quick pass
and no further round.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from appliance.arc.view import most_views
from appliance.config import Settings
from appliance.errors import UsageError

AT_ONCE = 8
"""Samples of one prompt that are asked for together, before the other prompts get their turn."""


@dataclass(frozen=True)
class Spread:
    """Views, and the answers under each of them."""

    num_views: int
    samples_per_view: int  # the first views have so many, others may have one less


def spread(settings: Settings, given: Collection[str]) -> Spread:
    """Different views first; more answers than views are drawn from each view.

    given: the dotted keys that the user set. `sample.samples_per_view` and `sample.views` hold, in
    this order, as far as there are so many views.

    Raises UsageError where the user wants greedy answers, and some of them would be the same.
    """
    sample = settings.sample
    num = sample.predictions
    assert num is not None

    wanted = num
    if "sample.samples_per_view" in given:
        wanted = -(-num // sample.samples_per_view)
    elif "sample.views" in given:
        wanted = min(num, sample.views)
    num_views = min(wanted, most_views(**sample.kept) or wanted)

    found = Spread(num_views, samples_per_view=-(-num // num_views))
    if found.samples_per_view > 1 and "sample.temperature" in given and not sample.temperature:
        raise UsageError(
            f"sample.predictions={num} over {num_views} views at sample.temperature=0",
            expected="a temperature above 0: greedy answers under one view are all the same",
            remedy="leave sample.temperature out, which takes 1, or ask for fewer predictions",
        )
    return found


def samples_of_views(num: int, num_views: int) -> tuple[int, ...]:
    """Answers under each view.

    >>> samples_of_views(10, 4)
    (3, 3, 2, 2)
    """
    each, more = divmod(num, num_views)
    return tuple(each + (i < more) for i in range(num_views))


Output = tuple[str, int]
"""A view by its name, and the number of a test input."""


def in_order(
    num: int, views: tuple[str, ...], num_tests: int, done: Mapping[Output, int]
) -> list[tuple[str, int, int]]:
    """View, test input and samples of each question that is open, in the order of asking.

    The test inputs take turns, and so do the views, so that a deadline cuts off none of them.
    done: answers that are there.

    >>> in_order(3, ("a", "b"), 2, {("a", 1): 2})
    [('a', 0, 2), ('b', 0, 1), ('b', 1, 1)]
    """
    open_still = {
        (view, test_index): most - done.get((view, test_index), 0)
        for view, most in zip(views, samples_of_views(num, len(views)), strict=True)
        for test_index in range(num_tests)
    }

    asked = []
    while any(left > 0 for left in open_still.values()):
        for (view, test_index), left in open_still.items():
            if left > 0:
                asked.append((view, test_index, min(AT_ONCE, left)))
            open_still[view, test_index] = left - AT_ONCE
    return asked


def program_rounds(settings: Settings) -> tuple[int, ...]:
    """Programs of each round of writing; between two rounds the model learns from them.

    Without learning there is one round. With it, the model as it is writes `program.quick_samples`,
    but no more than half of all, and then learns from them before each further round of
    `program.samples_per_epoch`.
    """
    num, program = settings.sample.predictions, settings.program
    assert num is not None
    if not settings.learns:
        return (num,)

    first = min(program.quick_samples, -(-num // 2))
    full, rest = divmod(num - first, program.samples_per_epoch)
    return (first, *[program.samples_per_epoch] * full, *([rest] if rest else []))


def rounds_left(rounds: tuple[int, ...], num_written: int) -> tuple[int, ...]:
    """The rounds that are not over when so many programs are written.

    >>> rounds_left((8, 32, 32), 10)
    (30, 32)
    """
    left = list(rounds)
    while left and num_written >= left[0]:
        num_written -= left.pop(0)
    if left:
        left[0] -= num_written
    return tuple(left)
