"""What a bare GPU machine gets: wheels without what nobody loads, corpora that come back whole."""

from __future__ import annotations

import base64
import hashlib
import runpy
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.learn.data.corpus import FamilyPairs, assemble, load_corpus, save_corpus

ROOT = Path(__file__).parents[2]
CARRY: dict[str, Any] = runpy.run_path(str(ROOT / "make" / "carry.py"))


def write_corpus(folder: Path, *, num_pairs: int) -> None:
    """Two families of one-row grids; the first has pairs of 1 + 1 to n + n cells."""
    rng = np.random.default_rng(0)
    grids = [rng.integers(0, 10, (1, n + 1)).astype(np.int8) for n in range(num_pairs)]
    families = [
        FamilyPairs("long", [(g, g) for g in grids], "return grid"),
        FamilyPairs("short", [(grids[0], grids[1])] * 2),
    ]
    save_corpus(assemble(families), folder, sources=["test"])


def test_a_corpus_comes_back_byte_by_byte(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a", num_pairs=30)
    assert CARRY["pack"](str(tmp_path / "a"), tmp_path / "carried") == "a"
    assert CARRY["unpack"](tmp_path / "carried", tmp_path / "back") == ["a"]

    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert sorted(p.name for p in (tmp_path / "back" / "a").iterdir()) == names
    for name in names:
        assert (tmp_path / "back/a" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()


def test_a_file_of_several_parts_comes_back(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(250_000) + b"end"
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "cells.npy").write_bytes(content)
    (tmp_path / "carried" / "a").mkdir(parents=True)
    scope = CARRY["pack_files"].__globals__
    before = scope["PART_BYTES"]
    scope["PART_BYTES"] = 100_000
    try:
        CARRY["pack_files"](tmp_path / "source", tmp_path / "carried" / "a")
        CARRY["unpack"](tmp_path / "carried", tmp_path / "back")
    finally:
        scope["PART_BYTES"] = before

    assert len(list((tmp_path / "carried" / "a").iterdir())) == 3
    assert (tmp_path / "back" / "a" / "cells.npy").read_bytes() == content


def test_a_thinned_family_keeps_pairs_of_every_size(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a", num_pairs=30)
    whole = load_corpus(tmp_path / "a")
    CARRY["pack"](f"{tmp_path / 'a'}:3", tmp_path / "carried")
    CARRY["unpack"](tmp_path / "carried", tmp_path / "back")
    thin = load_corpus(tmp_path / "back" / "a")

    assert (thin.families, thin.programs) == (whole.families, whole.programs)
    assert thin.first_pair.tolist() == [0, 3, 5]
    assert thin.shapes[:, 1].tolist()[:3] == [1, 15, 30]
    for found, before in zip(range(5), (0, 14, 29, 30, 31), strict=True):
        for grid, other in zip(thin.pair(found), whole.pair(before), strict=True):
            assert np.array_equal(grid, other)


def test_what_was_packed_before_is_left_alone(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a", num_pairs=3)
    CARRY["pack"](str(tmp_path / "a"), tmp_path / "carried")
    part = tmp_path / "carried" / "a" / "cells.npy.000.xz"
    part.write_bytes(b"as it was")
    CARRY["pack"](str(tmp_path / "a"), tmp_path / "carried")
    assert part.read_bytes() == b"as it was"

    CARRY["pack"](f"{tmp_path / 'a'}:2", tmp_path / "carried")
    assert part.read_bytes() != b"as it was"


def test_a_folder_that_is_no_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is no packed corpus"):
        CARRY["pack"](str(tmp_path), tmp_path / "carried")


def test_a_cut_wheel_records_what_it_holds(tmp_path: Path) -> None:
    kept = [
        "bitsandbytes/__init__.py",
        "bitsandbytes/libbitsandbytes_cpu.so",
        "bitsandbytes/libbitsandbytes_cuda130.so",
    ]
    dropped = ["bitsandbytes/libbitsandbytes_cuda118.so", "bitsandbytes/libbitsandbytes_rocm64.so"]
    with zipfile.ZipFile(tmp_path / "whole.whl", "w") as wheel:
        for name in (*kept, *dropped, "bitsandbytes-1.0.dist-info/RECORD"):
            wheel.writestr(name, name)
    left_out = CARRY["LEFT_OUT"]["bitsandbytes"]
    CARRY["cut_wheel"](tmp_path / "whole.whl", tmp_path / "cut.whl", left_out=left_out)

    with zipfile.ZipFile(tmp_path / "cut.whl") as wheel:
        record = wheel.read("bitsandbytes-1.0.dist-info/RECORD").decode().splitlines()
        assert wheel.namelist() == [*kept, "bitsandbytes-1.0.dist-info/RECORD"]
        assert record[-1] == "bitsandbytes-1.0.dist-info/RECORD,,"
        for name, line in zip(kept, record, strict=False):
            digest = base64.urlsafe_b64encode(hashlib.sha256(wheel.read(name)).digest())
            assert line == f"{name},sha256={digest.decode().rstrip('=')},{len(name)}"


def test_of_unsloth_its_web_page_stays_behind() -> None:
    left_out = CARRY["LEFT_OUT"]["unsloth"]
    assert left_out.search("studio/frontend/dist/index.html")
    assert not left_out.search("unsloth/studio/models.py")
    assert not left_out.search("unsloth-2026.10.7.dist-info/METADATA")


@pytest.mark.parametrize("names", [CARRY["WHEELS"], *CARRY["EXTRAS"].values()])
def test_every_wheel_has_a_pin(names: tuple[str, ...]) -> None:
    pins = list(CARRY["pins_of"]((ROOT / "requirements/gpu.txt").read_text(), names))
    assert [pin.split("==")[0] for pin in pins] == list(names)
    assert all("--hash=sha256:" in pin for pin in pins)


def test_a_missing_pin_is_named() -> None:
    with pytest.raises(ValueError, match="pins no rich"):
        list(CARRY["pins_of"]("torch==1 \\\n    --hash=sha256:0\n", ("rich",)))


def test_a_command_fits_a_shell_line() -> None:
    check, train = CARRY["commands"]("recipes/arc-mini.yaml", 420).strip().split("\n\nthen:\n")
    assert max(len(check), len(train)) < 1500
    assert "bench.card_check" in check
    assert "optimization.max_seconds=420" in train
