"""All families, and their split into training and held-out ones."""

from __future__ import annotations

from functools import cache
from typing import Literal

from appliance.learn.synth.family import Family
from appliance.learn.synth.themes import (
    colour,
    counting,
    drawing,
    edit,
    geometry,
    logic,
    motion,
    pattern,
    scaling,
    select,
    sketch,
    symmetry,
)


@cache
def families() -> tuple[Family, ...]:
    """Every family, theme by theme; names are unique."""
    themes = (
        geometry,
        scaling,
        symmetry,
        colour,
        counting,
        drawing,
        motion,
        select,
        edit,
        logic,
        pattern,
        sketch,
    )
    return tuple(family for theme in themes for family in theme.FAMILIES)


def families_of(split: Literal["train", "held_out"]) -> tuple[Family, ...]:
    """The families to train on, or those kept out of training for experiments."""
    return tuple(family for family in families() if family.is_held_out == (split == "held_out"))
