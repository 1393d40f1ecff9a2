"""vLLM for one Hopper card, cut down to 30 MiB for a machine that takes no more.

    python make/vllm_for_card.py .carry/vllm.tar.xz
    python3 -m tarfile -e .carry/vllm.tar.xz /tmp/site          # there; then PYTHONPATH=/tmp/site

The wheel of vLLM has 311 MB: machine code for cards of every kind, and kernels that a dense Llama
or Qwen3 in bfloat16 never calls. Whole libraries are left out (of MoE, FlashMLA, DeepGEMM,
FlashAttention 2: that they are missing stops nothing), and in the others the code for other cards
gives way to zeros, which compress to nothing. Addresses stay. Nothing is replaced by a stub, but
what was left out fails when it is called: float16, heads that are neither 64 nor 128 wide, weights
in 4 bits, an 8-bit cache.

vLLM 0.32 is built for torch 2.13. Its libraries use torch's stable interface alone, so that they
load under 2.11 too (docs/results/gpu.md); that it asks for 2.13 is taken out of its package data.
"""

from __future__ import annotations

import argparse
import lzma
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from carry import ROOT, pins_of

from appliance.errors import ApplianceError
from appliance.pack.wheelhouse import run_pip

NEEDED = """
vllm annotated-types apache-tvm-ffi astor blake3 cachetools cbor2 compressed-tensors depyf dill
fastapi httpcore2 httpx2 interegular jiter jsonschema jsonschema-specifications lark llguidance
lm-format-enforcer loguru msgspec openai oss-harmony outlines-core partial-json-parser
prometheus-client pybase64 pydantic pydantic-core python-json-logger python-multipart pyzmq
referencing rpds-py setproctitle setuptools six sniffio starlette typing-inspection
vllm-bnb-plugin xgrammar
"""
"""What it imports to sample, and a research image lacks, in the versions of requirements/gpu.txt.

Left out is what it takes for a server, for pictures and sound, or for other kernels."""

LEFT_OUT = re.compile(
    r"vllm/(vllm-rs|third_party/(deep_gemm|fmha_sm100|tml_fa4)/|benchmarks/|vllm_flash_attn/cute/"
    r"|_(moe_C_stable_libtorch|deepselect_C|flashkda_C|flashmla\w*_C|qutlass_C)\.abi3\.so"
    r"|vllm_flash_attn/_vllm_fa2_C\.abi3\.so)"
    r"|.*\.data/scripts/"
)
"""Files of the wheels."""

KERNELS = {
    "vllm/_C_stable_libtorch.abi3.so": re.compile(rb""),
    "vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so": re.compile(
        rb"FlashAttnFwdCombine|prepare_varlen_num_blocks"
        rb"|CollectiveMainloopFwdSm90ILi\d+EN4cute5tupleI.{1,40}EENS6_I.{10,60}ELi(?:64|128)E"
        rb"NS_10bfloat16_tEfNS_4arch4Sm90ELb[01]ELb[01]ELb0E"
    ),
}
"""Libraries with machine code, and by their mangled names the kernels to keep: all, or of
FlashAttention 3 those in bfloat16 for heads of 64 and 128, without a soft cap."""

ARCHITECTURE = 90
"""Compute capability of Hopper, times ten."""

SYSTEMS = ("2_35", "2_34", "2_31", "2_28", "2_27", "2_24", "2_17", "2_12", "2_5", "2014", "2010")
"""Tags of the wheels that are taken; pip matches each one exactly."""

FATBIN = 0xBA55ED50
"""First word of a container of machine code for several architectures."""

