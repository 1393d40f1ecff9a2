"""A view: one of the ways to look at a task without changing what it asks.

A view is a geometric transform (one of the dihedral group D8), a permutation of the colours and an
order of the demonstrations. Its name alone is enough to invert it, so a candidate in the journal
needs nothing else to be turned back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from appliance.arc.grid import NUM_COLOURS, Grid, freeze
from appliance.arc.task import Pair, Task

IDENTITY_COLOURS = tuple(range(NUM_COLOURS))


@dataclass(frozen=True)
class View:
    """One way to look at a task; the default changes nothing.

    >>> view = View(flip=True, turns=1)
    >>> view.name
    'f1r1-0123456789'
    >>> View.parse(view.name) == view
    True
    """

    flip: bool = False  # mirror left-right first
    turns: int = 0  # then 0 to 3 quarter turns counter-clockwise
    colours: tuple[int, ...] = IDENTITY_COLOURS  # colour c becomes colours[c]
    # Demonstration i of the view is demonstration order[i] of the task; empty keeps their order.
    order: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if sorted(self.colours) != list(IDENTITY_COLOURS) or self.turns not in range(4):
            raise ValueError(f"not a view: turns {self.turns}, colours {self.colours}")
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"not an order of demonstrations: {self.order}")

    @property
    def name(self) -> str:
        base = f"f{int(self.flip)}r{self.turns}-" + "".join(map(str, self.colours))
        return base + ("-" + ".".join(map(str, self.order)) if self.order else "")

    @staticmethod
    def parse(name: str) -> View:
        """The view of that name. Raises ValueError when there is none."""
        match = re.fullmatch(r"f([01])r([0-3])-(\d{10})(?:-(\d+(?:\.\d+)*))?", name)
        if not match:
            raise ValueError(f"not the name of a view: {name!r}")

        flip, turns, colours, order = match.groups()
        return View(
            flip == "1",
            int(turns),
            tuple(map(int, colours)),
            tuple(map(int, order.split("."))) if order else (),
        )

    def apply(self, grid: Grid) -> Grid:
        turned = np.rot90(grid[:, ::-1] if self.flip else grid, self.turns)
        return freeze(np.asarray(self.colours, dtype=np.int8)[turned])

    def invert(self, grid: Grid) -> Grid:
        """The grid g for which apply(g) is the given one."""
        recoloured = np.argsort(np.asarray(self.colours)).astype(np.int8)[grid]
        turned = np.rot90(recoloured, -self.turns)
        return freeze(turned[:, ::-1] if self.flip else turned)

    def apply_task(self, task: Task) -> Task:
        """The task as this view shows it; its test inputs keep their order.

        Raises ValueError when the view orders another number of demonstrations than the task has.
        """
        if self.order and len(self.order) != len(task.train):
            raise ValueError(
                f"view orders {len(self.order)} demonstrations, the task has {len(task.train)}"
            )

        train = tuple(task.train[i] for i in self.order) if self.order else task.train
        return Task(
            task.task_id,
            tuple(Pair(self.apply(p.input), self.apply(p.output)) for p in train),
            tuple(self.apply(g) for g in task.test),
        )


IDENTITY = View()
"""The task as it is."""
D8 = tuple(View(flip=flip, turns=turns) for flip in (False, True) for turns in range(4))
"""The eight turns and mirror images of a square."""


def random_colours(
    rng: np.random.Generator, *, keep_zero_probability: float = 0.9
) -> tuple[int, ...]:
    """A permutation of the colours.

    With the given probability 0, mostly the background, stays and 1-9 are shuffled; else all ten.
    """
    if rng.random() < keep_zero_probability:
        return (0, *(1 + rng.permutation(NUM_COLOURS - 1)).tolist())
    return tuple(rng.permutation(NUM_COLOURS).tolist())


def random_view(
    rng: np.random.Generator,
    num_demonstrations: int,
    *,
    keep_colours: bool = False,
    keep_orientation: bool = False,
) -> View:
    """A view drawn uniformly over D8 and orders; colours as `random_colours`.

    Colours, and turns and flips, may each be kept as they are.
    """
    flip, turns = bool(rng.integers(2)), int(rng.integers(4))
    return View(
        flip=flip and not keep_orientation,
        turns=0 if keep_orientation else turns,
        colours=IDENTITY_COLOURS if keep_colours else random_colours(rng),
        order=tuple(int(i) for i in rng.permutation(num_demonstrations)),
    )


def most_views(*, keep_colours: bool, keep_orientation: bool) -> int | None:
    """How many ways there are to look at a grid when some of it is kept; None: very many."""
    if not keep_colours:
        return None
    return 1 if keep_orientation else len(D8)


def sampling_views(
    rng: np.random.Generator,
    num_views: int,
    num_demonstrations: int,
    *,
    keep_colours: bool = False,
    keep_orientation: bool = False,
) -> Sequence[View]:
    """Views to sample under: the identity, then D8 over and over, with random colours and order.

    Colours, and turns and flips, may each be kept as they are. With both of them kept there is the
    identity alone.
    """
    views = [IDENTITY]
    if keep_colours and keep_orientation:
        return views

    while len(views) < num_views:
        geometry = IDENTITY if keep_orientation else D8[len(views) % len(D8)]
        colours = IDENTITY_COLOURS if keep_colours else random_colours(rng)
        order = tuple(rng.permutation(num_demonstrations).tolist())
        views.append(View(geometry.flip, geometry.turns, colours, order))

    return views[:num_views]
