"""Which engine generates the answers: by what starting it and writing everything will take."""

from __future__ import annotations

from dataclasses import replace

from appliance.config import Settings
from appliance.errors import PrerequisiteError, UsageError
from appliance.machine.catalogue import AMPERE
from appliance.machine.platforms import Platform
from appliance.machine.software import Software
from appliance.sizing.choice import Choice
from appliance.sizing.costs.coefficients import FITTED, Coefficients
from appliance.sizing.costs.device import Device
from appliance.sizing.costs.model_card import ModelCard
from appliance.sizing.costs.setups import SampleSetup
from appliance.sizing.costs.speed import sample_speed
from appliance.sizing.request import SizingRequest

VLLM_NEEDS = (7, 0)
"""The lowest compute capability that vLLM has kernels for."""


BUSY_FROM = 1.5
"""Other work on the cores counts from this slowdown on."""

START_SHARE = 0.1
"""Of the budget that a start of vLLM may take on busy cores: what comes before the first answer."""


def on_busy_cores(
    software: Software,
    settings: Settings,
    *,
    slowdown: float,
    budget_s: float,
    k: Coefficients = FITTED,
) -> Software:
    """The software of a CPU without vLLM, where its start alone would take too long.

    slowdown: how many times as long as it computes this process takes. Where vLLM is asked for it
    stays.
    """
    start_s = slowdown * k.cpu_vllm_start_s
    is_free = settings.model.engine == "auto" and settings.sample.grammar == "none"
    if slowdown < BUSY_FROM or start_s <= START_SHARE * budget_s or not is_free:
        return software
    if "vllm" not in software.engines:
        return software

    why = (
        f"other work has the cores, so that all takes {slowdown:.1f} times as long, and the start "
        f"of vLLM {start_s:.0f} s of {budget_s:.0f} s"
    )
    return replace(
        software,
        engines=tuple(name for name in software.engines if name != "vllm"),
        vllm_fault=why,
    )


def check_engine(settings: Settings, software: Software, platform: Platform) -> None:
    """Raises PrerequisiteError when the engine that is asked for cannot be used, UsageError for
    settings that exclude each other."""
    asked, grammar = settings.model.engine, settings.sample.grammar
    if asked == "transformers" and grammar != "none":
        raise UsageError(
            f"sample.grammar = {grammar} with --engine transformers",
            expected="vLLM, which alone forces answers into a grammar",
            remedy="leave model.engine at auto, or sample.grammar at none",
        )

    needs_vllm = asked == "vllm" or grammar != "none"
    if not needs_vllm:
        return
    wish = "--engine vllm" if asked == "vllm" else f"sample.grammar = {grammar}"
    if software.vllm_fault:
        raise PrerequisiteError(
            f"{wish}: {software.vllm_fault}",
            expected="vLLM for this machine",
            remedy=f"{platform.to_install('engines')}, or --engine auto",
        )

    fault = _quantized_fault(settings.model.quantization, software)
    if fault:
        raise PrerequisiteError(
            f"{wish}: {fault}",
            expected="vLLM for the base weights that are asked for",
            remedy=f"{platform.to_install('gpu')}, --engine auto, or --set model.quantization=none",
        )


def choose_engine(
    card: ModelCard,
    device: Device,
    request: SizingRequest,
    setup: SampleSetup,
    *,
    k: Coefficients = FITTED,
) -> Choice[str]:
    """Of the engines that run here the one that is done sooner, or gets further."""
    if request.pins.engine:
        return Choice(request.pins.engine, request.reason("engine", ""))
    if request.settings.sample.grammar != "none":
        return Choice("vllm", "sample.grammar needs it")
    if device.is_gpu and device.capability < VLLM_NEEDS:
        found = f"{device.capability[0]}.{device.capability[1]}"
        return Choice("transformers", f"vLLM needs compute capability 7.0, the card has {found}")
    if "vllm" not in request.software.engines:
        return Choice("transformers", request.software.vllm_fault or "vLLM is not installed")
    if fault := _quantized_fault(setup.quantization, request.software, dtype=setup.dtype):
        return Choice("transformers", fault)

    sooner = _sooner(card, device, request, setup, k)
    if is_in_doubt(sooner.value, request, device):
        doubt = "without tensor cores for its kernels it may take longer, so the probe compares"
        return Choice(sooner.value, f"{sooner.reason}; {doubt}")
    return sooner


