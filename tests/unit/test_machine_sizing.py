"""Plans: what published runs measured, what the plan picks and why, pins, probe."""

from __future__ import annotations

import importlib.util
import json
from argparse import ArgumentParser
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from appliance.commands import plan as plan_cli
from appliance.config import Layer, resolve
from appliance.errors import UsageError
from appliance.machine.gpu import GIB
from appliance.machine.host import Host
from appliance.machine.imagined import imagined
from appliance.machine.machine import Machine
from appliance.machine.platforms import Platform
from appliance.machine.software import Software
from appliance.sizing.costs.coefficients import FITTED
from appliance.sizing.costs.model_card import SHIPPED, load_card
from appliance.sizing.costs.sample_memory import ASLEEP_GIB
from appliance.sizing.costs.setups import TrainSetup
from appliance.sizing.costs.task_costs import Probe
from appliance.sizing.costs.task_lengths import TaskLength, TaskLengths, usual_lengths
from appliance.sizing.make_plan import size
from appliance.sizing.pins import Pins
from appliance.sizing.plan import Plan
from appliance.sizing.request import SizingRequest
from tests.support.cases import REPOSITORY

HOST = Host("CPU", 8, "affinity", 32 * GIB, "physical", 30 * GIB, ("amx-bf16", "avx512", "avx2"))
CPU = Machine((), HOST, Platform())


def plan(
    gpu: str, *models: str, budget_s: float = 36_000, tasks: TaskLengths | None = None, **pins: Any
) -> Plan:
    cards = [load_card(m) for m in models]
    request = SizingRequest(tasks or usual_lengths(cards[0]), budget_s, Pins.from_mapping(pins))
    return size(imagined(CPU, gpu), cards, request)


