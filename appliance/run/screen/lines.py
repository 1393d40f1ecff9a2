"""Lines of a terminal, with styles: the one way in which text of others gets there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.foreign_text import as_shown

if TYPE_CHECKING:
    from rich.text import Text


def line_of(text: str, style: str = "") -> Text:
    """One line in one style."""
    from rich.text import Text

    return Text(as_shown(text), style=style, no_wrap=True, end="")


def joined(*parts: tuple[str, str]) -> Text:
    """Pieces of one line, each with its style."""
    line = line_of("")
    for text, style in parts:
        line.append(as_shown(text), style=style)
    return line


def shortened(text: str, most: int) -> str:
    """With a mark at its end where it was too long."""
    return text if len(text) <= most else text[: max(0, most - 1)] + "\u2026"
