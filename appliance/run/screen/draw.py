"""The view of a run as lines of a terminal: 80 x 24 hold it, and a larger one shows more.

Letters carry the meaning and colours repeat it, so that nothing is lost without them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from appliance.clock import format_duration
from appliance.foreign_text import as_shown
from appliance.machine.gpu import GIB
from appliance.names import a_few
from appliance.record.pulse import Pulse, WorkerPulse
from appliance.run.screen.draw_tasks import mosaic_of, tasks_of
from appliance.run.screen.lines import joined, line_of, shortened
from appliance.run.screen.view import PassView, RunView

if TYPE_CHECKING:
    from rich.text import Text

LEAST_WIDTH, LEAST_HEIGHT = 40, 10
"""A smaller terminal shows what fits of this."""

FAULT_LINES = 3
"""Of why the journal cannot be read."""

ROOMY = 32
"""A terminal with so many lines has blank ones between the parts."""

FULL, PART, EMPTY = "\u2501", "\u2578", "\u2500"


def frame(
    view: RunView,
    now_s: float,
    size: tuple[int, int],
    *,
    keys: str,
    page: int = 0,
    num_unread: int = 0,
) -> list[Text]:
    """As many lines as the terminal has, none longer than it is wide.

    size: columns and lines. keys: what may be pressed, for people. page: of the tasks, where they
    do not fit; after the last comes the first. num_unread: outcomes in the journal that are not in
    the view yet.
    """
    width, height = max(size[0], LEAST_WIDTH), max(size[1], LEAST_HEIGHT)
    title = _title(view, now_s, width)
    if view.pulse is not None and view.is_silent(now_s):
        now_s = view.pulse.at_s  # how it was when it was last heard of
    head = [title, *_bars(view, now_s, width), *_score(view, width, num_unread)]
    foot = [line_of(keys, "dim")]
    gap = [line_of("")] if height >= ROOMY else []

    left = height - len(head) - len(foot) - 4 * len(gap)
    workers = _workers(view, now_s, width, most=max(6, left // 3))
    left -= len(workers)
    mosaic = mosaic_of(view, width)
    if len(mosaic) > left // 2:
        mosaic = []
    left -= len(mosaic)
    messages = _messages(view, most=max(1, left // 5) if left > 4 else 0)
    left -= len(messages)
    tasks = tasks_of(view, width, left, page) if left > 1 else []

    blank = [line_of("")] * max(0, left - len(tasks))
    lines = [*head, *gap, *workers, *gap, *mosaic, *gap, *tasks, *blank, *gap, *messages]
    lines = [*lines[: height - 1], *foot][: max(1, size[1])]
    for line in lines:
        line.truncate(size[0], overflow="ellipsis")
    return lines


def _title(view: RunView, now_s: float, width: int) -> Text:
    facts = view.facts
    name = facts.name
    if len(name) > width // 3:  # a path: its end tells more
        name = "\u2026" + name[1 - width // 3 :]
    about = f"{len(view.tasks)} tasks of {facts.source}" if facts.source else "no tasks yet"
    about += f", {facts.model}" if facts.model else ""
    state, style = _state(view, now_s)

    about = shortened(about, width - len(state) - len(name) - 5)
    blank = " " * max(1, width - len(name) - len(about) - len(state) - 2)
    return joined((name, "bold"), ("  " + about, ""), (blank, ""), (state, style))


def _state(view: RunView, now_s: float) -> tuple[str, str]:
    if view.fault:
        return "cannot be read", "bold red"
    if view.pulse is None:
        return "no pulse", "yellow"
    if view.is_over:
        return "over", "bold green"
    if view.is_silent(now_s):
        return f"silent for {format_duration(now_s - view.pulse.at_s)}", "bold red"
    return "running", "bold green"


def _bars(view: RunView, now_s: float, width: int) -> list[Text]:
    rows = [_time_bar(view, now_s, width)] if view.pulse else []
    time_s = view.pulse.deadline_s - now_s if view.pulse else math.inf
    return rows + [_pass_bar(found, width, time_s) for found in view.passes(now_s)]


def _time_bar(view: RunView, now_s: float, width: int) -> Text:
    pulse = view.pulse
    assert pulse is not None
    until_s = pulse.at_s if view.is_over else now_s
    took_s, whole_s = until_s - pulse.start_s, max(1e-9, pulse.deadline_s - pulse.start_s)
    told = f"of {format_duration(whole_s)}"
    left = view.left_s(now_s)
    if not view.is_over and left is not None:
        seconds, is_most = left
        told = f"{format_duration(seconds)} left" + (" at most" if is_most else "")
    share = min(1.0, max(0.0, took_s / whole_s))
    return _bar("time", share, format_duration(max(0.0, took_s)), told, width, "blue")


def _pass_bar(found: PassView, width: int, time_s: float) -> Text:
    """time_s: that the run has left."""
    told = {"waiting": "waiting", "over": f"took {format_duration(found.took_s)}"}.get(found.state)
    if found.state == "over" and not found.num_done:
        told = "left out"
    elif found.state == "over" and not found.took_s:
        told = "done before this start"
    if found.state == "paused":
        told = f"{format_duration(found.took_s)}, the rest later"
    if told is None:
        told = f"{format_duration(found.took_s)} so far"
        if found.left_s is not None and found.left_s > time_s:
            told = "more than the time left"
        elif found.left_s is not None:
            told = f"about {format_duration(found.left_s)} left"
    share = found.num_done / found.num_tasks if found.num_tasks else 0.0
    colour = {"over": "green", "running": "cyan"}.get(found.state, "dim")
    count = f"{found.num_done}/{found.num_tasks}"
    return _bar(found.title, share, count, told, width, colour)


def _bar(title: str, share: float, count: str, told: str, width: int, colour: str) -> Text:
    room = max(4, width - 11 - 13 - 26)
    halves = round(2 * share * room)
    full, part = FULL * (halves // 2), PART * (halves % 2)
    empty = EMPTY * (room - len(full) - len(part))
    return joined(
        (f"{title:10} ", ""),
        (full + part, colour),
        (empty, "dim"),
        (f" {count:>12}", ""),
        (f"  {told}", "dim"),
    )


def _score(view: RunView, width: int, num_unread: int) -> list[Text]:
    """The score so far and what the run expects of it; cores and memory."""
    num_tasks = len(view.tasks)
    parts: list[tuple[str, str]] = []
    if view.num_solved is not None:
        share = f" ({view.num_solved / num_tasks:.1%})" if num_tasks else ""
        parts.append((f"solved {view.num_solved} of {num_tasks}{share}, ", "bold green"))
    parts.append((f"answered {view.num_answered} of {num_tasks}", ""))
    if view.num_answered:
        parts.append((f", about {view.expected:.0f} right by its own estimate", "dim"))
    if num_unread:
        parts.append((f"  (reading: {num_unread} to go)", "yellow"))

    lines = [joined(*parts)]
    if view.fault:
        lines += [line_of(line, "red") for line in wrap(as_shown(view.fault), width)[:FAULT_LINES]]
    elif view.pulse is not None and view.pulse.host is not None:
        lines.append(_machine(view.pulse))
    return lines


def _machine(pulse: Pulse) -> Text:
    host = pulse.host
    assert host is not None
    told = f"cores {host.cpu_share:.0%} busy, memory {_gib(host.used_bytes, host.total_bytes)}"
    cards = [w.card for w in pulse.workers if w.card is not None]
    shares = [c.share for c in cards if c.share is not None]
    if shares:
        told += f", cards {sum(shares) / len(shares):.0%} busy"
    return line_of(told, "dim")


def _gib(used: float, total: float) -> str:
    return f"{used / GIB:.1f} of {total / GIB:.1f} GiB"


def _workers(view: RunView, now_s: float, width: int, *, most: int) -> list[Text]:
    """Those with a device first, then those at work. A search that is over has none any more."""
    workers = view.pulse.workers if view.pulse else ()
    shown = sorted(
        (w for w in workers if (w.kind, w.state) != ("search", "gone")),
        key=lambda w: (w.kind != "device", w.state in ("gone", "idle")),
    )
    is_all = len(shown) <= most - 1
    rows = [_worker(w, now_s, width) for w in (shown if is_all else shown[: most - 2])]
    if not is_all:
        rest = Counter(w.doing for w in shown[most - 2 :])
        told = ", ".join(f"{count} {what}" for what, count in rest.most_common())
        rows.append(line_of(f"and {rest.total()} more: {told}", "dim"))
    return (
        [line_of(f"{'worker':10} {'jobs':>5} {'since':>10}  doing", "dim"), *rows] if rows else []
    )


def _worker(worker: WorkerPulse, now_s: float, width: int) -> Text:
    since = ""
    if worker.since_s and worker.state in ("busy", "starting"):
        since = format_duration(max(0.0, now_s - worker.since_s))
    what = f"{worker.doing} {_few(worker.task_ids)}".strip()
    card = ""
    if worker.card is not None:
        card = _gib(worker.card.used_bytes, worker.card.total_bytes)
        if worker.card.share is not None:
            card = f"{worker.card.share:.0%}  {card}"
    style = {"gone": "dim", "idle": "dim", "starting": "yellow"}.get(worker.state, "")
    left = f"{worker.name:10} {worker.num_done:>5} {since:>10}  {what}"
    room = width - len(card) - (1 if card else 0)
    return joined((shortened(left, room).ljust(room), style), (f" {card}" if card else "", "dim"))


def _few(task_ids: Sequence[str]) -> str:
    if len(task_ids) <= 1:
        return "".join(task_ids)
    return f"{len(task_ids)} tasks ({a_few(task_ids, 2)})"


def _messages(view: RunView, *, most: int) -> list[Text]:
    latest = list(view.events)[-most:] if most else []
    return [line_of(text, "dim") for _, text in latest]
