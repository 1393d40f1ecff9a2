"""What a training keeps: its recipe, what made it, scores from before the first step on, and the
loss on other data. It resumes to the bit with optimizers of 8 bits, too."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance import cli
from appliance.learn.recipe import load_recipe

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

SMALL = """
seed: 3
architecture: {hidden_size: 64, num_layers: 1, intermediate_size: 128, max_positions: 512}
data: {row_tokens: 128, rows_per_step: 2, datasets: {copies: {source: TASKS, min_pairs: 2}}}
optimization: {schedule: constant, learning_rate: 0.01, warmup_steps: 2, max_steps: 8}
evaluation: {every_steps: 4, documents: 6, datasets: {held: {source: TASKS, min_pairs: 2}}}
save_every_steps: 4
log_every_steps: 1
"""

LORA = """
start_from: arc-mini
adaptation: {method: lora, rank: 4}
data: {row_tokens: 128, rows_per_step: 2, datasets: {copies: {source: TASKS, min_pairs: 2}}}
optimization: {schedule: constant, learning_rate: 0.003, warmup_steps: 2, max_steps: 4}
log_every_steps: 1
"""


@pytest.fixture
def small(tmp_path: Path, challenges: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.replace("TASKS", str(challenges)))
    return path


@pytest.fixture
def lora(tmp_path: Path, challenges: Path) -> Path:
    path = tmp_path / "lora.yaml"
    path.write_text(LORA.replace("TASKS", str(challenges)))
    return path


def train(recipe: Path, out: Path, *more: str) -> int:
    words = ["train", "--recipe", str(recipe), "--out", str(out), "--display", "none", *more]
    return cli.main(words)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_recipe_and_what_made_it_lie_beside_the_result(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert train(small, out, "--set", "optimization.learning_rate=0.02", "--max-steps", "3") == 0
    assert train(small, out, "--set", "optimization.learning_rate=0.02", "--max-steps", "5") == 0

    kept = load_recipe(out / "recipe.yaml", {})
    assert kept.optimization.learning_rate == 0.02 and kept.optimization.max_steps == 5
    given = {"optimization.learning_rate": 0.02, "optimization.max_steps": 5}
    assert kept == load_recipe(small, given)

    made = json.loads((out / "made_with.json").read_text())
    first, second = made["sessions"]
    assert (first["first_step"], first["last_step"]) == (0, 3)
    assert (second["first_step"], second["last_step"]) == (3, 5)
    assert made["steps"] == 5 and made["seconds"] >= first["seconds"] > 0
    assert second["packages"]["torch"] and second["device"]
    assert set(made["data"]) == {"copies", "evaluation held"}
    assert all(len(digest) == 64 for digest in made["data"].values())


def test_a_damaged_note_of_what_made_it_is_put_aside(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert train(small, out, "--max-steps", "3") == 0
    (out / "made_with.json").write_text('{"sessions": 7}')
    assert train(small, out, "--max-steps", "4") == 0
    assert (out / "made_with.json.damaged-1").exists()
    assert len(json.loads((out / "made_with.json").read_text())["sessions"]) == 1


def test_the_loss_on_other_data_is_told_from_step_0_on(small: Path, tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    assert train(small, first) == 0
    figures = lines(first / "evaluation.jsonl")
    assert [line["step"] for line in figures] == [0, 4, 8]
    assert figures[-1]["validation_loss"] < figures[0]["validation_loss"]

    # The documents do not depend on the seed, so two trainings can be compared.
    assert train(small, again, "--set", "evaluation.every_steps=8") == 0
    assert lines(again / "evaluation.jsonl")[0] == figures[0]


def test_the_validation_loss_is_the_mean_over_all_answer_tokens(
    small: Path, tmp_path: Path, challenges: Path
) -> None:
    """Asked in passes of other sizes, and of two datasets, it is the same."""
    both = {
        "held": {"source": str(challenges), "min_pairs": 2},
        "turned": {"source": str(challenges), "min_pairs": 3, "max_pairs": 4},
    }
    recipe = yaml.safe_load(small.read_text())
    recipe["evaluation"]["datasets"] = both
    losses = []
    for rows in (0, 1):
        recipe["data"]["rows_per_pass"] = rows
        path = tmp_path / f"{rows}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        assert train(path, tmp_path / str(rows), "--max-steps", "1") == 0
        losses.append(lines(tmp_path / str(rows) / "evaluation.jsonl")[0])

    whole, parts = losses
    for name in ("validation_loss", "validation_loss.held", "validation_loss.turned"):
        assert whole[name] == pytest.approx(parts[name], rel=1e-4)
    low, high = sorted((whole["validation_loss.held"], whole["validation_loss.turned"]))
    assert low <= whole["validation_loss"] <= high


@pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)
def test_with_an_optimizer_of_8_bits_it_resumes_to_the_bit(small: Path, tmp_path: Path) -> None:
    eight = ("--set", "optimization.optimizer=adamw_8bit")
    assert train(small, tmp_path / "alone", *eight) == 0
    assert train(small, tmp_path / "halted", *eight, "--max-steps", "5") == 0
    assert train(small, tmp_path / "halted", *eight) == 0

    def losses(out: Path) -> list[float]:
        return [line["loss"] for line in lines(out / "metrics.jsonl")]

    assert losses(tmp_path / "halted") == losses(tmp_path / "alone")
    assert losses(tmp_path / "alone")[-1] < losses(tmp_path / "alone")[0]

    import torch

    kept = torch.load(tmp_path / "alone/checkpoints/step_00000008/state.pt", weights_only=True)
    states = kept["optimizers"][0]["state"].values()
    assert any("uint8" in str(t.dtype) for s in states for t in tensors_of(s))


def tensors_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [t for v in value.values() for t in tensors_of(v)]
    return [value] if hasattr(value, "dtype") else []


def test_pages_of_a_card_are_refused_without_one(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert train(small, out, "--set", "optimization.optimizer=paged_adamw_8bit") == 2
    assert "adamw_8bit, the same without pages" in capsys.readouterr().err
    assert not out.exists()


def test_an_adapter_has_a_readme_of_its_own(lora: Path, tmp_path: Path) -> None:
    assert train(lora, tmp_path / "out") == 0
    page = (tmp_path / "out/adapter/README.md").read_text()
    assert page.startswith("# LoRA adapter for arc-mini")
    assert "rank 4" in page and "More Information Needed" not in page


def test_no_kernel_of_a_hub_is_missed(lora: Path, tmp_path: Path) -> None:
    """In a process of its own: the message comes when bitsandbytes is imported."""
    words = ["-m", "appliance", "train", "--recipe", str(lora), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""


UNSLOTH = pytest.mark.skipif(
    importlib.util.find_spec("unsloth") is None, reason="unsloth is not installed"
)


@UNSLOTH
def test_unsloth_trains_an_adapter_and_resumes_to_the_bit(lora: Path, tmp_path: Path) -> None:
    """In processes of their own: importing unsloth changes transformers and peft for good."""

    def run(out: str, steps: int) -> list[float]:
        words = ["train", "--recipe", str(lora), "--out", str(tmp_path / out)]
        words += ["--set", "trainer=unsloth", "--max-steps", str(steps), "--display", "none"]
        done = subprocess.run(
            [sys.executable, "-m", "appliance", *words],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return [line["loss"] for line in lines(tmp_path / out / "metrics.jsonl")]

    alone = run("alone", 4)
    run("halted", 2)
    assert run("halted", 4) == alone

    made = json.loads((tmp_path / "halted/made_with.json").read_text())
    assert [session["trainer"] for session in made["sessions"]] == ["unsloth"] * 2
    assert (tmp_path / "halted/adapter/README.md").read_text().startswith("# LoRA adapter")

    # The same documents and rates by peft: other numbers for the start, much the same losses.
    assert train(lora, tmp_path / "peft") == 0
    by_peft = [line["loss"] for line in lines(tmp_path / "peft/metrics.jsonl")]
    assert alone[0] == pytest.approx(by_peft[0], rel=0.02)
    assert train(lora, tmp_path / "halted", "--set", "trainer=peft") == 2
