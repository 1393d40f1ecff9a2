"""On a machine with a GPU: both sources name the same cards, and a plan fits what is free."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from appliance.machine.gpu import GIB, find_gpus, parse_smi
from appliance.machine.machine import find_machine
from appliance.sizing.costs.model_card import SHIPPED
from appliance.sizing.costs.task_lengths import usual_lengths
from appliance.sizing.make_plan import size
from appliance.sizing.request import SizingRequest

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not find_gpus().gpus, reason="no NVIDIA GPU on this machine"),
]


@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="nvidia-smi is not on the path")
def test_nvml_and_nvidia_smi_agree() -> None:
    fields = "index,uuid,name,compute_cap,memory.total,memory.free,driver_version"
    words = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    told = parse_smi(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    found = [g for g in find_gpus().gpus if not g.is_mig]
    by_uuid = {g.uuid: g for g in told}

    for gpu in found:
        other = by_uuid[gpu.uuid]
        assert gpu.name == other.name
        assert (gpu.capability, gpu.driver) == (other.capability, other.driver)
        assert gpu.total_bytes == pytest.approx(other.total_bytes, rel=0.05)


def test_a_plan_for_this_machine_stays_within_the_free_memory() -> None:
    machine = find_machine()
    card = SHIPPED["Qwen2.5-0.5B"]
    plan = size(machine, [card], SizingRequest(usual_lengths(card), 3600))
    need = plan.train.memory.memory_gib + plan.train.memory.context_gib
    assert plan.train.fits and need <= min(g.free_bytes for g in machine.gpus) / GIB
