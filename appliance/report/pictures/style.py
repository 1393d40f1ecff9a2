"""How every picture looks, and how it becomes a file that is the same every time.

matplotlib is imported here and only when something is drawn: it takes most of a second, and
packages for Kaggle do without it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from appliance.errors import PrerequisiteError, first_line
from appliance.foreign_text import as_shown

Format = Literal["svg", "png"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by people who are colour-blind (Okabe and Ito 2008), without their yellow, which is
too light for a line."""

DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (2, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""One of each goes with each colour: a print in grey tells the lines apart as well."""

WIDTH_IN = 9.0
"""Of a picture, in inches. With SIZE_PT, text is 6 points high where it is shown at half size."""

SIZE_PT = 12.0

DPI = 120

MOST_NAME_CHARS = 36

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # it comes with matplotlib
    "font.size": SIZE_PT,
    "axes.titlesize": SIZE_PT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "lines.linewidth": 2.0,
    "legend.frameon": False,
    "legend.handlelength": 3.0,  # long enough to tell dashes apart
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "text.parse_math": False,  # a name with dollars is no formula
    "svg.fonttype": "path",  # every machine then shows the same letters
    "svg.hashsalt": "arc-appliance",  # else the ids in the file are random
}

Draw = Callable[[Any], None]
"""Fills a new matplotlib Figure."""


@dataclass(frozen=True)
class Picture:
    """Something to draw."""

    name: str  # of its file, without the ending
    title: str  # for a page
    height_in: float
    draw: Draw


@dataclass(frozen=True)
class Line:
    """How one experiment looks in every picture."""

    colour: str
    dash: Any
    marker: str


def line_of(number: int) -> Line:
    """number: of the experiment, from 0. After as many as there are colours, dashes move on."""
    turn, place = divmod(number, len(COLOURS))
    shifted = (place + turn) % len(COLOURS)
    return Line(COLOURS[place], DASHES[shifted], MARKERS[shifted])


def label(name: str) -> str:
    """A name that its font can show; in a legend, names that begin with _ would be left out."""
    text = as_shown(name)
    text = "".join(c if ord(c) < 0x250 else c.encode("unicode_escape").decode() for c in text)
    if len(text) > MOST_NAME_CHARS:
        text = f"{text[: MOST_NAME_CHARS // 2 - 1]}...{text[-(MOST_NAME_CHARS // 2 - 2) :]}"
    return f" {text}" if text.startswith("_") else text


def legend(figure: Any, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Above all panels, in as many columns as the names leave room for."""
    labels = [label(name) for name in names]
    figure.legend(handles, labels, loc="outside upper center", ncols=_num_columns(labels))


def legend_in(names: Sequence[str]) -> float:
    """Height of that legend, in inches."""
    labels = [label(name) for name in names]
    return 0.27 * math.ceil(len(labels) / _num_columns(labels))


def _num_columns(labels: Sequence[str]) -> int:
    longest = max(map(len, labels), default=1)
    return max(1, min(len(labels), 90 // (longest + 8)))


def legend_below(part: Any, axis: Any) -> None:
    """Below the panels of one part of a figure, in one line: what is drawn in this one."""
    handles, labels = axis.get_legend_handles_labels()
    part.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize="small")


def rendered(picture: Picture, form: Format) -> bytes:
    """The file, the same bytes each time. Raises PrerequisiteError without matplotlib."""
    with _matplotlib() as library:
        figure = library.figure.Figure(figsize=(WIDTH_IN, picture.height_in), dpi=DPI)
        picture.draw(figure)
        file = io.BytesIO()
        # Without them the file would hold the day and the version.
        names = ("Date", "Creator", "Format", "Type") if form == "svg" else ("Software",)
        figure.savefig(file, format=form, metadata=dict.fromkeys(names))
    return file.getvalue()


def inline_svg(picture: Picture) -> str:
    """The picture as an element of an HTML page. Raises PrerequisiteError without matplotlib."""
    text = rendered(picture, "svg").decode()
    element = text[text.index("<svg") :]
    # HTML knows both namespaces by itself; a page of ours names none but that of SVG.
    return element.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "", 1)


@contextmanager
def _matplotlib() -> Iterator[Any]:
    try:
        import matplotlib
        import matplotlib.backends.backend_agg
        import matplotlib.backends.backend_svg
        import matplotlib.figure
    except Exception as fault:  # a broken build raises whatever it likes
        raise PrerequisiteError(
            f"pictures need matplotlib, which cannot be loaded: {first_line(fault)}",
            expected="matplotlib 3.9 or newer",
            remedy="pip install matplotlib",
        ) from fault

    with matplotlib.rc_context(RC):
        yield matplotlib
