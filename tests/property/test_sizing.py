"""Sizing over random machines, models, task sets and budgets."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from appliance.machine.catalogue import CARDS, GpuSpec
from appliance.machine.gpu import GIB, Gpu, select_visible
from appliance.machine.host import Host
from appliance.machine.machine import Machine
from appliance.machine.platforms import Platform
from appliance.sizing.costs.device import device_of_gpu
from appliance.sizing.costs.model_card import SHIPPED, ModelCard, load_card
from appliance.sizing.costs.sample_memory import sample_memory
from appliance.sizing.costs.setups import TrainSetup, loss_chunk_rows
from appliance.sizing.costs.speed import sample_speed, train_step_s
from appliance.sizing.costs.task_lengths import TaskLength, TaskLengths
from appliance.sizing.costs.train_memory import train_memory
from appliance.sizing.make_plan import size
from appliance.sizing.pins import Pins, sample_setup, train_setup
from appliance.sizing.request import SizingRequest

ARC_MINI = load_card("arc-mini")
PLACED = ARC_MINI.model_copy(  # the same layers, and tokens that know their place
    update={"vocab_size": 9288, "style": "grid-tokens-v2", "encoder": "grid-tokens-v2"}
)
MODELS = st.sampled_from([*SHIPPED.values(), ARC_MINI, PLACED])
SPECS = st.sampled_from(CARDS)
FLAGS = st.booleans()


@st.composite
def gpus(draw: st.DrawFn, *, most: int = 8) -> tuple[Gpu, ...]:
    spec, count = draw(SPECS), draw(st.integers(0, most))
    total = int(spec.memory_gib * GIB)
    free = int(total * draw(st.floats(0.05, 1.0)))
    return tuple(
        Gpu(i, f"GPU-{i}", spec.name, spec.capability, total, free, "580") for i in range(count)
    )


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    memory = int(draw(st.floats(0.5, 500)) * GIB)
    isa = draw(
        st.sampled_from(
            [(), ("avx2",), ("avx512", "avx2"), ("amx-bf16", "avx512-bf16", "avx512", "avx2")]
        )
    )
    host = Host("CPU", draw(st.integers(1, 128)), "", memory, "", memory, isa)
    return Machine(draw(gpus()), host, Platform())


@st.composite
def task_lengths(draw: st.DrawFn) -> TaskLengths:
    def task(n: int) -> TaskLength:
        prompt = draw(st.integers(20, 10_000))
        return TaskLength(
            f"t{n}",
            prompt,
            draw(st.integers(2, 1100)),
            draw(st.integers(20, 10_000)),
            draw(st.integers(1, 3)),
        )

    kinds = [task(n) for n in range(draw(st.integers(1, 4)))]
    count = draw(st.integers(1, 1000))
    return TaskLengths(tuple(kinds[n % len(kinds)] for n in range(count)), "random")


@st.composite
def setups(draw: st.DrawFn) -> TrainSetup:
    return TrainSetup(
        dtype=draw(st.sampled_from(["bfloat16", "float16"])),
        quantization=draw(st.sampled_from(["none", "nf4", "int8"])),
        max_seq_tokens=draw(st.integers(64, 40_000)),
        micro_batch=draw(st.integers(1, 8)),
        gradient_checkpointing=draw(FLAGS),
        fused_loss=draw(FLAGS),
        lora_rank=draw(st.integers(1, 256)),
        attention=draw(st.sampled_from(["flash", "sdpa", "eager"])),
    )


@settings(max_examples=60, deadline=None)
@given(machines(), st.lists(MODELS, min_size=1, max_size=3), task_lengths(), st.floats(60, 86_400))
def test_every_plan_is_whole_and_true_to_its_own_model(
    machine: Machine, cards: list[ModelCard], lengths: TaskLengths, budget_s: float
) -> None:
    plan = size(machine, cards, SizingRequest(lengths, budget_s))
    need = plan.train.memory.memory_gib + plan.train.memory.context_gib
    assert plan.train.fits == (need <= plan.room_gib)
    assert plan.sample.fits == (plan.sample.memory.kv_tokens >= plan.costs.sample.max_seq_tokens)

    if not plan.train.fits:
        assert plan.train.steps_per_task.value == 0
    assert 1 <= plan.workers.value <= max(len(machine.gpus), machine.host.num_cores)
    assert plan.workers.value * plan.threads.value <= max(
        machine.host.num_cores, plan.workers.value
    )
    assert plan.sample.views.value >= 1 and plan.sample.max_num_seqs.value >= 1
    assert plan.train.seconds_per_step > 0 and plan.sample.tokens_per_second > 0
    assert plan.train.max_seq_tokens.value <= max(64, lengths.longest())

    text = plan.to_json()
    assert all(
        part["reason"]
        for part in text["train"].values()
        if isinstance(part, dict) and "reason" in part
    )


@settings(max_examples=40, deadline=None)
@given(machines(), MODELS, task_lengths(), st.floats(600, 86_400))
def test_a_plan_with_trained_tasks_ends_within_its_budget(
    machine: Machine, card: ModelCard, lengths: TaskLengths, budget_s: float
) -> None:
    plan = size(machine, [card], SizingRequest(lengths, budget_s))
    assume(plan.train.steps_per_task.value > 0 and plan.sample.views.value > 2)
    assert plan.time.total_s <= budget_s * 1.001


@settings(max_examples=150, deadline=None)
@given(MODELS, SPECS, setups(), st.floats(1.0, 3.0))
def test_longer_sequences_and_larger_batches_never_cost_less(
    card: ModelCard, spec: GpuSpec, setup: TrainSetup, factor: float
) -> None:
    total = int(spec.memory_gib * GIB)
    device = device_of_gpu(Gpu(0, "GPU-0", spec.name, spec.capability, total, total, ""))
    longer = replace(setup, max_seq_tokens=int(setup.max_seq_tokens * factor))
    wider = replace(setup, micro_batch=setup.micro_batch + 1)
    base_gib, base_s = (
        train_memory(card, setup, device).memory_gib,
        train_step_s(card, setup, device),
    )

    for other in (longer, wider):
        assert train_memory(card, other, device).memory_gib >= base_gib
        assert train_step_s(card, other, device) >= base_s


@settings(max_examples=150, deadline=None)
@given(MODELS, SPECS, setups())
def test_what_saves_memory_never_takes_more(
    card: ModelCard, spec: GpuSpec, setup: TrainSetup
) -> None:
    total = int(spec.memory_gib * GIB)
    device = device_of_gpu(Gpu(0, "GPU-0", spec.name, spec.capability, total, total, ""))
    plain = replace(
        setup,
        gradient_checkpointing=False,
        fused_loss=False,
        micro_batch=1,
        attention="flash",
        quantization="none",
    )
    base = train_memory(card, plain, device).memory_gib
    assert train_memory(card, replace(plain, fused_loss=True), device).memory_gib <= base + 0.3
    assert train_memory(card, replace(plain, lora_rank=1), device).memory_gib <= base

    if plain.max_seq_tokens >= 1024:
        assert (
            train_memory(card, replace(plain, gradient_checkpointing=True), device).memory_gib
            <= base
        )
    assert train_memory(card, plain, device).fits(base + 10) and not train_memory(
        card, plain, device
    ).fits(base * 0.9)


@settings(max_examples=150, deadline=None)
@given(MODELS, SPECS, setups(), st.floats(0.01, 1.0), st.floats(1.0, 3.0))
def test_a_loss_by_chunks_never_takes_more_than_a_whole_one(
    card: ModelCard, spec: GpuSpec, setup: TrainSetup, share: float, factor: float
) -> None:
    total = int(spec.memory_gib * GIB)
    device = device_of_gpu(Gpu(0, "GPU-0", spec.name, spec.capability, total, total, ""))
    rows = loss_chunk_rows(card.vocab_size)
    ours = replace(
        setup, fused_loss=True, loss_chunk_rows=rows, fused_layers=False, target_share=share
    )
    whole = replace(ours, fused_loss=False, loss_chunk_rows=None)
    longer = replace(ours, max_seq_tokens=int(ours.max_seq_tokens * factor))

    found = train_memory(card, ours, device).memory_gib
    # Apart from hidden states, and the head in another type, which a whole loss does not count.
    num_hidden = 3 * setup.micro_batch * setup.max_seq_tokens * card.hidden_size
    apart_gib = (4 * num_hidden + 2 * card.embedding_params) / GIB
    assert found <= train_memory(card, whole, device).memory_gib + apart_gib + 1e-6
    assert found <= train_memory(card, longer, device).memory_gib
    assert train_step_s(card, ours, device) == train_step_s(card, whole, device)


@settings(max_examples=100, deadline=None)
@given(MODELS, SPECS, st.floats(0.1, 0.9), st.floats(0.0, 0.1), st.integers(64, 20_000))
def test_a_larger_share_of_memory_never_holds_fewer_tokens(
    card: ModelCard, spec: GpuSpec, share: float, more: float, tokens: int
) -> None:
    total = int(spec.memory_gib * GIB)
    device = device_of_gpu(Gpu(0, "GPU-0", spec.name, spec.capability, total, total, ""))
    setup = replace(sample_setup(card, device, Pins(max_seq_tokens=tokens)), share=share)
    less, larger = (
        sample_memory(card, setup, device),
        sample_memory(card, replace(setup, share=share + more), device),
    )
    assert larger.kv_tokens >= less.kv_tokens
    assert larger.fits >= less.fits, "what fits into less fits into more"

    speeds = [
        sample_speed(
            card, setup, device, kv_tokens=m.kv_tokens, prompt_tokens=tokens, answer_tokens=200
        )
        for m in (less, larger)
    ]
    assert speeds[1].batch >= speeds[0].batch


@settings(max_examples=80, deadline=None)
@given(MODELS, st.integers(2, 80), st.integers(0, 80), st.integers(128, 12_000))
def test_a_card_with_more_memory_never_fits_less(
    card: ModelCard, gib: int, more: int, tokens: int
) -> None:
    def fits(memory_gib: int) -> bool:
        gpu = Gpu(0, "GPU-0", "NVIDIA Test", (8, 6), memory_gib * GIB, memory_gib * GIB, "")
        device = device_of_gpu(gpu)
        setup = train_setup(card, device, Pins(max_seq_tokens=tokens))
        return train_memory(card, setup, device).fits(device.memory_gib)

    assert fits(gib + more) >= fits(gib)


@given(
    st.lists(
        st.sampled_from(["0", "1", "2", "9", "GPU-1", "GPU-2", "-1", "MIG-3", "", "x"]), max_size=5
    )
)
def test_visible_devices_never_repeat_a_card_or_invent_one(entries: list[str]) -> None:
    cards = tuple(Gpu(i, f"GPU-{i}", "L4", (8, 9), GIB, GIB, "") for i in range(3))
    chosen, _ = select_visible(cards, ",".join(entries))
    assert len({c.uuid for c in chosen}) == len(chosen) and set(chosen) <= set(cards)
