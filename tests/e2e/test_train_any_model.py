"""`appliance train` on a chat model: adaptation, passes, resumption, precision, evaluation."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from appliance import cli
from appliance.engine.folder.card import read_card
from appliance.engine.folder.identity import weights_sha
from appliance.engine.load_model import load_causal_lm
from appliance.learn.recipe import Recipe
from appliance.learn.start import make_start
from appliance.models.vocabularies import VOCABULARIES
from tests.support.cpu_precision import CpuPrecision
from tests.support.small_lm import save_chat_model

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

DATA = {
    "row_tokens": 1024,
    "rows_per_step": 2,
    "datasets": {
        "copies": {
            "min_pairs": 2,
            "max_pairs": 3,
            "style": "output-from-examples-v1",
            "encoder": "minimal",
        }
    },
}
RECIPE: dict[str, Any] = {
    "seed": 5,
    "data": DATA,
    "optimization": {"learning_rate": 0.01, "warmup_steps": 2, "max_steps": 6},
    "save_every_steps": 2,
    "log_every_steps": 1,
}
LORA: dict[str, Any] = {"method": "lora", "rank": 4, "alpha": 8}
WAYS: dict[str, dict[str, Any]] = {
    "full": {"adaptation": {"method": "full"}},
    "lora": {"adaptation": LORA | {"rslora": False}},
    "rslora": {"adaptation": LORA},
    "dora": {"adaptation": LORA | {"dora": True}},
    "attention only": {"adaptation": LORA | {"target_modules": ["q_proj", "v_proj"]}},
    "nf4": {"adaptation": LORA | {"quantization": "nf4"}},
    "checkpointed": {"adaptation": LORA | {"gradient_checkpointing": True}},
    "float16": {"adaptation": LORA, "precision": "float16"},
    "bfloat16": {"adaptation": LORA, "precision": "bfloat16"},
    "muon": {
        "adaptation": {"method": "full"},
        "optimization": RECIPE["optimization"] | {"optimizer": "muon"},
    },
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def run(tmp_path: Path, base: Path, challenges: Path) -> Any:
    """Trains by a recipe of RECIPE with changes; gives the folder of --out."""

    def train(name: str = "out", *arguments: str, code: int = 0, **changes: Any) -> Path:
        recipe = tmp_path / f"{name}.yaml"
        recipe.write_text(json.dumps(RECIPE | changes))  # JSON is YAML
        out = tmp_path / name
        flags = [
            "--recipe",
            str(recipe),
            "--model",
            str(base),
            "--out",
            str(out),
            "--display",
            "none",
        ]
        source = f"data.datasets.copies.source={challenges}"
        assert cli.main(["train", *flags, "--set", source, *arguments]) == code
        return out

    return train


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [loss for _, loss in sorted({line["step"]: line["loss"] for line in lines}.items())]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_adapt_a_model_learns(way: str, run: Any) -> None:
    found = losses(run("out", **WAYS[way]))
    assert len(found) == 6
    assert found[-1] < 0.99 * found[0]


def test_an_adapter_folder_holds_the_adapter_and_the_tokenizer_alone(run: Any, base: Path) -> None:
    from peft import PeftModel

    from appliance.engine.tokens import Codec

    adapter = run("out", adaptation=LORA) / "adapter"
    model = load_causal_lm(base, dtype="float32", device="cpu")
    sides = [
        sum(m.weight.shape)
        for n, m in model.named_modules()
        if isinstance(m, torch.nn.Linear) and n != "lm_head"
    ]
    weights = (adapter / "adapter_model.safetensors").read_bytes()
    (header_bytes,) = struct.unpack("<Q", weights[:8])
    assert len(weights) - 8 - header_bytes == 4 * LORA["rank"] * sum(
        sides
    )  # rank x (d_in + d_out) x float32
    assert not list(adapter.glob("model*"))
    record = json.loads((adapter / "appliance.json").read_text())
    assert record["base_sha"] == weights_sha(base)
    assert (record["style"], record["encoder"]) == ("output-from-examples-v1", "minimal")
    assert Codec.load(adapter).pad_id == Codec.load(base).pad_id
    worn = PeftModel.from_pretrained(model, str(adapter))
    assert any(p.abs().max() > 0 for n, p in worn.named_parameters() if "lora_B" in n)


def test_a_trained_adapter_is_merged_and_the_result_is_spoken_to_as_it_was_trained(
    run: Any, base: Path, tmp_path: Path
) -> None:
    from appliance.engine.folder.card import read_card

    adapter = run("out", adaptation=LORA | {"quantization": "nf4"}) / "adapter"
    assert cli.main(["merge-adapter", str(base), str(adapter), str(tmp_path / "merged")]) == 0
    assert read_card(tmp_path / "merged").style == "output-from-examples-v1"


def test_training_goes_on_from_an_adapter(run: Any) -> None:
    first = run("first", adaptation=LORA)
    on = run("on", "--adapter", str(first / "adapter"), adaptation=LORA)
    assert losses(on)[0] < 0.95 * losses(first)[0]


def test_an_adapter_of_another_base_is_refused(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run("first", adaptation=LORA)
    other = save_chat_model(tmp_path / "other", seed=1)
    run("on", "--adapter", str(first / "adapter"), "--model", str(other), code=4, adaptation=LORA)
    assert "was trained on base" in capsys.readouterr().err


def test_passes_change_nothing_but_memory(run: Any, cpu_precision: CpuPrecision) -> None:
    whole = losses(run("whole", adaptation=LORA))
    parts = losses(run("parts", adaptation=LORA, data=DATA | {"rows_per_pass": 1}))
    assert parts == pytest.approx(whole, rel=cpu_precision.loss_tolerance)


def test_a_run_goes_on_with_other_passes_and_other_saving(
    run: Any, cpu_precision: CpuPrecision
) -> None:
    whole = losses(run("whole", adaptation=LORA))
    run("parts", "--max-steps", "3", adaptation=LORA)
    parts = run(
        "parts", "--set", "save_every_steps=5", adaptation=LORA, data=DATA | {"rows_per_pass": 1}
    )
    assert losses(parts) == pytest.approx(whole, rel=cpu_precision.loss_tolerance)


def test_precision_auto_follows_the_cpu_or_the_switch(
    base: Path, cpu_precision: CpuPrecision
) -> None:
    start = make_start(Recipe.model_validate(RECIPE | {"start_from": base}), device="cpu")
    assert (start.autocast_dtype or "float32") == cpu_precision.name


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"adaptation": LORA | {"rank": 8}}, "adaptation"),
        ({"data": DATA | {"rows_per_step": 4}}, "data"),
        ({"seed": 6}, "seed"),
    ],
)
def test_a_change_that_matters_is_refused(
    change: dict[str, Any], word: str, run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run("out", "--max-steps", "2", adaptation=LORA)
    run("out", code=2, **({"adaptation": LORA} | change))
    assert f"another {word}" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = RECIPE["optimization"] | {
        "learning_rate": 1e18,
        "max_grad_norm": 1e9,
        "warmup_steps": 0,
        "max_steps": 40,
    }
    out = run(
        "out",
        "--set",
        "save_every_steps=1",
        code=4,
        optimization=wild,
        adaptation={"method": "full"},
    )
    assert "the last good checkpoint stays" in capsys.readouterr().err
    newest = max((out / "checkpoints").glob("step_*"))
    state = torch.load(newest / "state.pt", weights_only=True)
    assert all(torch.isfinite(w).all() for w in state["model"].values())


def test_evaluation_writes_the_figures_of_the_notebooks(run: Any, challenges: Path) -> None:
    plan = {"tasks": str(challenges), "every_steps": 3, "limit": 2, "views": 2}
    out = run("out", adaptation=LORA, evaluation=plan)
    lines = [json.loads(line) for line in (out / "evaluation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 3, 6]
    assert {"accuracy", "correct_pixels", "correct_size", "pass_n", "vote_1", "vote_2"} <= set(
        lines[0]
    )
    assert losses(out) == losses(run("without", adaptation=LORA))


def test_the_embedded_model_is_found_by_name_and_a_missing_one_named(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recipe.model_validate(RECIPE | {"start_from": "arc-mini"})
    assert recipe.start_from is not None
    assert read_card(recipe.start_from).style in VOCABULARIES
    run("out", "--model", "nowhere", code=4)
    assert "nowhere: not there" in capsys.readouterr().err
