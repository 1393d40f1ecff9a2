"""`make kaggle` against a stand-in for Kaggle's command line: each step once, nothing in vain."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

import make.kaggle as walk
from appliance.clock import VirtualClock
from appliance.errors import EXIT_DONE, EXIT_INPUT, EXIT_PREREQUISITE, EXIT_USAGE
from appliance.pack import kaggle
from appliance.pack.kaggle_notebook import NOTEBOOK
from appliance.pack.wheelhouse import CHANGED
from tests.support.kaggle_package import packed
from tests.support.kaggle_server import ABSENT, DOWN, Server

REVISION = "1a2b3c4d5e6f"


@dataclass
class Workplace:
    """A package, the server that it goes to, and the command that a person gives."""

    package: Path
    server: Server
    clock: VirtualClock

    def give(self, what: str, *words: str) -> int:
        place = ["--package", str(self.package), "--kaggle", str(self.server.program)]
        return walk.main([what, *place, "--competition", "arc", *words], clock=self.clock)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    server = Server(tmp_path / "server")
    return Workplace(packed(tmp_path / "package", REVISION), server, VirtualClock())


@pytest.fixture
def wheels(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Packing without an index; how often the wheels were downloaded."""
    downloads: list[object] = []
    monkeypatch.setattr(kaggle, "download", lambda *given: downloads.append(given))
    monkeypatch.setattr(kaggle, "check_closure", lambda *_, **__: None)
    monkeypatch.setattr(kaggle, "build_appliance", lambda *_: "arc_appliance-0.0-py3.whl")
    for module in (kaggle, walk):
        monkeypatch.setattr(module, "revision_of", lambda _: REVISION)
    return downloads


PACK = ("--", "--owner", "someone")


