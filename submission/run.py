"""What the Kaggle notebook does, with the standard library alone: nothing is installed yet.

The steps, in this order, each with a label in the log, so that a fault of the platform never looks
like a fault of the solver:

    tasks     find the challenges and write a valid submission of guesses
    dataset   find the packed dataset, and check that this notebook was packed with it
    gpu       compare the cards with those that were asked for
    python    check that wheels for this Python are packed
    files     check every file of the dataset: present, its size, its SHA-256
    install   make an environment of the packed wheels
    driver    whether the packed torch can use the cards; if not, the run goes on, on the CPU
    run       `appliance submit`: on all tasks in the scored rerun, else on a few of them

A fault ends the notebook with an error where a person looks (interactive and commit runs), and so
does a trial below its floor. The scored rerun never ends with an error, for nothing would be scored
then: other cards than asked for are taken as they are, and after any other fault the submission
that stands is left.
"""

import concurrent.futures
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
import traceback
import zipfile
from pathlib import Path
from typing import Any

INPUT = Path("/kaggle/input")
WORKING = Path("/kaggle/working")
SCRATCH = Path("/tmp/arc-appliance")
START_S = time.time()  # noqa: TID251 (the appliance's own clock is not installed yet)

LEAST_S = 30.0
"""A rerun whose time is used up still gets this long, so that the run ends by itself."""


ANSWER_S = 180.0
"""torch and `appliance doctor` answer within seconds, from a slow disk within two minutes."""

BELOW_FLOOR = 5
"""Exit code of `appliance submit`: the submission is valid, but a stage reached too few tasks."""

TOO_SHORT = "read the lines of the run above; a longer trial is packed by --smoke 20m"


class Fault(Exception):
    """Something that stops the notebook; its label is the step that failed."""

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
    short = "commit or interactive run: a short trial of the same path"
    say("start", "competition rerun" if is_rerun else short)

    try:
        tasks = find_tasks(config["competition"])
        num_tasks = write_guesses(tasks, WORKING / "submission.json")
        say("tasks", f"{num_tasks} tasks in {tasks}; a valid submission of guesses is written")

        dataset = find_dataset(config["dataset"])
        say("dataset", str(dataset))
        check_package(dataset, config["package"], is_rerun=is_rerun)
        check_gpus(config["machine"], is_rerun=is_rerun)
        manifest = read_manifest(dataset)
        check_python(manifest)
        check_files(dataset, manifest)

        python = install(dataset, manifest)
        no_card = driver_fault(config["machine"], python)
        if no_card:
            say("driver", f"{no_card}; the run goes on, on the CPU")
        shortfall = solve(config, python, tasks, dataset, manifest, is_rerun)
        if no_card or shortfall:
            raise no_card or Fault("floor", shortfall, TOO_SHORT)
    except Fault as fault:
        print(f"\n{fault} ({seconds():.1f} s)\n", flush=True)
        if not is_rerun:
            raise SystemExit(str(fault)) from None
    except Exception as defect:
        if not is_rerun:
            raise
        traceback.print_exc(file=sys.stdout)
        say("FAULT:defect", f"{defect!r}; the submission that stands is scored")


def find_tasks(competition: str) -> Path:
    """The challenges to answer, in either layout of Kaggle's mounts."""
    folders = [INPUT / "competitions" / competition, INPUT / competition]
    for folder in folders:
        for path in sorted(folder.glob("**/*test*challenges.json")):
            return path

    found = f"no *test*challenges.json in {listed(folders)}; mounted: {tree()}"
    raise Fault("tasks", found, "attach the competition")


def find_dataset(dataset: str) -> Path:
    """The folder of the packed dataset ("owner/slug"), in any layout of Kaggle's mounts."""
    owner, slug = dataset.split("/")
    folders = [INPUT / "datasets" / owner / slug, INPUT / slug]
    folders += sorted(INPUT.glob(f"datasets/*/{slug}"))
    for folder in folders:
        if (folder / "manifest.json").is_file():
            return folder

    found = f"no manifest.json in {listed(folders)}; mounted: {tree()}"
    raise Fault("dataset", found, f"attach the dataset {dataset}")


def listed(paths: list[Path]) -> str:
    return ", ".join(map(str, paths))


