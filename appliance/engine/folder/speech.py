"""Whether a model can be spoken to: its tokenizer and chat template tried on texts of ours.

Covered: a tokenizer that cannot be read, or has code of its own; a template that is missing, does
not render, takes too long, draws lots, changes texts, or writes before an answer what it does not
ask for; marks and tokens beyond the embedding; answers that do not come back from their tokens.
Not covered: what the model was trained on.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from appliance.arc.encode import GridEncoder, get_encoder
from appliance.arc.grid import Grid
from appliance.arc.prompt import PromptStyle, get_style
from appliance.engine.environment import QUIET_AND_OFFLINE
from appliance.engine.folder.card import FolderCard
from appliance.engine.folder.samples import PROGRAMS, TASKS
from appliance.engine.folder.tokenizer import check_files, load_tokenizer
from appliance.engine.template import FIXED_DATE
from appliance.engine.tokens import Codec
from appliance.errors import InputError, UsageError, how_it_ended
from appliance.models.vocabularies import VOCABULARIES

START_S = 120.0
"""The child is given up after it. It needs 4 s; a cold network disk may make a minute of them."""

TRIAL_CPU_S = 5
"""Processor time for all texts, once the tokenizer is loaded. They take a hundredth of it, and on
busy cores that share their units several times that."""

TRIAL_BYTES = 2 << 30
"""Memory for the same."""

_MARK = re.compile(r"<[^<>\s]+>")


def examine_speech(folder: Path, card: FolderCard) -> tuple[str, ...]:
    """Sentences on what is adapted for this folder.

    A process without torch has a child look, for 4 s, because Transformers imports torch. Raises
    InputError where training or sampling in the styles of the card could not work.
    """
    check_files(folder)
    if "torch" in sys.modules:
        return try_out(folder, card)

    environment = os.environ | QUIET_AND_OFFLINE | {"CUDA_VISIBLE_DEVICES": ""}
    # The package may have been found by a path that only this process knows.
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-m", __name__, str(folder), json.dumps(asdict(card))]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=START_S,
            check=False,
            env=environment,
        )
        ended = how_it_ended(done.returncode)
        answer = json.loads(done.stdout) if done.returncode == 0 else None
    except subprocess.TimeoutExpired:
        ended, answer = f"did not end within {START_S:.0f} s", None

    if answer is None:
        raise InputError(
            f"model folder {folder}: trying its tokenizer and chat template {ended}",
            expected=f"a few short texts rendered within {TRIAL_CPU_S} s and 2 GB",
            remedy="mend chat_template in the model folder, or use another model",
        )
    if "found" in answer:
        raise InputError(answer["found"], expected=answer["expected"], remedy=answer["remedy"])
    return tuple(answer["adapted"])


def try_out(folder: Path, card: FolderCard) -> tuple[str, ...]:
    """The same in this process, which gets torch. Raises InputError."""
    return _tried(Codec.load(folder), folder, card)


def _tried(codec: Codec, folder: Path, card: FolderCard) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(_findings(codec, card)))
    except InputError as fault:
        found = f"model folder {folder}: {fault.found}"
        raise InputError(found, expected=fault.expected, remedy=fault.remedy) from fault


def _findings(codec: Codec, card: FolderCard) -> Iterator[str]:
    yield from codec.adapted
    if codec.template.knows("enable_thinking"):
        yield "the chat template can ask for thoughts: answers are asked for without"
    if codec.template.knows("strftime_now"):
        yield f"the chat template writes a date: it is always {FIXED_DATE:%d %B %Y}"

    opening = codec.template.late_opening
    if opening.strip():
        yield f"the chat template writes {opening!r} before an answer: it is asked for with that"

    _check_rows(codec)

    try:
        style, encoder = get_style(card.style), get_encoder(card.encoder)
        program_style = get_style(card.program_style)
    except UsageError as fault:
        raise InputError(
            f"appliance.json: {fault.found}", expected=fault.expected, remedy=fault.remedy
        ) from fault

    yield from _in_style(codec, style, encoder)
    if style != program_style:
        try:
            yield from _in_style(codec, program_style, encoder)
        except InputError as fault:
            # Who only draws grids may have no words for programs: our small vocabularies.
            if "induction" in card.strategies or style.name not in VOCABULARIES:
                raise
            yield f"it cannot be asked for programs: {fault.found}"


def _in_style(codec: Codec, style: PromptStyle, encoder: GridEncoder) -> Iterator[str]:
    """Sentences on what is adapted in this style. Raises InputError."""
    template = codec.template
    for task in TASKS:
        prompt = style.prompt(task, 0, encoder)
        prompt_ids = codec.prompt_ids(prompt)
        if template.manner.folds_system and prompt.turns[0].role == "system":
            yield (
                "the chat template takes no system turn: its text goes in front of the first user "
                "turn"
            )

        answers: tuple[Grid | str, ...] = (
            PROGRAMS if style.answer == "program" else ("return grid",)
        )
        if style.answer == "grid":
            answers = tuple(pair.output for pair in task.train)
        for answer in answers:
            conversation = style.lesson(task, 0, answer, encoder)
            lesson = codec.lesson(conversation)
            ids = tuple(int(i) for i in lesson.ids)
            _check_ids(codec, ids)

            written = ids[len(prompt_ids) :]
            written = written[: written.index(codec.eos_id) + 1] if codec.eos_id in written else ()
            if ids[: len(prompt_ids)] != prompt_ids or not written:
                raise InputError(
                    f"the prompt is not the beginning of its lesson, in {style.name}",
                    expected="a chat template that opens an answer as it writes it",
                    remedy="mend chat_template in the model folder, or use another model",
                )
            _check_answer(codec, style, encoder, conversation.turns[-1].text, written, prompt)

            turns = template.taken(conversation.turns)
            change = template.changes(turns)
            if change == "blanks":
                yield "the chat template trims answers: they are put in whole"
            if change == "words":
                raise InputError(
                    f"the chat template changes the texts of {style.name}",
                    expected="one that writes each text as it is",
                    remedy="mend chat_template in the model folder, or use another model",
                )

            for mark in _MARK.findall("".join(template.pieces(turns))):
                if (num_tokens := codec.num_tokens(mark)) > 1:
                    yield (
                        f"the mark {mark!r} of the chat template is no token: the tokenizer spells "
                        f"it out in {num_tokens}"
                    )


def _check_answer(
    codec: Codec,
    style: PromptStyle,
    encoder: GridEncoder,
    text: str,
    written: tuple[int, ...],
    prompt: Any,
) -> None:
    """written: ids of what follows the prompt, end mark included. Raises InputError."""
    early = [i for i in written[:-1] if i in codec.stop_ids]
    if early:
        raise InputError(
            f"generation_config.json stops at token {early[0]}, {codec.text((early[0],))!r}, which "
            "stands in answers",
            expected="eos_token_id to name marks that end a turn",
            remedy="mend generation_config.json",
        )

    due = text.removeprefix(prompt.answer_prefix)
    back = codec.text(written)
    if not back.startswith(due):
        raise InputError(
            f"the tokenizer gives back {back[:60]!r} for {due[:60]!r}, in {style.name} with "
            f"{encoder.name}",
            expected="a tokenizer that keeps every character of an answer",
            remedy="name another encoder in appliance.json, or use another model",
        )


def _check_ids(codec: Codec, ids: tuple[int, ...]) -> None:
    """Raises InputError for a token without a row in the embedding."""
    if codec.num_rows is not None and max(ids) >= codec.num_rows:
        token = codec.token(max(ids))
        raise InputError(
            f"our texts need token {max(ids)}, {token!r}, and the embedding has {codec.num_rows} "
            "rows (vocab_size in config.json)",
            expected="a row for each token",
            remedy="use the tokenizer that the model was trained with",
        )


def _check_rows(codec: Codec) -> None:
    """Raises InputError when an ordinary text could need a token without a row."""
    highest = codec.highest_ordinary_id()
    if codec.num_rows is not None and highest >= codec.num_rows:
        raise InputError(
            f"the tokenizer has tokens up to {highest}, and the embedding {codec.num_rows} rows "
            "(vocab_size in config.json)",
            expected="a row for each token",
            remedy="use the tokenizer that the model was trained with",
        )


def _limit() -> None:
    """A template is a program: from here on it has so much time and memory, then it is killed."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(spent.ru_utime + spent.ru_stime) + 1 + TRIAL_CPU_S
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, most))

    used_bytes = int(psutil.Process().memory_info().data)
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used_bytes + TRIAL_BYTES, most))


def main(folder: str, card: str) -> None:
    """Print what is adapted, or what is wrong, as a JSON object."""
    with contextlib.redirect_stdout(sys.stderr):
        try:
            tokenizer = load_tokenizer(Path(folder))
            _limit()
            codec = Codec.of(tokenizer, Path(folder))
            adapted = _tried(codec, Path(folder), FolderCard(**json.loads(card)))
            answer: dict[str, Any] = {"adapted": adapted}
        except InputError as fault:
            answer = {"found": fault.found, "expected": fault.expected, "remedy": fault.remedy}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
    # To take torch down costs a second, which would count against the time of the texts.
    os._exit(0)
