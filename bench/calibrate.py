"""Checks the memory and time model against published measurements and prints every residual.

    python -m bench.calibrate          residuals of appliance/sizing/costs/coefficients.py
    python -m bench.calibrate --fit    fit the time coefficients again (needs scipy); print them
                                       and their residuals

The measurements stand in bench/calibration.json, each with its source. Memory coefficients are
derived (see train_memory.py and sample_memory.py) and only checked here. Time coefficients minimise
the absolute log ratio, so that a prediction twice too fast weighs as much as one twice too slow.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from appliance.machine.catalogue import spec_by_name
from appliance.machine.gpu import GIB, Gpu
from appliance.machine.host import Host
from appliance.sizing.costs.coefficients import FITTED, Coefficients
from appliance.sizing.costs.device import Device, device_of_cpu, device_of_gpu
from appliance.sizing.costs.model_card import ModelCard, load_card
from appliance.sizing.costs.sample_memory import sample_memory
from appliance.sizing.costs.speed import optimizer_s, sample_speed, train_step_s
from appliance.sizing.costs.train_memory import train_memory
from appliance.sizing.pins import Pins, sample_setup, train_setup
from bench.arguments import bench_parser

DATA = Path(__file__).with_name("calibration.json")

GPU_TIMES = (
    "train_share", "train_share_turing", "launch_s",
    "launch_unsloth_s", "fused_s", "paged_optimizer_s", "nf4_slowdown_float32",
    "nf4_unpack_s", "prefill_share", "decode_share", "decode_step_s", "generate_launch_s",
    "nf4_decode",
)  # fmt: skip
"""The coefficients that are fitted to the rows of GPUs."""

CPU_TIMES = ("cpu_token_s", "cpu_sample_token_s", "cpu_decode_step_s")
"""The coefficients that are fitted to the rows of CPUs."""

TIMES = ("seconds_per_step", "tokens_per_second")
"""The measured figures that are times."""

AT_MOST = {"decode_share": 0.95}
"""Bounds that follow from a coefficient's meaning: no card moves more bytes than its memory can."""

Row = dict[str, Any]
Prediction = Callable[[Row, Coefficients], dict[str, float | bool]]


