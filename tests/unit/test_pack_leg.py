"""A leg hands on what is left of the budget, and says with its exit code what comes next."""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path

import pytest

from appliance.clock import SystemClock, VirtualClock
from appliance.pack.leg import BAD_MACHINE_S, LEAST_S, main, run_leg, unpack


def child(code: str) -> tuple[str, ...]:
    """A program in place of `appliance submit`; its arguments are sys.argv[1:]."""
    return (sys.executable, "-c", code)


def leg(out: Path, code: str, *, budget_s: float = 1000, every_s: float = 500) -> int:
    return run_leg(
        out, budget_s, every_s, ["--tasks", "t.json"], clock=SystemClock(), program=child(code)
    )


def budget_given(out: Path) -> float:
    argv = json.loads((out / "argv.json").read_text())
    return float(argv[argv.index("--budget") + 1].removesuffix("s"))


WRITE_ARGV = """
import json, pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
(out / "argv.json").write_text(json.dumps(sys.argv))
"""


def test_the_first_leg_gets_the_whole_budget(tmp_path: Path) -> None:
    assert leg(tmp_path, WRITE_ARGV) == 0
    assert budget_given(tmp_path) == 1000


def test_a_later_leg_gets_what_the_earlier_ones_left(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/legs.json").write_text("[300.0, 450.5]")
    leg(tmp_path, WRITE_ARGV)
    assert budget_given(tmp_path) == 250  # 249.5 s to the nearest even second
    assert len(json.loads((tmp_path / "run/legs.json").read_text())) == 3


def test_a_budget_that_is_used_up_still_ends_in_an_orderly_way(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/legs.json").write_text("[5000.0]")
    leg(tmp_path, WRITE_ARGV)
    assert budget_given(tmp_path) == LEAST_S


@pytest.mark.parametrize("code", [0, 2, 4, 5, 85])
def test_the_exit_code_is_passed_on_so_that_dagman_sees_it(tmp_path: Path, code: int) -> None:
    assert leg(tmp_path, f"raise SystemExit({code})") == code


def test_when_a_leg_is_over_the_run_is_asked_to_save_itself(tmp_path: Path) -> None:
    waits = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(85))\n"
        "time.sleep(60)"
    )
    assert leg(tmp_path, waits, every_s=1.0) == 85

    (used_s,) = json.loads((tmp_path / "run/legs.json").read_text())
    assert used_s >= 1.0


def test_a_run_that_is_stopped_before_it_listens_is_started_again(tmp_path: Path) -> None:
    assert leg(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGTERM)") == 85


def test_a_machine_on_which_nothing_runs_does_not_take_one_shard_after_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def waited(code: int) -> float:
        clock = VirtualClock(1e9)
        program = child(f"raise SystemExit({code})")
        assert run_leg(tmp_path, 1000, 500, ["x"], clock=clock, program=program) == code
        return clock.now() - 1e9

    assert waited(3) == BAD_MACHINE_S
    assert "this machine is kept for 900 s" in capsys.readouterr().err
    assert waited(2) == waited(0) == 0


def test_a_model_that_came_as_a_tar_file_is_unpacked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qwen").mkdir()
    (tmp_path / "qwen/config.json").write_text("{}")
    with tarfile.open("qwen.tar.gz", "w:gz") as archive:
        archive.add("qwen")
    (tmp_path / "qwen/config.json").unlink()

    unpack(Path("qwen.tar.gz"))
    assert (tmp_path / "qwen/config.json").read_text() == "{}"
    assert not (tmp_path / "qwen.tar.gz").exists()
    unpack(Path("qwen.tar.gz"))  # of a later leg in the same place


def test_a_damaged_tar_file_is_an_error_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "qwen.tar").write_bytes(b"half of it")
    words = ["--out", str(tmp_path), "--budget", "1h", "--every", "1h"]
    assert main([*words, "--unpack", str(tmp_path / "qwen.tar"), "--", "x"]) == 4
    assert "cannot be unpacked" in capsys.readouterr().err


def test_adapters_do_not_travel(tmp_path: Path) -> None:
    (tmp_path / "run/adapters/6150a2bd").mkdir(parents=True)
    leg(tmp_path, "pass")
    assert (tmp_path / "run/adapters").exists(), "no run has made it"

    (tmp_path / "run/journal.sqlite").touch()
    leg(tmp_path, "pass")
    assert not (tmp_path / "run/adapters").exists()