def test_one_command_goes_from_the_package_to_a_complete_commit_run(
    place: Workplace, wheels: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    place.package = place.package.with_name("new")
    assert place.give("all", *PACK) == EXIT_DONE

    (push,) = place.server.asked("kernels", "push")
    assert push[-2:] == ["-t", "39600"]  # the profile's budget of 10 h 30 min, and half an hour
    assert place.server.asked("datasets", "create") and not place.server.asked(
        "datasets", "version"
    )
    assert not place.server.asked("competitions", "submit")

    table = capsys.readouterr().out.split("\nstep ")[1]
    states = {line.split()[0]: line for line in table.splitlines()[1:]}
    assert REVISION in states["pack"] and "done" in states["pack"]
    assert "datasets/someone/arc-appliance version 1" in states["upload"]
    assert "code/someone/arc-appliance-run version 4" in states["push"]
    assert "complete" in states["run"] and "SUBMIT=1" in states["submit"]


def test_what_is_done_is_not_done_again(
    place: Workplace, wheels: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.give("all", *PACK) == EXIT_DONE
    assert place.give("all", "--submit", "1", *PACK) == EXIT_DONE
    assert place.give("all", "--submit", "1", *PACK) == EXIT_DONE

    asked = [place.server.asked(*words) for words in (("datasets", "create"), ("kernels", "push"))]
    assert [*map(len, asked), len(wheels)] == [1, 1, 1]
    assert len(place.server.asked("competitions", "submit")) == 1
    assert capsys.readouterr().out.rpartition("\nstep ")[2].count("done before") == 6


def test_another_model_or_other_arguments_are_packed_and_sent_anew(
    place: Workplace, wheels: list[object]
) -> None:
    assert place.give("all", *PACK) == EXIT_DONE
    place.server.changes(dataset=[["ready", 1], ["ready", 1], ["ready", 2]], runs=["COMPLETE"])
    assert place.give("all", *PACK, "--budget", "9h") == EXIT_DONE
    assert len(wheels) == 2
    # The dataset is as it was, so that the notebook alone goes again.
    assert not place.server.asked("datasets", "version")
    assert place.server.asked("kernels", "push")[1][-1] == "34200"


def test_a_break_while_kaggle_unpacks_costs_no_second_upload(place: Workplace) -> None:
    place.server.holds(dataset=[ABSENT, "Connection reset"])
    assert place.give("push") == EXIT_PREREQUISITE
    place.server.changes(dataset=[["ready", 1]])
    assert place.give("push") == EXIT_DONE
    assert len(place.server.asked("datasets", "create")) == 1


def test_a_new_version_is_waited_for_and_not_the_one_before(place: Workplace) -> None:
    place.server.holds(dataset=[["ready", 6], ["ready", 6], ["pending", 7], ["ready", 7]])
    assert place.give("push") == EXIT_DONE
    (command,) = place.server.asked("datasets", "version")
    assert command[2:4] == ["-m", f"revision {REVISION}"]
    assert len(place.server.asked("datasets", "status")) == 4


@pytest.mark.parametrize(
    ("holds", "words"),
    [
        ({"dataset": [ABSENT, DOWN]}, "503 Server Error"),
        ({"dataset": [ABSENT, ["pending", 1]]}, "pending, version 1 for 1 h 00 min"),
        ({"dataset": [ABSENT, ["failed", 1]]}, "failed"),
        ({"dataset": ["Authentication required to call the Kaggle API."]}, "settings/api"),
        ({"dataset": ["who knows"]}, "who knows"),
        ({"dataset": [["ready", None]]}, "expected: the status of a dataset"),
        ({"upload": "Dataset creation error: The title is in use"}, "The title is in use"),
        ({"push": "Kernel push error: Maximum weekly GPU quota reached"}, "weekly GPU quota"),
        (
            {"push": "The following are not valid competition sources and could not be added to "
             "the kernel: ['arc']\nKernel version 4 successfully pushed."},
            "not valid competition sources",
        ),
    ],
    ids=["down", "never", "failed", "token", "other", "form", "title", "quota", "rules"],
)  # fmt: skip
def test_a_push_that_fails_ends_with_kaggles_words(
    place: Workplace, capsys: pytest.CaptureFixture[str], holds: dict[str, object], words: str
) -> None:
    """Some of these Kaggle's command line ends with code 0."""
    place.server.holds(**holds)
    assert place.give("push") == EXIT_PREREQUISITE
    assert words in capsys.readouterr().err
    assert place.clock.now() <= 2 * walk.UNPACK_S
    assert not (place.package / "steps.json").exists() or "push" not in json.loads(
        (place.package / "steps.json").read_text()
    )


def test_a_question_that_fails_now_and_then_ends_nothing(place: Workplace) -> None:
    place.server.holds(dataset=[ABSENT, DOWN, DOWN, ["pending", 1], DOWN, DOWN, DOWN, ["ready", 1]])
    assert place.give("push") == EXIT_DONE


def test_what_is_not_committed_is_not_sent(
    place: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    packed(place.package.with_name("changed"), REVISION + CHANGED)
    place.package = place.package.with_name("changed")
    assert place.give("push") == EXIT_PREREQUISITE
    assert "commit the changes" in capsys.readouterr().err
    assert not place.server.asked()


def test_a_spoilt_package_is_not_sent(place: Workplace) -> None:
    (place.package / "dataset/requirements.txt").write_text("b==2\n")
    assert place.give("push") == EXIT_INPUT
    assert not place.server.asked()


@pytest.fixture
def pushed(place: Workplace) -> Workplace:
    assert place.give("push") == EXIT_DONE
    return place


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("ERROR:the log is incomplete", "error (the log is incomplete)"),
        ("RUNNING", "is running"),
        ("CANCEL_ACKNOWLEDGED", "cancel_acknowledged"),
        (DOWN, "503"),
    ],
)
def test_a_run_that_is_not_complete_is_not_submitted(
    pushed: Workplace, capsys: pytest.CaptureFixture[str], run: str, words: str
) -> None:
    """`complete` in a message is no status."""
    log = json.dumps([{"stream_name": "stdout", "data": "[FAULT:gpu] no GPU; do: choose one\n"}])
    pushed.server.changes(runs=[run], log=log)
    assert pushed.give("submit", "--version", "4") == EXIT_PREREQUISITE
    said = capsys.readouterr().err
    assert words in said
    assert ("[FAULT:gpu] no GPU; do: choose one" in said) == ("ERROR" in run or "CANCEL" in run)
    assert not pushed.server.asked("competitions", "submit")


def test_a_complete_run_is_submitted_once_under_its_names(pushed: Workplace) -> None:
    pushed.server.changes(runs=["COMPLETE"])
    assert pushed.give("submit", "--version", "4") == EXIT_DONE
    assert pushed.give("submit", "--version", "4") == EXIT_DONE

    (command,) = pushed.server.asked("competitions", "submit")
    assert command[2:5] == ["arc-prize-2026", "-f", "submission.json"]
    assert command[5:9] == ["-k", "someone/arc-appliance-run", "-v", "4"]
    assert command[10].startswith(f"revision {REVISION}, version 4, package ")


def test_a_submission_whose_answer_was_lost_is_not_made_again(pushed: Workplace) -> None:
    pushed.server.changes(runs=["COMPLETE"])
    assert pushed.give("submit", "--version", "4") == EXIT_DONE
    steps = pushed.package / "steps.json"
    steps.write_text(json.dumps({k: v for k, v in json.loads(steps.read_text()).items()
                                 if k != "submit"}))  # fmt: skip

    assert pushed.give("submit", "--version", "4") == EXIT_DONE
    assert len(pushed.server.asked("competitions", "submit")) == 1


def test_a_submission_that_kaggle_does_not_list_is_none(
    pushed: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed.server.changes(runs=["COMPLETE"], takes=False, submit="Could not find competition")
    assert pushed.give("submit", "--version", "4") == EXIT_PREREQUISITE
    assert "Could not find competition" in capsys.readouterr().err


def test_another_version_than_the_one_that_was_pushed_is_refused(
    pushed: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kaggle tells of the latest run alone."""
    pushed.server.changes(runs=["COMPLETE"])
    assert pushed.give("submit", "--version", "3") == EXIT_USAGE
    assert "expected: VERSION=4" in capsys.readouterr().err
    assert not pushed.server.asked("competitions", "submit")


def test_a_commit_run_that_fails_is_told_with_its_fault(
    place: Workplace, wheels: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    log = json.dumps([{"data": "[FAULT:python] Python 3.13, but wheels are packed for 3.12"}])
    place.server.holds(runs=["QUEUED", DOWN, "RUNNING", "ERROR"], log=log)
    assert place.give("all", "--submit", "1", *PACK) == EXIT_PREREQUISITE
    out, err = capsys.readouterr()
    assert "[FAULT:python] Python 3.13" in err
    assert "run      failed" in out and "submit   not reached" in out


def test_a_run_that_never_ends_is_not_waited_for_for_ever(
    place: Workplace, wheels: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    place.server.holds(runs=["RUNNING"])
    assert place.give("all", "--", "--owner", "someone", "--budget", "30m") == EXIT_PREREQUISITE
    assert "running for 2 h 00 min" in capsys.readouterr().err  # 30 min, 30 to spare, 60 to queue


def test_a_missing_right_is_told_before_anything_is_packed(
    place: Workplace, wheels: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    place.server.holds(submissions="403 Client Error: Forbidden for url: https://api.kaggle.com")
    assert place.give("all", *PACK) == EXIT_PREREQUISITE
    assert "403" in capsys.readouterr().err
    assert not wheels


def test_the_status_tells_what_is_where(
    pushed: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed.server.changes(runs=["COMPLETE"])
    assert pushed.give("submit", "--version", "4") == EXIT_DONE
    capsys.readouterr()

    assert pushed.give("status") == EXIT_DONE
    said = capsys.readouterr().out
    assert "someone/arc-appliance: ready, version 1" in said
    assert "version 4 was pushed; latest run: complete" in said
    assert "pending, no score, revision" in said


@pytest.mark.parametrize("content", ["{", "[]", '{"push": 1}'])
def test_a_damaged_record_is_refused(
    place: Workplace, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (place.package / "steps.json").write_text(content)
    assert place.give("push") == EXIT_INPUT
    assert "steps.json: damaged" in capsys.readouterr().err


def test_a_changed_notebook_is_no_longer_the_one_that_was_pushed(pushed: Workplace) -> None:
    book = pushed.package / "notebook" / NOTEBOOK
    book.write_text(book.read_text() + "\n")
    assert pushed.give("submit", "--version", "4") == EXIT_PREREQUISITE
