"""`make picture`: record a real run of `make submit` and draw it as docs/pictures/run.svg.

Training tasks are shown: evaluation tasks are not to be looked at. tmux plays the terminal. What is
drawn is the view of the run in its midst, and below it what the run says at its end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

from rich.ansi import AnsiDecoder
from rich.color import Color
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "pictures" / "run.svg"
OUT = "out/picture"
COMMAND = f"make submit DEMO=training BUDGET=3m OUT={OUT}"

SHOWN_AFTER_S = 120
"""The search is over by then, and the deep pass under way."""

COLUMNS, LINES = 140, 40

CELL_W, CELL_H, FONT_PX, MARGIN = 7.85, 17, 13, 14
"""Size of a character, of the text and of the border, in pixels."""

FOREGROUND, BACKGROUND, DIM = "#d0d0d0", "#16181d", "#8a8f98"

DOTS = Text("  ...", style="dim")

CLOSING = ("searched ", "sampled ")
"""How what a run says at its end begins."""

CONSOLE = Console()
"""Only asked what a style means."""


def record() -> tuple[list[Text], list[Text]]:
    """The view in the midst of the run, and every line that stands on the terminal at its end."""
    tmux = ["tmux", "-L", "picture", "-f", "/dev/null"]
    shell = f"{COMMAND}; tmux -L picture wait-for -S done; sleep 60"
    session = ["new-session", "-d", "-s", "run", "-x", str(COLUMNS), "-y", str(LINES), shell]
    limit = ["set", "-g", "history-limit", "20000", ";"]
    # Below another make, this one would say which folder it enters.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    shutil.rmtree(ROOT / OUT, ignore_errors=True)
    subprocess.run([*tmux, *limit, *session], cwd=ROOT, env=clean, check=True)

    def captured(*words: str) -> list[Text]:
        capture = [*tmux, "capture-pane", "-e", "-p", *words, "-t", "run"]
        shown = subprocess.run(capture, capture_output=True, text=True, check=True).stdout
        return list(AnsiDecoder().decode(shown.rstrip()))

    try:
        subprocess.run(["sleep", str(SHOWN_AFTER_S)], check=True)
        midst = captured()
        subprocess.run([*tmux, "wait-for", "done"], check=True)
        return midst, captured("-S", "-")
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)


def compose(midst: list[Text], end: list[Text]) -> list[Text]:
    """The command, the view, and what the run says last: from its figures on."""
    starts = [i for i, line in enumerate(end) if line.plain.startswith(CLOSING)]
    closing = [line for line in end[starts[0] if starts else 0 :] if line.plain.strip()]
    return [Text(f"$ {COMMAND}", style="bold"), *midst, DOTS, *closing]


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
    TARGET.write_text(draw(compose(*record())), encoding="utf-8")
    sys.stdout.write(f"wrote {TARGET.relative_to(ROOT)}\n")
