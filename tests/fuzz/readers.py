"""Every reader of what is given to the appliance: what a good input is, and how it is read.

To add one: a function that takes a file and reads it, and a line in READERS (of a folder: in
folders.py; of something typed: in texts.py). Only ApplianceError may come out, or what the line
names as `allowed`.
"""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from pydantic import ValidationError

from appliance.arc.encode import OWN_ENCODERS, ParseError, get_encoder
from appliance.arc.grid import as_grid
from appliance.arc.read import read_json
from appliance.arc.source import challenges_json, load_tasks, read_answers, solutions_json
from appliance.arc.submission import build, form_faults, read_submission, score, validate
from appliance.arc.task import Pair, Task, TaskSet
from appliance.arc.view import View
from appliance.arc.vote import Candidate
from appliance.learn.data.own_programs import read_own_programs
from appliance.pack.leg import read_legs
from appliance.program.program_file import read_programs
from appliance.program.sandbox.frames import (
    COMPILED,
    FRAME,
    GRID,
    READY,
    BrokenFrames,
    Result,
    decode_grids,
    encode_grids,
    judge,
)
from appliance.program.sandbox.result_cache import ResultCache
from appliance.program.source import runnable, same_form, uses_chance
from appliance.record.attempts import attempts_of
from appliance.record.coverage import coverage_of
from appliance.record.figures import run_figures
from appliance.record.journal import Journal, StageRow
from appliance.record.legs import note_start
from appliance.record.salvage import open_whole
from appliance.report.run_page import plan_table
from appliance.solve.messages import (
    CandidateMessage,
    Failed,
    Finished,
    ProgramMessage,
    Sampled,
    Scored,
    parse_event,
)
from tests.fuzz.experiments import experiment_readers
from tests.fuzz.folders import FOLDER_READERS
from tests.fuzz.mutate import damaged, damaged_pages
from tests.fuzz.reader import Reader, quietly, text_of
from tests.fuzz.texts import TEXT_READERS

SMALL, OTHER = as_grid([[1, 2], [3, 4]]), as_grid([[0, 9, 9]])
TASKS = TaskSet(
    "fuzz",
    tuple(
        Task(name, (Pair(SMALL, OTHER), Pair(OTHER, SMALL)), tests)
        for name, tests in (("a", (SMALL,)), ("b", (SMALL, OTHER)))
    ),
)
SOLUTIONS = {"a": (OTHER,), "b": (SMALL, OTHER)}


def read_submission_file(path: Path) -> None:
    submission = read_submission(path)
    faults = [*form_faults(submission), *validate(submission, TASKS)]
    score(submission, SOLUTIONS)
    assert faults or submission == json.loads(json.dumps(submission))


def read_journal(path: Path) -> None:
    """As a run that is resumed does, and `vote`, `evaluate` and `report` after it."""
    try:
        with contextlib.closing(open_whole(path)) as journal:
            coverage_of(journal).lines()
            run_figures(journal, SOLUTIONS)
            voted = attempts_of(journal.candidates(), "programs-first")
            assert validate(build(TASKS, voted), TASKS) == []
            for key in ("setbacks", "model"):
                journal.fact(key)
            journal.events()
    finally:
        for aside in path.parent.glob(f"{path.name}*"):
            aside.unlink(missing_ok=True)


def read_cache(path: Path) -> None:
    folder = path.parent / "cache"
    folder.mkdir(exist_ok=True)
    path.rename(folder / "programs.sqlite")
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            found = ResultCache(folder, b"c")
            result = found.get(b"source", b"inputs", 1)
            assert result is None or len(result.outputs) == 1
            found.put(b"source", b"inputs", Result("ok", (SMALL,), None, 1))
            found.close()
    finally:
        for aside in folder.iterdir():
            aside.unlink()


def read_event(path: Path) -> None:
    """What came through a worker's pipe, which a kill may have cut anywhere."""
    with contextlib.suppress(ValidationError):
        parse_event(path.read_bytes().decode("utf-8", "replace"))


def read_frames(path: Path) -> None:
    data = path.read_bytes()
    assert len(judge(0, data, 2).outputs) == 2


def read_grid_texts(path: Path) -> None:
    text = text_of(path)
    for name in OWN_ENCODERS:
        with contextlib.suppress(ParseError):
            get_encoder(name).decode(text)


def read_program_text(path: Path) -> None:
    text = text_of(path)
    runnable(text, "program"), runnable(text, "body"), same_form(text), uses_chance(text)


def good_journal() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.sqlite"
        with contextlib.closing(Journal(path)) as journal:
            journal.put_tasks(TASKS)
            journal.put_fact("setbacks", ["x"])
            note_start(journal, 0.5)
            for stage in ("quick", "deep", "search"):
                weight = 0.5 if stage == "search" else None
                for task in TASKS:
                    found = [
                        Candidate(task.task_id, i, SMALL, -1.0, 5, "v", weight=weight)
                        for i in range(len(task.test))
                    ]
                    row = StageRow(task.task_id, stage, "done", 1.0, {"how": "vllm"}, at_s=9.0)
                    journal.put_stage(row, found, [PROGRAM] if task.task_id == "a" else [])
            journal.put_event(1.0, "x")
        return path.read_bytes()


