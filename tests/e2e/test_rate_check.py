"""The worker's part of the check of the learning rate, with real training of a tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.arc.grid import freeze
from appliance.arc.task import Pair, Task
from appliance.arc.view import IDENTITY, View
from appliance.engine.base import EngineSpec, Scorer, TuneSettings
from appliance.engine.registry import make_scorer, make_trainer
from appliance.engine.tokens import Codec
from appliance.solve.language import Language
from appliance.solve.messages import Checked, Job, TaskMessage
from appliance.solve.rate_check import check_rates
from tests.support.tuning import SETTINGS, in_seconds, lessons_of, logits_of

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.engine

PLANNED = replace(SETTINGS, rows_per_step=4)


@pytest.fixture
def copying() -> Task:
    """Three demonstrations of copying a small grid: what two of them teach holds for the third."""
    rng = np.random.default_rng(3)
    grids = [freeze(rng.integers(0, 10, (2, 2)).astype(np.int8)) for _ in range(4)]
    return Task("copy", tuple(Pair(g, g) for g in grids[:3]), (grids[3],))


def checked(
    tiny_model: Path,
    language: Language,
    task: Task,
    tmp_path: Path,
    *rates: float,
    seconds: float = 120,
    settings: TuneSettings | None = PLANNED,
) -> tuple[Checked, Any]:
    """What the check says, and the largest change of the model that it left behind."""
    codec = Codec.load(tiny_model)
    spec = EngineSpec(model_dir=tiny_model, scratch_dir=tmp_path / "scratch", max_seq_tokens=2048)
    trainer = make_trainer("peft", spec, codec)
    prompt = language.prompt_ids(task, 0)
    before = logits_of(trainer.model, prompt)

    def scorer(model: Any) -> Scorer:
        return make_scorer("peft", model, pad_id=codec.pad_id, batch_tokens=4096)

    job = Job(
        job_id=1,
        stage="check",
        tasks=[TaskMessage.of(task)],
        views=[IDENTITY.name, View(turns=1).name],
        deadline_s=0.0,
        rates=list(rates),
        num_steps=40,
    )
    found = check_rates(
        job,
        trainer,
        language,
        settings=lambda _task: settings,
        lessons=lambda shown, _row_tokens: lessons_of(shown, language),
        make_scorer=scorer,
        adapter_dir=tmp_path / "adapter",
        deadline=in_seconds(seconds),
    )
    assert not (tmp_path / "adapter").exists()
    return found, (logits_of(trainer.model, prompt) - before).abs().max()


def test_a_good_rate_helps_a_tiny_one_does_nothing_and_a_huge_one_harms(
    tiny_model: Path, language: Language, copying: Task, tmp_path: Path
) -> None:
    found, change = checked(tiny_model, language, copying, tmp_path, 1e-7, 5e-3, 3.0)
    assert found.reason is None and found.untrained is not None
    nothing, good, huge = found.trained
    assert nothing == pytest.approx(found.untrained, rel=0.01)
    assert good < found.untrained - 0.2
    assert huge > good
    assert change == 0  # to the bit as it was loaded


def test_without_lessons_or_time_nothing_is_said(
    tiny_model: Path, language: Language, copying: Task, tmp_path: Path
) -> None:
    found, _ = checked(tiny_model, language, copying, tmp_path, 5e-3, settings=None)
    assert (found.untrained, found.trained) == (None, [])
    assert found.reason is not None and "fits" in found.reason

    late, _ = checked(tiny_model, language, copying, tmp_path, 5e-3, 5e-3, seconds=0.05)
    assert late.untrained is None and late.reason == "out of time"
