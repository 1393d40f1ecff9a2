"""Cards as NVML and nvidia-smi report them, and every form of CUDA_VISIBLE_DEVICES.

NVML is a fake, so no card is needed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import UsageError
from appliance.machine.catalogue import CARDS, spec_by_name, spec_of_device
from appliance.machine.gpu import GIB, Gpu, find_gpus, parse_smi, select_visible
from tests.support.nvml_machines import fake_nvml

L4 = {"name": "NVIDIA L4", "gib": 22.03}
SPLIT = {
    "name": "NVIDIA A100-SXM4-40GB",
    "gib": 39.4,
    "capability": (8, 0),
    "slices": [{"uuid": "MIG-1", "gib": 4.75}, {"uuid": "MIG-2", "gib": 9.5}],
}


def test_a_card_is_read_with_memory_capability_driver_and_other_users() -> None:
    finding = find_gpus(nvml=fake_nvml({**L4, "used_gib": 3, "pids": (41, 12)}))
    (gpu,) = finding.gpus
    assert finding.source == "nvml"
    assert (gpu.name, gpu.capability, gpu.driver, gpu.other_pids) == (
        "NVIDIA L4",
        (8, 9),
        "580.95.05",
        (12, 41),
    )
    assert gpu.free_bytes == pytest.approx((22.03 - 3) * GIB, abs=2)
    assert gpu.spec.name == "L4" and gpu.spec.is_known


def test_a_driver_that_does_not_tell_the_capability_leaves_it_to_the_catalogue() -> None:
    (gpu,) = find_gpus(
        nvml=fake_nvml(
            {"name": "Tesla T4", "gib": 14.56}, fails=("nvmlDeviceGetCudaComputeCapability",)
        )
    ).gpus
    assert gpu.capability is None and gpu.spec.capability == (7, 5)


def test_no_driver_is_a_finding_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    finding = find_gpus(nvml=fake_nvml(L4, fails=("nvmlInit",)))
    assert finding.gpus == () and finding.source == "none" and "nvmlInit" in finding.note


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        (None, ["GPU-0000-aa", "GPU-1111-aa", "GPU-2222-aa"]),
        ("", []),
        ("  ", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1", ["GPU-1111-aa"]),
        ("2,0", ["GPU-2222-aa", "GPU-0000-aa"]),
        ("0,-1,1", ["GPU-0000-aa"]),
        ("0,7,1", ["GPU-0000-aa"]),
        ("1,1", ["GPU-1111-aa"]),
        ("GPU-2222-aa", ["GPU-2222-aa"]),
        ("GPU-22", ["GPU-2222-aa"]),
        ("GPU-", []),
        ("nonsense", []),
    ],
)
def test_visible_devices_mean_what_cuda_makes_of_them(
    visible: str | None, uuids: list[str]
) -> None:
    finding = find_gpus(visible=visible, nvml=fake_nvml(L4, L4, L4))
    assert [g.uuid for g in finding.gpus] == uuids


def test_a_bad_entry_is_named() -> None:
    assert "'7'" in find_gpus(visible="0,7", nvml=fake_nvml(L4)).note


def test_a_split_card_shows_its_first_slice_unless_one_is_named() -> None:
    nvml = fake_nvml(SPLIT)
    (first,) = find_gpus(nvml=nvml).gpus
    (named,) = find_gpus(visible="MIG-2", nvml=nvml).gpus
    assert (first.uuid, named.uuid, named.is_mig) == ("MIG-1", "MIG-2", True)
    assert named.total_bytes == pytest.approx(9.5 * GIB, abs=2)


def test_a_card_to_be_split_that_has_no_slice_is_none_and_says_so() -> None:
    finding = find_gpus(nvml=fake_nvml({**SPLIT, "slices": []}, L4))
    assert [g.name for g in finding.gpus] == ["NVIDIA L4"]
    (card,) = finding.unusable
    assert "no slice" in card.why and "nvidia-smi mig" in card.remedy


def test_a_lost_card_does_not_hide_the_others() -> None:
    finding = find_gpus(nvml=fake_nvml(L4, {**L4, "lost": "GPU is lost"}, L4))
    assert [g.index for g in finding.gpus] == [0, 2]
    assert [str(card) for card in finding.unusable] == ["GPU 1: NVML: GPU is lost"]
    assert find_gpus(visible="0", nvml=fake_nvml(L4, {**L4, "lost": "x"})).unusable == ()


def test_a_card_that_the_batch_system_named_and_that_is_gone_is_missed() -> None:
    finding = find_gpus(visible="GPU-9999", nvml=fake_nvml(L4))
    assert finding.gpus == ()
    assert "CUDA_VISIBLE_DEVICES" in finding.unusable[0].why


def test_a_driver_that_was_renewed_under_its_module_is_a_fault_and_not_a_machine_without_cards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    nvml = fake_nvml(fails={"nvmlInit": "Driver/library version mismatch"})
    assert "mismatch" in find_gpus(nvml=nvml).unusable[0].why
    assert find_gpus(nvml=fake_nvml(fails=("nvmlInit",))).unusable == ()


def test_nvidia_smi_gives_the_same_card() -> None:
    cards = (
        "0, GPU-8932f937, Tesla T4, 7.5, 15360, 15101, 560.35.03\n"
        "1, GPU-11aa, GRID, [N/A], 8192, 8000, 560.35.03\n"
    )
    first, second = parse_smi(cards, "GPU-8932f937, 77\n")
    assert (first.name, first.capability, first.other_pids) == ("Tesla T4", (7, 5), (77,))
    assert first.total_bytes == 15360 * 2**20
    assert second.capability is None


def test_nvidia_smi_is_asked_where_nvml_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\n"
        "case $1 in\n"
        "--query-gpu*) echo '0, GPU-aa, Tesla T4, 7.5, 15360 MiB, 15000, 560.35';;\n"
        "*) echo 'GPU-aa, 4711';;\nesac\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    finding = find_gpus(visible="0", nvml=fake_nvml(fails=("nvmlInit",)))
    assert finding.source == "nvidia-smi"
    assert [(g.name, g.other_pids) for g in finding.gpus] == [("Tesla T4", (4711,))]


def test_a_nvidia_smi_that_says_something_else_lists_no_card() -> None:
    assert (
        parse_smi("NVIDIA-SMI has failed because it could not talk to the driver\n", "No devices\n")
        == ()
    )


def test_an_ambiguous_beginning_of_a_uuid_names_no_card() -> None:
    gpus = tuple(Gpu(i, f"GPU-ab{i}", "L4", (8, 9), GIB, GIB, "") for i in range(2))
    assert select_visible(gpus, "GPU-ab") == ((), "GPU-ab")


@pytest.mark.parametrize(
    ("reported", "gib", "name"),
    [
        ("Tesla T4", 14.56, "T4"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "A100-40GB"),
        ("NVIDIA A100 80GB PCIe", 79.1, "A100"),
        ("NVIDIA H100 80GB HBM3", 79.1, "H100"),
        ("NVIDIA GeForce RTX 3090", 23.57, "RTX 3090"),
        ("NVIDIA RTX A6000", 47.5, "A6000"),
        ("Tesla V100-SXM2-32GB", 31.7, "V100-32GB"),
        ("Tesla P100-PCIE-16GB", 15.9, "P100"),
        ("NVIDIA A10G", 22.1, "A10"),
        ("NVIDIA H200", 139.8, "H200"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 95.0, "RTX PRO 6000"),
    ],
)
def test_a_card_is_known_by_the_name_its_driver_gives(reported: str, gib: float, name: str) -> None:
    spec = spec_of_device(reported, None, gib)
    assert spec.name == name and spec.is_known and spec.memory_gib == gib


def test_an_unknown_card_gets_careful_figures() -> None:
    spec = spec_of_device("NVIDIA Zeta 9000 MAX", (10, 0), 100)
    assert not spec.is_known
    assert spec.tflops <= min(s.tflops for s in CARDS if s.capability >= (8, 0))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("t4", "T4"),
        ("rtx-3090", "RTX 3090"),
        ("3090", "RTX 3090"),
        ("RTX3090", "RTX 3090"),
        ("rtx_4090", "RTX 4090"),
        ("A100", "A100"),
        ("A100 40GB", "A100-40GB"),
        ("RTX A6000", "A6000"),
        ("RTX-2080Ti", "RTX 2080 Ti"),
    ],
)
def test_users_write_card_names_as_they_like(text: str, name: str) -> None:
    assert spec_by_name(text).name == name


def test_a_card_that_nobody_makes_is_refused_with_the_list() -> None:
    with pytest.raises(UsageError, match="H100"):
        spec_by_name("T1000000")
