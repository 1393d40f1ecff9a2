"""Which cards the pinned torch can use: whole machines through the real detection.

NVML answers from tests/cases/nvml.json, so no card is needed.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from argparse import ArgumentParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance.commands import doctor
from appliance.errors import EXIT_PREREQUISITE
from appliance.machine import cuda
from appliance.machine.cuda import TorchBuild, build_of, sort_out, torch_build
from appliance.machine.gpu import Gpu, Unusable, find_gpus
from appliance.machine.machine import find_machine
from tests.support.cases import REPOSITORY
from tests.support.nvml_machines import MACHINES, nvml_of

PINNED = TorchBuild("2.13.0+cu130", (13, 0))

USABLE = {
    "T4x2, driver 580": 2,
    "T4, driver 535 with cuda-compat": 1,
    "L4x4, driver 580": 4,
    "3090, driver 580": 1,
    "A6000, driver 580": 1,
    "H100, driver 580": 1,
    "H100, driver 590": 1,
    "H100 in slices, driver 580": 1,
    "no card": 0,
}
"""Machines on which the pinned torch works, with the number of devices that it sees."""

FAULTS = {
    "T4x2, driver 535": "driver 535.183.01 (CUDA 12.2) is too old",
    "T4, driver 550": "driver 550.54.15 (CUDA 12.4) is too old",
    "L4, driver 550": "driver 550.90.07 (CUDA 12.4) is too old",
    "3090, driver 550": "driver 550.120 (CUDA 12.4) is too old",
    "3090, driver 550 with cuda-compat": "works on data centre cards only",
    "A6000, driver 535, library does not tell": "driver 535.247.01 is too old",
    "H100, driver 535": "driver 535.230.02 (CUDA 12.2) is too old",
    "H100 in slices, driver 550": "driver 550.144.03 (CUDA 12.4) is too old",
    "H100 to be split, without a slice": "has no slice",
    "P100, driver 580": "compute capability 6.0",
    "V100, driver 580": "compute capability 7.0",
}
"""Machines on which it does not, with what is wrong."""


def look(name: str, build: TorchBuild | None = PINNED) -> tuple[int, list[Unusable]]:
    """How many devices that torch can use, and what is wrong with the others."""
    finding = find_gpus(nvml=nvml_of(name))
    usable, refused = sort_out(finding.gpus, build)
    return len(usable), [*finding.unusable, *refused]


def test_every_machine_of_the_case_file_is_judged() -> None:
    assert USABLE.keys() | FAULTS.keys() == MACHINES.keys()


@pytest.mark.parametrize("name", USABLE)
def test_cards_that_work_are_kept(name: str) -> None:
    assert look(name) == (USABLE[name], [])


@pytest.mark.parametrize("name", FAULTS)
def test_cards_that_do_not_are_named_with_their_reason_and_a_remedy(name: str) -> None:
    num_usable, faults = look(name)
    assert num_usable == 0
    for fault in faults:
        assert FAULTS[name] in fault.why
        assert fault.remedy


def test_the_pinned_torch_and_its_wheels_are_of_the_cuda_that_is_asked_for() -> None:
    pins = (REPOSITORY / "requirements/gpu.txt").read_text()
    runtime = re.search(r"^nvidia-cuda-runtime==(\d+)\.(\d+)", pins, re.MULTILINE)
    assert runtime is not None
    assert (int(runtime[1]), int(runtime[2])) == cuda.PINNED_CUDA == PINNED.cuda


def test_an_older_torch_takes_an_older_driver_and_an_older_card() -> None:
    older = build_of("2.4.0+cu121")
    assert older.cuda == (12, 1)
    assert look("T4x2, driver 535", older)[0] == 2
    assert look("P100, driver 580", older)[0] == 1


def test_a_torch_for_the_cpu_uses_no_card_and_without_torch_none_is_ruled_out() -> None:
    _, faults = look("L4x4, driver 580", build_of("2.13.0+cpu"))
    assert {fault.why for fault in faults} == {"torch 2.13.0+cpu is built for the CPU"}
    assert look("T4, driver 550", None) == (1, [])


def test_only_data_centre_cards_are_told_of_forward_compatibility() -> None:
    (tesla,), (geforce,) = look("T4, driver 550")[1], look("3090, driver 550")[1]
    assert "cuda-compat-13-0" in tesla.remedy
    assert "cuda-compat" not in geforce.remedy


def test_a_card_of_an_unknown_kind_is_left_to_the_trial_on_it() -> None:
    odd = Gpu(0, "GPU-0", "NVIDIA Zeta", None, 1, 1, driver="")
    assert sort_out([odd], PINNED) == ((odd,), ())


def version_file(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch whose version.py says that."""
    (folder / "version.py").write_text(text)
    spec = SimpleNamespace(origin=str(folder / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


def test_what_torch_is_built_for_is_read_from_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version_file(
        tmp_path,
        "__version__ = '2.13.0+cu130'\ndebug = False\ncuda: Optional[str] = '13.0'\n",
        monkeypatch,
    )
    assert torch_build() == PINNED
    version_file(tmp_path, "__version__ = '2.13.0'\ncuda: Optional[str] = None\n", monkeypatch)
    assert torch_build() == TorchBuild("2.13.0", None)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_it_says_what_torch_itself_says() -> None:
    import torch

    build = torch_build()
    assert build is not None
    assert build.version == torch.__version__
    told = None if build.cuda is None else ".".join(map(str, build.cuda))
    assert told == torch.version.cuda


def test_doctor_and_machine_tell_of_the_cards_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml_of("T4x2, driver 535"))
    monkeypatch.setattr("appliance.machine.machine.torch_build", lambda: PINNED)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    machine = find_machine()
    assert machine.gpus == () and len(machine.unusable) == 2
    assert machine.summary().startswith("no GPU that can be used")

    parser = ArgumentParser()
    doctor.add_arguments(parser)
    assert doctor.run(parser.parse_args(["--json"])) == EXIT_PREREQUISITE
    checks = json.loads(capsys.readouterr().out)["checks"]
    (check,) = [c for c in checks if c["name"] == "CUDA"]
    assert check["status"] == "FAIL"
    assert check["found"].startswith("2 x Tesla T4: driver 535.183.01")
    assert "580" in check["remedy"]
