"""Which engine samples: by what starting it, feeding it each task and writing all answers will take."""

from __future__ import annotations

from dataclasses import replace

from appliance.sizing.choice import Choice
from appliance.sizing.costs.coefficients import FITTED, Coefficients
from appliance.sizing.costs.device import Device
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.setups import SampleSetup
from appliance.sizing.costs.speed import sample_speed
from appliance.sizing.request import SizingRequest

USUAL_VIEWS = 18
"""The views of a quick pass and of one deep pass by default."""
SAMPLE_SHARE = 0.35
"""Of the budget goes to sampling (see pacing.py)."""


def choose_engine(
    card: ModelCard,
    device: Device,
    request: SizingRequest,
    setup: SampleSetup,
    *,
    k: Coefficients = FITTED,
) -> Choice[str]:
    """vLLM wherever it runs on a GPU; on a CPU whichever is done sooner, or gets further in the time for sampling."""
    if request.pins.engine:
        return Choice(request.pins.engine, "pinned")
    if device.is_gpu and device.capability < (7, 0):
        found = f"{device.capability[0]}.{device.capability[1]}"
        return Choice("transformers", f"vLLM needs compute capability 7.0, the card has {found}")
    if "vllm" not in request.engines:
        return Choice("transformers", "vLLM is not installed")
    if device.is_gpu:
        return Choice(
            "vllm", "installed; 8-19 times the rate of generate() where samples share a prompt"
        )
    write_s = {
        name: _write_s(card, device, request, replace(setup, engine=name), k)
        for name in ("vllm", "transformers")
    }
    start_s = k.cpu_vllm_start_s + k.cpu_vllm_swap_s * len(request.lengths)
    time_s = SAMPLE_SHARE * request.budget_s
    done = {
        "vllm": max(0.0, time_s - start_s) / max(write_s["vllm"], 1e-9),
        "transformers": time_s / max(write_s["transformers"], 1e-9),
    }
    if min(done.values()) >= 1:
        is_better = start_s + write_s["vllm"] < write_s["transformers"]
    else:
        is_better = done["vllm"] > done["transformers"]
    found = (
        f"{len(request.lengths)} tasks take {write_s['transformers']:.0f} s to sample with transformers, "
        f"with vLLM {start_s:.0f} s to start and {write_s['vllm']:.0f} s"
    )
    return Choice("vllm" if is_better else "transformers", found)


def _write_s(
    card: ModelCard, device: Device, request: SizingRequest, setup: SampleSetup, k: Coefficients
) -> float:
    """Seconds of one worker for all answers of all tasks."""
    views = request.pins.views or USUAL_VIEWS
    seconds = 0.0
    for task in request.lengths.tasks:
        count = views * task.num_tests
        batch = max(1, min(setup.batch, count * setup.samples_per_prompt))
        speed = sample_speed(
            card,
            replace(setup, batch=batch),
            device,
            kv_tokens=10**9,
            prompt_tokens=min(task.prompt_tokens, setup.max_seq_tokens),
            answer_tokens=task.typical_answer_tokens,
            k=k,
        )
        seconds += (
            count * setup.samples_per_prompt * task.typical_answer_tokens / speed.tokens_per_second
        )
    return seconds
