"""The check of a card, without one: its time, what it leaves out by name, and its verdicts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.arc.source import load_tasks
from appliance.clock import Deadline, VirtualClock
from appliance.errors import EXIT_INPUT, EXIT_PREREQUISITE, EXIT_USAGE
from appliance.machine.gpu import find_gpus
from appliance.machine.imagined import imagined, with_cards
from appliance.machine.machine import Machine, find_machine
from bench.gpu_check import check, seconds, training
from bench.gpu_check.cases import CASES, JOB, ON_CUDA, Case, why_skipped
from bench.gpu_check.job import LOSS_ROSE, Place, engine_fault, faults_of
from bench.gpu_check.report import cards, is_well, table
from bench.gpu_check.suites import SUITES
from bench.process import ROOT
from tests.support.nvml_machines import nvml_of

EVERYTHING = set(check.MODULES)
TASKS = load_tasks(check.TASKS)


def recorded(name: str) -> Machine:
    """A machine with the cards of tests/cases/nvml.json."""
    return replace(find_machine({}), gpus=find_gpus(nvml=nvml_of(name)).gpus)


def place(machine: Machine) -> Place:
    return Place(machine, check.TASKS, TASKS, Path("scratch"), VirtualClock())


def skipped(machine: Machine, installed: set[str] = EVERYTHING) -> dict[str, str]:
    """By name of the case, why the machine cannot do it."""
    at = place(machine)
    found = {c.name: why_skipped(c, machine, installed, at.tasks_of(c)) for c in ON_CUDA}
    return {name: why for name, why in found.items() if why}


@pytest.mark.parametrize("name", ["H100, driver 580", "A6000, driver 580"])
def test_a_large_new_card_does_everything(name: str) -> None:
    assert skipped(recorded(name)) == {}
    assert training.why_skipped(recorded(name)) == ""


def test_what_a_t4_cannot_do_is_left_out_by_name() -> None:
    found = skipped(recorded("T4x2, driver 580"))
    assert set(found) == {"Qwen3 0.5B, bfloat16", "Qwen3 0.5B, nf4, vllm", "Qwen3 4B, bfloat16"}
    assert found["Qwen3 0.5B, bfloat16"] == (
        "bfloat16 needs compute capability 8.0, and Tesla T4 has 7.5"
    )
    assert "capability 8.0" in training.why_skipped(recorded("T4x2, driver 580"))


def test_a_model_that_the_plan_has_no_room_for_is_left_out() -> None:
    (card,) = with_cards(find_machine({}), "3090").gpus
    small = replace(card, total_bytes=card.total_bytes // 4, free_bytes=card.free_bytes // 4)
    found = skipped(replace(find_machine({}), gpus=(small,)))
    assert set(found) == {"Qwen3 4B, bfloat16"}
    assert "has room for 5.9" in found["Qwen3 4B, bfloat16"]


def test_a_model_that_the_plan_has_no_time_to_train_is_left_out() -> None:
    t4 = recorded("T4x2, driver 580")
    (nf4,) = [case for case in ON_CUDA if case.name == "Qwen3 4B, nf4"]
    case = replace(nf4, cells=1200, usual_s=55)
    why = why_skipped(case, t4, EVERYTHING, place(t4).tasks_of(case))
    assert why == "by the plan Tesla T4 has no time for a step of training in 110 s"


@pytest.mark.parametrize(
    ("missing", "names"),
    [
        ("unsloth", {"arc-mini, unsloth"}),
        ("vllm_bnb_plugin", {"Qwen3 0.5B, nf4, vllm"}),
        ("vllm", {case.name for case in ON_CUDA if case.engine == "vllm"}),
    ],
)
def test_without_a_package_only_what_needs_it_is_left_out(missing: str, names: set[str]) -> None:
    found = skipped(recorded("H100, driver 580"), EVERYTHING - {missing})
    assert set(found) == names
    assert all("is not installed" in why for why in found.values())


def parts(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[check.Part]:
    monkeypatch.setattr(check, "find_spec", lambda name: name)
    return list(check.parts(place(machine)))


@pytest.mark.parametrize("pace", [1.0, seconds.SLACK, 10.0])
def test_it_is_over_in_twenty_minutes_however_slow_the_card(
    pace: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pace: how many times its usual time each part would take; all are killed at their limit."""
    clock = VirtualClock()
    began_s = clock.now()
    deadline = Deadline(began_s + seconds.ALL_S["cuda"], clock)
    outcomes = []
    for part in parts(recorded("H100, driver 580"), monkeypatch):

        def do(budget_s: float, part: check.Part = part) -> list[dict[str, Any]]:
            clock.sleep(min(pace * part.usual_s, budget_s + seconds.GRACE_S))
            return [{"name": part.name, "outcome": "ok"}]

        outcomes += check.rows_of(replace(part, do=do), deadline)

    assert clock.now() - began_s <= 1200
    left_out = [row for row in outcomes if row["outcome"] == "no time"]
    assert bool(left_out) == (pace > 1)
    assert outcomes[:3] == [{"name": row["name"], "outcome": "ok"} for row in outcomes[:3]]
    assert all("are left" in row["told"] for row in left_out)