CUBIN = 2
"""Kind of an entry that is machine code; 1 is PTX."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path, help="the .tar.xz to write")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        wheels, site = Path(scratch) / "wheels", Path(scratch) / "site"
        try:
            download(wheels)
        except ApplianceError as fault:
            print(f"vllm_for_card: {fault}", file=sys.stderr)
            return fault.exit_code
        for wheel in sorted(wheels.glob("*.whl")):
            with zipfile.ZipFile(wheel) as files:
                files.extractall(site, [n for n in files.namelist() if not LEFT_OUT.match(n)])

        for library in site.rglob("vllm/**/*.so"):
            subprocess.run(["strip", "--strip-unneeded", library], check=True)
        for name, wanted in KERNELS.items():
            library = site / name
            whole = library.read_bytes()
            library.write_bytes(cut(whole, wanted))
        for about in site.glob("vllm-*.dist-info/METADATA"):
            text = re.sub(r"^Requires-Dist: torch==.*\n", "", about.read_text(), flags=re.MULTILINE)
            about.write_text(text)

        args.archive.parent.mkdir(parents=True, exist_ok=True)
        with (
            lzma.open(args.archive, "wb", preset=9) as packed,
            tarfile.open(fileobj=packed, mode="w") as files,
        ):
            for path in sorted(site.iterdir()):
                files.add(path, path.name)
    print(f"{args.archive}: {args.archive.stat().st_size / 2**20:.1f} MiB")
    return 0


def download(folder: Path) -> None:
    """The wheels for Python 3.12 on Linux. Raises PrerequisiteError with what pip said."""
    pins = "".join(pins_of((ROOT / "requirements" / "gpu.txt").read_text(), tuple(NEEDED.split())))
    folder.mkdir()
    (folder / "pins.txt").write_text(pins)

    options = ["--no-deps", "--only-binary=:all:", "--require-hashes"]
    options += ["--python-version=3.12", "--implementation=cp"]
    options += [f"--abi={abi}" for abi in ("cp312", "abi3", "none")]
    options += [f"--platform=manylinux{'_' * ('_' in s)}{s}_x86_64" for s in (*SYSTEMS, "1")]
    run_pip("download", *options, "-r", str(folder / "pins.txt"), "-d", str(folder))


def cut(library: bytes, wanted: re.Pattern[bytes]) -> bytes:
    """The ELF file with no machine code but the wanted kernels for the one architecture.

    Each container stays where it is, with fewer entries, and zeros after them.
    """
    data = bytearray(library)
    at, size = section(library, ".nv_fatbin")
    end = at + size

    while at < end:
        magic, _, head_bytes, body_bytes = struct.unpack_from("<IHHQ", data, at)
        if magic != FATBIN:  # containers are padded
            at += 8
            continue

        first, stop = at + head_bytes, at + head_bytes + body_bytes
        kept = b"".join(e for e in entries(data, first, stop) if is_wanted(e, wanted))
        struct.pack_into("<Q", data, at + 8, len(kept))
        data[first:stop] = kept + bytes(body_bytes - len(kept))
        at = stop

    return bytes(data)


def entries(data: bytearray, first: int, stop: int) -> list[bytes]:
    """Those of a container, each with its head."""
    found = []
    while first < stop:
        _, _, head_bytes, body_bytes = struct.unpack_from("<HHIQ", data, first)
        after = first + head_bytes + body_bytes
        found.append(bytes(data[first:after]))
        first = after
    return found


def is_wanted(entry: bytes, wanted: re.Pattern[bytes]) -> bool:
    (kind,) = struct.unpack_from("<H", entry, 0)
    (architecture,) = struct.unpack_from("<I", entry, 28)
    return (kind, architecture) == (CUBIN, ARCHITECTURE) and wanted.search(entry) is not None


def section(elf: bytes, name: str) -> tuple[int, int]:
    """Where in a 64-bit ELF file the section begins, and its bytes. Raises ValueError without it.

    Source: System V ABI, object files.
    """
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    row_bytes, num_rows, names_row = struct.unpack_from("<HHH", elf, 0x3A)
    rows = [struct.unpack_from("<IIQQQQ", elf, table + i * row_bytes) for i in range(num_rows)]

    names = rows[names_row][4]
    for row in rows:
        begin = names + row[0]
        if elf[begin : elf.index(b"\0", begin)] == name.encode():
            return row[4], row[5]
    raise ValueError(f"no section {name}")


if __name__ == "__main__":
    sys.exit(main())
