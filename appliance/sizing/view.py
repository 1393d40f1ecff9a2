"""A plan on the terminal: a table for each part, reasons beside values, memory as a bar."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from appliance.clock import format_duration
from appliance.config import Settings
from appliance.sizing.choice import Choice
from appliance.sizing.plan import AnyPlan, Plan, SamplePlan, SearchPlan, TrainPlan

_BAR_CELLS = 40
"""Characters of the memory bar."""


def print_plan(plan: AnyPlan, console: Console | None = None) -> None:
    """What `appliance plan` prints."""
    console = console or Console(highlight=False)
    console.print(Text(plan.machine.summary(), style="bold"))

    parts = [_run(plan), _train(plan), _sample(plan)] if isinstance(plan, Plan) else []
    if plan.search:
        parts.append(_search(plan.search, plan))
    for part in parts:
        console.print(part)
    for note in plan.notes:
        console.print(Text(f"! {note}", style="yellow"))


def plan_lines(plan: AnyPlan) -> list[str]:
    """What a run prints of its plan at its start: the values that differ between runs."""
    machine = plan.machine
    shown: dict[str, Choice[Any]] = {
        "machine": Choice(machine.summary(), f"GPUs found by {machine.gpu_source}")
    }
    if isinstance(plan, Plan):
        shown = {"model": plan.model} | shown | _shown_of_model(plan)
    if plan.search:
        search = plan.search
        shown |= {
            "search workers": search.workers,
            "search seconds": Choice(
                f"at most {search.seconds_per_task.value:g} CPU s a task",
                search.seconds_per_task.reason,
            ),
            "search first": Choice(
                "yes" if search.is_first.value else "no", search.is_first.reason
            ),
        }
    return [f"{name}: {choice.value} ({choice.reason})" for name, choice in shown.items()]


def _shown_of_model(plan: Plan) -> dict[str, Choice[Any]]:
    train, sample = plan.train, plan.sample
    need_gib = train.memory.memory_gib + train.memory.context_gib
    return {
        "workers": plan.workers,
        "threads": plan.threads,
        "dtype": plan.precision.dtype,
        "autocast": plan.precision.autocast,
        "quantization": plan.precision.quantization,
        "engine": sample.engine,
        "trainer": train.trainer,
        "max_seq_tokens": train.max_seq_tokens,
        "views": sample.views,
        "memory": Choice(f"{need_gib:.2f} GiB a worker in training", f"of {plan.room_gib:.1f} GiB"),
    }


def _run(plan: Plan) -> Panel:
    time = plan.time
    table = _table()
    _row(table, "model", plan.model)
    _row(table, "workers", plan.workers)
    _row(table, "threads", plan.threads)

    per_task = (
        f"each: quick pass {time.quick_s:.3g} s, training {time.train_s:.3g} s, "
        f"sampling {time.sample_s:.3g} s"
    )
    if time.search_s:
        per_task = f"search {format_duration(time.search_s)}, then {per_task}"
    left_s = time.budget_s - time.total_s
    if left_s >= 0.05 * time.budget_s:
        per_task += f"; {format_duration(left_s)} are left: {_spare(plan.settings)}"

    late = "" if time.is_in_time else " (past the budget)"
    total = f"{format_duration(time.total_s)} of {format_duration(time.budget_s)}{late}"
    table.add_row("time", total, f"{time.num_tasks} tasks; {per_task}")
    return Panel(table, title="run", title_align="left")


def _spare(settings: Settings) -> str:
    """What is done with the time that is left."""
    if settings.sample.predictions is not None:
        return "unused, for predictions are counted (sample.predictions)"
    if settings.run.rounds == 1:
        return "unused (run.rounds = 1)"

    most = settings.run.rounds
    until = "until all are" if most is None else f"at most {most} a task (run.rounds)"
    return (
        "further rounds for tasks whose vote is not settled, with other seeds, views and ranks "
        f"and more steps, {until}"
    )


def _train(plan: Plan) -> Panel:
    train = plan.train
    table = _table()
    for item in fields(TrainPlan):
        value = getattr(train, item.name)
        if isinstance(value, Choice):
            _row(table, item.name, value)

    table.add_row(
        "time per step",
        f"{train.seconds_per_step:.3g} s",
        f"at {train.max_seq_tokens.value} tokens; "
        f"{train.typical_seconds_per_step:.3g} s at the mean length",
    )

    title = "training" + ("" if train.fits else ": does not fit")
    return Panel(
        Group(table, _memory(plan)),
        title=title,
        title_align="left",
        border_style="" if train.fits else "red",
    )


def _memory(plan: Plan) -> Text:
    memory, room = plan.train.memory, plan.room_gib
    need = memory.memory_gib + memory.context_gib
    filled = min(_BAR_CELLS, round(_BAR_CELLS * need / max(room, 1e-9)))

    # Parts that would read 0.00 are left out.
    parts = ", ".join(f"{name} {gib:.2f}" for name, gib in memory.parts.items() if gib >= 0.005)
    bar = "█" * filled + "░" * (_BAR_CELLS - filled)
    return Text(
        f" {bar} {need:.2f} of {room:.2f} GiB ({parts})", style="" if plan.train.fits else "red"
    )


def _sample(plan: Plan) -> Panel:
    sample = plan.sample
    table = _table()
    for item in fields(SamplePlan):
        value = getattr(sample, item.name)
        if isinstance(value, Choice):
            _row(table, item.name, value)

    memory = sample.memory
    table.add_row(
        "cache",
        f"{memory.kv_tokens:,} tokens",
        f"{memory.kv_gib:.2f} GiB of {memory.memory_gib:.2f}, weights {memory.weights_gib:.2f}",
    )
    table.add_row(
        "rate",
        f"{sample.tokens_per_second:,.0f} tokens/s",
        "written by each worker; "
        f"prompts are read at {sample.prefill_tokens_per_second:,.0f} tokens/s",
    )

    title = "sampling" + ("" if sample.fits else ": does not fit")
    return Panel(table, title=title, title_align="left", border_style="" if sample.fits else "red")


def _search(search: SearchPlan, plan: AnyPlan) -> Panel:
    table = _table()
    for item in fields(SearchPlan):
        value = getattr(search, item.name)
        if isinstance(value, Choice):
            _row(table, item.name, value)

    time = plan.time if isinstance(plan, Plan) else plan
    total = f"{format_duration(search.total_s)} of {format_duration(time.budget_s)}"
    table.add_row("time", total, f"{time.num_tasks} tasks at their usual cost")
    return Panel(table, title="search", title_align="left")


def _table() -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(style="dim")
    return table


def _row(table: Table, name: str, choice: Choice[object]) -> None:
    value = choice.value
    if isinstance(value, bool):
        value = "yes" if value else "no"
    table.add_row(name.replace("_", " "), str(value), choice.reason)
