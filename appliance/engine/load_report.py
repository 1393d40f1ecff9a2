"""What Transformers reports of a loading: weights that were missing, unknown or of another shape.

It fills missing weights with random numbers and goes on, with no more than a warning. Here that is
an error, because a model with a random layer answers as if nothing were wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance.errors import InputError

_MOST_NAMED = 3
"""Names that a message lists before "and N more"."""


def refuse_incomplete(report: Mapping[str, Any], folder: Path) -> None:
    """Raises InputError unless the files held every weight of the model, and no other.

    report: what `from_pretrained` gives with output_loading_info. Tied weights do not count as
    missing in it.
    """
    parts = []
    for key, words in (
        ("missing_keys", "missing from the files"),
        ("unexpected_keys", "in the files and unknown to the model"),
        ("mismatched_keys", "of another shape than the model's"),
    ):
        # Mismatched ones come as (name, shape in the file, shape in the model).
        names = sorted(e if isinstance(e, str) else str(e[0]) for e in report.get(key) or ())
        if names:
            more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
            parts.append(f"{len(names)} weights {words} ({', '.join(names[:_MOST_NAMED])}{more})")
    parts += [str(message)[:200] for message in report.get("error_msgs") or ()]

    if parts:
        raise InputError(
            f"model folder {folder}: {'; '.join(parts)}",
            expected="exactly the weights that config.json describes",
            remedy="take weights and config.json from the same release, and download them whole",
        )


@contextmanager
def reports_of_loading() -> Iterator[list[Mapping[str, Any]]]:
    """The reports of the models that are loaded inside, for a library that loads them by itself.

    unsloth gives no report on. Every `from_pretrained` of Transformers ends in the function that is
    listened to here.
    """
    from transformers import PreTrainedModel

    reports: list[Mapping[str, Any]] = []
    inner = PreTrainedModel.__dict__["_finalize_model_loading"]

    def finalize(*given: Any, **named: Any) -> Any:
        found = inner.__func__(*given, **named)
        reports.append(found.to_dict())
        return found

    PreTrainedModel._finalize_model_loading = staticmethod(finalize)
    try:
        yield reports
    finally:
        PreTrainedModel._finalize_model_loading = inner
