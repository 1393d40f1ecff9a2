"""`appliance plot` and the pictures of a report page: what is drawn, the same bytes each time."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from appliance import cli
from appliance.arc.submission import score
from appliance.record.experiments.answers import Answers
from appliance.record.experiments.anytime import score_over_time
from appliance.record.experiments.estimates import pass_at
from appliance.record.experiments.read_run import open_run_record
from appliance.record.experiments.tries import Tries, grid_tries, pass_curve, written_grids
from appliance.record.figures import predictions_of
from appliance.record.journal import Journal
from appliance.report.pictures.style import Picture, label, rendered
from tests.support.small_runs import make_run, world, write_world

Capture = pytest.CaptureFixture[str]

PICTURES = {
    "training-steps", "training-tokens", "pass-at-n", "scores", "solve-chance", "score-over-time",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, a and b, and a training, _lora."""
    folder = tmp_path_factory.mktemp("place")
    task_set, answers = world()
    write_world(folder, task_set, answers)
    make_run(folder / "a", task_set, answers, seed=1)
    make_run(folder / "b", task_set, answers, seed=2, num_programs=0)
    training = folder / "_lora"
    training.mkdir()
    lines = [{"step": i, "loss": 1 / i, "tokens": 100 * i} for i in range(1, 200)]
    (training / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (training / "evaluation.jsonl").write_text('{"step": 0, "vote_2": 0.5}\n')
    return folder


def draw(place: Path, out: Path, *flags: str) -> dict[str, bytes]:
    experiments = [str(place / name) for name in ("a", "b", "_lora")]
    answers = ["--solutions", str(place / "answers.json")]
    assert cli.main(["plot", *experiments, *answers, "--out", str(out), *flags]) == 0
    return {path.stem: path.read_bytes() for path in out.iterdir()}


def test_the_pictures_are_the_same_files_each_time(place: Path, tmp_path: Path) -> None:
    found = draw(place, tmp_path / "one")
    assert found.keys() == PICTURES
    assert draw(place, tmp_path / "two") == found
    for data in found.values():
        text = data.decode()
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert "<metadata" not in text  # it would hold the day and the version


def test_png_files_are_pictures_too(place: Path, tmp_path: Path) -> None:
    found = draw(place, tmp_path, "--format", "png")
    assert found.keys() == PICTURES
    assert all(data.startswith(b"\x89PNG") for data in found.values())


@pytest.mark.parametrize("name", ["$a_b$ \\frac", "_hidden", "日本" * 40, "x\x1b[31m", "-"])
def test_any_name_can_be_shown(name: str) -> None:
    """Warnings are errors here: a glyph that is missing, a label that is left out."""

    def one_line(figure: object) -> None:
        axes = figure.subplots()  # type: ignore[attr-defined]
        axes.plot([0, 1], label=label(name))
        axes.legend()

    assert b"<svg" in rendered(Picture("x", "x", 2.0, one_line), "svg")
    assert len(label(name)) <= 37


def test_a_training_of_one_line_or_without_a_figure_is_no_defect(
    tmp_path: Path, capsys: Capture
) -> None:
    out = ["--out", str(tmp_path / "out")]
    (tmp_path / "evaluation.jsonl").write_text('{"step": 0, "vote_2": 0.5}\n')
    assert cli.main(["plot", str(tmp_path), *out]) == 0
    (tmp_path / "evaluation.jsonl").write_text('{"step": 0, "vote_2": NaN}\n')
    assert cli.main(["plot", str(tmp_path), *out]) == 4
    assert "nothing to draw" in capsys.readouterr().err


def test_twenty_long_names_leave_room_for_the_curves(tmp_path: Path) -> None:
    names = [f"a rather long name of a training, {i:02}" for i in range(20)]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text('{"step": 1, "loss": 1, "tokens": 5}\n')
    folders = [str(tmp_path / name) for name in names]
    assert cli.main(["plot", *folders, "--out", str(tmp_path / "out"), "--format", "png"]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_curve_ends_at_pass_n_and_has_the_estimate_before(place: Path) -> None:
    run = open_run_record(place / "a", Answers.of(str(place / "answers.json"), None))
    tries = grid_tries(run)
    assert sum(t.num for t in tries) == len(written_grids(run))

    curve = pass_curve(tries)
    by_task: dict[str, list[float]] = {}
    for t in tries:
        by_task.setdefault(t.task_id, []).append(pass_at(2, t.num, t.num_right))
    mean = sum(sum(v) / len(v) for v in by_task.values()) / len(by_task)
    assert next(p for p in curve if p.k == 2).mean == pytest.approx(mean)

    right: dict[str, list[bool]] = {t.task_id: [] for t in tries}
    for t in tries:
        right[t.task_id].append(t.num_right > 0)
    assert curve[-1].mean == pytest.approx(
        sum(sum(r) / len(r) for r in right.values()) / len(right)
    )
    assert predictions_of(written_grids(run), run.solutions).keys() == right.keys()


def test_a_curve_says_where_it_is_a_lower_bound() -> None:
    curve = pass_curve([Tries("a", 2, 1), Tries("b", 5, 1), Tries("c", 5, 0)])
    assert [(p.k, p.is_whole) for p in curve] == [(1, True), (2, True), (4, False), (5, False)]
    assert [p.mean for p in curve] == sorted(p.mean for p in curve)
    assert curve[0].mean == pytest.approx((0.5 + 0.2 + 0) / 3)
    assert curve[-1].mean == pytest.approx(2 / 3)
    assert pass_curve([]) == []


def test_the_score_over_time_ends_with_that_of_all_votes(place: Path) -> None:
    answers = Answers.of(str(place / "answers.json"), None)
    run = open_run_record(place / "a", answers)
    journal = Journal(place / "a" / "run" / "journal.sqlite")
    curve = score_over_time(journal, run.solutions)
    all_at_once = score_over_time(journal, {})
    journal.close()

    assert curve[0] == (0.0, 0.0) and all_at_once == []
    assert [t for t, _ in curve] == sorted(t for t, _ in curve)
    assert curve[-1][1] == pytest.approx(score(run.submission, run.solutions)["by_output"])
    assert curve[-1][1] > 0
    # Ten seconds a task and pass: nothing comes before its time.
    assert all(t % 10 == 0 for t, _ in curve)


def test_the_report_page_holds_the_pictures(place: Path, tmp_path: Path) -> None:
    page = report(place, tmp_path)
    assert page.count('<div class="picture"><svg') == 4
    assert set(re.findall(r"https?://[^\"']+", page)) == {"http://www.w3.org/2000/svg"}


def test_without_matplotlib_the_page_says_so_and_plot_is_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    broken = tmp_path / "site" / "matplotlib"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise AttributeError('built for another numpy')\n")
    monkeypatch.syspath_prepend(str(broken.parent))

    page = report(place, tmp_path)
    assert "cannot be loaded: built for another numpy" in page
    assert '<div class="picture">' not in page and page.count('"outputs":[') == 6

    capsys.readouterr()
    assert cli.main(["plot", str(place / "_lora"), "--out", str(tmp_path / "out")]) == 3
    assert "pip install matplotlib" in capsys.readouterr().err


def report(place: Path, out: Path) -> str:
    arguments = ["--tasks", str(place / "tasks.json"), "--solutions", str(place / "answers.json")]
    path = out / "report.html"
    assert cli.main(["report", str(place / "a"), *arguments, "--out", str(path)]) == 0
    return path.read_text()


def test_bad_input_is_one_line(place: Path, tmp_path: Path, capsys: Capture) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert cli.main(["plot", str(place / "a"), *out]) == 2
    assert "there is no --solutions" in capsys.readouterr().err
    assert cli.main(["plot", str(place / "a" / "submission.json"), *out]) == 4
    told = capsys.readouterr().err
    assert "there is no picture of a submission" in told and "nothing to draw" in told
    assert not (tmp_path / "out").exists()

    (tmp_path / "file").write_text("")
    assert cli.main(["plot", str(place / "_lora"), "--out", str(tmp_path / "file")]) == 4
    assert "cannot be written: File exists; expected: a folder" in capsys.readouterr().err