def tree() -> str:
    """What is mounted, three levels deep."""
    levels = [sorted(INPUT.glob(depth)) for depth in ("*", "*/*", "*/*/*")]
    found = [str(path.relative_to(INPUT)) for level in levels for path in level]
    return ", ".join(found[:40]) or "nothing"


def write_guesses(challenges: Path, target: Path) -> int:
    """Two different legal grids for every test input: the input itself, and an output shown.

    Where the tasks cannot be read, the competition's own sample of a submission is left instead.
    """
    try:
        submission = guesses_of(json.loads(challenges.read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        samples = sorted(challenges.parent.glob("*sample_submission.json"))
        if samples:
            shutil.copyfile(samples[0], target)
        left = samples[0].name if samples else "nothing"
        found = f"{challenges} cannot be read as tasks ({fault!r}); {left} is left as submission"
        raise Fault("tasks", found, "attach the competition again") from None

    write_submission(submission, target)
    return len(submission)


def guesses_of(tasks: dict[str, Any]) -> dict[str, Any]:
    submission = {}
    for task_id, task in tasks.items():
        shown = [pair["output"] for pair in task["train"]]
        entries = []
        for test in task["test"]:
            guesses = [test["input"], *shown, [[0, 0]], [[1, 1]]]
            distinct = [g for i, g in enumerate(guesses) if g not in guesses[:i] and g != [[0]]]
            entries.append({"attempt_1": distinct[0], "attempt_2": distinct[1]})
        submission[task_id] = entries
    return submission


def write_submission(submission: dict[str, Any], target: Path) -> None:
    """Moved into place, so that the file is whole or not there."""
    temporary = SCRATCH / "submission.json"
    SCRATCH.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(submission))
    shutil.move(temporary, target)


def check_package(dataset: Path, package: dict[str, str], *, is_rerun: bool) -> None:
    """A notebook must not run an older or a newer dataset than it was packed with.

    package: SHA-256 of the dataset's manifest, which holds that of every file, and git revision.
    """
    if sha256(dataset / "manifest.json") == package["manifest_sha256"]:
        say("dataset", f"packed with this notebook, from revision {package['revision']}")
        return

    theirs = read_manifest(dataset).get("revision", "unknown")
    found = (
        f"{dataset} holds a package of revision {theirs}, which is not the one of this notebook "
        f"(revision {package['revision']})"
    )
    fault = Fault("dataset", found, "make kaggle-push, which uploads both")
    if not is_rerun:
        raise fault
    say("dataset", f"{fault}; the run uses what is here")


def check_gpus(machine: dict[str, Any], *, is_rerun: bool) -> None:
    """Kaggle may give other cards than were asked for, without an error.

    A person can choose others before the commit run; a rerun makes the best of those it has.
    machine: the profile's minimum hardware.
    """
    wanted = machine.get("num_gpus", 0)
    least_gib = machine.get("min_gpu_memory_gib", 0)
    least_capability = machine.get("min_capability", 0)

    gpus = found_gpus()
    words = [f"{name} ({gib:.1f} GiB, {capability})" for name, gib, capability in gpus]
    found = ", ".join(words) or "no GPU"
    good = [g for g in gpus if g[1] >= least_gib and g[2] >= least_capability]

    if len(good) < wanted:
        asked = f"{wanted} x {machine.get('gpu') or 'GPU'} with at least {least_gib} GiB"
        shape = machine.get("kaggle_machine_shape") or "a GPU"
        remedy = f"choose the accelerator {shape} in the notebook's settings"
        fault = Fault("gpu", f"{found}; asked for {asked}", remedy)
        if not is_rerun:
            raise fault
        say("gpu", f"{fault}; the run is sized to what is here")
        return
    say("gpu", found)


def found_gpus() -> list[tuple[str, float, float]]:
    """(name, GiB, compute capability) of each card."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,compute_cap"]
    query += ["--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []

    rows = [line.split(",") for line in done.stdout.splitlines() if line.count(",") == 2]
    return [(name.strip(), float(mib) / 1024, float(capability)) for name, mib, capability in rows]


def read_manifest(dataset: Path) -> dict[str, Any]:
    """The list of the packed files, and for whom they were packed."""
    try:
        manifest: dict[str, Any] = json.loads((dataset / "manifest.json").read_text())
        return manifest
    except ValueError as fault:
        found = f"manifest.json is damaged: {fault}"
        raise Fault("dataset", found, "upload the dataset again") from None


def check_python(manifest: dict[str, Any]) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version not in manifest["pythons"]:
        found = f"Python {version}, but wheels are packed for {', '.join(manifest['pythons'])}"
        remedy = f"make kaggle-pack PACK_ARGS='--python {version}', then make kaggle-push"
        raise Fault("python", found, remedy)
    say("python", version)


def check_files(dataset: Path, manifest: dict[str, Any]) -> None:
    """First presence and size of every file, at once; then every byte, on all cores."""
    files = manifest["files"]
    again = "upload the dataset again"
    for name, entry in files.items():
        path = dataset / name
        if not path.is_file():
            raise Fault(label_of(name), f"{name} is missing in {dataset}", again)
        size = path.stat().st_size
        if size != entry["bytes"]:
            found = f"{name} has {size} bytes, the manifest says {entry['bytes']}"
            raise Fault(label_of(name), found, again)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        digests = threads.map(lambda name: sha256(dataset / name), files)
        for name, digest in zip(files, digests, strict=True):
            if digest != files[name]["sha256"]:
                found = f"{name} is not what was packed (its SHA-256 differs)"
                raise Fault(label_of(name), found, again)

    mib = sum(entry["bytes"] for entry in files.values()) / 2**20
    say("files", f"{len(files)} files, {mib:.0f} MiB, as packed")


def label_of(name: str) -> str:
    """The part of the dataset that a file belongs to: wheels, model, adapter or dataset."""
    top = name.partition("/")[0]
    return top if top in ("wheels", "model", "adapter") else "dataset"


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        sha = hashlib.sha256()
        while block := stream.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def install(dataset: Path, manifest: dict[str, Any]) -> Path:
    """The interpreter of a new environment: the engines need another torch than Kaggle's."""
    environment = SCRATCH / "environment"
    python = environment / "bin" / "python"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    site = environment / "lib" / f"python{version}" / "site-packages"

    venv = [sys.executable, "-m", "venv", "--without-pip", "--clear", str(environment)]
    done = subprocess.run(venv, capture_output=True, text=True, env=clean_environment())
    if done.returncode:
        remedy = "choose another image of Kaggle's"
        raise Fault("install", (done.stderr or done.stdout).strip()[-1500:], remedy)

    # Packing has chosen one wheel of each package. pip unpacks one after another, and then compiles
    # modules that nobody loads: for wheels of 4 GB that takes minutes. A wheel is a zip file.
    wheels = [dataset / "wheels" / name for name in manifest["wheels"][version]]
    wheels.sort(key=lambda path: -path.stat().st_size)  # the largest first: none is waited for
    try:
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
            for _ in threads.map(lambda wheel: unpack(wheel, site, environment), wheels):
                pass
    except (OSError, zipfile.BadZipFile) as fault:
        remedy = "free room on the disk, or pack the dataset again"
        raise Fault("install", str(fault), remedy) from None
    say("install", f"{environment} holds {len(wheels)} packed wheels")
    return python


def unpack(wheel: Path, site: Path, environment: Path) -> None:
    """Each file of a wheel to its place, executable where the wheel says so."""
    places = {"purelib": site, "platlib": site, "data": environment}
    places |= {"scripts": environment / "bin", "headers": environment / "include"}
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            top, _, rest = info.filename.partition("/")
            target = site / info.filename
            if top.endswith(".data"):  # NAME.data/PLACE/...
                place, _, rest = rest.partition("/")
                target = places[place] / rest

            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
            if info.external_attr >> 16 & 0o111:
                target.chmod(0o755)


def driver_fault(machine: dict[str, Any], python: Path) -> Fault | None:
    """Why the packed torch cannot use the cards that are here; None where it can, or none is here.

    machine: the profile's minimum hardware.
    """
    if not machine.get("num_gpus") or not found_gpus():
        return None

    def ask(*words: str) -> tuple[int, str, str]:
        """Exit code and what was printed; a sick card may let it wait for ever."""
        command = [str(python), *words]
        where = clean_environment()
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=where, timeout=ANSWER_S
            )
        except subprocess.TimeoutExpired:
            return 1, "", f"no answer in {ANSWER_S:.0f} s"
        return done.returncode, done.stdout, done.stderr

    code, _, said = ask("-c", "import torch; raise SystemExit(not torch.cuda.is_available())")
    if code == 0:
        say("driver", "the packed torch can use the cards")
        return None

    # The appliance is installed by now, and knows which driver is needed.
    try:
        checks = json.loads(ask("-m", "appliance", "doctor", "--json")[1])["checks"]
    except (ValueError, KeyError):
        checks = []
    for check in checks:
        if (check["name"], check["status"]) == ("CUDA", "FAIL"):
            return Fault("driver", check["found"], check["remedy"])
    words = said.strip().splitlines() or ["torch.cuda.is_available() is false"]
    return Fault("driver", words[-1], "choose another accelerator, or start the session anew")


