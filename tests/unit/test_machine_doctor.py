"""Doctor and the first-seconds check: every finding is data with a remedy."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.clock import VirtualClock
from appliance.commands import doctor
from appliance.config import profile_layer, profile_names, resolve
from appliance.engine.import_checks import has_kernels
from appliance.errors import EXIT_PREREQUISITE, PrerequisiteError, UsageError
from appliance.machine.doctor import examine
from appliance.machine.finding import Check, Status, failed, worst
from appliance.machine.gpu import GIB
from appliance.machine.host import Host
from appliance.machine.imagined import imagined
from appliance.machine.machine import Machine
from appliance.machine.platforms import Platform
from appliance.machine.profile_check import check_expectation, profile_expectation
from tests.support.cases import REPOSITORY

HOST = Host("CPU", 48, "affinity", 180 * GIB, "physical", 170 * GIB, ("avx512", "avx2"))
PLAIN = Machine((), HOST, Platform())
INSTALLED = {
    "torch": "2.13.0",
    "transformers": "5",
    "peft": "0.21",
    "vllm": "0.32",
    "unsloth": "1",
    "bitsandbytes": "0.5",
}


def look(
    machine: Machine, tmp_path: Path, env: dict[str, str] | None = None, **versions: str | None
) -> dict[str, Check]:
    environment = {"HOME": str(tmp_path), "USER": "me"} | (env or {})
    clock = VirtualClock(1.8e9)
    checks = examine(
        machine, env=environment, out=tmp_path, clock=clock, versions=INSTALLED | versions
    )
    assert all(c.remedy for c in checks if c.status is not Status.PASS)
    return {c.name: c for c in checks}


def with_driver(machine: Machine, driver: str) -> Machine:
    return replace(machine, gpus=tuple(replace(g, driver=driver) for g in machine.gpus))


def test_a_good_machine_passes_everything(tmp_path: Path) -> None:
    machine = with_driver(imagined(PLAIN, "L4x4"), "580.95")
    assert worst(look(machine, tmp_path).values()) is Status.PASS


def test_no_gpu_is_a_caution_because_the_cpu_path_works(tmp_path: Path) -> None:
    assert look(PLAIN, tmp_path)["GPU"].status is Status.CAUTION


def test_a_driver_older_than_torch_needs_fails(tmp_path: Path) -> None:
    machine = with_driver(imagined(PLAIN, "T4"), "535.104")
    assert look(machine, tmp_path, torch="2.13.0+cu130")["CUDA"].status is Status.FAIL
    assert look(machine, tmp_path, torch="2.4.0+cu121")["CUDA"].status is Status.PASS


def test_a_cpu_build_of_torch_beside_a_gpu_fails(tmp_path: Path) -> None:
    machine = with_driver(imagined(PLAIN, "T4"), "580.95")
    assert "built for the CPU" in look(machine, tmp_path, torch="2.13.0+cpu")["CUDA"].found


def test_missing_torch_fails_and_missing_vllm_is_a_caution(tmp_path: Path) -> None:
    found = look(PLAIN, tmp_path, torch=None, vllm=None)
    assert (found["torch"].status, found["vllm"].status) == (Status.FAIL, Status.CAUTION)


def test_a_remedy_is_one_that_the_place_allows(tmp_path: Path) -> None:
    """Nobody runs make in a container, or in a notebook."""
    places = (Platform(container="apptainer"), Platform("htcondor", container="docker"))
    for place in (*places, Platform("kaggle", "rerun")):
        for machine in (PLAIN, with_driver(imagined(PLAIN, "T4"), "580.95")):
            there = replace(machine, platform=place)
            found = look(there, tmp_path, torch="2.13.0+cpu", vllm=None, peft=None)
            told = " ".join(check.remedy for check in found.values())
            assert "make setup" not in told and "make engines" not in told
            assert "TARGET=" in told

    here = look(PLAIN, tmp_path, vllm=None, peft=None)
    assert "make engines" in here["vllm"].remedy and "make setup" in here["peft"].remedy


def test_a_folder_that_may_not_be_written_is_no_fault_where_a_scratch_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`apptainer run --containall` begins in a root that is read-only."""
    (tmp_path / "file").touch()
    closed = tmp_path / "file" / "none"  # not even root can write there
    monkeypatch.setattr(Path, "cwd", lambda: closed)
    env = {"HOME": str(tmp_path), "USER": "me", "TMPDIR": str(closed)}
    versions: dict[str, str | None] = dict(INSTALLED)

    def disk(machine: Machine, out: Path | None = None) -> Check:
        return next(
            check
            for check in examine(machine, env=env, out=out, versions=versions)
            if check.name == "disk"
        )

    found = disk(PLAIN)
    assert found.status is Status.PASS
    assert f"free for {tmp_path}" in found.found and f"{closed} cannot be written" in found.found
    assert disk(PLAIN, closed).status is Status.FAIL

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert f"for {scratch}" in disk(replace(PLAIN, platform=Platform(scratch=scratch))).found


