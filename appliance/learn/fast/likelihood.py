"""How likely the right answers of tasks are under a model in training: no sampling, one pass.

A token that is the most likely one at each place of an answer is what greedy sampling would write.
So "exact" counts the answers that greedy sampling gets right, at the cost of reading them once.
Imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from appliance.arc.source import load_tasks
from appliance.engine.training.packing import TokenSequence
from appliance.errors import InputError
from appliance.learn.data.styles import TinyWriter
from appliance.learn.fast.batches import HostPass, pass_of, row_lengths
from appliance.learn.fast.decoder import Decoder
from appliance.learn.fast.trainer import on_device
from appliance.models.vocabularies import VOCABULARIES
from appliance.seeds import generator


@dataclass(frozen=True)
class AnswerScore:
    """What a model makes of one right answer."""

    nats: float  # negative log-likelihood of the whole answer
    num_tokens: int  # of the answer: cells, row ends and the end mark
    is_exact: bool  # whether greedy sampling would write it


def answers_of(source: str, writer: TinyWriter, *, max_tokens: int) -> list[TokenSequence]:
    """One document for each test input: the demonstrations, the test input, and its answer, the
    only target. Without as many of the last demonstrations as needed to fit; those that do not fit
    with one are left out.

    Raises InputError for tasks without solutions, or none of which fits.
    """
    loaded = load_tasks(source)
    rng = generator("likelihood")  # for programs, of which there are none
    documents = []
    for task in loaded:
        shown = [(p.input, p.output) for p in task.train]
        answers = loaded.solutions.get(task.task_id)
        if not answers:
            raise InputError(
                f"{source}: task {task.task_id} has no solution",
                expected="tasks with known answers",
                remedy="give a folder or file with solutions beside it",
            )

        for question in zip(task.test, answers, strict=True):
            for num_shown in range(len(shown), 0, -1):
                pairs = [*shown[:num_shown], question]
                whole = writer.write(pairs, "", max_tokens=1 << 20, rng=rng)
                if whole is not None and len(whole) <= max_tokens:
                    documents.append(_last_answer_only(whole, pairs[-1][1].shape))
                    break

    if not documents:
        raise InputError(
            f"{source}: no answer fits {max_tokens} tokens with one demonstration",
            expected="tasks that fit data.max_seq_tokens",
            remedy="raise data.max_seq_tokens, or judge by smaller tasks",
        )
    return documents


def _last_answer_only(document: TokenSequence, shape: tuple[int, ...]) -> TokenSequence:
    num = shape[0] * (shape[1] + 1) + 1
    is_target = np.zeros_like(document.is_target)
    is_target[-num:] = True
    return TokenSequence(document.ids, is_target)


@dataclass(frozen=True)
class Examination:
    """Tasks with known answers, to be read again and again while a model is trained."""

    documents: Sequence[TokenSequence]
    pass_tokens: int  # as in training, so that nothing is compiled anew
    pad_id: int

    @classmethod
    def of(
        cls, source: str, style: str, *, max_tokens: int, pass_tokens: int, pad_id: int
    ) -> Examination:
        """The tasks of a source, as documents of a style of ours."""
        writer = TinyWriter(VOCABULARIES[style])
        return cls(answers_of(source, writer, max_tokens=max_tokens), pass_tokens, pad_id)

    def figures(self, decoder: Decoder) -> dict[str, float]:
        """Means over answers: nats an answer, nats a token of all answers, share exact."""
        scores = self.scores(decoder)
        return {
            "nats_per_answer": float(np.mean([s.nats for s in scores])),
            "nats_per_token": sum(s.nats for s in scores) / sum(s.num_tokens for s in scores),
            "exact": float(np.mean([s.is_exact for s in scores])),
        }

    def scores(self, decoder: Decoder) -> list[AnswerScore]:
        """A score for each document, in their order."""
        lengths = np.array(row_lengths(self.pass_tokens, max(map(len, self.documents))))
        scores: dict[int, AnswerScore] = {}

        for row_tokens in lengths.tolist():
            shorter = lengths[lengths < row_tokens].max(initial=0)
            members = [i for i, d in enumerate(self.documents) if shorter < len(d) <= row_tokens]
            num_rows = self.pass_tokens // row_tokens
            for first in range(0, len(members), num_rows):
                chosen = members[first : first + num_rows]
                documents = [self.documents[i] for i in chosen]
                host_pass = pass_of(documents, row_tokens, self.pad_id, num_rows)
                scores.update(zip(chosen, _score_rows(decoder, host_pass), strict=False))

        return [scores[i] for i in range(len(self.documents))]


def _score_rows(decoder: Decoder, host_pass: HostPass) -> list[AnswerScore]:
    """A score for each row of a pass."""
    # Not under no_grad: for that the pieces would be compiled once more.
    nats, is_best = decoder.judged(on_device(host_pass, decoder.weights.parts.device))
    rows = (-1, host_pass.row_tokens)
    nats_of = nats.detach().cpu().numpy().reshape(rows)
    best_of = is_best.cpu().numpy().reshape(rows)

    # What is judged at a place is the prediction of the token after it.
    is_target = np.zeros(nats_of.shape, dtype=np.bool_)
    is_target[:, :-1] = host_pass.is_target.reshape(rows)[:, 1:]
    return [
        AnswerScore(float(n.sum()), int(t.sum()), bool(b[t].all()))
        for n, b, t in zip(nats_of, best_of, is_target, strict=True)
    ]