def clean_environment() -> dict[str, str]:
    """Variables for a child: none of Kaggle's own packages, caches on scratch, no network."""
    cache = SCRATCH / "cache"
    foreign = ("PYTHON", "PIP_", "VIRTUAL_ENV")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    return kept | {
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "XDG_CACHE_HOME": str(cache),
        "HF_HOME": str(cache / "huggingface"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "VLLM_CACHE_ROOT": str(cache / "vllm"),
        "UNSLOTH_COMPILE_LOCATION": str(cache / "unsloth"),
        "UNSLOTH_DISABLE_STATISTICS": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "WANDB_MODE": "offline",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def solve(
    config: dict[str, Any],
    python: Path,
    tasks: Path,
    dataset: Path,
    manifest: dict[str, Any],
    is_rerun: bool,
) -> str:
    """`appliance submit`: in a rerun on all tasks with the time that is left, else on a few.

    Returns which stage is below its floor, or nothing.
    """
    # Kaggle keeps and counts all that is in the working folder, so only submission.json may stay
    # there: the run's own folder lies on scratch, behind a link.
    run = SCRATCH / "run"
    out = WORKING if is_rerun else SCRATCH / "trial"
    link = out / "run"
    for old in (run, SCRATCH / "trial"):  # of a cell that was run before
        shutil.rmtree(old, ignore_errors=True)
    for folder in (run, out):
        folder.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(run)

    budget_s = config["budget_s"] - seconds() if is_rerun else config["smoke_s"]
    command = [str(python), "-m", "appliance", "submit", "--tasks", str(tasks)]
    command += ["--out", str(out), "--profile", config["profile"], "--display", "plain"]
    command += ["--budget", f"{max(LEAST_S, budget_s):.0f}s"]
    command += ["--model", str(dataset / "model") if manifest["has_model"] else "arc-mini"]
    command += ["--adapter", str(dataset / "adapter")] if manifest["has_adapter"] else []
    command += [part for text in config["settings"] for part in ("--set", text)]
    if not is_rerun:
        few = trial_tasks(json.loads(tasks.read_text()), config)
        command += ["--only", ",".join(few)]
        say("run", f"a trial on {len(few)} tasks, from short to long; the rerun solves all")
    say("run", " ".join(command))

    try:
        code = told(command)
    finally:
        link.unlink(missing_ok=True)

    # Below a floor the submission is valid all the same.
    if code not in (0, BELOW_FLOOR):
        found = f"appliance submit ended with code {code}"
        raise Fault("run", found, "read the lines above; submission.json stays valid")

    submission = WORKING / "submission.json"
    if not is_rerun:
        answers = json.loads((out / "submission.json").read_text())
        write_submission(json.loads(submission.read_text()) | answers, submission)
    say("done", f"{submission} is written, exit code {code}")
    return "; ".join(below_floor(run)) if code == BELOW_FLOOR else ""


def trial_tasks(tasks: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """Evenly from the shortest to the longest, which needs most memory.

    So many that each has the time it will have in the scored run, and two for each card, so that
    every worker trains and samples.
    """
    num_cards = config["machine"].get("num_gpus") or 1
    in_time = math.ceil(len(tasks) * config["smoke_s"] / config["budget_s"])
    num = min(len(tasks), max(in_time, 2 * num_cards))

    by_length = sorted(tasks, key=lambda task_id: (len(json.dumps(tasks[task_id])), task_id))
    last = len(tasks) - 1
    return [by_length[i * last // max(1, num - 1)] for i in range(num)]


def told(command: list[str]) -> int:
    """The exit code; what the command says is shown as it comes."""
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
    return process.returncode


def below_floor(run: Path) -> list[str]:
    """A sentence for each stage that reached too few tasks."""
    try:
        return list(json.loads((run / "report.json").read_text())["below_floor"])
    except (OSError, ValueError, KeyError):
        return ["a stage is below its floor"]