def test_a_cache_that_cannot_be_written_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = look(PLAIN, tmp_path, {"TRITON_CACHE_DIR": str(tmp_path / "file" / "triton")})
    assert "TRITON_CACHE_DIR" in found["caches"].found and found["caches"].status is Status.FAIL


def test_little_memory_fails(tmp_path: Path) -> None:
    small = replace(PLAIN, host=replace(HOST, memory_free_bytes=GIB))
    assert look(small, tmp_path)["memory"].status is Status.FAIL


def test_kaggle_without_inputs_is_a_fault_of_the_platform(tmp_path: Path) -> None:
    found = look(replace(PLAIN, platform=Platform("kaggle", "rerun")), tmp_path)
    assert found["mounts"].status is Status.FAIL and "platform" in found["mounts"].found
    assert found["offline"].status is Status.CAUTION


def test_a_clock_before_this_program_existed_is_noticed(tmp_path: Path) -> None:
    checks = examine(
        PLAIN,
        env={"HOME": str(tmp_path)},
        out=tmp_path,
        clock=VirtualClock(0.0),
        versions=INSTALLED,
    )

    assert next(c for c in checks if c.name == "clock").status is Status.CAUTION


def test_other_users_of_a_card_are_named(tmp_path: Path) -> None:
    machine = with_driver(imagined(PLAIN, "L4"), "580.95")
    busy = replace(machine, gpus=(replace(machine.gpus[0], other_pids=(4711,)),))
    assert "4711" in look(busy, tmp_path)["GPU 0"].found


def test_every_profile_is_legal_and_opens_with_its_command() -> None:
    assert len(profile_names()) >= 8
    for name in profile_names():
        resolve([profile_layer(name)])
        profile_expectation(name)
        first = (REPOSITORY / f"appliance/profiles/{name}.yaml").read_text().splitlines()[0]
        assert first.startswith(f"# appliance submit --profile {name} ")


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="kaggle-l4x4"):
        profile_expectation("kagle")


def test_hardware_as_asked_passes() -> None:
    checks = check_expectation(imagined(PLAIN, "L4x4"), profile_expectation("kaggle-l4x4"))
    assert worst(checks) is Status.PASS


@pytest.mark.parametrize("gpu", ["none", "L4x1", "T4x4"])
def test_fewer_or_smaller_cards_than_asked_fail(gpu: str) -> None:
    checks = check_expectation(imagined(PLAIN, gpu), profile_expectation("kaggle-l4x4"))
    assert worst(checks) is Status.FAIL


def test_other_cards_as_large_are_a_caution() -> None:
    checks = check_expectation(imagined(PLAIN, "A100x4"), profile_expectation("kaggle-t4x2"))
    assert worst(checks) is Status.CAUTION


def test_kaggle_users_are_told_which_accelerator_to_choose() -> None:
    machine = replace(PLAIN, platform=Platform("kaggle", "commit"))
    (check, *_) = check_expectation(machine, profile_expectation("kaggle-t4x2"))
    assert "NvidiaTeslaT4" in check.remedy


def test_a_kernel_of_the_same_generation_runs_on_a_newer_minor() -> None:
    assert has_kernels((8, 9), ["sm_80"]) and has_kernels((12, 0), ["sm_120"])
    assert not has_kernels((6, 0), ["sm_75", "sm_80"]) and not has_kernels((8, 0), ["sm_86"])


def test_the_verb_prints_json_with_checks_of_other_layers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot_stand() -> None:
        raise PrerequisiteError("[red] no namespaces", remedy="start it elsewhere")

    monkeypatch.setattr(doctor, "sandbox_report", cannot_stand)
    parser = ArgumentParser()
    doctor.add_arguments(parser)
    code = doctor.run(parser.parse_args(["--json"]))
    found = json.loads(capsys.readouterr().out)
    assert code == EXIT_PREREQUISITE and found["checks"][-1]["name"] == "sandbox"


def test_text_in_brackets_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.print_checks(PLAIN, [failed("x", "[red]gone[/red]", "[bold]do")], as_json=False)
    assert "[red]gone[/red]" in capsys.readouterr().out
