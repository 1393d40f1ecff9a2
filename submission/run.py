"""What the Kaggle notebook does. Only the standard library: nothing is installed yet when it starts.

In this order, each step with a label in the log, so that a fault of the platform never looks like a fault of the solver:
tasks -> a valid submission of guesses -> dataset -> gpu -> python -> wheels, model, adapter (SHA-256) -> install -> run.
A fault ends the notebook with an error where a person looks (interactive, commit run); in the scored rerun the submission that
stands is left to be scored.
"""

import concurrent.futures
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

INPUT = Path("/kaggle/input")
WORKING = Path("/kaggle/working")
SCRATCH = Path("/tmp/arc-appliance")
START_S = time.time()  # noqa: TID251 (the appliance's own clock is not installed yet)


class Fault(Exception):
    """label: which step failed."""

    def __init__(self, label: str, found: str, remedy: str) -> None:
        super().__init__(f"[FAULT:{label}] {found}; do: {remedy}")


def seconds() -> float:
    """Since the notebook began."""
    return time.time() - START_S  # noqa: TID251


def say(label: str, text: str) -> None:
    print(f"[{label}] {text} ({seconds():.1f} s)", flush=True)


def main(config: dict[str, Any]) -> None:
    """config: what `appliance pack kaggle` wrote into the notebook."""
    is_rerun = bool(os.environ.get("KAGGLE_IS_COMPETITION_RERUN"))
    say(
        "start",
        "competition rerun"
        if is_rerun
        else "commit or interactive run: a short smoke of the same path",
    )
    try:
        tasks = find_tasks(config["competition"])
        num_tasks = write_guesses(tasks, WORKING / "submission.json")
        say("tasks", f"{num_tasks} tasks in {tasks}; a valid submission of guesses stands")
        dataset = find_dataset(config["dataset"])
        say("dataset", str(dataset))
        check_gpus(config["machine"])
        manifest = read_manifest(dataset)
        check_python(manifest)
        check_files(dataset, manifest)
        python = install(dataset, manifest)
        solve(config, python, tasks, dataset, manifest, is_rerun)
    except Fault as fault:
        print(f"\n{fault} ({seconds():.1f} s)\n", flush=True)
        if not is_rerun:
            raise SystemExit(str(fault)) from None


def find_tasks(competition: str) -> Path:
    """The challenges to answer, in either layout of Kaggle's mounts."""
    folders = [INPUT / "competitions" / competition, INPUT / competition]
    for folder in folders:
        for path in sorted(folder.glob("**/*test*challenges.json")):
            return path
    raise Fault(
        "tasks",
        f"no *test*challenges.json in {listed(folders)}; mounted: {tree()}",
        "attach the competition",
    )


def find_dataset(dataset: str) -> Path:
    owner, slug = dataset.split("/")
    folders = [
        INPUT / "datasets" / owner / slug,
        INPUT / slug,
        *sorted(INPUT.glob(f"datasets/*/{slug}")),
    ]
    for folder in folders:
        if (folder / "manifest.json").is_file():
            return folder
    raise Fault(
        "dataset",
        f"no manifest.json in {listed(folders)}; mounted: {tree()}",
        f"attach the dataset {dataset}",
    )


def listed(paths: list[Path]) -> str:
    return ", ".join(map(str, paths))


def tree() -> str:
    """What is mounted, three levels deep."""
    found = [
        str(p.relative_to(INPUT))
        for depth in ("*", "*/*", "*/*/*")
        for p in sorted(INPUT.glob(depth))
    ]
    return ", ".join(found[:40]) or "nothing"


def write_guesses(challenges: Path, target: Path) -> int:
    """Two different legal grids for every test input: the input itself, and an output that was shown."""
    submission = {}
    tasks = json.loads(challenges.read_text())
    for task_id, task in tasks.items():
        entries = []
        for test in task["test"]:
            guesses = [
                test["input"],
                *(pair["output"] for pair in task["train"]),
                [[0, 0]],
                [[1, 1]],
            ]
            distinct = [g for i, g in enumerate(guesses) if g not in guesses[:i] and g != [[0]]]
            entries.append({"attempt_1": distinct[0], "attempt_2": distinct[1]})
        submission[task_id] = entries
    temporary = SCRATCH / "guesses.json"
    SCRATCH.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(submission))
    shutil.move(temporary, target)
    return len(tasks)


def check_gpus(machine: dict[str, Any]) -> None:
    """machine: the profile's floors. Kaggle may give other cards than were asked for, without an error."""
    wanted = machine.get("num_gpus", 0)
    gpus = found_gpus()
    found = (
        ", ".join(
            f"{name} ({memory_gib:.1f} GiB, {capability})" for name, memory_gib, capability in gpus
        )
        or "no GPU"
    )
    good = [
        g
        for g in gpus
        if g[1] >= machine.get("min_gpu_memory_gib", 0) and g[2] >= machine.get("min_capability", 0)
    ]
    if len(good) < wanted:
        asked = f"{wanted} x {machine.get('gpu') or 'GPU'} from {machine.get('min_gpu_memory_gib', 0)} GiB up"
        shape = machine.get("kaggle_machine_shape") or "a GPU"
        raise Fault(
            "gpu",
            f"{found}; asked for {asked}",
            f"choose the accelerator {shape} in the notebook's settings",
        )
    say("gpu", found)


