"""What is said of a worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FORMS = {
    "style": "style {}",
    "max_seq_tokens": "up to {:,} tokens",
    "engine": "sampled by {}",
    "torch": "torch {}",
}
"""How each fact but the number of parameters is told, in this order."""


def facts_text(facts: Mapping[str, Any]) -> str:
    """What a worker found when it had loaded its model, for people.

    >>> facts_text({"parameters": 7090944, "style": "grid-tokens-v1", "torch": "2.9.0"})
    '7.1 M parameters, style grid-tokens-v1, torch 2.9.0'
    """
    known = [form.format(facts[name]) for name, form in FORMS.items() if name in facts]
    if "parameters" in facts:
        known.insert(0, f"{_count(facts['parameters'])} parameters")
    others = [f"{name} {facts[name]}" for name in facts if name not in (*FORMS, "parameters")]
    return ", ".join([*known, *others]) or "nothing to say"


def _count(number: int) -> str:
    """Of parameters, with two digits or three: 7.1 M, 494 M, 7.6 B."""
    value, unit = (number / 1e9, "B") if number >= 1e9 else (number / 1e6, "M")
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"
