"""Every verb over tasks whose ids are paths, options, patterns, escape sequences or twins.

Nothing is written or removed outside --out and the folders for temporary files.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.arc.source import load_tasks
from appliance.foreign_text import as_file_name
from appliance.record.run_folder import RunFolder
from tests.support.main_job import stage_rows, submission_faults
from tests.support.watched import Watch, tree_of

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

PAIRS = [{"input": [[a, 0]], "output": [[0, a]]} for a in (1, 2)]
TASK = {"train": PAIRS, "test": [{"input": [[7, 0]]}]}
ANSWER = [[[0, 7]]]

TWINS = ("twin", "TWIN", "Twin", "\u00e9", "e\u0301", "twin.programs", "twin ", "twin.")
SPELLED = (
    "",
    ".",
    "..",
    "/",
    "-rf",
    "--out",
    "*",
    "[a]",
    "a,b",
    "a\nb",
    "\0",
    "\x1b[2J",
    "\u202egpj",
    "%2e",
)
SHELLS = (
    "$(touch x)",
    "`touch x`",
    "; touch x",
    "<script>alert(1)</script>",
    "x" * 300,
    "CON",
    "~",
)

FEW = (
    *("--set", "train.max_steps=2", "--set", "train.tokens_per_step=256", "--set", "train.rank=4"),
    *("--set", "run.rounds=1", "--set", "sample.views=1", "--set", "search.expansions=5"),
    *("--set", "search.seconds_per_task=2", "--set", "search.workers=1"),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with things that belong to others, all around the place to work in."""
    world = tmp_path_factory.mktemp("world")
    for name in ("victim", "work/run", "work/victim", "work/adapters", "x"):
        folder = world / name
        folder.mkdir(parents=True)
        (folder / "thesis").write_text("years of work")
        (folder / "model.safetensors").write_text("weights")
    return world


def paths_to(world: Path) -> list[str]:
    """Ids that name what others own, from every folder that a run works in."""
    names = [str(world / "victim"), str(world / "work" / "victim")]
    return names + ["../" * ups + place for ups in (1, 2, 3, 4, 5) for place in ("victim", "x/y")]


@pytest.fixture(scope="module")
def tasks(world: Path) -> Path:
    """A challenges file with answers beside it: chosen ids, and some that chance put together."""
    rng = random.Random(0)
    alphabet = [
        "/",
        "..",
        ".",
        "\0",
        "\n",
        "*",
        "%",
        " ",
        "A",
        "a",
        "\\",
        "-",
        ",",
        "\u0301",
        "'",
        '"',
    ]
    drawn = ["".join(rng.choices(alphabet, k=rng.randint(1, 12))) for _ in range(12)]
    ids = dict.fromkeys([*paths_to(world), *TWINS, *SPELLED, *SHELLS, *drawn])

    path = world / "hostile_challenges.json"
    path.write_text(json.dumps(dict.fromkeys(ids, TASK)))
    (world / "hostile_solutions.json").write_text(json.dumps(dict.fromkeys(ids, ANSWER)))
    return path


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    return Watch(tmp_path_factory.mktemp("watched") / "new")


@contextmanager
def untouched(
    world: Path, watch: Watch, *, out: Path, opened: Sequence[Path] = ()
) -> Iterator[None]:
    """Whatever lies in the world is the same afterwards, but for `out`.

    opened: what may be opened for writing, as SQLite does with every file, and is not changed.
    """
    before = tree_of(world, without=[out])
    watch.forget()
    yield
    assert watch.outside([out, *opened]) == []
    assert tree_of(world, without=[out]) == before


@pytest.fixture(scope="module")
def run(world: Path, tasks: Path, watch: Watch) -> Path:
    """Searched to the end; every id is in the submission."""
    out = world / "work" / "out"
    with untouched(world, watch, out=out):
        given = ["submit", "--tasks", tasks, "--out", out, "--budget", "2m", "--strategy", "search"]
        done = watch.run(*map(str, given), *FEW, "--display", "plain", cwd=world / "work")
        assert done.returncode == 0, done.stderr
        assert submission_faults(out, tasks) == []
        assert all(line.isprintable() for line in done.stdout.splitlines())
        assert len(stage_rows(out, "search")) == len(load_tasks(str(tasks)))

        again = watch.run(*map(str, given), *FEW, "--display", "plain", cwd=world / "work")
        assert "resumed" in again.stdout, again.stderr
        assert again.returncode == 0

        # The watch sees what it is for.
        assert f"open {str(out / '.submission.json.tmp')!r}" in watch.changed()
        assert f"sqlite3.connect {str(out / 'run' / 'journal.sqlite')!r}" in watch.changed()
        assert watch.outside([world / "elsewhere"]) != []
    return out


