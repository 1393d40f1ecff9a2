"""The check for machines with a GPU, checked without one: parts of it that really run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.gpu_check import check, training

pytestmark = pytest.mark.engine


def run(name: str, out: Path) -> dict[str, Any]:
    """The report of the parts whose name holds this."""
    assert check.main(["--device", "cpu", "--only", name, "--out", str(out)]) == 0
    report: dict[str, Any] = json.loads((out / "gpu-check.json").read_text())
    assert (out / "gpu-check.txt").read_text().startswith(report["at"])
    return report


def test_a_case_runs_to_its_end_on_a_cpu(tmp_path: Path) -> None:
    """A random model in the layout of Qwen3, quantised, through the whole main job."""
    pytest.importorskip("bitsandbytes")
    (case,) = run("small, nf4, transformers", tmp_path)["cases"]

    assert (case["outcome"], case["num_trained"], case["num_sampled"]) == ("ok", 2, 2)
    assert case["chosen"]["precision.quantization"] == "nf4"
    assert case["coverage"]["served"] == {"transformers": 2}
    assert case["start_s"][0] > 0
    assert case["probe"]["train_step_s"]["measured"] > 0


def test_training_from_scratch_is_timed(tmp_path: Path) -> None:
    (row,) = run(training.NAME, tmp_path)["training"]
    assert row["outcome"] == "ok"
    assert row["tokens_s"] > 0
