"""ARC-AGI-1 evaluation tasks that are not new to this repository, so that a run can mark them."""

from __future__ import annotations

from collections.abc import Collection

TUNING_TASKS = frozenset(
    """
    00576224 00dbd492 03560426 0bb8deee 0d87d2a6 140c817e 184a9768 19bb5feb 1d0a4b61 1d398264
    212895b5 25094a63 2753e76c 27f8ce4f 29700607 2c0b0aff 2f0c5170 3391f8c0 3b4c2228 3ed85e70
    3f23242b 414297c0 423a55dc 4364c1c4 4b6b68e5 54db823b 575b1a71 5783df64 58743b76 58e15b12
    59341089 67c52801 712bf12e 72207abc 759f3fd3 770cc55f 81c0276b 88207623 8a371977 8e2edd66
    94be5b80 96a8c0cd 9772c176 99306f82 9b2a60aa 9ddd00f0 a04b2602 a3f84088 ac3e2b04 ad7e01d0
    b0f4d537 b4a43f3b b7999b51 b7f8a4d8 bbb1b8b6 bcb3040b bd14c3bf c87289bb ca8de6ea cb227835
    d017b73f d282b262 d2acf2cb d37a1ef5 d47aa2ff d492a647 d4c90558 da2b0fe3 df8cc377 e0fb7511
    e57337a4 e5790162 e69241bd e872b94a f0df5ff0 f21745ec f823c43c f83cb3f6 f9a67cb5 fb791726
    """.split()  # noqa: SIM905 (80 lines of one id each would be read by nobody)
)
"""The 80 tasks (dev80) on which learning rates, thresholds and functions of the DSL were chosen.
Nothing was trained on them."""

REPEATED_TASKS = frozenset({"070dd51e", "50a16a69"})
"""Tasks whose demonstrations ARC-AGI-1 itself repeats in training tasks."""


def remark(task_id: str) -> str:
    """What to say beside a task; empty for one that is new.

    >>> remark("070dd51e"), remark("00000000")
    ('repeated in training', '')
    """
    if task_id in TUNING_TASKS:
        return "tuning task"
    return "repeated in training" if task_id in REPEATED_TASKS else ""


def how_new(task_ids: Collection[str]) -> str:
    """What to say of a set of evaluation tasks before anything is solved.

    >>> how_new(["00576224", "00000000"])
    'nothing in this appliance was trained or tuned on these tasks, but for 1: the tuning tasks, \
marked, on which settings were chosen'
    """
    parts = ["nothing in this appliance was trained or tuned on these tasks"]
    if tuning := len(TUNING_TASKS.intersection(task_ids)):
        parts.append(f"but for {tuning}: the tuning tasks, marked, on which settings were chosen")
    if repeated := sorted(REPEATED_TASKS.intersection(task_ids)):
        parts.append(f"and training tasks repeat demonstrations of {', '.join(repeated)}")
    return ", ".join(parts)


def tuning_part(solved: Collection[str], task_ids: Collection[str]) -> str:
    """How many of the solved ones are tuning tasks; empty where no task is one.

    >>> tuning_part(["00576224", "00000000"], ["00576224", "00dbd492", "00000000"])
    ', 1 of them among the 2 tuning tasks'
    """
    tuning = TUNING_TASKS.intersection(task_ids)
    if not tuning:
        return ""
    words = "tuning task" if len(tuning) == 1 else "tuning tasks"
    return f", {len(tuning.intersection(solved))} of them among the {len(tuning)} {words}"
