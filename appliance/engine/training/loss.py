"""The loss that all training shares: cross-entropy on the answer tokens of packed rows.

It is the same for every trainer, unsloth's included: its own fused loss is not used.

Imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from appliance.engine.training.cross_entropy import cross_entropy
from appliance.engine.training.packing import IGNORED, Rows
from appliance.sizing.costs.setups import loss_chunk_rows

if TYPE_CHECKING:
    import torch


def answer_loss(model: Any, rows: Rows, *, device: torch.device) -> torch.Tensor:
    """Mean negative log-likelihood in nats over the labelled positions, a scalar in float32; 0
    without any.

    The head is applied to those positions alone, chunk by chunk, so that logits take a bounded
    amount of memory.
    """
    import torch

    labels = torch.from_numpy(rows.labels).to(device)
    hidden = hidden_states(model, rows, device=device)
    wanted = labels != IGNORED

    return cross_entropy(
        model.get_output_embeddings(),
        hidden[wanted],
        labels[wanted],
        chunk_rows=loss_chunk_rows(model.config.vocab_size),
    )


def hidden_states(model: Any, rows: Rows, *, device: torch.device) -> torch.Tensor:
    """What the model makes of packed rows before its head is applied, (B, T, H)."""
    import torch

    decoder = model.get_decoder()
    read: torch.Tensor = decoder(
        input_ids=torch.from_numpy(rows.ids).to(device),
        position_ids=torch.from_numpy(rows.positions).to(device),
        use_cache=False,
        **_borders(decoder, rows),
    ).last_hidden_state
    return read


def _borders(decoder: Any, rows: Rows) -> dict[str, torch.Tensor]:
    """For unsloth's attention on CUDA: the lengths of the sequences in a single row.

    It does not look for borders in the positions, and without lengths it cuts off a row that is
    longer than the longest sequence.
    """
    import torch

    if len(rows.ids) > 1 or not type(decoder).forward.__module__.startswith("unsloth."):
        return {}

    starts = np.flatnonzero(rows.positions[0] == 0)
    lengths = np.diff(starts, append=rows.positions.shape[1]).astype(np.int32)
    return {"packed_seq_lengths": torch.from_numpy(lengths)}
