"""What every Trainer must do, on the real engines with a real tiny model.

On the CPU, with peft. Another trainer or device has a process of its own, and names itself by the
variables CONFORMANCE_TRAINER and CONFORMANCE_DEVICE: see test_unsloth.py and
bench/gpu_check/suites.py. Samplers: test_samplers.py.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.arc.source import load_tasks
from appliance.arc.task import Task
from appliance.clock import SystemClock
from appliance.engine.base import EngineSpec, NotTuned, Trainer, Tuned, TuneSettings
from appliance.engine.folder.card import RECORD_FILE
from appliance.engine.folder.identity import weights_sha
from appliance.engine.load_model import load_causal_lm
from appliance.engine.registry import make_trainer
from appliance.engine.tokens import Codec
from appliance.engine.training.loss import answer_loss
from appliance.engine.training.packing import fill_rows, plan_rows
from appliance.engine.training.unsloth_trainer import import_unsloth
from appliance.errors import InputError
from appliance.solve.language import Language
from tests.support import tuning
from tests.support.tuning import SETTINGS, in_seconds, lessons_of, tune

TRAINER = os.environ.get("CONFORMANCE_TRAINER", "peft")
DEVICE = os.environ.get("CONFORMANCE_DEVICE", "cpu")
if TRAINER == "unsloth":  # it must come before transformers
    import_unsloth(Path(tempfile.mkdtemp()), device=DEVICE)
torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.engine, *([pytest.mark.gpu] if DEVICE == "cuda" else [])]

BRIEF_STEPS = 4
"""For tests of which the outcome does not depend on how much is learnt."""
BRIEF = replace(SETTINGS, max_steps=BRIEF_STEPS)
VARIANTS = {
    "lora-rslora": SETTINGS,
    "lora-plain": replace(SETTINGS, rslora=False, alpha=16),
    "lora-checkpointed": replace(SETTINGS, gradient_checkpointing=True),
}
if TRAINER == "peft":
    VARIANTS["full"] = replace(SETTINGS, method="full", learning_rate=1e-3)


def trainer_on(
    folder: Path, *, autocast: str | None = None, shipped: Path | None = None
) -> Trainer:
    spec = EngineSpec(
        model_dir=folder,
        scratch_dir=folder.parent / "scratch",
        device=DEVICE,
        autocast_dtype=autocast,
        shipped_adapter=shipped,
        max_seq_tokens=2048,
    )
    return make_trainer(TRAINER, spec, Codec.load(folder))


def logits_of(model: Any, prompt: tuple[int, ...]) -> Any:
    return tuning.logits_of(model, prompt, DEVICE)


def tuned(
    trainer: Trainer,
    task: Task,
    language: Language,
    folder: Path,
    settings: TuneSettings = SETTINGS,
    *,
    seed: int = 1,
) -> Tuned:
    """What came of a training that must succeed."""
    outcome = tune(trainer, task, language, folder, settings, seed=seed)
    assert isinstance(outcome, Tuned), outcome
    return outcome


@pytest.mark.parametrize("name", VARIANTS)
def test_training_lowers_the_loss_and_changes_the_answers(
    name: str, tiny_model: Path, language: Language, task: Task, tmp_path: Path
) -> None:
    trainer = trainer_on(tiny_model)
    prompt = language.prompt_ids(task, 0)
    before = logits_of(trainer.model, prompt)

    outcome = tuned(trainer, task, language, tmp_path / "a", VARIANTS[name])
    assert outcome.loss_after < outcome.loss_before
    assert outcome.adapter_sha == weights_sha(tmp_path / "a")
    assert (logits_of(trainer.model, prompt) - before).abs().max() > 1e-3


@pytest.mark.parametrize("name", VARIANTS)
def test_reset_gives_the_untrained_model_back_to_the_bit(
    name: str, tiny_model: Path, language: Language, task: Task, tmp_path: Path
) -> None:
    trainer = trainer_on(tiny_model)
    prompt = language.prompt_ids(task, 0)
    before = logits_of(trainer.model, prompt)
    settings = replace(VARIANTS[name], max_steps=BRIEF_STEPS)

    for seed in (1, 2):
        tuned(trainer, task, language, tmp_path / "a", settings, seed=seed)
        assert not torch.equal(logits_of(trainer.model, prompt), before)
        with trainer.merged():
            pass
        trainer.reset()
        assert torch.equal(logits_of(trainer.model, prompt), before)


def test_one_task_after_another_gives_the_same_adapter_as_alone(
    tiny_model: Path, language: Language, challenges: Path, tmp_path: Path
) -> None:
    first, second = load_tasks(str(challenges)).tasks[:2]

    def adapter_of(trainer: Trainer, task: Task, name: str) -> str:
        return tuned(trainer, task, language, tmp_path / name, BRIEF, seed=5).adapter_sha

    busy = trainer_on(tiny_model)
    adapter_of(busy, first, "first")
    alone = adapter_of(trainer_on(tiny_model), second, "alone")
    assert adapter_of(busy, second, "second") == alone


def test_a_saved_adapter_loads_back_to_the_same_answers(
    tiny_model: Path, language: Language, task: Task, tmp_path: Path
) -> None:
    trainer = trainer_on(tiny_model)
    prompt = language.prompt_ids(task, 0)
    tuned(trainer, task, language, tmp_path / "a", BRIEF)
    trained = logits_of(trainer.model, prompt)

    fresh = trainer_on(tiny_model)
    assert not torch.equal(logits_of(fresh.model, prompt), trained)
    fresh.load(tmp_path / "a", BRIEF)
    assert torch.equal(logits_of(fresh.model, prompt), trained)


def test_an_adapter_of_another_base_is_refused(
    tiny_model: Path, language: Language, task: Task, tmp_path: Path
) -> None:
    tuned(trainer_on(tiny_model), task, language, tmp_path / "a", BRIEF)
    record = tmp_path / "a" / RECORD_FILE
    record.write_text(json.dumps(json.loads(record.read_text()) | {"base_sha": "0" * 64}))
    with pytest.raises(InputError, match="trained on base"):
        trainer_on(tiny_model).load(tmp_path / "a", BRIEF)


def test_training_goes_on_from_a_shipped_adapter(
    tiny_model: Path, language: Language, task: Task, tmp_path: Path
) -> None:
    first = trainer_on(tiny_model)
    began = tuned(first, task, language, tmp_path / "a")
    shipped = logits_of(first.model, language.prompt_ids(task, 0))

    second = trainer_on(tiny_model, shipped=tmp_path / "a")
    second.start_from_shipped()
    prompt = language.prompt_ids(task, 0)
    assert torch.equal(logits_of(second.model, prompt), shipped)

    onwards = replace(SETTINGS, start="continue")
    went_on = tuned(second, task, language, tmp_path / "b", onwards, seed=2)
    assert went_on.loss_before == pytest.approx(began.loss_after, rel=1e-3)
    second.reset()
    assert torch.equal(logits_of(second.model, prompt), shipped)


def test_the_adapter_file_holds_the_adapter_alone(
    tiny_model: Path, language: Language, task: Task, tmp_path: Path
) -> None:
    tuned(trainer_on(tiny_model), task, language, tmp_path / "a", BRIEF)
    # Two layers, each with four square matrices of attention and three of the MLP: for each the
    # adapter has rank x (in + out) numbers in float32.
    sides = [(64, 64)] * 4 + [(64, 128)] * 2 + [(128, 64)]
    expected = 2 * SETTINGS.rank * sum(a + b for a, b in sides) * 4
    written = (tmp_path / "a" / "adapter_model.safetensors").stat().st_size
    assert expected <= written <= expected + 8192


def test_no_time_means_not_tuned_with_a_reason(
    tiny_model: Path, language: Language, task: Task, tmp_path: Path
) -> None:
    trainer = trainer_on(tiny_model)
    outcome = tune(trainer, task, language, tmp_path / "a", seconds=-1)
    assert isinstance(outcome, NotTuned)
    assert "time" in outcome.reason
    assert not (tmp_path / "a").exists()


def test_no_lesson_means_not_tuned(tiny_model: Path, tmp_path: Path) -> None:
    outcome = trainer_on(tiny_model).tune(
        iter(()), SETTINGS, adapter_dir=tmp_path / "a", deadline=in_seconds(5), seed=1
    )
    assert isinstance(outcome, NotTuned)


def test_divergence_is_reported_and_undone(
    tiny_model: Path, language: Language, task: Task, tmp_path: Path
) -> None:
    trainer = trainer_on(tiny_model)
    prompt = language.prompt_ids(task, 0)
    before = logits_of(trainer.model, prompt)
    wild = replace(SETTINGS, learning_rate=1e30, max_steps=5)
    outcome = tune(trainer, task, language, tmp_path / "a", wild)

    assert isinstance(outcome, NotTuned)
    assert outcome.reason == "loss became nan at step 1"
    assert torch.equal(logits_of(trainer.model, prompt), before)


def test_packed_rows_give_the_loss_of_separate_sequences(
    tiny_model: Path, language: Language, task: Task
) -> None:
    model = load_causal_lm(tiny_model, dtype="float32", device="cpu")
    sequences = list(itertools.islice(lessons_of(task, language), 6))
    lengths = [len(s) for s in sequences]
    plan = plan_rows(lengths, row_tokens=200, num_rows=3)
    rows = fill_rows(sequences, plan, row_tokens=200, pad_id=0)
    single = [fill_rows([s], [[0]], row_tokens=len(s), pad_id=0) for s in sequences]

    with torch.inference_mode():
        packed = float(answer_loss(model, rows, device="cpu")) * rows.num_targets()
        separate = sum(float(answer_loss(model, r, device="cpu")) * r.num_targets() for r in single)
    assert packed == pytest.approx(separate, rel=1e-5)


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
def test_the_merged_model_answers_as_the_adapter_does(
    autocast: str | None, tiny_model: Path, language: Language, task: Task, tmp_path: Path
) -> None:
    trainer = trainer_on(tiny_model, autocast=autocast)
    prompt = language.prompt_ids(task, 0)
    base = logits_of(trainer.model, prompt)
    tuned(trainer, task, language, tmp_path / "a")
    adapted = logits_of(trainer.model, prompt)
    with trainer.merged() as merged:
        found = logits_of(merged, prompt)

    assert (adapted - base).abs().max() > 0.05
    assert (found - adapted).abs().max() < (0.05 if autocast else 1e-4)


def test_lessons_and_prompts_render_alike(language: Language, task: Task) -> None:
    """What is sampled after a prompt is what was trained after it: lessons begin with its ids."""
    question = Task(task.task_id, task.train[:2], (task.train[2].input,))
    conversation = language.style.lesson(question, 0, task.train[2].output, language.encoder)
    lesson = language.codec.lesson(conversation)
    prompt = language.prompt_ids(question, 0)
    assert tuple(lesson.ids[: len(prompt)]) == prompt

    answer = lesson.ids[len(prompt) :]
    assert lesson.is_target[len(prompt) :].all()
    assert answer[-1] == language.codec.eos_id
    text = language.codec.text(tuple(int(i) for i in answer[:-1]))
    assert np.array_equal(language.style.parse(text, language.encoder), task.train[2].output)


def test_the_first_answer_of_a_pairwise_lesson_is_not_trained(
    language: Language, task: Task
) -> None:
    question = Task(task.task_id, task.train[:2], (task.train[2].input,))
    conversation = language.style.lesson(question, 0, task.train[2].output, language.encoder)
    lesson = language.codec.lesson(conversation)
    num_answer_tokens = language.num_answer_tokens(task.train[0].output)
    assert lesson.is_target.sum() == 2 * num_answer_tokens


def test_timed_steps_leave_the_model_as_it_was(
    tiny_model: Path, language: Language, task: Task
) -> None:
    trainer = trainer_on(tiny_model)
    prompt = language.prompt_ids(task, 0)
    before = logits_of(trainer.model, prompt)
    lessons = lessons_of(task, language)
    seconds = trainer.time_steps(lessons, SETTINGS, num_steps=2, clock=SystemClock())
    assert len(seconds) == 2 and min(seconds) > 0
    assert torch.equal(logits_of(trainer.model, prompt), before)