def is_in_doubt(engine: str, request: SizingRequest, device: Device) -> bool:
    """Whether only a trial on the card tells if vLLM is worth it.

    Below 8.0 its kernels run without tensor cores, and no published figure says what that costs.
    Of programs it writes so many to one prompt that it is not in doubt.
    """
    settings = request.settings
    is_free = not request.pins.engine and settings.sample.grammar == "none"
    is_slow = device.is_gpu and device.capability < AMPERE
    return engine == "vllm" and is_free and is_slow and not settings.writes_programs


def choose_serving(
    engine: str, setup: SampleSetup, request: SizingRequest, device: Device
) -> Choice[str]:
    """How the engine gets the adapter of a task."""
    if engine == "transformers":
        return Choice("in place", "the trained model generates the answers itself")
    asked = request.settings.sample.serving
    if asked != "auto":
        return Choice(asked, "set by sample.serving")
    if setup.quantization != "none":
        stored = setup.quantization
        return Choice("on-the-fly", f"nothing is folded into weights in {stored} without loss")
    if device.is_gpu and device.capability < AMPERE:
        # Compiled by Triton 3.7 for 7.5 they hold no tensor-core instruction, for 8.0 16 to 32.
        found = f"{device.capability[0]}.{device.capability[1]}"
        why = f"vLLM's kernels for adapters need tensor cores of 8.0 or later, the card has {found}"
        return Choice("merged", why)
    if device.is_gpu:
        return Choice("on-the-fly", "the engine loads an adapter beside its weights")
    return Choice("merged", "on a CPU merged weights answer faster")


def _quantized_fault(
    quantization: str, software: Software, *, dtype: str | None = None
) -> str | None:
    """Why vLLM cannot hold base weights that are stored so; None where it can.

    Its own code for bitsandbytes left it with version 0.28 for a plug-in, which packs weights to
    nf4 while they are loaded, and to nothing else. dtype: of products, if it is known.
    """
    if quantization in ("auto", "none"):
        return None
    if quantization != "nf4":
        return f"vLLM does not pack base weights to {quantization}"
    if not software.has_vllm_nf4:
        return "vLLM holds base weights in nf4 only with vllm-bnb-plugin, which is not installed"
    if dtype not in (None, "bfloat16"):
        return f"vLLM multiplies weights in nf4 in bfloat16, and training here in {dtype}"
    return None


def _sooner(
    card: ModelCard, device: Device, request: SizingRequest, setup: SampleSetup, k: Coefficients
) -> Choice[str]:
    write_s = {
        name: _write_s(card, device, request, replace(setup, engine=name), k)
        for name in ("vllm", "transformers")
    }
    num_tasks = len(request.lengths)
    start_s = k.gpu_vllm_start_s
    if not device.is_gpu:
        start_s = k.cpu_vllm_start_s + k.cpu_vllm_swap_s * num_tasks

    # What training may not take of the budget is there for sampling.
    time_s = (1 - request.settings.train.max_share) * request.budget_s
    done = {
        "vllm": max(0.0, time_s - start_s) / max(write_s["vllm"], 1e-9),
        "transformers": time_s / max(write_s["transformers"], 1e-9),
    }
    # Where both get to the end, the sooner one; else the one that gets further.
    if min(done.values()) >= 1:
        is_better = start_s + write_s["vllm"] < write_s["transformers"]
    else:
        is_better = done["vllm"] > done["transformers"]

    found = (
        f"{num_tasks} tasks take {write_s['transformers']:.0f} s to sample with transformers, "
        f"with vLLM {start_s:.0f} s to start and {write_s['vllm']:.0f} s"
    )
    return Choice("vllm" if is_better else "transformers", found)


def _write_s(
    card: ModelCard, device: Device, request: SizingRequest, setup: SampleSetup, k: Coefficients
) -> float:
    """Seconds of one worker for all answers of all tasks."""
    sample = request.settings.sample
    views = request.pins.views or sample.quick_views + sample.views
    seconds = 0.0

    for task in request.lengths.tasks:
        count = views * task.num_tests
        batch = max(1, min(setup.batch, count * setup.samples_per_prompt))
        speed = sample_speed(
            card,
            replace(setup, batch=batch),
            device,
            kv_tokens=10**9,  # memory sets no limit here
            prompt_tokens=min(task.prompt_tokens, setup.max_seq_tokens),
            answer_tokens=task.typical_answer_tokens,
            k=k,
        )
        num_tokens = count * setup.samples_per_prompt * task.typical_answer_tokens
        seconds += num_tokens / speed.tokens_per_second

    return seconds
