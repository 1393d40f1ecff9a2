"""Every answer that the model holds likelier than a threshold, with its exact probability.

The search that ARChitects (2024) and NVARC (2025) sample with. Theirs goes depth first; this one
lets all beginnings of answers grow by a token at a time, so that they share a batch, and visits the
same ones. A text is never likelier than its beginning, so no answer above the threshold is missed.
Beginnings of one length exclude each other, so at most 1 / threshold of them are above it.

Where memory holds no more rows the least likely beginnings wait, and are read again later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from appliance.clock import Deadline
from appliance.engine.base import Completion, Request
from appliance.engine.sampling.batches import Batch, padded
from appliance.engine.sampling.findings import Beginning, Findings
from appliance.engine.sampling.kv_cache import growing_cache

ROOM_SHARE = 2
"""A batch begins with this part (1 / n) of the rows that memory holds: they become more."""


class ThresholdSearch:
    """The search for the answers to those requests that have a threshold."""

    def __init__(
        self,
        model: Any,
        requests: Sequence[Request],
        *,
        pad_id: int,
        stop_ids: tuple[int, ...],
        batch_tokens: int,
    ) -> None:
        """model: one that fills a cache of Transformers. batch_tokens: of all rows of a batch,
        prompts included."""
        self._model = model
        self._requests = requests
        self._pad_id = pad_id
        self._batch_tokens = batch_tokens
        self._findings = Findings(requests, stop_ids)
        self._waiting = self._findings.beginnings()

    def run(self, deadline: Deadline) -> Iterator[list[Completion]]:
        """The completions of each request, once all of them are known.

        At the deadline come those that are found by then, marked as not the last ones.
        """
        while self._waiting and not deadline.is_past():
            self._grow(self._begun(), deadline)
            yield self._findings.ended(beginning.index for beginning in self._waiting)

        cut = self._findings.cut_off()
        if cut:
            yield cut

    def _begun(self) -> list[Beginning]:
        """Those that wait and go together, the first one among them; they wait no more."""
        batch, left = Batch(self._batch_tokens // ROOM_SHARE), []
        for number, beginning in enumerate(self._waiting):
            if not batch.takes(number, beginning.rest_of(self._requests[beginning.index])):
                left.append(beginning)

        begun = [self._waiting[number] for number in batch.rows]
        self._waiting = left
        return begun

    def _grow(self, rows: list[Beginning], deadline: Deadline) -> None:
        """Let these grow until they are answers or below the threshold, or wait for memory."""
        import torch

        device = next(self._model.parameters()).device
        prompts = [self._requests[row.index].prompt_ids + row.ids for row in rows]
        ids, mask = padded(prompts, pad_id=self._pad_id, device=device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)  # padding on the left does not count
        cache = growing_cache(self._model.config)

        with torch.inference_mode():
            while True:
                logits = self._model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                ).logits[:, -1]

                if deadline.is_past():
                    self._waiting += rows  # so that their requests are known to be cut off
                    return
                parents, children = self._children(rows, logits)
                parents, rows = self._kept(parents, children, width=mask.shape[1] + 1)
                if not rows:
                    return

                places = torch.tensor(parents, device=device)
                cache.batch_select_indices(places)
                mask = torch.nn.functional.pad(mask[places], (0, 1), value=1)
                positions = mask.sum(-1, keepdim=True) - 1
                ids = torch.tensor([row.ids[-1:] for row in rows], device=device)

    def _children(
        self, rows: Sequence[Beginning], logits: Any
    ) -> tuple[list[int], list[Beginning]]:
        """The longer beginnings, each with the row of its parent; answers are noted.

        logits: of the token after each row, (B, V).
        """
        import torch

        for row in rows:
            self._findings.count(row.index)
        device = logits.device
        so_far = torch.tensor([row.logprob for row in rows], dtype=torch.double, device=device)
        floors = [self._findings.floor(row.index) for row in rows]
        floor = torch.tensor(floors, dtype=torch.double, device=device)

        logprobs = logits.float().log_softmax(-1).double() + so_far[:, None]
        likely = (logprobs >= floor[:, None]).nonzero()
        values = logprobs[likely[:, 0], likely[:, 1]].tolist()

        parents, children = [], []
        for (row, token), logprob in zip(likely.tolist(), values, strict=True):
            child = self._findings.longer(rows[row], token, logprob)
            if child is not None:
                parents.append(row)
                children.append(child)
        return parents, children

    def _kept(
        self, parents: list[int], children: list[Beginning], *, width: int
    ) -> tuple[list[int], list[Beginning]]:
        """Those that grow on at once, in an order that moves few rows of the cache.

        width: tokens of a row. The least likely wait where there are too many for memory. Of a
        request whose tokens are spent the likeliest one is left, or none if it has an answer.
        """
        findings = self._findings
        going = {child.index for child in children}
        closed = {
            index for index in going if findings.is_spent(index) and findings.has_answer(index)
        }

        chosen: list[int] = []
        for i in sorted(range(len(children)), key=lambda i: -children[i].logprob):
            index = children[i].index
            if index not in closed:
                chosen.append(i)
            if findings.is_spent(index):
                closed.add(index)
        self._waiting = [b for b in self._waiting if b.index not in closed]

        room = max(1, self._batch_tokens // width)
        self._waiting += [children[i] for i in chosen[room:]]
        chosen = sorted(chosen[:room])
        order = in_place([parents[i] for i in chosen])
        return [parents[chosen[k]] for k in order], [children[chosen[k]] for k in order]


def in_place(parents: Sequence[int]) -> list[int]:
    """An order of the children in which as many as can be stand in the row of their parent.

    >>> in_place([0, 0, 2])
    [0, 1, 2]
    >>> in_place([2, 1])
    [0, 1]
    """
    places: dict[int, int] = {}
    for child, parent in enumerate(parents):
        if parent < len(parents):
            places.setdefault(parent, child)

    at_home = set(places.values())
    others = iter([child for child in range(len(parents)) if child not in at_home])
    return [places[row] if row in places else next(others) for row in range(len(parents))]