def damaged_journal(rng: Random, seed: bytes) -> bytes:
    """Pages of the file, or cells of its rows."""
    if rng.random() < 0.4:
        return damaged_pages(rng, seed)

    table, columns, texts = rng.choice(JOURNAL_CELLS)
    column = rng.choice(columns)
    value: Any = rng.choice((None, -1, 0, 99, 2**62, 1.5, 1e308, float("inf"), "x", b"\xff", "[]"))
    if column in texts:
        (good,) = _rows(seed, f"SELECT {column} FROM {table} LIMIT 1")[0]
        value = damaged(rng, str(good).encode())
        value = value if rng.random() < 0.3 else value.decode("utf-8", "replace")
    return _with(seed, f"UPDATE OR IGNORE {table} SET {column} = ?", value)


def good_cache() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        found = ResultCache(Path(folder), b"c")
        found.put(b"source", b"inputs", Result("ok", (SMALL,), None, 1))
        found.close()
        return (Path(folder) / "programs.sqlite").read_bytes()


def damaged_cache(rng: Random, seed: bytes) -> bytes:
    if rng.random() < 0.4:
        return damaged_pages(rng, seed)
    (answer,) = _rows(seed, "SELECT answer FROM answers")[0]
    head, _, grids = bytes(answer).partition(b"\n")
    value = damaged(rng, head) + b"\n" + (damaged(rng, grids) if rng.random() < 0.3 else grids)
    return _with(seed, "UPDATE answers SET answer = ?", value)


def _rows(data: bytes, sql: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(data)
        return db.execute(sql).fetchall()


def _with(data: bytes, sql: str, value: Any) -> bytes:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(data)
        with contextlib.suppress(sqlite3.IntegrityError):
            db.execute(sql, (value,))
        db.commit()
        return db.serialize()


PROGRAM = ProgramMessage(
    task_id="a", view="v", adapter="", answer="x", source="x", outcome="ok", error=None,
    demo_score=1.0, similarity=1.0, outputs="k", test=[[[1]]], logprob=-1.0, num_tokens=3,
)  # fmt: skip
EVENTS = (
    Sampled(
        job_id=1,
        candidates=[CandidateMessage.of(Candidate("a", 0, SMALL, -1.0, 5))],
        programs=[PROGRAM],
    ),
    Scored(job_id=1, task_id="a", test_index=0, grid=[[1]], logprobs=[-1.0, float("-inf")]),
    Finished(job_id=1, complete=["a"], seconds=1.0, how="vllm", refused=["é"]),
    Failed(job_id=-1, kind="memory", message="no room"),
)
FRAMES = FRAME.pack(READY, 0) + FRAME.pack(COMPILED, 0)
FRAMES += FRAME.pack(GRID, 8) + encode_grids([SMALL])
JOURNAL_CELLS = (
    ("candidates", ("task_id", "test_index", "stage", "grid", "logprob", "num_tokens", "view",
     "view_scores", "round", "weight", "demo_score", "program"), ("grid", "view_scores")),
    ("stages", ("task_id", "stage", "round", "status", "seconds", "detail", "at_s"),
     ("detail",)),
    ("programs", ("task_id", "stage", "message", "round"), ("message",)),
    ("tasks", ("num_tests", "digest", "position"), ()),
    ("facts", ("value",), ("value",)),
    ("events", ("at_s", "text"), ()),
)  # fmt: skip
"""Of each table, columns that are changed, and those of them that hold JSON."""

EXEC_LINE = json.dumps({"id": "p", "source": "def transform(g): return g", "inputs": [[[1, 2]]]})
OWN_TASK = json.loads(challenges_json(TASKS))["a"]
OWN_LINE = json.dumps({"task": OWN_TASK, "source": "from dsl import *\ndef task(grid):\n return 1"})
CHOICE = {"value": 1, "reason": "x"}
PLAN = {"sizing": CHOICE, "train": {"rank": CHOICE}, "sample": {"views": CHOICE}}

READERS = (
    Reader("tasks", lambda: challenges_json(TASKS).encode(), lambda p: load_tasks(str(p))),
    Reader("solutions", lambda: solutions_json(SOLUTIONS).encode(), lambda p: read_answers(str(p))),
    Reader("submission", lambda: json.dumps(build(TASKS, {})).encode(), read_submission_file),
    Reader("journal", good_journal, read_journal, damage=damaged_journal, share=0.05),
    Reader("cache", good_cache, read_cache, damage=damaged_cache, share=0.05),
    Reader("exec lines", lambda: EXEC_LINE.encode(), read_programs),
    Reader("own programs", lambda: OWN_LINE.encode(), lambda p: read_own_programs(p, [])),
    Reader("frames", lambda: FRAMES, read_frames),
    Reader("grids", lambda: encode_grids([SMALL, None]), lambda p: decode_grids(p.read_bytes()),
           (BrokenFrames,)),
    Reader("grid texts", lambda: get_encoder("grid-tokens").encode(SMALL).encode(), read_grid_texts,
           share=0.3),
    Reader("encoder names", lambda: get_encoder("arc25-shape-row-number").name.encode(),
           lambda p: get_encoder(text_of(p))),
    Reader("view names", lambda: View().name.encode(), lambda p: View.parse(text_of(p)),
           (ValueError,)),
    Reader("program texts", lambda: b"import dsl\n\ndef transform(grid):\n    return dsl.f(grid)\n",
           read_program_text, share=0.3),
    *(Reader(f"event: {event.event}", event.model_dump_json().encode, read_event, share=0.3)
      for event in EVENTS),
    Reader("plan", lambda: json.dumps(PLAN).encode(), plan_table),
    Reader("legs", lambda: b"[12.5, 30]", quietly(read_legs)),
    Reader("JSON", lambda: json.dumps(PLAN).encode(), read_json),
    *TEXT_READERS,
    *FOLDER_READERS,
    *experiment_readers(TASKS, SOLUTIONS, good_journal, damaged_journal),
)  # fmt: skip
