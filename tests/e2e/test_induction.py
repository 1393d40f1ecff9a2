"""Search and learn with the real trainer, the real tokenizer and the real sandbox.

A tiny random model writes no programs. Where a test needs some, a script says what is written.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance import cli
from appliance.arc.encode import get_encoder
from appliance.arc.grid import as_grid
from appliance.arc.prompt import get_style
from appliance.arc.task import Pair, Task
from appliance.arc.view import IDENTITY
from appliance.clock import Deadline, SystemClock
from appliance.config import Layer, ProgramSettings, resolve
from appliance.engine.base import (
    Completion,
    EngineSpec,
    NotTuned,
    Request,
    Served,
    Tuned,
    TuneSettings,
)
from appliance.engine.tokens import Codec
from appliance.program.relabel import Relabelled, relabel
from appliance.program.sandbox import Sandbox
from appliance.program.trial import run_drafts
from appliance.seeds import generator
from appliance.solve.induce import draft_of, program_lessons, program_questions
from appliance.solve.language import Language
from appliance.solve.messages import Event, Job, Sampled, TaskMessage
from appliance.solve.programs import ProgramWork
from appliance.solve.write_programs import Epoch, WriteLimits, Writer
from bench.job import submit_command
from tests.support.main_job import finish, journal_of

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

GRIDS = [as_grid([[1, 2, 0], [0, 3, 0]]), as_grid([[4, 0], [0, 5]]), as_grid([[0, 6, 6]])]
TASK = Task("flip", tuple(Pair(g, as_grid(g[:, ::-1].tolist())) for g in GRIDS[:2]), (GRIDS[2],))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(workers=1) as sandbox:
        yield sandbox


@pytest.fixture
def programs(language: Language) -> Language:
    return replace(language, style=get_style("dsl-program-v1"))


class Script:
    """A server whose sampler writes the next texts of a list, whatever the model thinks of them."""

    def __init__(self, codec: Codec, texts: Sequence[str]) -> None:
        self._codec, self._texts = codec, iter(texts)
        self.prompts: list[str] = []

    @contextmanager
    def serve(
        self, trainer: Any, *, adapter_dir: Path | None, batch_tokens: int
    ) -> Iterator[Served]:
        yield Served(self, "script", shows_life=True)

    def sample(
        self, requests: Sequence[Request], *, deadline: Deadline
    ) -> Iterator[list[Completion]]:
        for index, request in enumerate(requests):
            self.prompts.append(self._codec.text(request.prompt_ids))
            written = []
            for _ in range(request.num_samples):
                ids = self._codec.ids(next(self._texts, ""))
                logprob, num_tokens = -float(len(ids)), len(ids) + 1
                written.append(Completion(index, ids, logprob, num_tokens, is_complete=True))
            yield written


def limits(adapter_dir: Path, *, max_steps: int) -> WriteLimits:
    """Two minutes for a search with lessons of at most 512 tokens."""

    def tune_settings(row_tokens: int) -> TuneSettings:
        return TuneSettings(
            rank=4, alpha=4, max_steps=max_steps, row_tokens=row_tokens, learning_rate=0.01
        )

    clock = SystemClock()
    return WriteLimits(512, tune_settings, 4096, adapter_dir, Deadline(clock.now() + 120, clock))


def epochs_of(
    texts: Sequence[str],
    programs: Language,
    tiny_model: Path,
    sandbox: Sandbox,
    tmp_path: Path,
    *,
    tasks: Sequence[Task] = (TASK,),
    num_epochs: int = 5,
    **values: object,
) -> tuple[list[Epoch], Script]:
    from appliance.engine.registry import make_trainer

    script = Script(programs.codec, texts)
    spec = EngineSpec(model_dir=tiny_model, scratch_dir=tmp_path)
    writer = Writer(
        programs,
        ProgramSettings.model_validate({"samples_per_view": 4} | values),
        trainer=make_trainer("peft", spec, programs.codec),
        server=script,
        sandbox=sandbox,
        max_new_tokens=64,
    )
    epochs = writer.epochs(
        tasks,
        [],
        num_samples=[4] * num_epochs,
        limits=limits(tmp_path / "adapter", max_steps=6),
        seed=1,
    )
    return list(epochs), script


def test_it_learns_from_what_programs_do_and_stops_when_two_agree(
    programs: Language, tiny_model: Path, sandbox: Sandbox, tmp_path: Path
) -> None:
    first = ["rot90(grid)", "nonsense", "transpose(grid)", "grid"]
    second = ["flip_h(grid)", "rot180(flip_v(grid))", "grid", "flip_h(grid)"]
    texts = [f"return {value}\n" for value in first + second]
    epochs, script = epochs_of(texts, programs, tiny_model, sandbox, tmp_path)

    assert len(epochs) == 2 and len(script.prompts) == 2  # of five: the second agreed
    assert isinstance(epochs[0].outcome, NotTuned) and epochs[0].num_picked == 0
    assert [t.outcome for t in epochs[0].trials].count("ok") == 3
    assert isinstance(epochs[1].outcome, Tuned) and epochs[1].num_picked == 3
    assert epochs[1].outcome.loss_after < epochs[1].outcome.loss_before
    assert (tmp_path / "adapter").is_dir()
    assert sum(t.fits for t in epochs[1].trials) == 3
    assert {t.draft.adapter for t in epochs[1].trials} == {epochs[1].outcome.adapter_sha}


def test_tasks_learn_together_and_the_settled_one_is_left_alone(
    programs: Language, tiny_model: Path, sandbox: Sandbox, tmp_path: Path
) -> None:
    turn = Task(
        "turn", tuple(Pair(g, as_grid(g[::-1, ::-1].tolist())) for g in GRIDS[:2]), (GRIDS[2],)
    )
    of_flip = ["flip_h(grid)", "rot180(flip_v(grid))", "grid", "rot90(grid)"]
    of_turn = ["flip_v(grid)", "transpose(grid)", "grid", "nonsense"]
    of_turn_later = ["rot180(grid)"] * 8
    texts = [f"return {value}\n" for value in of_flip + of_turn + of_turn_later]
    epochs, script = epochs_of(
        texts, programs, tiny_model, sandbox, tmp_path, tasks=[TASK, turn], num_epochs=2
    )

    assert epochs[1].num_picked == 4 + 3 and isinstance(epochs[1].outcome, Tuned)
    # Two views: the first task has two programs that agree, and leaves its share.
    assert len(script.prompts) == 4
    assert {(t.draft.task.task_id, t.fits) for t in epochs[1].trials} == {("turn", True)}
    assert {t.draft.adapter for t in epochs[1].trials} == {epochs[1].outcome.adapter_sha}


def test_silence_counts_while_programs_are_written_and_a_lost_engine_is_avoided(
    programs: Language,
    tiny_model: Path,
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from appliance.engine.registry import make_trainer

    texts = ["return grid\n"] * 8
    values = {"quick_samples": 4, "samples_per_view": 4, "quick_epochs": 1}
    monkeypatch.setattr("appliance.solve.programs.open_sandbox", lambda *_, **__: sandbox)
    server, plain = Script(programs.codec, texts), Script(programs.codec, texts)
    events: list[Event] = []
    work = ProgramWork(
        resolve(
            [Layer("test", {"run.budget_s": 100} | {f"program.{k}": v for k, v in values.items()})]
        ),
        programs,
        trainer=make_trainer(
            "peft", EngineSpec(model_dir=tiny_model, scratch_dir=tmp_path), programs.codec
        ),
        server=server,
        plain=plain,
        program_tokens=64,
        num_workers=1,
        stall_s=9.0,
        emit=events.append,
    )
    for is_plain, asked in ((False, server), (True, plain)):
        job = Job(
            job_id=3,
            stage="quick",
            tasks=[TaskMessage.of(TASK)],
            views=[],
            deadline_s=math.inf,
            plain_because="lost" if is_plain else "",
        )
        written = work.quick([TASK], job, limits(tmp_path / "adapter", max_steps=2))
        assert written == [TASK.task_id] and len(asked.prompts) == 2
        told = [(e.stall_s, len(e.programs)) for e in events if isinstance(e, Sampled)]
        first_programs = [(9.0, 0), (9.0, 0), (9.0, 4), (None, 0)]
        after_learning = [(9.0, 0), (9.0, 0), (None, 0), (None, 4)]
        assert told == first_programs + after_learning
        events.clear()


def test_without_learning_it_only_samples(
    programs: Language, tiny_model: Path, sandbox: Sandbox, tmp_path: Path
) -> None:
    epochs, _ = epochs_of(
        ["return grid\n"] * 12, programs, tiny_model, sandbox, tmp_path, learn=False, num_epochs=3
    )
    assert [type(e.outcome) for e in epochs] == [NotTuned] * 3
    assert not (tmp_path / "adapter").exists()


def test_the_prompt_of_a_lesson_is_the_prompt_that_is_asked(programs: Language) -> None:
    solved = Relabelled(TASK, "return flip_h(grid)", 1.0)
    lesson = next(program_lessons([solved], programs, generator("x"), max_tokens=500))
    ((_, request),) = program_questions(
        TASK, [IDENTITY], programs, ProgramSettings(), num_samples=1, max_new_tokens=32, seed=0
    )
    prompts = {request.prompt_ids, programs.prompt_ids(TASK.with_train(TASK.train[::-1]), 0)}

    assert tuple(lesson.ids[: len(request.prompt_ids)].tolist()) in prompts
    assert programs.codec.text(tuple(lesson.ids[lesson.is_target])) == "return flip_h(grid)\n"
    assert lesson.ids[-1] == programs.codec.eos_id


BARC_TEXT = """
from common import *

