"""The report of a check, for people; and whether all is well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.machine.gpu import GIB
from appliance.machine.machine import Machine
from bench.gpu_check.training import H200_TOKENS_S

CASE_COLUMNS = ("outcome ", "  took ", "trained ", "ready after   ", "what ran")
FIGURES = {
    "train_step_s": "step, s          ",
    "train_memory_gib": "training, GiB    ",
    "read_s": "prompt, s        ",
    "write_token_s": "token, s",
}
"""Of a probe, with the heads of their columns."""


def is_well(report: Mapping[str, Any]) -> bool:
    """Nothing failed or was left undone for want of time.

    What cannot be done here, for want of a package or by the card's kind, is no failure.
    """
    rows = [*report["suites"], *report["cases"], *report["training"]]
    return not any(row["outcome"] in ("FAILED", "no time") for row in rows)


def cards(machine: Machine) -> list[dict[str, Any]]:
    """Every card with its driver, and those that cannot be used with the reason."""
    usable = [
        {
            "name": gpu.name,
            "capability": ".".join(map(str, gpu.capability or gpu.spec.capability)),
            "memory_gib": round(gpu.total_bytes / GIB, 1),
            "free_gib": round(gpu.free_bytes / GIB, 1),
            "is_mig": gpu.is_mig,
            "driver": gpu.driver,
            "driver_cuda": ".".join(map(str, gpu.cuda)) if gpu.cuda else "unknown",
        }
        for gpu in machine.gpus
    ]
    return usable + [{"name": card.card, "unusable": card.why} for card in machine.unusable]


def table(report: Mapping[str, Any]) -> str:
    """One line a card, a suite and a case; measured figures with the plan's in brackets."""
    packages = ", ".join(
        f"{name} {version or 'not installed'}" for name, version in report["packages"].items()
    )
    lines = [f"{report['at']}  {report['machine']['summary']}", packages, report["torch"]]
    lines += [_card_line(card) for card in report["cards"]]

    if report["suites"]:
        lines += ["", f"{'suite':46} {'outcome':8} told"]
    for row in report["suites"]:
        lines.append(_line(f"{row['name']:46}", f"{row['outcome']:8}", _told(row)))

    lines += ["", _line(f"{'main job':30}", *CASE_COLUMNS)]
    lines += [_case_line(row) for row in report["cases"]]
    lines += [f"{'':30} {note}" for note in report["notes"]]

    lines += ["", _line(f"{'measured (planned)':30}", *FIGURES.values())]
    lines += [_figures_line(row) for row in report["cases"] if "probe" in row]

    for row in report["training"]:
        lines += ["", _line(f"{row['name']:30}", f"{row['outcome']:8}", _trained(row))]
    lines += ["", f"{report['seconds']:.0f} s in all"]
    return "\n".join(lines) + "\n"


def _card_line(card: Mapping[str, Any]) -> str:
    if "unusable" in card:
        return f"{card['name']}: cannot be used: {card['unusable']}"
    mig = ", a slice (MIG)" if card["is_mig"] else ""
    return (
        f"{card['name']}: capability {card['capability']}, {card['memory_gib']} GiB, "
        f"{card['free_gib']} free{mig}; driver {card['driver']} (CUDA {card['driver_cuda']})"
    )


def _case_line(row: Mapping[str, Any]) -> str:
    took = f"{row['seconds']:4.0f} s" if "seconds" in row else ""
    trained = f"{row['num_trained']}/{row['num_tasks']}" if "num_trained" in row else ""
    starts = ", ".join(f"{s:.1f} s" for s in row.get("start_s", ()) if s is not None)
    ran = [str(value) for value in row.get("chosen", {}).values()]
    if ran:
        ran[-1] += " worker" + ("s" if ran[-1] != "1" else "")
        served = row["coverage"]["served"]
        ran.append("sampled by " + ", ".join(f"{how} {num}" for how, num in served.items()))
    name, outcome = f"{row['name']:30}", f"{row['outcome']:8}"
    told = _told(row)
    return _line(name, outcome, f"{took:>6} ", f"{trained:8}", f"{starts:14}", ", ".join(ran), told)


def _figures_line(row: Mapping[str, Any]) -> str:
    probe = row["probe"]
    parts = [_beside(probe.get(name)) for name in FIGURES]
    fault = probe.get("memory_fault")
    if not any(name in probe for name in FIGURES):
        parts = [note for note in row.get("notes", ()) if "probe" in note] or ["not probed"]
    return _line(f"{row['name']:30}", *parts, f"memory not measured: {fault}" if fault else "")


def _trained(row: Mapping[str, Any]) -> str:
    if "tokens_s" not in row:
        return _told(row)
    return f"{row['tokens_s']:,.0f} tokens/s (arc-mini v4 on an H200: {H200_TOKENS_S:,})"


def _told(row: Mapping[str, Any]) -> str:
    told: str = row.get("told", "")
    return (told.strip().splitlines() or [""])[-1]


def _line(*parts: str) -> str:
    return " ".join(parts).rstrip()


def _beside(pair: Mapping[str, float] | None) -> str:
    return f"{pair['measured']:.3g} ({pair['planned']:.3g})".ljust(17) if pair else " " * 17
