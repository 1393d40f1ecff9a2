"""`appliance train` with `loop: fast`: resumed to the bit, ended by time, and a result like any
other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from appliance import cli
from appliance.clock import VirtualClock
from appliance.engine.folder.card import read_card
from appliance.engine.load_model import load_causal_lm
from appliance.engine.tokens import Codec
from appliance.errors import InputError, UsageError
from appliance.learn.fast.datasets import open_samplers
from appliance.learn.fast.decoder import Decoder
from appliance.learn.fast.trainer import FastStepper, train_fast
from appliance.learn.recipe import Recipe
from appliance.learn.start import make_start
from appliance.learn.training_loop import Hooks
from appliance.models.vocabularies import VOCABULARIES
from bench.job import submit_command
from tests.support.main_job import finish, submission_faults

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

VALUES: dict[str, Any] = {
    "seed": 3,
    "loop": "fast",
    "architecture": {
        "tokens": "grid-tokens-v2",
        "hidden_size": 64,
        "num_layers": 1,
        "intermediate_size": 128,
        "max_positions": 512,
    },
    "precision": "float32",
    "data": {
        "row_tokens": 768,
        "rows_per_step": 2,
        "max_seq_tokens": 256,
        "datasets": {"tasks": {"min_pairs": 2, "max_pairs": 4}},
    },
    "optimization": {
        "optimizer": "muon",
        "schedule": "constant",
        "learning_rate": 0.01,
        "warmup_steps": 5,
        "max_steps": 10,
    },
    "save_every_steps": 4,
    "log_every_steps": 1,
}


@pytest.fixture(scope="module")
def tasks(challenges: Path) -> str:
    return str(challenges)


def recipe_of(tasks: str, **changes: Any) -> Recipe:
    """The recipe above on these tasks; changes: "part__key" or "key" to its value."""
    values = json.loads(json.dumps(VALUES))
    values["data"]["datasets"]["tasks"]["source"] = tasks
    for dotted, value in changes.items():
        *parts, key = dotted.split("__")
        part = values
        for name in parts:
            part = part[name]
        part[key] = value
    return Recipe.model_validate(values)


def train(
    recipe: Recipe,
    out: Path,
    *,
    stop_after: int = 0,
    clock: VirtualClock | None = None,
    step_s: float = 1.0,
    evaluate: Callable[[Decoder], dict[str, float]] | None = None,
) -> Path:
    """Train, every step taking so long by the clock; stopped after so many steps, if any."""
    clock = clock or VirtualClock()
    num_steps = 0

    def is_interrupted() -> bool:
        nonlocal num_steps
        num_steps += 1
        clock.sleep(step_s)
        return num_steps == stop_after

    start = make_start(recipe, device="cpu")
    return train_fast(
        recipe,
        start,
        partial(open_samplers, recipe, None, start.style),
        recipe.identity(corpus="", base=start.base_sha, adapter=""),
        out=out,
        clock=clock,
        hooks=Hooks(is_interrupted=is_interrupted),
        evaluate=evaluate,
    )


def lines_of(out: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def losses(out: Path) -> dict[int, float]:
    """The last loss written for every step."""
    return {line["step"]: line["loss"] for line in lines_of(out)}


def saved(checkpoint: Path) -> dict[str, Any]:
    held: dict[str, Any] = torch.load(checkpoint / "state.pt", weights_only=True)
    return held


def newest(out: Path) -> Path:
    return max((out / "checkpoints").iterdir())


def same_weights(a: Path, b: Path) -> bool:
    """Whether the newest checkpoints of two runs hold the same weights, to the bit."""
    first, second = saved(newest(a)), saved(newest(b))
    assert first["step"] == second["step"]
    return all(torch.equal(w, second["model"][name]) for name, w in first["model"].items())


@pytest.fixture(scope="module")
def undisturbed(tasks: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing interrupted."""
    out = tmp_path_factory.mktemp("fast") / "undisturbed"
    assert train(recipe_of(tasks), out) == out / "model"
    return out


def test_an_interrupted_run_goes_on_to_the_same_weights(
    tasks: str, undisturbed: Path, tmp_path: Path
) -> None:
    recipe, out = recipe_of(tasks), tmp_path / "out"
    assert train(recipe, out, stop_after=3) == out / "checkpoints" / "step_00000003"
    assert not (out / "model").exists()
    train(recipe, out, stop_after=4)
    assert train(recipe, out) == out / "model"

    assert losses(out) == losses(undisturbed)
    assert len(losses(out)) == 10
    assert same_weights(out, undisturbed)
    files = [(folder / "model" / "model.safetensors").read_bytes() for folder in (out, undisturbed)]
    assert files[0] == files[1]