from typing import *

# concepts:
# reflection, random looking pixels

# description:
# Mirror every object in the grid.

def transform(input_grid):
    output_grid = np.zeros_like(input_grid)
    for obj in find_connected_components(input_grid, connectivity=8, monochromatic=False):
        x, y, w, h = bounding_box(obj)
        blit_object(output_grid, obj[:, ::-1])
    return output_grid
"""


def chat_codec() -> Codec:
    """Bytes as tokens under the chat markup of Llama 3, in the small."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    marks = [
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|finetune_right_pad_id|>",
    ]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(marks)
    template = (
        "<|begin_of_text|>{% for m in messages %}"
        "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
        "{{ m['content'] }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    )
    return Codec(
        PreTrainedTokenizerFast(
            tokenizer_object=core,
            eos_token="<|eot_id|>",
            pad_token="<|finetune_right_pad_id|>",
            chat_template=template,
        )
    )


def test_the_text_of_a_barc_model_is_read_run_and_taught_back(sandbox: Sandbox) -> None:
    language = Language(
        get_style("barc-induction"), get_encoder("colour-words"), chat_codec(), 100_000
    )
    ((question, request),) = program_questions(
        TASK, [IDENTITY], language, ProgramSettings(), num_samples=1, max_new_tokens=1024, seed=0
    )
    prompt = language.codec.text(request.prompt_ids).rstrip()
    assert prompt.endswith("describing how to solve the problem:")

    text = f"```python{BARC_TEXT}```\nThis mirrors the grid."
    completion = Completion(0, language.codec.ids(text), -3.0, 9, is_complete=True)
    clock = SystemClock()
    draft = draft_of(question, completion, language, adapter="")
    (trial,) = run_drafts([draft], sandbox, deadline=Deadline(clock.now() + 60, clock))
    assert trial.fits, trial
    lesson = next(program_lessons([relabel(trial)], language, generator("x"), max_tokens=50_000))
    taught = language.codec.text(tuple(lesson.ids[lesson.is_target]))
    assert taught.endswith("```") and BARC_TEXT.strip() in taught
    cut = draft_of(question, replace(completion, is_complete=False), language, adapter="")
    assert cut.source == ""


@pytest.mark.parametrize("strategy", ["induction", "both"])
def test_a_run_searches_programs_and_leaves_a_whole_submission(
    strategy: str,
    tiny_model: Path,
    challenges: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    card = {
        "style": "grid-tokens-v1",
        "encoder": "grid-tokens",
        "program_style": "dsl-program-v1",
        "program_tokens": 24,
        "strategies": ["transduction", "induction"],
    }
    (model / "appliance.json").write_text(json.dumps(card))
    few = (
        "program.epochs=1",
        "program.samples_per_epoch=4",
        "program.quick_samples=2",
        "program.quick_epochs=1",
        "run.rounds=1",
        "train.max_steps=4",
        "train.rank=4",
        "sample.views=2",
    )
    flags = ["--limit", "2", "--model", str(model), "--strategy", strategy, "--budget", "5m"]
    out = tmp_path / "out"
    # Weights at random write no program that runs: nothing can be learnt, and the run says so.
    is_below = strategy == "induction"
    done = finish(submit_command(challenges, out, *flags, settings=few), codes=(5 * is_below,))
    assert ("not trained: no valid program yet" in done.stdout) == is_below

    assert "tasks with a program that fits all demonstrations: 0" in done.stdout
    assert len(json.loads((out / "submission.json").read_text())) == 2
    with journal_of(out) as journal:
        assert {r.stage for r in journal.stages()} >= {"quick", "programs"}
        written = journal.programs()
    # Two tasks: two and two programs each in the quick pass, four in the deep one.
    assert {stage: len(found) for stage, found in written.items()} == {"quick": 8, "deep": 8}

    solutions = challenges.with_name("copy_solutions.json")
    assert cli.main(["evaluate", str(out), "--solutions", str(solutions), "--json"]) == 0
    programs = json.loads(capsys.readouterr().out)["programs"]
    assert set(programs["deep"]) >= {"valid_code", "train_pass@n", "pass@n"}

    # The same numbers in a table over experiments.
    for pool in ("all", "quick", "deep"):
        flags = ["--solutions", str(solutions), "--pool", pool, "--format", "json"]
        assert cli.main(["compare", str(out), *flags]) == 0
        (row,) = json.loads(capsys.readouterr().out)["experiments"]
        for name, value in programs[pool].items():
            if not name.startswith("num_"):
                assert row["figures"][name]["value"] == value
        assert row["programs_n"] == {"all": 8, "quick": 4, "deep": 4}[pool]
