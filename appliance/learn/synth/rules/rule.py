"""A rule that shows itself: a name and a sampler of input and output."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from appliance.learn.synth.family import Cells, Rng
from appliance.learn.synth.rules.things import Scene


@dataclass(frozen=True, eq=False)
class Shown:
    """An input and its output."""

    before: Cells
    after: Cells
    scene: Scene | None = None  # for rules that choose things: the scene ...
    chosen: tuple[bool, ...] = ()  # ... and whether each of its things is chosen
    # Cases of the rule that this pair shows. The last pair shows none that the others do not.
    must_show: frozenset[Hashable] = frozenset()


@dataclass(frozen=True)
class Rule:
    name: str  # scene, selector, action and parameters: equal for equal rules
    show: Callable[[Rng], Shown]  # raises ValueError where a draw does not show the rule
