"""`appliance relabel`: real journals, the real sandbox, and the pack that `train` reads."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance import cli
from appliance.arc.encode import get_encoder
from appliance.arc.grid import Grid, as_grid, to_lists
from appliance.arc.prompt import get_style
from appliance.arc.source import challenges_json
from appliance.arc.submission import build, write_submission
from appliance.arc.task import Pair, Task, TaskSet
from appliance.arc.view import IDENTITY, View
from appliance.errors import EXIT_INPUT, EXIT_USAGE
from appliance.learn.data.corpus import Corpus, FamilyPairs, assemble, load_corpus
from appliance.learn.data.documents import DocumentSampler
from appliance.learn.data.styles import StyleWriter
from appliance.program.source import runnable
from appliance.record.journal import Journal, StageRow
from appliance.record.run_folder import RunFolder, open_run
from appliance.solve.messages import ProgramMessage

GRIDS = [as_grid([[1, 2], [0, 3]]), as_grid([[4, 0, 5]]), as_grid([[6, 6], [7, 0]])]


def flipped(grid: Grid) -> Grid:
    return as_grid(grid[:, ::-1].tolist())


def task_of(name: str, answer: Any) -> Task:
    return Task(name, tuple(Pair(g, answer(g)) for g in GRIDS[:2]), (GRIDS[2],))


FLIP = task_of("flip", flipped)
TURN = task_of("turn", lambda g: as_grid(np.rot90(g, 2).tolist()))
DOES: Mapping[str, Any] = {
    "return grid": lambda g: g,
    "return flip_h(grid)": flipped,
    "return flip_h( grid )": flipped,
    "return flip_v(grid)": lambda g: as_grid(g[::-1].tolist()),
    "return rot180(grid)": lambda g: as_grid(np.rot90(g, 2).tolist()),
}
TURNED = View(turns=1, order=(1, 0))


def wrote(
    task: Task,
    answer: str,
    *,
    view: View = IDENTITY,
    logprob: float = -2.0,
    outcome: str = "ok",
    gave: Any = None,
    kind: str = "body",
) -> ProgramMessage:
    """A program as a worker sends it, with what it gives for the test input.

    gave: what it does in the task's own view, where DOES does not say.
    """
    does = gave or DOES.get(answer)
    right = [does is not None and p.output.tolist() == does(p.input).tolist() for p in task.train]
    return ProgramMessage(
        task_id=task.task_id,
        view=view.name,
        adapter="",
        answer=answer,
        source=runnable(answer, kind) if answer else "",  # type: ignore[arg-type]
        outcome=outcome,
        error=None if outcome == "ok" else "ValueError",
        demo_score=sum(right) / len(right),
        similarity=0.5,
        outputs="x",
        test=[to_lists(does(g)) if does else None for g in task.test],
        logprob=logprob,
        num_tokens=4,
    )


def make_run(
    out: Path,
    programs: Sequence[ProgramMessage],
    *,
    tasks: Sequence[Task] = (FLIP, TURN),
    is_finished: bool = True,
) -> Path:
    """A run that wrote these programs in its quick pass."""
    source = out.with_name(f"{out.name}-tasks.json")
    source.write_text(challenges_json(tasks))
    folder, journal, lock = open_run(out, identity="i", is_fresh=False)
    journal.put_fact("tasks", str(source))
    journal.put_tasks(tasks)
    for task in tasks:
        mine = [p for p in programs if p.task_id == task.task_id]
        journal.put_stage(StageRow(task.task_id, "quick", "done", 1.0), programs=mine)
    journal.close()
    lock.close()
    write_submission(folder.submission, build(TaskSet("x", tuple(tasks)), {}))
    if is_finished:
        folder.write_json(folder.report, {"coverage": {}, "stopped": False, "failure": None})
    return out


def relabelled(runs: Sequence[Path], pack: Path, *flags: str) -> tuple[Corpus, list[Any]]:
    """The pack of these runs, and where its families come from."""
    assert cli.main(["relabel", *map(str, runs), "--out", str(pack), *flags]) == 0
    lines = (pack / "relabelled.jsonl").read_text().splitlines()
    return load_corpus(pack), [json.loads(line) for line in lines]


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """The exit code of a command and its one line on stderr."""

    def refused(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        code = cli.main([str(word) for word in words])
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        return code, error

    return refused


def pairs_of(corpus: Corpus, family: int) -> set[tuple[str, str]]:
    numbers = range(int(corpus.first_pair[family]), int(corpus.first_pair[family + 1]))
    return {(str(a.tolist()), str(b.tolist())) for a, b in map(corpus.pair, numbers)}


def test_a_wrong_program_is_right_for_the_task_that_its_outputs_make(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [wrote(FLIP, "return grid")])
    corpus, (origin,) = relabelled([run], tmp_path / "pack")

    assert corpus.families == ("flip~1",) and corpus.programs == ("return grid\n",)
    assert corpus.tasks == {0} and corpus.modules == frozenset()
    assert pairs_of(corpus, 0) == {(str(g.tolist()),) * 2 for g in GRIDS}
    expected = {"family": "flip~1", "task": "flip", "run": str(run), "stage": "quick", "round": 1}
    assert origin | expected | {"view": IDENTITY.name, "logprob": -2.0} == origin


def test_the_pairs_are_those_that_the_model_saw(tmp_path: Path) -> None:
    # Under a quarter turn a left-right flip is an up-down flip: the program is right.
    flips = wrote(FLIP, "return flip_v(grid)", view=TURNED, gave=flipped)
    corpus, (origin,) = relabelled([make_run(tmp_path / "run", [flips])], tmp_path / "pack")
    seen = [TURNED.apply(grid) for grid in GRIDS]

    assert pairs_of(corpus, 0) == {(str(g.tolist()), str(g[::-1].tolist())) for g in seen}
    assert origin["demo_score"] == 1.0 and origin["view"] == TURNED.name


def test_the_best_different_programs_of_all_runs_are_picked(tmp_path: Path) -> None:
    first = make_run(
        tmp_path / "first",
        [
            wrote(FLIP, "return grid"),
            wrote(FLIP, "return flip_h(grid)", logprob=-1.0),
            wrote(FLIP, "", outcome="no_code"),
            wrote(TURN, "return rot180(grid)"),
        ],
    )
    second = make_run(
        tmp_path / "second",
        [wrote(FLIP, "return flip_h( grid )", logprob=-8.0), wrote(FLIP, "return rot180(grid)")],
    )
    corpus, origins = relabelled([first, second], tmp_path / "pack", "--picked", "2")

    # Of equal programs the less likely one. Half a turn flips a grid of one row.
    assert [o["demo_score"] for o in origins] == [1.0, 0.5, 1.0]
    assert [o["run"] for o in origins] == [str(second), str(second), str(first)]
    body = ("return flip_h( grid )\n", "return rot180(grid)\n", "return rot180(grid)\n")
    assert corpus.programs == body


def test_solved_tasks_are_kept_dropped_or_taken_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = [
        wrote(FLIP, "return flip_h(grid)"),
        wrote(FLIP, "return grid"),
        wrote(TURN, "return grid"),
    ]
    run = make_run(tmp_path / "run", programs)
    names = {}
    for choice in ("keep", "drop", "only"):
        corpus, _ = relabelled([run], tmp_path / choice, "--solved", choice, "--json")
        names[choice] = corpus.families
    assert names == {
        "keep": ("flip~1", "flip~2", "turn~1"),
        "drop": ("turn~1",),
        "only": ("flip~1",),
    }
    counts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [c["solved"] for c in counts] == [1, 0, 1]


def test_what_gives_no_grid_or_another_one_than_before_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = "import random\nreturn grid if random.Random().random() < 0.5 else flip_h(grid)"
    run = make_run(
        tmp_path / "run",
        [
            wrote(FLIP, "return grid / 0", outcome="bad_output"),
            wrote(FLIP, "return grid // 0", gave=flipped),
            wrote(FLIP, "return grid", gave=flipped),
            wrote(FLIP, "return rot180(grid)"),
            *(wrote(FLIP, chance.replace("0.5", f"0.5{n}"), gave=flipped) for n in range(8)),
        ],
    )
    corpus, _ = relabelled([run], tmp_path / "pack", "--json")
    counts = json.loads(capsys.readouterr().out)

    assert counts["left_out"]["bad_output"] >= 1 and sum(counts["left_out"].values()) >= 3
    assert counts["programs"] == 12
    assert "return rot180(grid)\n" in corpus.programs and "return grid\n" not in corpus.programs


def test_a_module_is_kept_as_it_was_written_and_taught_whole(tmp_path: Path) -> None:
    module = "import numpy as np\n\ndef transform(grid):\n    return np.fliplr(grid)"
    programs = [wrote(FLIP, module, kind="program", gave=flipped)]
    corpus, _ = relabelled([make_run(tmp_path / "run", programs)], tmp_path / "pack")
    assert corpus.programs == (module,) and corpus.modules == {0}

    minimal = get_encoder("minimal")
    for style, expected in (("code-from-examples-v1", module), ("dsl-program-v1", "")):
        writer = StyleWriter(get_style(style), minimal, None)  # type: ignore[arg-type]
        assert writer.as_answer(corpus.programs[0], is_module=True) == expected


def test_a_document_shows_the_whole_task_in_a_new_order_and_under_no_view(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [wrote(FLIP, "return flip_h(grid)")])
    corpus, _ = relabelled([run], tmp_path / "pack")
    shown: list[tuple[str, ...]] = []

    class Noting:
        needs_program = True

        def as_answer(self, program: str, *, is_module: bool = False) -> str:
            return program

        def write(self, pairs: Any, program: str, **_: Any) -> Any:
            shown.append(tuple(str(a.tolist()) for a, _ in pairs))
            assert all((b == a[:, ::-1]).all() for a, b in pairs)
            return pairs

    sampler = DocumentSampler(corpus, Noting(), max_tokens=12, min_pairs=5)
    for seed in range(20):
        sampler.document(np.random.default_rng(seed))
    assert {frozenset(order) for order in shown} == {frozenset(str(g.tolist()) for g in GRIDS)}
    assert len(set(shown)) == 6


def test_unfinished_runs_are_taken_and_empty_ones_are_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    half = make_run(tmp_path / "half", [wrote(FLIP, "return grid")], is_finished=False)
    empty = make_run(tmp_path / "empty", [])
    relabelled([half, empty, half], tmp_path / "pack")
    notes = capsys.readouterr().err
    assert f"{half} is not finished" in notes and f"{half} is given twice" in notes
    assert f"{empty} has no programs" in notes

    assert cli.main(["relabel", str(empty), "--out", str(tmp_path / "none")]) == EXIT_INPUT
    assert "no programs in" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_the_journal_of_an_older_version_is_read(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [wrote(FLIP, "return grid")])
    with closing(sqlite3.connect(RunFolder(run).journal)) as db:
        db.execute("UPDATE tasks SET digest = ''")
        db.execute("ALTER TABLE candidates DROP COLUMN weight")
        db.execute("PRAGMA user_version=0")
        db.commit()
    corpus, _ = relabelled([run], tmp_path / "pack")
    assert corpus.families == ("flip~1",)


def test_runs_of_other_task_contents_are_refused(tmp_path: Path, refusal: Any) -> None:
    one = make_run(tmp_path / "one", [wrote(FLIP, "return grid")])
    other = Task("flip", FLIP.train[:1], FLIP.test)
    two = make_run(tmp_path / "two", [wrote(other, "return grid")], tasks=[other])
    pack = tmp_path / "pack"

    code, told = refusal("relabel", one, two, "--out", pack)
    assert code == EXIT_INPUT and f"task flip in {two} is not the one in {one}" in told
    code, told = refusal("relabel", two, "--out", pack, "--tasks", f"{one}-tasks.json")
    assert code == EXIT_INPUT and "task flip is not the one in one-tasks.json" in told

    Path(f"{one}-tasks.json").unlink()
    code, told = refusal("relabel", one, "--out", pack)
    assert code == EXIT_INPUT and "its tasks cannot be read" in told and "pass --tasks" in told
    with closing(sqlite3.connect(RunFolder(one).journal)) as db:
        db.execute("DELETE FROM facts WHERE key = 'tasks'")
        db.commit()
    code, told = refusal("relabel", one, "--out", pack)
    assert code == EXIT_USAGE and "does not say where its tasks are" in told
    assert not pack.exists()


def test_a_damaged_journal_is_one_clear_error(tmp_path: Path, refusal: Any) -> None:
    run = make_run(tmp_path / "run", [wrote(FLIP, "return grid", logprob=-n) for n in range(400)])
    path = RunFolder(run).journal
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 9000] = b"\xff" * 9000
    path.write_bytes(bytes(data))

    code, told = refusal("relabel", run, "--out", tmp_path / "pack")
    assert code == EXIT_INPUT and "damaged" in told
    code, told = refusal("relabel", tmp_path, "--out", tmp_path / "pack")
    assert code == EXIT_INPUT and "no run/journal.sqlite" in told


def test_only_a_pack_of_its_own_is_replaced(tmp_path: Path, refusal: Any) -> None:
    run = make_run(tmp_path / "run", [wrote(FLIP, "return grid")])
    before = sorted(path.name for path in run.rglob("*"))
    code, told = refusal("relabel", run, "--out", run)
    assert code == EXIT_INPUT and "holds something else" in told
    assert sorted(path.name for path in run.rglob("*")) == before

    pack = tmp_path / "pack"
    relabelled([run], pack)
    (pack / "left.txt").touch()
    relabelled([run], pack)
    assert not (pack / "left.txt").exists()


def test_programs_with_views_of_no_task_are_left_out(tmp_path: Path) -> None:
    good = wrote(FLIP, "return grid")
    bad = good.model_copy(update={"view": "sideways", "answer": "return rot180(grid)"})
    short = good.model_copy(update={"view": View(order=(2, 0, 1)).name})
    corpus, _ = relabelled([make_run(tmp_path / "run", [bad, short, good])], tmp_path / "pack")
    assert corpus.programs == ("return grid\n",)


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_own_programs_are_checked_and_packed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = tmp_path / "tasks.json"
    tasks.write_text(challenges_json([FLIP, TURN]))
    own = json.loads(challenges_json([TURN]))["turn"]
    body = "from dsl import *\n\n\ndef transform(grid):\n    a = flip_h(grid)\n    return a\n"
    module = "def task(grid):\n    return grid[:, ::-1]\n"
    programs = lines(
        tmp_path / "own.jsonl",
        {"task_id": "flip", "source": body},
        {"task_id": "flip", "source": module},
        {"task_id": "flip", "source": module.replace(", ::", ",::")},
        {"task": own, "source": "def transform(grid):\n    return grid\n"},
        {"task_id": "mine", "task": own, "source": "def transform(grid):\n    return 1 / 0\n"},
    )
    pack = tmp_path / "pack"
    words = ["train", "--pack", str(pack), "--programs", str(programs), "--tasks", str(tasks)]
    assert cli.main(words) == 0

    corpus = load_corpus(pack)
    assert corpus.families == ("flip~own-1", "flip~own-2", "line-4~own-1")
    assert corpus.programs[0] == "a = flip_h(grid)\nreturn a\n"
    assert set(corpus.modules) == {1, 2}
    assert set(corpus.tasks) == {0, 1, 2}
    assert pairs_of(corpus, 2) == {(str(g.tolist()),) * 2 for g in GRIDS}
    told = "2 right, 1 relabelled by what they do, 1 repeated, 1 left out (1 error)"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"source": "x"}', "line 1: neither task_id nor task"),
        ('{"task_id": "flip"}', "line 1: source: Field required"),
        ('{"task_id": "flip", "source": "\\ud800"}', "line 1: source: not UTF-8"),
        (b'\n{"task_id": "flip", "source": "\xff"}', "line 2: source: not UTF-8"),
        ('\n{"task_id": "flop", "source": "x"}', "line 2: task flop is not among"),
        ('{"task": {"train": []}, "source": "x"}', 'line 1, task line-1: "train" has no entries'),
        ("[" * 5000, "line 1: not JSON"),
        ("", "no programs"),
        ('{"task_id": "flip", "source": "x ="}', "none of 1 programs gives a grid"),
    ],
)
def test_a_bad_line_of_own_programs_is_named(
    tmp_path: Path, refusal: Any, text: str | bytes, fault: str
) -> None:
    programs = tmp_path / "own.jsonl"
    programs.write_bytes(text.encode() if isinstance(text, str) else text)
    tasks = tmp_path / "tasks.json"
    tasks.write_text(challenges_json([FLIP]))
    pack = tmp_path / "pack"
    code, told = refusal("train", "--pack", pack, "--programs", programs, "--tasks", tasks)
    assert code == EXIT_INPUT and fault in told and not pack.exists()


def test_a_journal_that_is_read_is_not_changed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [wrote(FLIP, "return grid")])
    before = RunFolder(run).journal.read_bytes()
    relabelled([run], tmp_path / "pack")
    assert RunFolder(run).journal.read_bytes() == before
    journal = Journal(RunFolder(run).journal)
    assert [row[:2] for row in journal.program_rows()] == [("quick", 1)]
    journal.close()


def test_the_digest_of_a_pack_covers_all_that_is_taught() -> None:
    """Packs of the same programs differ in their cells alone, and are other data all the same."""
    one, other = np.zeros((2, 2), np.int8), np.array([[0, 0], [0, 1]], np.int8)

    def digest(**change: Any) -> str:
        family: dict[str, Any] = {"name": "a", "pairs": [(one, one)], "program": "return grid"}
        return assemble([FamilyPairs(**(family | change))]).digest()

    changes: list[dict[str, Any]] = [
        {"pairs": [(one, other)]},
        {"pairs": [(one, one)] * 2},
        {"name": "b"},
        {"program": "return -grid"},
        {"is_module": True},
        {"is_task": True},
    ]
    assert digest() == digest()
    assert len({digest(), *(digest(**change) for change in changes)}) == 1 + len(changes)