def test_what_starts_vllm_cold_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [part.name for part in parts(recorded("H100, driver 580"), monkeypatch)]
    assert names[:3] == ["arc-mini, vllm, cold", "arc-mini, vllm, warm", "conformance"]
    assert len(names) == len(ON_CUDA) + 2


def test_a_part_that_breaks_costs_no_other() -> None:
    def broken(_: float) -> list[dict[str, Any]]:
        raise OSError("no room")

    clock = VirtualClock()
    part = check.Part("some", "cases", 10, "", broken)
    (row,) = check.rows_of(part, Deadline(clock.now() + 100, clock))
    assert (row["outcome"], "no room" in row["told"]) == ("FAILED", True)


ALL_BY_VLLM = {"served": {"vllm on-the-fly": 2}, "refusals": {}, "setbacks": {}}
ONE_BY_ANOTHER = {
    "served": {"vllm on-the-fly": 1, "transformers": 1},
    "refusals": {"on-the-fly: canary: vLLM is wrong": 1},
    "setbacks": {},
}
NEVER_STARTED = {
    "served": {"transformers": 2},
    "refusals": {},
    "setbacks": {"transformers in place of vllm, because a worker did not start": 1},
}
BY_ANOTHER_TRAINER = ALL_BY_VLLM | {
    "setbacks": {"peft in place of unsloth, because a worker did not start": 1}
}


def test_a_case_of_vllm_that_another_engine_served_even_once_has_failed() -> None:
    assert engine_fault("vllm", ALL_BY_VLLM) == ""
    assert engine_fault("transformers", NEVER_STARTED) == ""
    assert engine_fault("vllm", ONE_BY_ANOTHER) == (
        "vllm was chosen, and sampled was 1 x by transformers: 1 x on-the-fly: canary: vLLM is "
        "wrong"
    )
    assert "because a worker did not start" in engine_fault("vllm", NEVER_STARTED)
    assert "by nothing" in engine_fault("vllm", {"served": {}, "refusals": {}, "setbacks": {}})


def row(**values: Any) -> dict[str, Any]:
    found = {
        "name": "Qwen3 4B, nf4",
        "outcome": "ok",
        "seconds": 41.3,
        "num_trained": 2,
        "num_rose": 0,
        "untrained": [],
        "num_sampled": 2,
        "num_tasks": 2,
        "faults": [],
        "coverage": ALL_BY_VLLM,
        "chosen": {"precision.dtype": "bfloat16", "sample.engine": "vllm", "workers": 1},
        "start_s": [12.5],
        "jobs": {"0": 5},
        "probe": {"train_step_s": {"measured": 0.5, "planned": 0.25}},
    }
    return found | values


NO_ROOM = {"num_trained": 1, "untrained": ["out of memory on every rung of the ladder"]}


def test_a_loss_that_rose_is_no_fault_of_the_machine_and_one_that_is_no_number_is() -> None:
    assert LOSS_ROSE.match("loss went from 0.012 to 0.016 in 20 steps")
    assert not LOSS_ROSE.match("loss went from 0.012 to nan in 20 steps")


@pytest.mark.parametrize(
    ("values", "exit_code", "told"),
    [
        ({}, 0, []),
        (NO_ROOM, 0, ["trained 1 of 2 tasks: out of memory on every rung of the ladder"]),
        ({"num_trained": 1, "num_rose": 1}, 0, []),
        ({"num_trained": 0, "num_rose": 2}, 0, ["trained 0 of 2 tasks: no time"]),
        ({"num_sampled": 0}, 5, ["exit code 5", "sampled 0 of 2 tasks"]),
        ({"jobs": {"0": 5, "1": 0}}, 0, ["of 2 workers only 1 did a job"]),
        ({"jobs": {"0": 5, "1": 2}}, 0, []),
        ({"coverage": BY_ANOTHER_TRAINER}, 0, list(BY_ANOTHER_TRAINER["setbacks"])),
    ],
)
def test_what_is_wrong_with_a_run_is_told(
    values: dict[str, Any], exit_code: int, told: list[str]
) -> None:
    found = row(**values)
    assert faults_of(found, exit_code, num_workers=len(found["jobs"])) == told


