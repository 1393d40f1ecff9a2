"""Base weights in nf4 and int8, training in float16 with a scaled loss, and the guards against numbers that are not finite."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.arc.task import Task
from appliance.clock import Deadline, SystemClock
from appliance.engine.base import NotTuned, Tuned, TuneSettings
from appliance.engine.load_model import check_logits, load_causal_lm, weights_sha
from appliance.engine.training.packing import TokenSequence
from appliance.engine.training.peft_trainer import PeftTrainer
from appliance.engine.training.tuning_loop import FIRST_SCALE, TuningLoop
from appliance.errors import EngineError, UsageError
from appliance.seeds import generator
from appliance.solve.language import Language
from appliance.solve.transduce import LessonPlan, lessons

torch = pytest.importorskip("torch")
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)
# bitsandbytes says once that it casts activations of int8 layers, and that its fastest CPU kernel is not there.
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore::UserWarning:bitsandbytes")]

DEVICE = os.environ.get("CONFORMANCE_DEVICE", "cpu")
SETTINGS = TuneSettings(
    rank=8, alpha=8, max_steps=20, row_tokens=64, rows_per_step=8, learning_rate=5e-3
)


def trainer_on(
    folder: Path, *, quantization: str = "none", autocast: str | None = None
) -> PeftTrainer:
    model = load_causal_lm(folder, dtype="float32", device=DEVICE, quantization=quantization)
    return PeftTrainer(model, pad_id=0, base_sha=weights_sha(folder), autocast_dtype=autocast)


def tune(
    trainer: PeftTrainer,
    task: Task,
    language: Language,
    folder: Path,
    settings: TuneSettings = SETTINGS,
) -> Any:
    clock = SystemClock()
    deadline = Deadline(clock.now() + 60, clock)
    return trainer.tune(
        lessons_of(task, language), settings, adapter_dir=folder, deadline=deadline, seed=1
    )


def lessons_of(task: Task, language: Language) -> Iterator[TokenSequence]:
    return lessons(task, language, generator(0), max_tokens=64, plan=LessonPlan())


def logits_of(model: Any, prompt: tuple[int, ...]) -> Any:
    with torch.inference_mode():
        return (
            model(input_ids=torch.tensor([prompt], device=DEVICE), use_cache=False)
            .logits[0, -1]
            .float()
        )


@needs_bitsandbytes
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_an_adapter_trains_on_quantised_weights_and_resets(
    quantization: str, tiny_model: Path, language: Language, task: Task, tmp_path: Path
) -> None:
    plain = tune(trainer_on(tiny_model), task, language, tmp_path / "plain")
    trainer = trainer_on(tiny_model, quantization=quantization)
    prompt = language.prompt_ids(task, 0)
    base = logits_of(trainer.model, prompt)
    outcome = tune(trainer, task, language, tmp_path / "a")
    assert isinstance(outcome, Tuned)
    # A training whose gradients do not reach the weights falls by a fraction of this (the trap of `keep_trainable`).
    assert outcome.loss_before - outcome.loss_after > 0.8 * (plain.loss_before - plain.loss_after)
    with trainer.merged() as model:
        assert (logits_of(model, prompt) - base).abs().max() > 1e-2
    trainer.reset()
    assert torch.equal(logits_of(trainer.model, prompt), base)


@needs_bitsandbytes
def test_quantised_weights_take_less_room_and_answer_nearly_alike(
    tiny_model: Path, language: Language, task: Task
) -> None:
    def bytes_of_layer(model: Any) -> int:
        weight = model.model.layers[0].mlp.up_proj.weight
        return int(weight.numel() * weight.element_size())

    models = {
        q: load_causal_lm(tiny_model, dtype="float32", device=DEVICE, quantization=q)
        for q in ("none", "int8", "nf4")
    }
    sizes = {q: bytes_of_layer(m) for q, m in models.items()}
    assert sizes["none"] == 4 * sizes["int8"] == 8 * sizes["nf4"]
    prompt = language.prompt_ids(task, 0)
    exact = logits_of(models["none"], prompt)
    for quantization, bound in (("int8", 0.1), ("nf4", 0.5)):
        assert (logits_of(models[quantization], prompt) - exact).abs().max() < bound * exact.std()


@needs_bitsandbytes
def test_all_weights_of_a_quantised_model_cannot_be_trained(
    tiny_model: Path, language: Language, task: Task, tmp_path: Path
) -> None:
    full = TuneSettings(method="full", row_tokens=64, rows_per_step=2, max_steps=2)
    with pytest.raises(EngineError, match="quantised"):
        tune(trainer_on(tiny_model, quantization="nf4"), task, language, tmp_path / "a", full)


def test_an_unknown_quantisation_is_refused(tiny_model: Path) -> None:
    with pytest.raises(UsageError, match="one of none, nf4, int8"):
        load_causal_lm(tiny_model, dtype="float32", device=DEVICE, quantization="int4")


def test_training_in_float16_lowers_the_loss_as_float32_does(
    tiny_model: Path, language: Language, task: Task, tmp_path: Path
) -> None:
    exact = tune(trainer_on(tiny_model), task, language, tmp_path / "exact")
    short = tune(trainer_on(tiny_model, autocast="float16"), task, language, tmp_path / "short")
    assert isinstance(short, Tuned)
    assert short.num_steps == SETTINGS.max_steps
    assert short.loss_after == pytest.approx(exact.loss_after, rel=0.05)


def test_the_loss_scale_falls_until_gradients_are_finite(
    tiny_model: Path, task: Task, language: Language
) -> None:
    """Gradients beyond the range of float16 are left out, and the scale is halved until they fit."""
    model = load_causal_lm(tiny_model, dtype="float32", device=DEVICE).requires_grad_(True)
    loop = TuningLoop(model, list(model.parameters()), pad_id=0, autocast_dtype="float16")
    rows = loop.pack(lessons_of(task, language), SETTINGS)
    blown = model.model.embed_tokens.weight.register_hook(
        lambda grad: grad * (torch.inf if loop.scale > 1024 else 1)
    )
    taken = [loop.step(rows, 1e-4)[1] for _ in range(4)]
    blown.remove()
    assert (FIRST_SCALE, taken, loop.scale) == (4096.0, [False, False, True, True], 1024.0)


def test_gradients_that_are_never_finite_end_the_training(
    tiny_model: Path, language: Language, task: Task, tmp_path: Path
) -> None:
    trainer = trainer_on(tiny_model)
    prompt = language.prompt_ids(task, 0)
    before = logits_of(trainer.model, prompt)
    trainer.time_steps(
        lessons_of(task, language), SETTINGS, num_steps=1, clock=SystemClock()
    )  # makes the slots
    weight = next(p for p in trainer.model.parameters() if p.requires_grad)
    weight.register_hook(lambda grad: grad * torch.nan)
    outcome = tune(trainer, task, language, tmp_path / "a")
    assert isinstance(outcome, NotTuned)
    assert "gradient was not finite in 12 steps in a row" in outcome.reason
    assert torch.equal(logits_of(trainer.model, prompt), before)


def test_logits_that_are_not_finite_are_found_at_load(tiny_model: Path) -> None:
    model = load_causal_lm(tiny_model, dtype="float32", device=DEVICE)
    with torch.no_grad():
        model.model.norm.weight[0] = torch.inf
    with pytest.raises(EngineError, match="not finite"):
        check_logits(model, "a model")
