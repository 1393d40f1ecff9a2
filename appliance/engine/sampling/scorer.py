"""The probability of given answers under the trainer's model.

One reading of each prompt serves all answers to it. vLLM has log-probabilities of prompts too, but
holds them for every token of the vocabulary and runs out of memory on long prompts. Here the head
is applied to answer tokens alone, a block at a time. Imports torch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from appliance.clock import Deadline
from appliance.engine.base import ScoreRequest
from appliance.engine.device_faults import is_out_of_memory, release_memory
from appliance.engine.training.loss import hidden_states
from appliance.engine.training.packing import TokenSequence, fill_rows
from appliance.errors import OutOfMemory

LOGITS_PER_BLOCK = 1 << 26
"""Logits held at a time: 256 MiB in float32, however large vocabulary and answers are."""

ReadAnswers = Callable[..., Iterator[list[float]]]
"""From a model, a request and groups of its answers to the log-probabilities of each group."""


@dataclass(frozen=True)
class ModelScorer:
    """A Scorer on a loaded model."""

    model: Any
    read: ReadAnswers  # read_prefix_once or read_packed, below
    pad_id: int
    batch_tokens: int  # upper bound for (prompt + answer) x answers at once

    def score(
        self, requests: Sequence[ScoreRequest], *, deadline: Deadline
    ) -> Iterator[tuple[float, ...]]:
        import torch

        for request in requests:
            if deadline.is_past():
                return

            groups = list(_groups(request, self.batch_tokens))
            with _within_memory(request), torch.inference_mode():
                parts = list(self.read(self.model, request, groups, pad_id=self.pad_id))

            # Groups go by length; back to the order in which the answers were given.
            order = [i for group in groups for i in group]
            values = [value for part in parts for value in part]
            yield tuple(value for _, value in sorted(zip(order, values, strict=True)))


def read_prefix_once(
    model: Any, request: ScoreRequest, groups: list[list[int]], *, pad_id: int
) -> Iterator[list[float]]:
    """Read the prompt once; its keys and values are repeated over the answers of each group."""
    import torch

    device = next(model.parameters()).device
    prompt = torch.tensor([request.prompt_ids], device=device)
    read = model.get_decoder()(input_ids=prompt, use_cache=True)

    for group in groups:
        answers = [request.answers[i] for i in group]
        width = max(len(a) for a in answers)
        ids = torch.full((len(group), width), pad_id, device=device)
        for row, answer in enumerate(answers):
            ids[row, : len(answer)] = torch.tensor(answer, device=device)

        # The state before an answer token predicts it; the first one follows the prompt.
        hidden = read.last_hidden_state[:, -1:].expand(len(group), -1, -1)
        if width > 1:
            cache = copy.deepcopy(read.past_key_values)
            cache.batch_repeat_interleave(len(group))
            # No mask, because padding stands at the right, where no answer token sees it.
            later = model.get_decoder()(
                input_ids=ids[:, :-1], past_key_values=cache, use_cache=True
            )
            hidden = torch.cat([hidden, later.last_hidden_state], dim=1)

        lengths = torch.tensor([len(a) for a in answers], device=device)
        is_real = torch.arange(width, device=device)[None] < lengths[:, None]
        logprobs = torch.zeros(ids.shape, device=device)
        logprobs[is_real] = _logprobs(model, hidden[is_real], ids[is_real])
        yield logprobs.double().sum(1).tolist()


def read_packed(
    model: Any, request: ScoreRequest, groups: list[list[int]], *, pad_id: int
) -> Iterator[list[float]]:
    """Read prompt and answer together, a group in one flat row, as in training.

    For models whose kernels take no cache of several tokens (unsloth on CUDA).
    """
    import torch

    device = next(model.parameters()).device
    num_prompt = len(request.prompt_ids)

    for group in groups:
        answers = [request.answers[i] for i in group]
        sequences = []
        for answer in answers:
            ids = np.array([*request.prompt_ids, *answer], dtype=np.int32)
            sequences.append(TokenSequence(ids, np.arange(len(ids)) >= num_prompt))
        plan = [list(range(len(sequences)))]
        rows = fill_rows(sequences, plan, row_tokens=sum(map(len, sequences)), pad_id=pad_id)

        labels = torch.from_numpy(rows.labels).to(device)
        hidden = hidden_states(model, rows, device=device)
        is_answer = labels >= 0
        logprobs = _logprobs(model, hidden[is_answer], labels[is_answer]).double()
        yield [float(part.sum()) for part in logprobs.split([len(answer) for answer in answers])]


def _groups(request: ScoreRequest, batch_tokens: int) -> Iterator[list[int]]:
    """Indices of answers, shortest first, as many as keep their rows together within the bound."""
    group: list[int] = []
    for i in sorted(range(len(request.answers)), key=lambda i: len(request.answers[i])):
        row_tokens = len(request.prompt_ids) + len(request.answers[i])
        if group and row_tokens * (len(group) + 1) > batch_tokens:
            yield group
            group = []
        group.append(i)

    if group:
        yield group


def _logprobs(model: Any, hidden_N_H: Any, ids_N: Any) -> Any:
    """Log-probabilities of these ids after these hidden states, in float32, (N,)."""
    import torch

    head = model.get_output_embeddings()
    block = max(1, LOGITS_PER_BLOCK // model.config.vocab_size)
    parts = [
        head(hidden).float().log_softmax(-1).gather(1, ids[:, None])[:, 0]
        for hidden, ids in zip(hidden_N_H.split(block), ids_N.split(block), strict=True)
    ]
    return torch.cat(parts)


@contextmanager
def _within_memory(request: ScoreRequest) -> Iterator[None]:
    """Turn a fault for want of memory into OutOfMemory, and give back what it held."""
    try:
        yield
    except (RuntimeError, MemoryError) as fault:
        if not is_out_of_memory(fault):
            raise
        release_memory(fault)
        raise OutOfMemory(
            f"no room to score answers to a prompt of {len(request.prompt_ids)} tokens"
        ) from fault