def test_several_workers_share_a_card_or_have_one_each() -> None:
    (case,) = [case for case in ON_CUDA if case.is_shared]
    several, one = place(recorded("L4x4, driver 580")), place(recorded("H100, driver 580"))
    assert several.num_workers(case) == 4
    assert several.worker_settings(case) == {"run.workers_per_card": 1}
    assert several.variables(all_cards=True)["CUDA_VISIBLE_DEVICES"].count(",") == 3
    assert several.variables()["CUDA_VISIBLE_DEVICES"] == several.machine.gpus[0].uuid

    assert one.num_workers(case) == 2
    assert one.worker_settings(case) == {"run.workers_per_card": 2}
    assert place(imagined(find_machine({}), "none")).worker_settings(case) == {"run.workers": 2}


def test_training_takes_the_recipes_passes_where_the_card_holds_them() -> None:
    assert "data.row_tokens" not in training.settings(recorded("H100, driver 580"))
    assert training.settings(recorded("T4x2, driver 580"))["data.row_tokens"] == 61440
    assert training.tokens_s([10.0, 50.0, 100.0, 110.0]) == 105.0


def test_every_suite_is_there_and_every_case_has_a_name_of_its_own() -> None:
    assert [s.file for s in SUITES if not (ROOT / "tests" / s.file).exists()] == []
    for cases in CASES.values():
        assert len({case.name for case in cases}) == len(cases)
    assert Case("plain", "arc-mini", 1).settings() == JOB


def report(**outcomes: str) -> dict[str, Any]:
    return {
        "at": "2026-11-21T09:00:00Z",
        "machine": {"summary": "1 x L4"},
        "cards": cards(recorded("H100 in slices, driver 580")),
        "torch": "torch 2.13.0+cu130 (built for CUDA 13.0)",
        "packages": {"torch": "2.13.0", "unsloth": None},
        "suites": [{"name": "test_samplers.py, peft", "outcome": outcomes.get("suite", "skipped")}],
        "cases": [row(outcome=outcomes.get("case", "ok"))],
        "training": [
            {"name": training.NAME, "outcome": outcomes.get("training", "ok"), "tokens_s": 1234.5}
        ],
        "notes": ["one card: several cards not checked"],
        "seconds": 300.0,
    }


def test_what_cannot_be_done_is_no_failure_and_what_was_not_reached_is_one() -> None:
    assert is_well(report())
    assert not is_well(report(case="FAILED"))
    assert not is_well(report(suite="no time"))
    assert not is_well(report(training="FAILED"))


def test_the_table_tells_driver_and_cards_and_what_was_measured_beside_the_plan() -> None:
    text = table(report())
    assert "unsloth not installed" in text
    assert (
        "NVIDIA H100 80GB HBM3: capability 9.0, 39.5 GiB, 39.5 free, a slice (MIG); "
        "driver 580.105.08 (CUDA 13.0)" in text
    )

    what_ran, figures = (x.split() for x in text.splitlines() if x.startswith("Qwen3 4B"))
    assert " ".join(what_ran[3:]) == (
        "ok 41 s 2/2 12.5 s bfloat16, vllm, 1 worker, sampled by vllm on-the-fly 2"
    )
    assert figures[3:] == ["0.5", "(0.25)"]
    assert "1,234 tokens/s" in text
    assert "one card: several cards not checked" in text


def test_memory_that_was_not_measured_is_told() -> None:
    faulty = report() | {"cases": [row(probe={"memory_fault": "the driver does not tell"})]}
    assert "memory not measured: the driver does not tell" in table(faulty)


def test_a_machine_without_a_gpu_is_told_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(check, "find_machine", lambda: imagined(find_machine({}), "none"))
    assert check.main(["--out", str(tmp_path)]) == EXIT_PREREQUISITE
    told = capsys.readouterr().err
    assert told.startswith("gpu-check: no NVIDIA GPU")
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_tasks_that_are_not_there_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = ["--device", "cpu", "--out", str(tmp_path), "--tasks", str(tmp_path / "none.json")]
    assert check.main(given) == EXIT_INPUT
    told = capsys.readouterr().err
    assert told.startswith("gpu-check: ") and "none.json" in told
    assert told.count("\n") == 1


def test_a_part_that_is_not_there_is_told_with_those_that_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as left:
        check.main(["--device", "cpu", "--only", "7B", "--out", str(tmp_path)])
    assert left.value.code == EXIT_USAGE
    assert "'7B' names none of arc-mini, vllm, cold; " in capsys.readouterr().err


def test_a_card_under_an_old_driver_is_named_with_its_remedy() -> None:
    from appliance.machine.cuda import TorchBuild, sort_out

    finding = find_gpus(nvml=nvml_of("T4, driver 550"))
    gpus, unusable = sort_out(finding.gpus, TorchBuild("2.13.0+cu130", (13, 0)))
    machine = replace(find_machine({}), gpus=gpus, unusable=unusable)
    lack = check.lack_of_cuda(machine, VirtualClock())
    assert "driver 550.54.15" in lack and "install driver 580" in lack


def test_a_report_is_plain_json() -> None:
    assert json.loads(json.dumps(report()))["cases"][0]["num_trained"] == 2