def test_training_keeps_its_adapters_in_the_run(
    world: Path, tasks: Path, watch: Watch, tiny_model: Path
) -> None:
    wanted = dict.fromkeys((*paths_to(world)[:4], *TWINS[:3]), TASK)
    few = world / "work" / "few.json"
    few.write_text(json.dumps(wanted))

    out = world / "work" / "trained"
    with untouched(world, watch, out=out):
        given = ("--model", tiny_model, "--strategy", "transduction", "--budget", "5m", *FEW)
        done = watch.run("submit", "--tasks", few, "--out", out, *given, cwd=world / "work")
        assert done.returncode == 0, done.stdout + done.stderr
        assert submission_faults(out, few) == []

    adapters = {path.name for path in RunFolder(out).adapters.iterdir()}
    assert adapters == {as_file_name(task_id) for task_id in wanted}


@pytest.mark.parametrize(
    "given",
    [
        ("validate", "RUN", "--tasks", "TASKS"),
        ("evaluate", "RUN", "--solutions", "TASKS", "--json"),
        ("vote", "RUN", "--out", "OUT/voted.json"),
        ("vote", "RUN", "--tasks", "TASKS", "--out", "OUT/voted.json"),
        ("report", "RUN", "--out", "OUT/report.html", "--solutions", "TASKS"),
        ("plan", "--tasks", "TASKS", "--gpu", "T4", "--budget", "1h", "--json"),
        ("simulate", "--tasks", "TASKS", "--gpu", "T4", "--budget", "20m", "--seeds", "1"),
        (
            "pack",
            "condor",
            "--tasks",
            "TASKS",
            "--shards",
            "3",
            "--image",
            "docker://a/b",
            "--out",
            "OUT/c",
        ),
        ("train", "--pack", "OUT/corpus", "--tasks", "TASKS"),
        ("exec", "--programs", "PROGRAMS", "--out", "OUT/results.jsonl"),
    ],
    ids=lambda given: "-".join(given[:2]),
)
def test_every_verb_stays_where_it_was_told_to(
    given: tuple[str, ...], world: Path, tasks: Path, run: Path, watch: Watch, tmp_path: Path
) -> None:
    programs = tmp_path / "programs.jsonl"
    lines = [
        {"id": task_id, "source": "def transform(grid): return grid", "inputs": [[[1]]]}
        for task_id in json.loads(tasks.read_text())
    ]
    programs.write_text("".join(json.dumps(line) + "\n" for line in lines))

    places = {"RUN": run, "TASKS": tasks, "PROGRAMS": programs}
    out = world / "work" / "made"
    out.mkdir(exist_ok=True)
    with untouched(world, watch, out=out, opened=[RunFolder(run).journal]):
        words = [str(places.get(word, word)).replace("OUT/", f"{out}/") for word in given]
        done = watch.run(*words, cwd=world / "work")
        assert done.returncode == 0, done.stdout + done.stderr
        assert all(line.isprintable() for line in (done.stdout + done.stderr).splitlines())


@pytest.mark.parametrize("flags", [("--fresh",), ("--fresh", "--only", "a,b"), ("--only", "..")])
def test_a_foreign_run_folder_is_refused_and_stays(
    flags: tuple[str, ...], world: Path, tasks: Path, watch: Watch
) -> None:
    with untouched(world, watch, out=world / "none"):
        given = ("submit", "--tasks", tasks, "--out", world / "work", "--budget", "1m", *flags)
        done = watch.run(*map(str, given), "--strategy", "search", cwd=world)
        assert done.returncode == 4
        assert "no journal.sqlite" in done.stderr
