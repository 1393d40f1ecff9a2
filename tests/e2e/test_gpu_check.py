"""The check for machines with a GPU, checked without one.

Its refusal, its cases and suites, its verdict, its table, and one case that really runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import EXIT_PREREQUISITE
from appliance.machine.imagined import imagined
from appliance.machine.machine import find_machine
from bench import gpu_check


def test_a_machine_without_a_gpu_is_told_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_check, "find_machine", lambda: imagined(find_machine({}), "none"))
    assert gpu_check.main(["--out", str(tmp_path)]) == EXIT_PREREQUISITE
    told = capsys.readouterr().err
    assert told.startswith("gpu-check: no NVIDIA GPU")
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_every_shape_is_run_in_every_precision() -> None:
    names = {c.name for c in gpu_check.cases_of("cuda")}
    for shape in ("0.5B", "4B"):
        assert {f"Qwen3 {shape}, {p}" for p in ("bfloat16", "float16", "nf4")} <= names

    assert {n for n in names if n.startswith("arc-mini")} == {
        "arc-mini, peft, transformers",
        "arc-mini, peft, vllm",
        "arc-mini, unsloth, transformers",
    }
    cases_s = sum(c.most_s for c in gpu_check.cases_of("cuda"))
    assert cases_s <= gpu_check.ALL_S["cuda"] < 600


def test_every_suite_is_there() -> None:
    here = Path(__file__).parent
    assert [name for name in gpu_check.SUITES if not (here / name).is_file()] == []


def report(**outcomes: str) -> dict[str, Any]:
    pair = {"measured": 0.5, "planned": 0.25}
    case = {
        "name": "Qwen3 4B, nf4",
        "outcome": outcomes.get("case", "ok"),
        "num_trained": 2,
        "probe": {"train_step_s": pair},
    }
    return {
        "at": "2026-11-21T09:00:00Z",
        "machine": {"summary": "1 x L4"},
        "packages": {"torch": "2.13.0", "unsloth": None},
        "suites": [
            {"name": "conformance, unsloth", "outcome": outcomes.get("suite", "not installed")}
        ],
        "cases": [case],
        "seconds": 300.0,
    }


def test_what_is_not_installed_is_no_failure_and_what_was_not_reached_is_one() -> None:
    assert gpu_check.is_well(report())
    assert not gpu_check.is_well(report(case="FAILED"))
    assert not gpu_check.is_well(report(suite="no time"))


def test_the_table_says_what_was_measured_beside_what_was_planned() -> None:
    text = gpu_check.table(report())
    assert "unsloth not installed" in text
    line = next(x for x in text.splitlines() if x.startswith("Qwen3 4B"))
    assert line.split() == ["Qwen3", "4B,", "nf4", "ok", "2/2", "0.5", "(0.25)"]


@pytest.mark.engine
def test_a_case_runs_to_its_end_on_a_cpu(tmp_path: Path) -> None:
    """A random model in the layout of Qwen3, quantised, through the whole main job."""
    pytest.importorskip("bitsandbytes")
    assert gpu_check.main(["--device", "cpu", "--only", "small, nf4", "--out", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "gpu-check.json").read_text())
    (case,) = written["cases"]

    assert (case["outcome"], case["num_trained"]) == ("ok", 2)
    assert case["chosen"]["precision.quantization"] == "nf4"
    assert case["probe"]["train_step_s"]["measured"] > 0
    assert (tmp_path / "gpu-check.txt").read_text().startswith(written["at"])