def test_a_killed_run_goes_on_from_the_checkpoint_before(
    tasks: str, undisturbed: Path, tmp_path: Path
) -> None:
    """What SIGKILL after step 9 leaves: the checkpoint of step 8, and half of the next."""
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    shutil.rmtree(out / "model")
    shutil.rmtree(out / "checkpoints" / "step_00000010")
    assert [folder.name for folder in (out / "checkpoints").iterdir()] == ["step_00000008"]

    train(recipe_of(tasks), out)
    assert same_weights(out, undisturbed)
    assert losses(out) == losses(undisturbed)


def test_a_finished_run_is_not_trained_again(tasks: str, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    assert train(recipe_of(tasks), out) == out / "model"
    assert len(lines_of(out)) == 10
    assert same_weights(out, undisturbed)


def test_it_learns_and_counts_tokens(undisturbed: Path) -> None:
    lines = lines_of(undisturbed)
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    tokens = [line["tokens"] for line in lines]
    assert tokens == sorted(tokens)
    assert 0 < tokens[-1] <= 10 * 2 * 768
    assert [line["learning_rate"] for line in lines[:5]] == pytest.approx(
        [0.002, 0.004, 0.006, 0.008, 0.01]
    )


def test_time_ends_a_run_and_the_rate_falls_with_it(tasks: str, tmp_path: Path) -> None:
    recipe = recipe_of(
        tasks,
        optimization__schedule="linear",
        optimization__warmup_steps=0,
        optimization__max_steps=1_000_000,
        optimization__max_seconds=8,
        save_every_steps=100,
    )
    out = tmp_path / "out"
    assert train(recipe, out) == out / "model"

    # The first step, which would compile, counts for nothing.
    rates = [line["learning_rate"] for line in lines_of(out)]
    assert rates == pytest.approx(
        [0.01 * (8 - s) / 8 for s in (0, 0, 1, 2, 3, 4, 5, 6, 7)], rel=1e-4
    )
    assert saved(newest(out))["seconds"] == 8.0
    assert saved(newest(out))["step"] == 9


def test_elapsed_time_goes_on_where_it_stopped(tasks: str, tmp_path: Path) -> None:
    recipe = recipe_of(
        tasks,
        optimization__schedule="linear",
        optimization__warmup_steps=0,
        optimization__max_steps=1_000_000,
        optimization__max_seconds=8,
        save_every_steps=100,
    )
    out = tmp_path / "out"
    folder = train(recipe, out, stop_after=4, clock=VirtualClock(500.0))
    assert saved(folder)["seconds"] == 3.0

    assert train(recipe, out, clock=VirtualClock(9000.0)) == out / "model"
    assert saved(newest(out))["seconds"] == 8.0
    assert saved(newest(out))["step"] == 4 + 6
    assert lines_of(out)[4]["learning_rate"] == pytest.approx(0.01 * 5 / 8, rel=1e-4)


def test_figures_are_taken_now_and_then_and_at_the_end(tasks: str, tmp_path: Path) -> None:
    seen: list[Decoder] = []

    def evaluate(decoder: Decoder) -> dict[str, float]:
        seen.append(decoder)
        return {"seen": float(len(seen))}

    recipe = recipe_of(
        tasks, evaluation={"tasks": tasks, "every_steps": 3}, optimization__max_steps=7
    )
    train(recipe, tmp_path / "out", evaluate=evaluate)
    assert lines_of(tmp_path / "out", "evaluation.jsonl") == [
        {"step": 0, "seen": 1.0},
        {"step": 3, "seen": 2.0},
        {"step": 6, "seen": 3.0},
        {"step": 7, "seen": 4.0},
    ]


def test_numbers_that_are_none_end_the_run_before_they_are_saved(
    tasks: str, tmp_path: Path
) -> None:
    recipe = recipe_of(
        tasks,
        optimization__optimizer="adamw",
        optimization__learning_rate=1e30,
        optimization__warmup_steps=0,
        log_every_steps=100,
        save_every_steps=3,
    )
    with pytest.raises(InputError, match=r"step 3: loss nan.*finite"):
        train(recipe, tmp_path / "out")
    assert not (tmp_path / "out" / "checkpoints").exists()

    logged = recipe.model_copy(update={"log_every_steps": 1})
    with pytest.raises(InputError, match=r"step 2: .* gradient norm nan"):
        train(logged, tmp_path / "logged")
    assert len(lines_of(tmp_path / "logged")) == 1


def test_what_only_the_stock_loop_can_do_is_refused(tasks: str, tiny_model: Path) -> None:
    def refused(**changes: Any) -> str:
        recipe = recipe_of(tasks, **changes)
        with pytest.raises(UsageError, match="loop: stock") as caught:
            FastStepper(recipe, make_start(recipe, device="cpu"))
        return caught.value.found

    lora = {"start_from": str(tiny_model), "adaptation": {"method": "lora", "rank": 2}}
    assert refused(**lora) == "loop fast with adaptation.method lora"
    assert refused(architecture__layout="qwen3") == "loop fast with a model that is no Llama"
    assert refused(precision="float16") == "loop fast with precision float16"
    assert "style" in refused(data__datasets__tasks__style="grid-tokens-v1")


@pytest.mark.parametrize(
    ("difference", "found"),
    [
        ({"num_key_value_heads": 1}, "heads that are no 64 wide or share keys"),
        ({"num_attention_heads": 4, "head_dim": 32}, "heads that are no 64 wide or share keys"),
        ({"tie_word_embeddings": False}, "an output table of its own"),
    ],
)
def test_a_llama_of_another_build_is_refused(
    tasks: str, difference: dict[str, Any], found: str
) -> None:
    from transformers import LlamaForCausalLM

    recipe = recipe_of(tasks, architecture__hidden_size=128)
    start = make_start(recipe, device="cpu")
    config = type(start.model.config)(**start.model.config.to_dict() | difference)
    with pytest.raises(UsageError, match=found):
        FastStepper(recipe, replace(start, model=LlamaForCausalLM(config)))


def test_only_the_fast_loop_ends_by_time(tasks: str) -> None:
    with pytest.raises(ValueError, match="max_seconds goes with loop: fast"):
        recipe_of(tasks, loop="stock", optimization__max_seconds=8)


@pytest.fixture
def recipe_file(tmp_path: Path, tasks: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_of(tasks, optimization__max_steps=4).model_dump_json())  # JSON is YAML
    return path


def command(recipe_file: Path, out: Path, *more: str) -> list[str]:
    return ["train", "--recipe", str(recipe_file), "--out", str(out), "--display", "plain", *more]


@pytest.mark.parametrize("first", ["stock", "fast"])
def test_a_folder_of_the_other_loop_is_refused(
    first: str, recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"stock": "fast", "fast": "stock"}[first]
    assert cli.main(command(recipe_file, tmp_path / "out", "--set", f"loop={first}")) == 0
    assert cli.main(command(recipe_file, tmp_path / "out", "--set", f"loop={other}")) == 2
    assert "holds a run with another loop" in capsys.readouterr().err


def test_a_checkpoint_of_before_there_were_loops_is_one_of_the_stock_loop(
    tasks: str, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    identity = newest(out) / "identity.json"
    old = json.loads(identity.read_text())
    del old["loop"]
    identity.write_text(json.dumps(old))
    with pytest.raises(UsageError, match="another loop"):
        train(recipe_of(tasks), out)


def test_the_command_trains_judges_and_leaves_a_model_that_submit_takes(
    recipe_file: Path, tasks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    judged = json.dumps({"tasks": tasks, "every_steps": 2})
    assert cli.main(command(recipe_file, out, "--set", f"evaluation={judged}")) == 0
    assert "4" in capsys.readouterr().out

    figures = lines_of(out, "evaluation.jsonl")
    assert [line["step"] for line in figures] == [0, 2, 4]
    assert figures[1]["nats_per_token"] < figures[0]["nats_per_token"]
    assert figures[1].keys() == {"step", "nats_per_answer", "nats_per_token", "exact"}

    folder = out / "model"
    assert read_card(folder).style == "grid-tokens-v2"
    assert Codec.load(folder).is_vocabulary(VOCABULARIES["grid-tokens-v2"].tokens)
    model = load_causal_lm(folder, dtype="float32", device="cpu")
    assert sum(p.numel() for p in model.parameters()) > 9288 * 64

    flags = ["--model", str(folder), "--engine", "transformers", "--budget", "60s"]
    settings = ("train.max_steps=2", "train.rank=2", "run.rounds=1", "sample.views=1")
    run = tmp_path / "run"
    finish(submit_command(tasks, run, *flags, "--only", "copy0", settings=settings))
    assert submission_faults(run, Path(tasks), ["copy0"]) == []


def test_a_model_goes_on_from_a_folder(tasks: str, undisturbed: Path, tmp_path: Path) -> None:
    """The table on disk becomes the sum of parts again, rounded to bfloat16."""
    recipe = recipe_of(
        tasks, start_from=str(undisturbed / "model"), optimization__learning_rate=1e-5
    )
    train(recipe, tmp_path / "out")
    assert lines_of(tmp_path / "out")[0]["loss"] < 1.1 * lines_of(undisturbed)[-1]["loss"]
