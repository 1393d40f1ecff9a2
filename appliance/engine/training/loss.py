"""The loss that all training shares: cross-entropy on the answer tokens of packed rows.

Imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.engine.training.packing import IGNORED, Rows

if TYPE_CHECKING:
    import torch


def answer_loss(model: Any, rows: Rows, *, device: torch.device) -> torch.Tensor:
    """Mean negative log-likelihood in nats over the labelled positions, a scalar in float32.

    The head is applied to those positions alone, so the logits take memory for targets x
    vocabulary, not for all tokens x vocabulary.
    """
    import torch

    labels = torch.from_numpy(rows.labels).to(device)
    hidden = hidden_states(model, rows, device=device)
    wanted = labels != IGNORED

    logits = model.get_output_embeddings()(hidden[wanted])
    return torch.nn.functional.cross_entropy(logits.float(), labels[wanted])


def hidden_states(model: Any, rows: Rows, *, device: torch.device) -> torch.Tensor:
    """What the model makes of packed rows before its head is applied, (B, T, H)."""
    import torch

    read: torch.Tensor = model.get_decoder()(
        input_ids=torch.from_numpy(rows.ids).to(device),
        position_ids=torch.from_numpy(rows.positions).to(device),
        use_cache=False,
    ).last_hidden_state
    return read
