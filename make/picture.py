"""`make picture`: record a real run of `make submit` and draw it as docs/pictures/run.svg.

Training tasks are shown: evaluation tasks are not to be looked at. tmux plays the terminal, because
the display moves the cursor. A run prints more than a README should show, so the middle of each
part is cut and marked with dots.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

from rich.color import Color
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "pictures" / "run.svg"
OUT = "out/picture"
COMMAND = f"make submit DEMO=training BUDGET=3m OUT={OUT}"

COLUMNS = 112
"""Wide enough that no line about a task wraps."""

CELL_W, CELL_H, FONT_PX, MARGIN = 7.85, 17, 13, 14
"""Size of a character, of the text and of the border, in pixels."""

FOREGROUND, BACKGROUND, DIM = "#d0d0d0", "#16181d", "#8a8f98"

TASK_LINE = re.compile(r"(?:\w+ +\d+/\d+  )?[0-9a-f]{8}( \(round \d+\))? \|")
"""What is said of a task begins so. The plain display puts the stage before it."""

SEARCH_LINE = re.compile(r"\| (\d+\.\d\d sure|no answer) \|")
BELOW = re.compile(r"    |def |cells \(|$")
"""Grids and programs below the line of a task; what the run says begins further left."""

NUM_HEAD = 7
"""Lines of the beginning: the command, the tasks, model and machine. The plan's part on the search
follows, the rest is cut."""

MOST_LINES = 12
"""A task with more lines below it is left out: its grids are too large for the picture."""

DOTS = Text("  ...", style="dim")

CONSOLE = Console()
"""Only asked what a style means."""


def record() -> list[Text]:
    """Every line that a terminal shows of the command, with colours."""
    tmux = ["tmux", "-L", "picture", "-f", "/dev/null"]
    shell = f"{COMMAND}; tmux -L picture wait-for -S done; sleep 60"
    session = ["new-session", "-d", "-s", "run", "-x", str(COLUMNS), "-y", "50", shell]
    limit = ["set", "-g", "history-limit", "20000", ";"]
    # Below another make, this one would say which folder it enters.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    shutil.rmtree(ROOT / OUT, ignore_errors=True)
    subprocess.run([*tmux, *limit, *session], cwd=ROOT, env=clean, check=True)

    try:
        subprocess.run([*tmux, "wait-for", "done"], check=True)
        capture = [*tmux, "capture-pane", "-e", "-p", "-S", "-", "-t", "run"]
        shown = subprocess.run(capture, capture_output=True, text=True, check=True).stdout
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
    return [Text.from_ansi(line) for line in shown.rstrip().splitlines()]


def abridge(lines: list[Text]) -> list[Text]:
    """The beginning of the run, some tasks of the search, the quick and the deep pass, the end.

    Stages that the run does not have are left out.
    """
    marks = [i for i, line in enumerate(lines) if TASK_LINE.match(line.plain)]
    blocks = [_block(lines, start) for start in marks]
    stages = [_stage(block[0].plain) for block in blocks]
    searched, quick, deep = (
        [b for b, name in zip(blocks, stages, strict=True) if name == stage]
        for stage in ("search", "quick", "deep")
    )

    head, last = lines[: marks[0]], marks[-1] + len(blocks[-1])
    plan = [line for line in head[NUM_HEAD:] if line.plain.startswith("  search ")]
    parts = [
        [*head[:NUM_HEAD], *plan],
        [*_some(searched, solved=2, others=0), *[b[0] for b in searched if not _is_solved(b)][:1]],
        [block[0] for block in quick[:2]],
        _some(deep, solved=2, others=1),
    ]

    shown = [Text(f"$ {COMMAND}", style="bold")]
    for part in parts:
        shown += [*part, DOTS] if part else []
    return [*shown, *(line for line in lines[last:] if line.plain.strip())]


def _block(lines: list[Text], start: int) -> list[Text]:
    """The line about a task, with the grids and the program below it."""
    end = start + 1
    while end < len(lines) and BELOW.match(lines[end].plain):
        end += 1
    return lines[start:end]


def _stage(line: str) -> str:
    """What the line of a task tells of; "" for further rounds, which are not shown."""
    if SEARCH_LINE.search(line):
        return "search"
    if "(round " in line:
        return ""
    return "deep" if "trained" in line else "quick"


def _some(blocks: list[list[Text]], *, solved: int, others: int) -> list[Text]:
    """Tasks with small grids, the solved ones first."""
    small = [b for b in blocks if 1 < len(b) <= MOST_LINES]
    right = [b for b in small if _is_solved(b)][:solved]
    wrong = [b for b in small if not _is_solved(b)][:others]
    return [line for block in [*right, *wrong] for line in block]


def _is_solved(block: list[Text]) -> bool:
    return "SOLVED" in block[0].plain


def draw(lines: list[Text]) -> str:
    """The lines as an SVG picture of a terminal."""
    width, height = COLUMNS * CELL_W + 2 * MARGIN, len(lines) * CELL_H + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" '
        f'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="{FONT_PX}" '
        f'fill="{FOREGROUND}" shape-rendering="crispEdges">',
        f"<title>A run of {COMMAND}</title>",
        f'<rect width="{width:.0f}" height="{height}" rx="8" fill="{BACKGROUND}"/>',
    ]
    for row, line in enumerate(lines):
        parts += _draw_line(line, y=MARGIN + row * CELL_H)
    return "\n".join([*parts, "</svg>", ""])


def _draw_line(line: Text, *, y: float) -> list[str]:
    """Runs of characters of one style; a half block is two rectangles, crisp at every zoom."""
    styles = [line.get_style_at_offset(CONSOLE, i) for i in range(len(line))]
    cells = list(zip(line.plain, styles, range(len(line)), strict=True))
    parts = []

    for (is_block, style), run in groupby(cells, key=lambda c: (c[0] == "\u2580", c[1])):
        chars = list(run)
        x, width = MARGIN + chars[0][2] * CELL_W, len(chars) * CELL_W
        if is_block:
            for colour, top in ((style.color, y), (style.bgcolor, y + CELL_H / 2)):
                if ink := _hex(colour):
                    place = f'x="{x:.1f}" y="{top:g}" width="{width:.1f}" height="{CELL_H / 2:g}"'
                    parts.append(f'<rect {place} fill="{ink}"/>')
            continue

        text = "".join(c[0] for c in chars)
        if text.strip():
            ink = _hex(style.color) or (DIM if style.dim else FOREGROUND)
            bold = ' font-weight="bold"' if style.bold else ""
            place = f'x="{x:.1f}" y="{y + 13:g}" textLength="{width:.1f}" xml:space="preserve"'
            parts.append(f'<text {place} fill="{ink}"{bold}>{escape(text)}</text>')
    return parts


def _hex(colour: Color | None) -> str:
    """The colour as #rrggbb; "" for the terminal's own."""
    return "" if colour is None or colour.is_default else colour.get_truecolor().hex


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(draw(abridge(record())), encoding="utf-8")
    sys.stdout.write(f"wrote {TARGET.relative_to(ROOT)}\n")
