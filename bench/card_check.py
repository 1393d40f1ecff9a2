"""The first command on a bare machine with a card: is the CUDA path right, and how fast is it?

Four parts, each in processes of its own with a time limit; a part that fails does not stop the
next: what the machine is; the card's rates, steps of LoRA and a batch of samples (`card_probe`);
the conformance suites of trainer, sampler, scorer and number types; one main job with a random
model of 0.5 billion parameters (`gpu_check`). `make gpu-train` prints the command.

Writes OUT/card-check.json, card-check.txt, suites.txt and main-job.txt. The table comes last.
Exit: 0 all well, 1 something failed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from appliance.clock import Deadline, SystemClock
from appliance.machine.software import version_of
from bench.arguments import card_parser
from bench.gpu_check.job import NUM_TASKS
from bench.gpu_check.suites import SUITES
from bench.process import ROOT, run

ALL_S = {"cuda": 160.0, "cpu": 900.0}
"""Seconds for everything; the last part, the main job, gets what is left."""
PROBE_S = {"cuda": 45.0, "cpu": 90.0}
SUITES_S = {"cuda": 90.0, "cpu": 480.0}
MAIN_JOB_S = {"cuda": 90.0, "cpu": 300.0}

REPORT_S = 5.0
"""Of the main job's seconds, those in which it tells how it went."""

PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "numpy", "pytest")
SMI_FIELDS = "name,driver_version,memory.total,memory.used,compute_mode,mig.mode.current"
VARIABLES = ("CUDA_", "NVIDIA_", "TORCH_", "PYTORCH_", "OMP_", "PYTHONPATH")
"""Beginnings of the variables that can change results; the report shows them."""

SUITE_FILES = [f"tests/{suite.file}" for suite in SUITES if suite.trainer == "peft"]
PROCESSES = {"cuda": 8, "cpu": 2}
"""That the suites are spread over."""
LOG_BYTES = 4 << 20
"""Of a log that is kept: its end."""

TASK_SIDE = {"cuda": 15, "cpu": 6}
"""Rows and columns of a grid of the main job's tasks: lessons of about 1,500 tokens."""


def main(argv: list[str] | None = None) -> int:
    parser = card_parser("card_check", __doc__, all_s=ALL_S, out=ROOT / "out" / "card-check")
    parser.add_argument(
        "--parts",
        default=",".join(part.__name__ for part in PARTS),
        help="which of them, separated by commas (default: %(default)s)",
    )
    args = parser.parse_args(argv)

    clock = SystemClock()
    began_s = clock.now()
    deadline = Deadline(began_s + (args.seconds or ALL_S[args.device]), clock)
    args.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"machine": machine(), "parts": []}

    with tempfile.TemporaryDirectory() as scratch:
        for part in (p for p in PARTS if p.__name__ in args.parts.split(",")):
            print(f"card-check: {part.__name__} ...", file=sys.stderr, flush=True)
            try:
                row = part(args.device, deadline, Path(scratch), args.out)
            except Exception as fault:  # noqa: BLE001 a part's fault must not cost the others
                row = {"outcome": "FAILED", "told": repr(fault)}
            report["parts"].append({"name": part.__name__} | row)
            report["seconds"] = round(clock.now() - began_s, 1)
            # Written after every part: a command that is stopped leaves what there is.
            (args.out / "card-check.json").write_text(json.dumps(report, indent=1) + "\n")
            (args.out / "card-check.txt").write_text(table(report))

    print(table(report), flush=True)
    return 0 if all(part["outcome"] == "ok" for part in report["parts"]) else 1


def machine() -> dict[str, Any]:
    """What is told without touching the card."""
    smi = ["nvidia-smi", f"--query-gpu={SMI_FIELDS}", "--format=csv,noheader"]
    told = "no nvidia-smi"
    if shutil.which("nvidia-smi"):
        try:
            done = subprocess.run(smi, capture_output=True, text=True, timeout=20)
            told = (done.stdout or done.stderr).strip()
        except subprocess.TimeoutExpired:
            told = "nvidia-smi did not answer in 20 s"
    return {
        "smi": told,
        "python": sys.version.split()[0],
        "packages": {name: version_of(name) for name in PACKAGES},
        "cores": len(os.sched_getaffinity(0)),
        "variables": {k: v for k, v in sorted(os.environ.items()) if k.startswith(VARIABLES)},
    }


def probe(device: str, deadline: Deadline, _scratch: Path, _out: Path) -> dict[str, Any]:
    """Rates of the card, steps of LoRA, a batch of samples."""
    command = [sys.executable, "-m", "bench.card_probe", device]
    ended = run(command, _seconds(PROBE_S[device], deadline), deadline.clock, {})

    findings: dict[str, Any] = {}
    for line in ended.text.splitlines():
        if line.startswith("{"):
            findings |= json.loads(line)
    row = {"outcome": ended.outcome(), "seconds": ended.seconds, "findings": findings}
    return row if row["outcome"] == "ok" else row | {"told": ended.text[-3000:]}