def read_rows(path: Path = DATA) -> tuple[list[Row], dict[str, ModelCard]]:
    """The measurements, and the model cards that the file assumes, by name."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return data["rows"], {c["name"]: ModelCard(**c) for c in data["assumed_cards"]}


def device_of_row(row: Row) -> Device:
    if row["gpu"] == "none":
        host = Host(
            "measured CPU",
            row["threads"],
            "",
            24 * GIB,
            "",
            24 * GIB,
            ("amx-bf16", "avx512", "avx2"),
            105 * 2**20,
        )
        return device_of_cpu(host, row["threads"])

    spec = spec_by_name(row["gpu"])
    total = int(spec.memory_gib * GIB)
    return device_of_gpu(Gpu(0, "GPU-row", spec.name, spec.capability, total, total, ""))


def predict(row: Row, cards: dict[str, ModelCard], k: Coefficients) -> dict[str, float | bool]:
    """What the memory and time model says for the figures that the row gives."""
    card = cards.get(row["model"]) or load_card(row["model"])
    device, pins, measured = device_of_row(row), Pins.from_mapping(row["pins"]), row["measured"]
    said: dict[str, float | bool] = {}

    is_sampling = "kv_tokens" in measured or "tokens_per_second" in measured
    if is_sampling or "gpu_memory_utilization" in row["pins"]:
        setup = replace(
            sample_setup(card, device, pins),
            batch=row.get("batch", 255),
            samples_per_prompt=row.get("samples_per_prompt", 1),
        )
        memory = sample_memory(card, setup, device, k)
        said |= {"fits": memory.fits, "kv_tokens": memory.kv_tokens}
        if "tokens_per_second" in measured:
            speed = sample_speed(
                card, setup, device, kv_tokens=memory.kv_tokens, prompt_tokens=row["prompt_tokens"],
                answer_tokens=row["answer_tokens"], k=k,
            )  # fmt: skip
            said["tokens_per_second"] = speed.tokens_per_second
        return said

    training = train_setup(card, device, pins)
    peak = train_memory(card, training, device, k)
    if row["num_gpus"] > 1 and not peak.fits(device.memory_gib):
        training = replace(training, num_split=row["num_gpus"])
        peak = train_memory(card, training, device, k)

    # Some sources give what torch allocated, others what the whole process held.
    is_process = row.get("memory_is") == "process"
    said["fits"] = peak.fits(device.memory_gib)
    said["memory_gib"] = peak.memory_gib + (peak.context_gib if is_process else 0.0)

    # With accumulation, the optimizer's time is shared by several of the row's steps.
    step_s = train_step_s(card, training, device, tokens=row.get("mean_tokens"), k=k)
    left_out = 1 - 1 / row.get("accumulation", 1)
    said["seconds_per_step"] = step_s - optimizer_s(card, training, device, k) * left_out
    return said


def residuals(
    rows: Sequence[Row], cards: dict[str, ModelCard], k: Coefficients
) -> list[tuple[Row, str, float, float]]:
    """(row, figure, measured, predicted) for every figure; "fits" as 1 and 0."""
    found = []
    for row in rows:
        said = predict(row, cards, k)
        found += [
            (row, name, float(value), float(said[name])) for name, value in row["measured"].items()
        ]
    return found


def fit(rows: Sequence[Row], cards: dict[str, ModelCard]) -> Coefficients:
    """The coefficients whose times come closest to the rows; the memory coefficients stay."""
    k = FITTED
    for names, is_cpu in ((GPU_TIMES, False), (CPU_TIMES, True)):
        k = _fit_some([r for r in rows if (r["gpu"] == "none") == is_cpu], cards, k, names)
    return k


def _fit_some(
    rows: Sequence[Row], cards: dict[str, ModelCard], start: Coefficients, names: tuple[str, ...]
) -> Coefficients:
    from scipy.optimize import least_squares

    def with_values(log_values: Sequence[float]) -> Coefficients:
        return replace(start, **{n: math.exp(v) for n, v in zip(names, log_values, strict=True)})

    def misses(log_values: Sequence[float]) -> list[float]:
        times = [r for r in residuals(rows, cards, with_values(log_values)) if r[1] in TIMES]
        return [math.log(said / measured) for _, _, measured, said in times]

    # Logarithms keep the coefficients positive; the start must lie inside the bounds.
    first = [math.log(getattr(start, n)) for n in names]
    high = [math.log(AT_MOST.get(n, 1e9)) for n in names]
    inside = [min(v, most - 1e-6) for v, most in zip(first, high, strict=True)]
    bounds = (-math.inf, high)
    found = least_squares(misses, inside, bounds=bounds, loss="soft_l1", f_scale=0.15)
    return with_values(found.x)


def report(found: list[tuple[Row, str, float, float]]) -> bool:
    """Print every residual and the totals; True when the aims of the model are met."""
    for row, name, measured, said in found:
        if name == "fits":
            verdict = "" if measured == said else "WRONG"
            print(
                f"{row['id']:44} fits              "
                f"{bool(measured)!s:>9} {bool(said)!s:>9} {verdict}"
            )
        else:
            off = said / measured - 1
            print(f"{row['id']:44} {name:17} {measured:9.4g} {said:9.4g} {off:+7.1%}")

    wrong = [
        row["id"] for row, name, measured, said in found if name == "fits" and measured != said
    ]
    memory = [
        abs(said / m - 1) for _, name, m, said in found if name in ("memory_gib", "kv_tokens")
    ]
    times: dict[str, list[float]] = {"GPU": [], "CPU": []}
    for row, name, measured, said in found:
        if name in TIMES:
            times["CPU" if row["gpu"] == "none" else "GPU"].append(abs(said / measured - 1))

    num_fits = sum(name == "fits" for _, name, _, _ in found)
    print(f"\nfits: {num_fits - len(wrong)} of {num_fits} right {wrong or ''}")
    print(
        f"memory: median error {statistics.median(memory):.1%}, "
        f"largest {max(memory):.1%} of {len(memory)} figures"
    )
    for kind, errors in times.items():
        print(
            f"time, {kind}: median error {statistics.median(errors):.1%} of {len(errors)} figures"
        )

    return (
        not wrong
        and statistics.median(memory) <= 0.1
        and all(statistics.median(e) <= 0.25 for e in times.values())
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = bench_parser("calibrate", __doc__)
    parser.add_argument("--fit", action="store_true", help="fit the time coefficients again")
    args = parser.parse_args(argv)

    rows, cards = read_rows()
    k = fit(rows, cards) if args.fit else FITTED
    if args.fit:
        for name, value in asdict(k).items():
            moved = abs(value / getattr(FITTED, name) - 1) > 0.01
            print(f"    {name}: float = {value:.4g}{'  # new' if moved else ''}")

    return 0 if report(residuals(rows, cards, k)) else 1


if __name__ == "__main__":
    sys.exit(main())