@pytest.fixture(scope="module")
def calibrate() -> ModuleType:
    path = REPOSITORY / "bench" / "calibrate.py"
    spec = importlib.util.spec_from_file_location("calibrate", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_published_run_fits_or_not_as_it_did(calibrate: ModuleType) -> None:
    found = calibrate.residuals(*calibrate.read_rows(), FITTED)
    wrong = [
        row["id"] for row, name, measured, said in found if name == "fits" and measured != said
    ]
    assert wrong == []


def test_published_memory_is_met_within_a_tenth_and_time_within_a_quarter(
    calibrate: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate.main([]) == 0
    assert "median error" in capsys.readouterr().out


def test_a_t4_gets_float16_and_no_flash_attention() -> None:
    train = plan("T4x2", "Qwen2.5-0.5B").train
    assert (train.dtype.value, train.attention.value) == ("float16", "sdpa")
    assert "7.5" in train.dtype.reason


def test_a_plan_says_what_the_engines_do_and_a_what_if_says_that_none_does() -> None:
    """Published trainings took Liger's kernels and FlashAttention; our engines take neither, but
    have a fused loss of their own."""
    ours = plan("H100", "Qwen3-4B")
    train = ours.train
    found = (train.fused_loss.value, train.attention.value, train.targets.value)
    assert found == (True, "sdpa", "all")
    assert "in chunks of at most 128 MiB; none are kept" in train.fused_loss.reason
    assert train.trainer.value == "unsloth"
    assert not any("what-if" in note for note in ours.notes)

    published = plan("H100", "Qwen3-4B", fused_loss=True)
    train = published.train
    found = (train.fused_loss.value, train.attention.value, train.targets.value)
    assert found == (True, "flash", "attention")
    assert any("a what-if: no engine here does fused_loss=True" in n for n in published.notes)


@pytest.mark.parametrize("gpu", ["T4", "H100", "none"])
def test_what_is_planned_for_the_loss_is_what_the_engines_hold(gpu: str) -> None:
    """Hidden states of the targets, their gradient and one chunk of logits; once all logits were
    held. The layers are no less plain for it."""
    costs = plan(gpu, "Qwen2.5-0.5B").costs
    ours = replace(costs.train, max_seq_tokens=6000, micro_batch=1, gradient_checkpointing=True)
    hidden_gib = 3000 * 896 * 4 / GIB

    def gib(setup: TrainSetup) -> float:
        return costs.memory_of(setup).memory_gib

    more_gib = gib(replace(ours, target_share=1.0)) - gib(replace(ours, target_share=0.5))
    assert 0 <= more_gib <= 2 * hidden_gib
    whole = replace(ours, fused_loss=False, loss_chunk_rows=None, target_share=0.5)
    assert gib(whole) - gib(replace(ours, target_share=0.5)) > 3.5, "12 bytes an entry before"
    assert gib(replace(ours, gradient_checkpointing=False, fused_layers=True)) < gib(
        replace(ours, gradient_checkpointing=False)
    )


def test_attention_is_planned_as_the_engines_ask_for_it() -> None:
    """They load Phi-3 with torch's fused kernels, whatever its published runs used."""
    assert plan("T4", "Phi-3-mini").train.attention.value == "sdpa"
    on_cpu = plan("none", "arc-mini").train
    assert (on_cpu.attention.value, on_cpu.dtype.value) == ("sdpa", "bfloat16")
    assert "engine/attention.py" in on_cpu.attention.reason
    assert "where unsloth finds" in plan("T4", "arc-mini").train.attention.reason

    old, card = replace(CPU, host=replace(HOST, isa=("avx2",))), load_card("arc-mini")
    in_float32 = size(old, [card], SizingRequest(usual_lengths(card), 1800)).train
    assert in_float32.attention.reason == "torch's fused kernels"


def test_where_vllm_and_training_do_not_fit_together_they_take_turns() -> None:
    sample = plan("L4x4", "Qwen3-4B").sample
    assert (sample.engine.value, sample.residency.value) == ("vllm", "in turns")
    assert "keeps its weights on the host, which takes 3.2 s a task" in sample.residency.reason
    # Its share of the card is what a trainer leaves that keeps nothing but its optimizer there.
    assert 19 < sample.gpu_memory_utilization.value * 22.03 < 22.03 - 1.5

    # Training has nearly the whole card meanwhile, and its answers come sooner all the same.
    found, asked = plan("L4x4", "Qwen3-4B"), plan("L4x4", "Qwen3-4B", engine="transformers")
    assert found.train_room_gib == pytest.approx(found.room_gib - ASLEEP_GIB)
    assert found.time.sample_s < asked.time.sample_s


@pytest.mark.parametrize(
    ("gpu", "model", "memory", "why"),
    [
        ("T4", "Qwen3-4B", 30 * GIB, "the cache would not hold four sequences"),
        ("L4", "Qwen3-4B", 20 * GIB, "the weights that wait on the host take 15.0 GiB"),
    ],
)
def test_where_not_even_turns_are_possible_transformers_samples(
    gpu: str, model: str, memory: int, why: str
) -> None:
    card = load_card(model)
    host = replace(imagined(CPU, gpu).host, memory_bytes=memory, memory_free_bytes=memory)
    machine = replace(imagined(CPU, gpu), host=host)
    sample = size(machine, [card], SizingRequest(usual_lengths(card), 36_000)).sample
    assert (sample.engine.value, sample.residency.value) == ("transformers", "shared")
    assert sample.engine.reason.startswith("vLLM cannot take turns with training: ")
    assert why in sample.engine.reason


def test_adapters_are_merged_where_the_kernels_for_them_have_no_tensor_cores() -> None:
    turing, ampere = (plan(gpu, "Qwen2.5-0.5B").sample for gpu in ("T4", "A6000"))
    assert (turing.engine.value, turing.serving.value) == ("vllm", "merged")
    assert "the card has 7.5" in turing.serving.reason
    assert (ampere.engine.value, ampere.serving.value) == ("vllm", "on-the-fly")


def test_nothing_is_merged_into_weights_in_four_bits() -> None:
    """vLLM would refuse every adapter, and Transformers sample all tasks in its place."""
    card = load_card("Qwen2.5-0.5B")
    for quantization, serving in (("none", "merged"), ("nf4", "on-the-fly")):
        pins = Pins(quantization=quantization, engine="vllm")
        sample = size(CPU, [card], SizingRequest(usual_lengths(card), 36_000, pins)).sample
        assert (sample.engine.value, sample.serving.value) == ("vllm", serving)


def test_an_8b_model_trains_in_four_bits_on_a_t4_and_in_sixteen_on_an_h100() -> None:
    assert plan("T4", "Llama-3.1-8B").train.quantization.value == "nf4"
    assert plan("H100", "Llama-3.1-8B").train.quantization.value == "none"


def test_the_largest_model_that_fits_and_finishes_is_picked_and_the_others_are_explained() -> None:
    best = plan("L4x4", "Qwen2.5-0.5B", "Qwen3-4B", budget_s=37_800)
    assert best.model.value == "Qwen3-4B"
    assert "Qwen2.5-0.5B" in best.model.reason
    assert plan("L4x4", "Qwen2.5-0.5B", "Qwen3-4B", budget_s=900).model.value == "Qwen2.5-0.5B"


def test_on_a_cpu_the_tiny_model_gets_an_adapter_in_bfloat16_and_one_worker_a_core() -> None:
    best = plan("none", "arc-mini", budget_s=1800)
    assert (best.workers.value, best.threads.value) == (8, 1)
    assert (best.train.dtype.value, best.train.full_finetune.value) == ("bfloat16", False)
    assert best.sample.tokens_per_second > 100


def test_a_cpu_without_bfloat16_units_computes_in_float32() -> None:
    old = replace(CPU, host=replace(HOST, isa=("avx2",)))
    cards = [load_card("arc-mini")]
    best = size(old, cards, SizingRequest(usual_lengths(cards[0]), 1800))
    assert best.train.dtype.value == "float32"


def test_a_model_too_large_for_everything_says_so_and_offers_what_to_do() -> None:
    best = plan("T4", "Llama-3.1-8B", quantization="none", max_seq_tokens=8192)
    assert not best.train.fits and best.train.steps_per_task.value == 0
    assert any("nf4" in note for note in best.notes)


def test_pins_are_kept_and_named_as_such() -> None:
    best = plan(
        "A6000",
        "Qwen2.5-1.5B",
        lora_rank=8,
        micro_batch=2,
        max_seq_tokens=2048,
        gpu_memory_utilization=0.3,
    )

    for choice, value in (
        (best.train.lora_rank, 8),
        (best.train.micro_batch, 2),
        (best.train.max_seq_tokens, 2048),
        (best.sample.gpu_memory_utilization, 0.3),
    ):
        assert (choice.value, choice.reason) == (value, "pinned")


def test_every_unknown_pin_is_reported_at_once_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"lora_rnk.*lora_rank.*micro_bach.*micro_batch.*dtype"):
        Pins.parse(["lora_rnk=8,micro_bach=1", "dtype=float8"])


def test_pins_take_the_spellings_of_the_engines() -> None:
    pins = Pins.parse(
        ["dtype=bf16 quantization=4bit", "fused_loss=liger", "gradient-checkpointing=unsloth"]
    )

    assert (pins.dtype, pins.quantization, pins.fused_loss, pins.gradient_checkpointing) == (
        "bfloat16",
        "nf4",
        True,
        True,
    )


def test_no_budget_for_training_means_no_training() -> None:
    best = plan("T4", "Qwen2.5-1.5B", budget_s=400)
    assert (
        best.train.steps_per_task.value == 0 and "teach nothing" in best.train.steps_per_task.reason
    )


def test_memory_that_others_hold_is_not_planned_with() -> None:
    machine = imagined(CPU, "L4")
    busy = replace(
        machine, gpus=tuple(replace(g, free_bytes=9 * GIB, other_pids=(7,)) for g in machine.gpus)
    )
    card = SHIPPED["Qwen2.5-1.5B"]
    best = size(busy, [card], SizingRequest(usual_lengths(card), 36_000))

    assert best.train.memory.memory_gib < 9 and best.train.fits
    assert any("in use" in note for note in best.notes)


def test_a_probe_corrects_time_and_memory() -> None:
    costs = plan("T4", "Qwen2.5-0.5B").costs
    task = TaskLength("t", 2000, 200, 1500, 1)
    slow = costs.corrected_by(Probe(1500, train_step_s=2 * costs.step_s(1500), read_s=None))
    assert slow.train_s(task, 10) == pytest.approx(2 * costs.train_s(task, 10))
    # No time was left to measure sampling, so it is taken to be as slow.
    assert slow.sample_s(task, 4) == pytest.approx(2 * costs.sample_s(task, 4))

    predicted = costs.memory(1500)
    heavy = costs.corrected_by(Probe(1500, train_memory_gib=1.5 * predicted.memory_gib))
    assert heavy.memory(1500).memory_gib == pytest.approx(1.5 * predicted.memory_gib)

    both = costs.corrected_by(
        Probe(1500, read_s=2 * costs.read_s(1500), write_token_s=2 * costs.write_token_s(1500))
    )
    assert both.sample_s(task, 4) == pytest.approx(2 * costs.sample_s(task, 4))

    again = slow.corrected_by(Probe(1500, train_step_s=costs.step_s(1500)))
    assert again.step_s(1500) == pytest.approx(costs.step_s(1500))


def test_a_mad_probe_is_cut_to_a_sane_range() -> None:
    costs = plan("T4", "Qwen2.5-0.5B").costs
    assert costs.corrected_by(Probe(1000, train_step_s=1e9)).correction.train_time == 20.0


@pytest.mark.parametrize(
    ("gpu", "model"), [("none", "arc-mini"), ("T4x2", "Qwen2.5-1.5B"), ("L4x4", "Llama-3.1-8B")]
)
def test_a_plan_is_legal_as_settings_of_a_run(gpu: str, model: str) -> None:
    best = plan(gpu, model)
    found = resolve([Layer("plan", best.to_settings())])
    assert found.run.workers == best.workers.value
    assert found.train.rank == best.train.lora_rank.value


def cli(*words: str) -> Any:
    parser = ArgumentParser()
    plan_cli.add_arguments(parser)
    return parser.parse_args(list(words))


def test_the_json_holds_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "--gpu",
        "RTX-4090",
        "--model",
        "Qwen2.5-7B",
        "--pin",
        "quantization=nf4",
        "max_seq_tokens=8192",
        "--json",
    )
    assert plan_cli.run(cli(*words)) == 0

    found = json.loads(capsys.readouterr().out)
    assert {"memory_gib", "fits", "seconds_per_step"} <= found["train"].keys()
    assert {"memory_gib", "fits", "kv_tokens", "tokens_per_second"} <= found["sample"].keys()

    for part in (found["train"], found["sample"], found):
        for value in part.values():
            if isinstance(value, dict) and "value" in value:
                assert set(value) == {"value", "reason"} and value["reason"]


