"""Base weights in nf4 and int8, training in float16, and guards against numbers not finite."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.arc.task import Task
from appliance.clock import SystemClock
from appliance.engine.base import NotTuned, Outcome, Tuned, TuneSettings
from appliance.engine.folder.identity import weights_sha
from appliance.engine.load_model import check_logits, load_causal_lm
from appliance.engine.training.peft_trainer import PeftTrainer
from appliance.engine.training.tuning_loop import FIRST_SCALE, TuningLoop
from appliance.errors import EngineError, UsageError
from appliance.solve.language import Language
from tests.support import tuning
from tests.support.tuning import lessons_of

torch = pytest.importorskip("torch")
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)
# bitsandbytes says once that it casts activations of int8 layers, and that its fastest CPU kernel
# is not there.
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore::UserWarning:bitsandbytes")]

DEVICE = os.environ.get("CONFORMANCE_DEVICE", "cpu")
SETTINGS = replace(tuning.SETTINGS, max_steps=20)


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
) -> Outcome:
    return tuning.tune(trainer, task, language, folder, settings)


def tuned(trainer: PeftTrainer, task: Task, language: Language, folder: Path) -> Tuned:
    """What came of a training that must succeed."""
    outcome = tune(trainer, task, language, folder)
    assert isinstance(outcome, Tuned), outcome
    return outcome


def logits_of(model: Any, prompt: tuple[int, ...]) -> Any:
    return tuning.logits_of(model, prompt, DEVICE)


@needs_bitsandbytes
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_an_adapter_trains_on_quantised_weights_and_resets(
    quantization: str, tiny_model: Path, language: Language, task: Task, tmp_path: Path
) -> None:
    plain = tuned(trainer_on(tiny_model), task, language, tmp_path / "plain")
    trainer = trainer_on(tiny_model, quantization=quantization)
    prompt = language.prompt_ids(task, 0)
    base = logits_of(trainer.model, prompt)
    outcome = tuned(trainer, task, language, tmp_path / "a")
    # Where gradients do not reach the weights the loss falls by a fraction of this: the trap that
    # `keep_trainable` avoids.
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
    trainer = trainer_on(tiny_model, quantization="nf4")
    full = TuneSettings(method="full", row_tokens=64, rows_per_step=2, max_steps=2)
    with pytest.raises(EngineError, match="quantised"):
        tune(trainer, task, language, tmp_path / "a", full)


def test_an_unknown_quantisation_is_refused(tiny_model: Path) -> None:
    with pytest.raises(UsageError, match="one of none, nf4, int8"):
        load_causal_lm(tiny_model, dtype="float32", device=DEVICE, quantization="int4")


def test_training_in_float16_lowers_the_loss_as_float32_does(
    tiny_model: Path, language: Language, task: Task, tmp_path: Path
) -> None:
    exact = tuned(trainer_on(tiny_model), task, language, tmp_path / "exact")
    short = tuned(trainer_on(tiny_model, autocast="float16"), task, language, tmp_path / "short")
    assert short.num_steps == SETTINGS.max_steps
    assert short.loss_after == pytest.approx(exact.loss_after, rel=0.05)


def test_the_loss_scale_falls_until_gradients_are_finite(
    tiny_model: Path, task: Task, language: Language
) -> None:
    """A step with gradients beyond float16 is left out, and the scale halved until they fit."""
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
    # One step makes the adapter's weights, so that there are gradients to spoil.
    trainer.time_steps(lessons_of(task, language), SETTINGS, num_steps=1, clock=SystemClock())
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
