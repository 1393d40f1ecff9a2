"""Limits of containers and batch slots, read from a made-up /proc and /sys."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from appliance.errors import UsageError
from appliance.machine.host import find_host, instruction_sets
from appliance.machine.platforms import find_platform, kaggle_inputs, parse_ad

GIB = 2**30


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def plain_root(tmp_path: Path) -> Path:
    return write(
        tmp_path,
        proc__cpuinfo="model name\t: Some CPU\nflags\t\t: fpu avx2 avx512f avx512_bf16\n",
        proc__meminfo="MemTotal:       67108864 kB\nMemAvailable:   33554432 kB\n",
    )


def test_a_plain_host_has_its_own_memory_and_cores(tmp_path: Path) -> None:
    host = find_host(plain_root(tmp_path))
    assert host.cpu_model == "Some CPU"
    assert host.memory_bytes <= 64 * GIB and host.memory_free_bytes <= 32 * GIB
    assert host.isa == ("avx512-bf16", "avx512", "avx2") and host.can_bf16


def test_cgroup_v2_limits_of_a_parent_group_bind(tmp_path: Path) -> None:
    root = write(
        plain_root(tmp_path),
        proc__self__cgroup="0::/slurm/job/step\n",
        sys__fs__cgroup__slurm__memory_dot_max=f"{8 * GIB}\n",
        sys__fs__cgroup__slurm__job__memory_dot_max="max\n",
        sys__fs__cgroup__slurm__job__step__cpu_dot_max="150000 100000\n",
    )
    host = find_host(root)

    assert host.memory_bytes == 8 * GIB and "control group" in host.memory_reason
    assert host.num_cores == 1


def test_cgroup_v1_limits_bind_and_its_endless_number_does_not(tmp_path: Path) -> None:
    root = write(
        plain_root(tmp_path),
        proc__self__cgroup="5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n",
        sys__fs__cgroup__memory__memory_dot_limit_in_bytes=f"{3 * GIB}\n",
        sys__fs__cgroup__memory__docker__abc__memory_dot_limit_in_bytes="9223372036854771712\n",
    )
    assert find_host(root).memory_bytes == 3 * GIB


def test_memory_that_the_group_already_holds_is_not_free_but_its_file_cache_is(
    tmp_path: Path,
) -> None:
    root = write(
        plain_root(tmp_path),
        proc__self__cgroup="0::/job\n",
        sys__fs__cgroup__job__memory_dot_max=f"{4 * GIB}\n",
        sys__fs__cgroup__job__memory_dot_current=f"{3 * GIB}\n",
        sys__fs__cgroup__job__memory_dot_stat=f"anon 1\ninactive_file {GIB}\n",
    )
    host = find_host(root)

    assert (host.memory_bytes, host.memory_free_bytes) == (4 * GIB, 2 * GIB)


def test_a_batch_slot_binds_tighter_than_the_machine(tmp_path: Path) -> None:
    host = find_host(plain_root(tmp_path), cores_given=1, memory_given_bytes=2 * GIB)
    assert (host.num_cores, host.memory_bytes, host.memory_free_bytes) == (1, 2 * GIB, 2 * GIB)
    assert "batch slot" in host.memory_reason


def test_a_quota_of_half_a_core_still_gives_one_thread(tmp_path: Path) -> None:
    root = write(
        plain_root(tmp_path),
        proc__self__cgroup="0::/\n",
        sys__fs__cgroup__cpu_dot_max="50000 100000\n",
    )
    assert find_host(root).num_cores == 1


def test_amx_needs_tiles_too() -> None:
    assert instruction_sets("amx_bf16") == ()
    assert instruction_sets("amx_bf16 amx_tile avx2")[0] == "amx-bf16"


@pytest.mark.parametrize(
    ("env", "phase"),
    [
        ({"KAGGLE_KERNEL_RUN_TYPE": "Interactive"}, "interactive"),
        ({"KAGGLE_KERNEL_RUN_TYPE": "Batch"}, "commit"),
        ({"KAGGLE_KERNEL_RUN_TYPE": "Batch", "KAGGLE_IS_COMPETITION_RERUN": "1"}, "rerun"),
    ],
)
def test_kaggle_tells_interactive_commit_and_rerun_apart(
    env: dict[str, str], phase: str, tmp_path: Path
) -> None:
    platform = find_platform(env, tmp_path)
    assert (platform.site, platform.phase) == ("kaggle", phase)


def test_both_kaggle_layouts_are_found(tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    (flat / "kaggle/input/arc-prize-2026").mkdir(parents=True)
    nested = tmp_path / "nested"
    (nested / "kaggle/input/competitions/arc-prize-2026").mkdir(parents=True)
    (nested / "kaggle/input/models/me/qwen/transformers/4b/3").mkdir(parents=True)

    assert find_platform({}, flat).layout == "flat"
    assert find_platform({}, nested).layout == "nested"
    assert kaggle_inputs("arc-prize-2026", root=flat) == (flat / "kaggle/input/arc-prize-2026",)
    assert kaggle_inputs("arc-prize-2026", root=nested)[0].parent.name == "competitions"
    assert kaggle_inputs("me/qwen", root=nested)[0].name == "3"
    assert kaggle_inputs("absent", root=nested) == ()


def test_an_htcondor_slot_gives_its_limits(tmp_path: Path) -> None:
    (tmp_path / "job").write_text('ClusterId = 7\nRequestCpus = 2\nArcRun = "r1"\n')
    (tmp_path / "slot").write_text("Cpus = 4\nMemory = 8192\nDisk = 1048576\n")
    env = {
        "_CONDOR_SCRATCH_DIR": str(tmp_path),
        "_CONDOR_JOB_AD": str(tmp_path / "job"),
        "_CONDOR_MACHINE_AD": str(tmp_path / "slot"),
        "APPTAINER_CONTAINER": "/image.sif",
    }
    platform = find_platform(env, tmp_path)

    assert (platform.site, platform.container, platform.cores) == ("htcondor", "apptainer", 4)
    assert (platform.memory_bytes, platform.disk_bytes) == (8 * GIB, GIB)
    assert platform.job_ad["ArcRun"] == "r1" and platform.scratch == tmp_path


def test_an_unreadable_job_ad_is_no_error(tmp_path: Path) -> None:
    platform = find_platform({"_CONDOR_JOB_AD": str(tmp_path / "absent")}, tmp_path)
    assert platform.site == "htcondor" and platform.cores is None


def test_containers_are_told_apart(tmp_path: Path) -> None:
    assert find_platform({}, tmp_path).container == "none"
    (tmp_path / ".dockerenv").touch()
    assert find_platform({}, tmp_path).container == "docker"
    write(tmp_path, run___dot_containerenv="")
    assert find_platform({}, tmp_path).container == "podman"


def test_classad_strings_lose_their_quotes_only() -> None:
    assert parse_ad('A = "x y"\nB = 3 + 4\nnonsense\n') == {"A": "x y", "B": "3 + 4"}


def test_an_address_space_limit_is_of_each_process_and_not_shared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (3 * GIB, 3 * GIB))
    host = find_host(plain_root(tmp_path))
    assert host.memory_reason == "address space limit (ulimit -v)"
    assert host.process_bytes is not None
    assert 2 * GIB < host.process_bytes < 3 * GIB
    assert host.memory_free_bytes > 3 * GIB


@pytest.mark.parametrize(
    ("flags", "wish", "isa"),
    [
        ("avx2 avx512f avx512_bf16", "", ("avx512-bf16", "avx512", "avx2")),
        ("avx2 avx512f avx512_bf16", "auto", ("avx512-bf16", "avx512", "avx2")),
        ("avx2 avx512f avx512_bf16", "on", ("avx512-bf16", "avx512", "avx2")),
        ("avx2 avx512f avx512_bf16", "OFF", ("avx512", "avx2")),
        ("avx2", "auto", ("avx2",)),
        ("avx2", "off", ("avx2",)),
        ("avx2", "on", ("avx2", "emulated-bf16")),
        ("", "on", ("emulated-bf16",)),
    ],
)
def test_one_switch_says_whether_a_cpu_multiplies_in_bfloat16(
    flags: str, wish: str, isa: tuple[str, ...], tmp_path: Path
) -> None:
    root = write(tmp_path, proc__cpuinfo=f"flags\t\t: {flags}\n")
    host = find_host(root, env={"APPLIANCE_CPU_BF16": wish})
    assert host.isa == isa
    assert host.can_bf16 == any("bf16" in name for name in isa)

    if wish.lower() in ("on", "off"):
        assert host.bf16_reason == f"APPLIANCE_CPU_BF16={wish.lower()}"
    else:
        assert "this CPU" in host.bf16_reason


@pytest.mark.parametrize("wish", ["yes", "1", "bf16"])
def test_a_bad_value_of_the_switch_is_named_with_those_it_may_have(wish: str) -> None:
    with pytest.raises(UsageError, match=f"APPLIANCE_CPU_BF16 = '{wish}'.*auto, on or off"):
        find_host(env={"APPLIANCE_CPU_BF16": wish})