def test_the_printed_plan_names_model_card_and_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        plan_cli.run(
            cli("--gpu", "T4x2", "--model", "Qwen2.5-0.5B,Qwen2.5-1.5B", "--budget", "10h30m")
        )
        == 0
    )

    text = capsys.readouterr().out
    assert "T4" in text and "Qwen2.5-1.5B" in text and "float16" in text


def test_no_tasks_at_all_still_give_a_plan() -> None:
    assert plan("L4", "Qwen2.5-0.5B", tasks=TaskLengths((), "empty")).fits


def test_no_budget_is_refused() -> None:
    with pytest.raises(UsageError, match="budget"):
        plan("L4", "Qwen2.5-0.5B", budget_s=0)


def test_real_task_lengths_decide_the_window() -> None:
    short = TaskLengths((TaskLength("a", 300, 50, 250, 1), TaskLength("b", 400, 60, 300, 2)), "two")
    best = plan("L4", "Qwen2.5-0.5B", tasks=short)
    assert best.train.max_seq_tokens.value == 460
    assert "longest of 2 tasks" in best.train.max_seq_tokens.reason


def test_a_choice_of_tasks_needs_tasks() -> None:
    with pytest.raises(UsageError, match="--only or --limit without --tasks"):
        plan_cli.run(cli("--limit", "3"))


def test_weights_are_not_packed_where_bitsandbytes_is_missing() -> None:
    card, machine = load_card("Llama-3.1-8B"), imagined(CPU, "T4")
    lengths = usual_lengths(card)
    packed = size(machine, [card], SizingRequest(lengths, 36_000))
    assert packed.train.quantization.value == "nf4"

    without = Software(has_bitsandbytes=False)
    plain = size(machine, [card], SizingRequest(lengths, 36_000, software=without))
    assert (plain.train.quantization.value, plain.train.fits) == ("none", False)
