"""Whether an adapter is really on the model that PEFT gave back. Imports torch and peft inside.

PEFT's own report is read: it leaves out weights that have no place, and starts slots without
weights at zero, with a warning at most.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.engine.adapter.examine import WEIGHTS_FILE
from appliance.errors import InputError
from appliance.names import a_few

NUM_PROBE_TOKENS = 32
"""Ids, spread over the whole vocabulary, whose logits are looked at after loading."""


def put_on(adapted: Any, folder: Path) -> None:
    """Write the folder's weights into the slots of a PeftModel that was made for them.

    Raises InputError when a weight has no slot, or a slot no weight.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    report = set_peft_model_state_dict(adapted, load_file(folder / WEIGHTS_FILE))

    # All weights of the base are "missing" as well, since the file has only the adapter.
    empty = [name for name in report.missing_keys if "lora_" in name and ".default" in name]
    for names, words in ((report.unexpected_keys, "no place in the model"), (empty, "no weights")):
        if names:
            raise InputError(
                f"adapter {folder}: {len(names)} with {words}: {a_few(names, 3)}",
                expected="a weight for every slot, and a slot for every weight",
                remedy="pass the base that the adapter was trained on",
            )


def check_effect(adapted: Any, folder: Path) -> None:
    """Raises InputError when the adapter changes no logit, or makes them infinite or NaN."""
    import torch

    plain = adapted.get_base_model()
    device = next(plain.parameters()).device
    last_id = plain.get_input_embeddings().weight.shape[0] - 1
    spread = torch.linspace(0, last_id, NUM_PROBE_TOKENS, device=device).long()
    tokens = torch.tensor(_trained_tokens(adapted), dtype=torch.long, device=device)
    probe = torch.cat([spread, tokens])[None]

    with torch.inference_mode():
        logits = adapted(input_ids=probe, use_cache=False).logits
        with adapted.disable_adapter():
            without = adapted(input_ids=probe, use_cache=False).logits
        if not bool(torch.isfinite(logits).all()):
            raise InputError(
                f"adapter {folder} makes logits that are not finite",
                expected="finite logits",
                remedy="choose another dtype (--set model.dtype=float32), or an earlier checkpoint",
            )
        if torch.equal(logits, without):
            raise InputError(
                f"adapter {folder} changes nothing: the model answers as without it",
                expected="an adapter that was trained",
                remedy="leave it away, or pass the one that the training saved at its end",
            )


def _trained_tokens(adapted: Any) -> list[int]:
    """Ids whose vectors alone were trained: other ids may not show the adapter."""
    indices = getattr(adapted.peft_config["default"], "trainable_token_indices", None) or []
    lists = indices.values() if isinstance(indices, dict) else [indices]
    return [token for tokens in lists for token in tokens][:NUM_PROBE_TOKENS]
