"""What a person sees of a training."""

from __future__ import annotations

import json
import sys
from typing import Protocol

from appliance.clock import Clock, format_duration
from appliance.learn.training_loop import Figures, StepReport


class TrainingDisplay(Protocol):
    """What every display can do."""

    def show(self, line: StepReport) -> None:
        """Progress of the training."""

    def show_figures(self, step: int, figures: Figures) -> None:
        """Scores of the model after that step."""

    def close(self) -> None: ...


def make_display(
    name: str | TrainingDisplay | None, *, max_steps: int, clock: Clock
) -> TrainingDisplay:
    """The named display; by default rich on a terminal and plain elsewhere. One that is given
    stays."""
    if name is None:
        name = "rich" if sys.stdout.isatty() else "plain"

    if not isinstance(name, str):
        return name
    if name == "rich":
        return RichDisplay(max_steps, clock)
    return {"plain": PlainDisplay, "json": JsonDisplay, "none": NoDisplay}[name](max_steps)


class NoDisplay:
    def __init__(self, max_steps: int) -> None:
        self._max_steps = max_steps

    def show(self, line: StepReport) -> None:
        pass

    def show_figures(self, step: int, figures: Figures) -> None:
        pass

    def close(self) -> None:
        pass


class PlainDisplay(NoDisplay):
    def show(self, line: StepReport) -> None:
        print(_line(line, self._max_steps), flush=True)

    def show_figures(self, step: int, figures: Figures) -> None:
        print(f"step {step}  " + _figures(figures), flush=True)


class JsonDisplay(NoDisplay):
    def show(self, line: StepReport) -> None:
        print(json.dumps(line.__dict__), flush=True)

    def show_figures(self, step: int, figures: Figures) -> None:
        print(json.dumps({"step": step, "evaluation": figures}), flush=True)


class RichDisplay(NoDisplay):
    """A bar with loss, speed and time left; evaluations scroll by above it."""

    def __init__(self, max_steps: int, clock: Clock) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        super().__init__(max_steps)

        self._progress = Progress(
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[facts]}"),
            get_time=clock.now,
        )
        self._bar = self._progress.add_task("train", total=1.0, facts="")
        self._progress.start()

    def show(self, line: StepReport) -> None:
        facts = (
            f"step {line.step}  loss {line.loss:.4f}  {line.tokens_per_s:,.0f} tokens/s  "
            f"{_left(line)} left"
        )
        self._progress.update(self._bar, completed=line.share_done, facts=facts)

    def show_figures(self, step: int, figures: Figures) -> None:
        self._progress.console.print(
            f"step {step}  " + _figures(figures), highlight=False, markup=False
        )

    def close(self) -> None:
        self._progress.stop()


def _line(line: StepReport, max_steps: int) -> str:
    return (
        f"step {line.step}/{max_steps}  loss {line.loss:.4f}  rate {line.learning_rate:.2e}  "
        f"{line.tokens_per_s:.0f} tokens/s  {_left(line)} left"
    )


def _left(line: StepReport) -> str:
    """Time for what remains, if it takes as many tokens as what is done, at the speed of now."""
    tokens_left = line.tokens * (1 - line.share_done) / max(line.share_done, 1e-9)
    return format_duration(tokens_left / max(line.tokens_per_s, 1e-9))


def _figures(figures: Figures) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