def suites(device: str, deadline: Deadline, scratch: Path, out: Path) -> dict[str, Any]:
    """The conformance suites; names and last lines of every test that failed."""
    lines = scratch / "results.jsonl"
    command = [
        sys.executable,
        "-m",
        "pytest",
        *SUITE_FILES,
        "-W",
        "ignore",
        "-p",
        "no:cacheprovider",
    ]
    command += ["-p", "bench.test_lines", "-n", str(PROCESSES[device])]
    command += ["--durations=8", "--tb=short"]
    variables = {
        "CONFORMANCE_DEVICE": device,
        "RESULT_LINES": str(lines),
        "OMP_NUM_THREADS": "1",  # each of the processes would start a thread for every core
    }
    ended = run(command, _seconds(SUITES_S[device], deadline), deadline.clock, variables)

    keep(out / "suites.txt", ended.text)
    row: dict[str, Any] = {"outcome": ended.outcome(), "seconds": ended.seconds}
    if not lines.is_file():
        return row | {"told": ended.last_line()}
    counts, failures = read_results(lines.read_text())
    return row | {"findings": counts, "failures": failures}


def read_results(text: str) -> tuple[dict[str, int], dict[str, str]]:
    """How many tests passed, failed and were skipped; the end of each failure by test."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    failures = {}
    for line in text.splitlines():
        result = json.loads(line)
        counts[result["outcome"]] += 1
        if result["outcome"] == "failed":
            failures[result["test"]] = "\n    ".join(result["end"])
    return counts, failures


def main_job(device: str, deadline: Deadline, scratch: Path, out: Path) -> dict[str, Any]:
    """Two tasks through `appliance submit`."""
    tasks, report = scratch / "corner_challenges.json", scratch / "main-job"
    tasks.write_text(json.dumps(corner_tasks(TASK_SIDE[device])))
    shape = "0.5B" if device == "cuda" else "small"
    command = [sys.executable, "-m", "bench.gpu_check", "--device", device]
    command += ["--only", f"Qwen3 {shape}, bfloat16", "--tasks", str(tasks), "--out", str(report)]
    limit_s = _seconds(MAIN_JOB_S[device], deadline)
    command += ["--seconds", str(limit_s - REPORT_S)]
    ended = run(command, limit_s, deadline.clock, {})

    row: dict[str, Any] = {"outcome": ended.outcome(), "seconds": ended.seconds}
    written = report / "gpu-check.json"
    whole = written.read_text() if written.is_file() else ""
    keep(out / "main-job.txt", ended.text + "\n" + whole)
    if not whole:
        return row | {"told": ended.last_line()}

    (case,) = json.loads(whole)["cases"]
    row["findings"] = {
        "num_trained": case.get("num_trained"),
        "num_sampled": case.get("num_sampled"),
        **case.get("probe", {}),
    }
    return row if row["outcome"] == "ok" else row | {"told": case.get("told", "")}


PARTS = (probe, suites, main_job)


def corner_tasks(side: int) -> dict[str, Any]:
    """Tasks in the layout of a challenges file: the output is a corner of the input, side x side.

    A small answer, because a random model writes as long as it may.
    """
    rng = np.random.default_rng(0)

    def pair() -> dict[str, Any]:
        grid = rng.integers(0, 10, (side, side))
        return {"input": grid.tolist(), "output": grid[:4, :4].tolist()}

    return {
        f"corner{i}": {
            "train": [pair() for _ in range(5)],
            "test": [{"input": pair()["input"]}],
        }
        for i in range(NUM_TASKS)
    }


def _seconds(limit_s: float, deadline: Deadline) -> float:
    return min(limit_s, deadline.remaining_s())


def keep(path: Path, text: str) -> None:
    """Write the end of a log."""
    path.write_bytes(text.encode()[-LOG_BYTES:])


def table(report: Mapping[str, Any]) -> str:
    """For people: the machine, and a line for each finding and each failure."""
    about = report["machine"]
    packages = ", ".join(f"{name} {found or 'none'}" for name, found in about["packages"].items())
    lines = [f"{about['smi']}; {about['cores']} cores", f"python {about['python']}, {packages}"]

    variables = [f"{name}={value}" for name, value in about["variables"].items()]
    lines.append("variables: " + (", ".join(variables) or "none"))

    for part in report["parts"]:
        lines.append(f"\n{part['name']}: {part['outcome']} ({part.get('seconds', 0):.0f} s)")
        lines += [f"  {name:18} {shown(value)}" for name, value in part.get("findings", {}).items()]
        lines += [f"  FAILED {name}\n    {end}" for name, end in part.get("failures", {}).items()]
        if part.get("told"):
            lines += [f"  told: {line}" for line in part["told"].strip().splitlines()[-12:]]
    lines += ["", f"card-check: {report['seconds']:.0f} s in all"]
    return "\n".join(lines) + "\n"


def shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['measured']:.4g} (planned {value['planned']:.4g})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