def found_gpus() -> list[tuple[str, float, float]]:
    """(name, GiB, compute capability) of each card."""
    query = [
        "nvidia-smi",
        "--query-gpu=name,memory.total,compute_cap",
        "--format=csv,noheader,nounits",
    ]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [line.split(",") for line in done.stdout.splitlines() if line.count(",") == 2]
    return [(name.strip(), float(mib) / 1024, float(capability)) for name, mib, capability in rows]


def read_manifest(dataset: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((dataset / "manifest.json").read_text())
        return manifest
    except ValueError as fault:
        raise Fault(
            "dataset", f"manifest.json is damaged: {fault}", "upload the dataset again"
        ) from None


def check_python(manifest: dict[str, Any]) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version not in manifest["pythons"]:
        packed = ", ".join(manifest["pythons"])
        raise Fault(
            "python",
            f"Python {version}, wheels for {packed}",
            f"appliance pack kaggle --python {version}",
        )
    say("python", version)


def check_files(dataset: Path, manifest: dict[str, Any]) -> None:
    """Presence and sizes of all files at once, then every byte, on all cores."""
    files = manifest["files"]
    for name, entry in files.items():
        path = dataset / name
        if not path.is_file():
            raise Fault(
                label_of(name), f"{name} is missing in {dataset}", "upload the dataset again"
            )
        if path.stat().st_size != entry["bytes"]:
            found = f"{name} has {path.stat().st_size} bytes, the manifest says {entry['bytes']}"
            raise Fault(label_of(name), found, "upload the dataset again")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        for name, digest in zip(
            files, threads.map(lambda name: sha256(dataset / name), files), strict=True
        ):
            if digest != files[name]["sha256"]:
                raise Fault(
                    label_of(name),
                    f"{name} is not what was packed (SHA-256 differs)",
                    "upload the dataset again",
                )
    say(
        "files",
        f"{len(files)} files, {sum(e['bytes'] for e in files.values()) / 2**20:.0f} MiB, as packed",
    )


def label_of(name: str) -> str:
    """wheels, model, adapter or dataset."""
    top = name.partition("/")[0]
    return top if top in ("wheels", "model", "adapter") else "dataset"


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        sha = hashlib.sha256()
        while block := stream.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def install(dataset: Path, manifest: dict[str, Any]) -> Path:
    """The interpreter of an environment of its own: the engines' torch is not Kaggle's."""
    environment = SCRATCH / "environment"
    python = environment / "bin" / "python"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "--disable-pip-version-check",
        "--quiet",
        "install",
    ]
    offline = ["--no-index", "--no-deps", "--no-cache-dir", "--find-links", str(dataset / "wheels")]
    steps = [
        [sys.executable, "-m", "venv", "--without-pip", "--clear", str(environment)],
        [*pip, *offline, "-r", str(dataset / "requirements.txt"), manifest["appliance"]],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, env=clean_environment())
        if done.returncode:
            raise Fault(
                "install",
                done.stderr.strip()[-1500:],
                "pack the dataset anew; its closure was checked then",
            )
    say("install", f"{environment} holds the packed wheels")
    return python


def clean_environment() -> dict[str, str]:
    """Nothing of Kaggle's own packages, caches on scratch, no thought of a network."""
    cache = SCRATCH / "cache"
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_", "VIRTUAL_ENV"))
    }
    return kept | {
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": str(cache),
        "HF_HOME": str(cache / "huggingface"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
        "UNSLOTH_COMPILE_LOCATION": str(cache / "unsloth"),
        "UNSLOTH_DISABLE_STATISTICS": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def solve(
    config: dict[str, Any],
    python: Path,
    tasks: Path,
    dataset: Path,
    manifest: dict[str, Any],
    is_rerun: bool,
) -> None:
    """`appliance submit` with the time that is left, or as a smoke that does not count the install; only submission.json
    stays in the working folder."""
    budget_s = config["budget_s"] - seconds() if is_rerun else config["smoke_s"]
    run = SCRATCH / "run"
    run.mkdir(parents=True, exist_ok=True)
    link = (
        WORKING / "run"
    )  # what is large lies on scratch: Kaggle keeps and counts what is in the working folder
    link.symlink_to(run)
    command = [
        str(python),
        "-m",
        "appliance",
        "submit",
        "--tasks",
        str(tasks),
        "--out",
        str(WORKING),
    ]
    command += [
        "--profile",
        config["profile"],
        "--budget",
        f"{max(30.0, budget_s):.0f}s",
        "--display",
        "plain",
    ]
    command += ["--model", str(dataset / "model") if manifest["has_model"] else "arc-mini"]
    command += ["--adapter", str(dataset / "adapter")] if manifest["has_adapter"] else []
    command += [part for text in config["settings"] for part in ("--set", text)]
    say("run", " ".join(command))
    try:
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean_environment(),
            cwd=SCRATCH,
        ) as process:
            for line in process.stdout or ():
                print(line, end="", flush=True)
        if (run / "report.json").is_file():
            say("report", (run / "report.json").read_text())
    finally:
        link.unlink(missing_ok=True)
    if process.returncode not in (0, 5):
        found = f"appliance submit ended with code {process.returncode}"
        raise Fault("run", found, "read the lines above; submission.json stays valid")
    say("done", f"{WORKING / 'submission.json'} stands, exit code {process.returncode}")
