"""Grids as text and back.

Every text is a wire format: models were trained on it, so not one character may change. The
encoders named like classes write the texts of the public pipelines arc24 and arc25 and nest as
theirs do: `GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))`. `grid-tokens` and
`grid-tokens-v2` write the texts of our own small vocabularies.

Decoding is strict, because the text was written by a model: anything but one legal grid raises
ParseError.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from appliance.arc.grid import Grid, freeze, grid_fault
from appliance.arc.places import (
    grid_of_numbers,
    numbers_of_text,
    place_numbers,
    text_of_numbers,
)
from appliance.errors import UsageError
from appliance.names import did_you_mean, unknown

DIGITS = tuple("0123456789")
COLOUR_WORDS = (
    "Black",
    "Blue",
    "Red",
    "Green",
    "Yellow",
    "Gray",
    "Pink",
    "Orange",
    "Purple",
    "Brown",
)
"""The words of arc24's ColorNameEncoder for colours 0 to 9."""
SYMBOLS = "ñò÷ûąćďęĚĞ"
"""The letters of arc24's ReplaceNumberEncoder for digits 0 to 9."""
MAX_EXPRESSION_CHARS = 200
"""A longer expression is refused unread: model cards, which name encoders, come from anybody."""
_TO_SYMBOLS = str.maketrans("".join(DIGITS), SYMBOLS)
_TO_DIGITS = str.maketrans(SYMBOLS, "".join(DIGITS))
_FENCE = "```grid"
_BLOCK = re.compile(rf"^{_FENCE}\n(.*?)\n```", re.DOTALL | re.MULTILINE)
_SHAPED_BLOCK = re.compile(
    rf"^{_FENCE} shape: ([0-9]{{1,2}})x([0-9]{{1,2}})\n(.*?)(?:\n```|\Z)", re.DOTALL | re.MULTILINE
)


class ParseError(ValueError):
    """A text that is not what was asked for. A normal result of sampling: counted, never fatal."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class GridEncoder(Protocol):
    """A text format for grids: decode(encode(grid)) is the grid, for every legal grid."""

    @property
    def name(self) -> str:
        """What `get_encoder` takes to give this encoder again."""

    @property
    def opening(self) -> str:
        """What every text of this encoder begins with: a model's answer may be started with it."""

    def encode(self, grid: Grid) -> str: ...

    def decode(self, text: str) -> Grid:
        """The grid in the text. Raises ParseError when it holds anything but one legal grid."""


@dataclass(frozen=True)
class CellEncoder:
    """One word per cell, one line per row."""

    name: str
    words: tuple[str, ...] = DIGITS  # of colours 0 to 9; of equal length without a separator
    separator: str = ""  # between the words of a row
    ends_rows: bool = False  # whether a newline stands after the last row too
    opening: str = ""

    def encode(self, grid: Grid) -> str:
        text = "\n".join(
            self.separator.join(self.words[cell] for cell in row) for row in grid.tolist()
        )
        return text + "\n" if self.ends_rows else text

    def decode(self, text: str) -> Grid:
        colour_of = {word: colour for colour, word in enumerate(self.words)}
        rows = [self._split(line) for line in text.strip().split("\n")]

        try:
            cells = [[colour_of[word] for word in row] for row in rows]
        except KeyError as word:
            raise ParseError(f"{str(word)[:40]} is not a cell") from None
        fault = grid_fault(cells)
        if fault:
            raise ParseError(fault)

        return freeze(np.array(cells, dtype=np.int8))

    def _split(self, line: str) -> list[str]:
        if self.separator:
            return line.split(self.separator)
        width = len(self.words[0])
        return [line[i : i + width] for i in range(0, len(line), width)]


@dataclass(frozen=True)
class PlacedEncoder:
    """One private character per cell, which says its colour and its place, and one per row end."""

    name: str
    opening: str = ""

    def encode(self, grid: Grid) -> str:
        return text_of_numbers(place_numbers(grid))

    def decode(self, text: str) -> Grid:
        try:
            return grid_of_numbers(numbers_of_text(text))
        except ValueError as fault:
            raise ParseError(str(fault)) from None


@dataclass(frozen=True)
class _Block:
    base: GridEncoder
    opening: str = _FENCE

    def __post_init__(self) -> None:
        if self.base.opening:
            raise ValueError("a block right inside a block cannot be read back")


class BlockEncoder(_Block):
    """The base text in a code block opened with ```grid."""

    @property
    def name(self) -> str:
        return f"GridCodeBlockEncoder({self.base.name})"

    def encode(self, grid: Grid) -> str:
        return f"{_FENCE}\n{self.base.encode(grid)}\n```"

    def decode(self, text: str) -> Grid:
        blocks = _BLOCK.findall(text)
        if len(blocks) != 1:
            raise ParseError(f"{len(blocks)} closed grid blocks")
        return self.base.decode(blocks[0])


class ShapeEncoder(_Block):
    """The base text in a code block that declares rows x columns, which the grid must have.

    A block that was never closed is read as well: the declared shape shows whether it is complete.
    """

    @property
    def name(self) -> str:
        return f"GridShapeEncoder({self.base.name})"

    def encode(self, grid: Grid) -> str:
        return f"{_FENCE} shape: {grid.shape[0]}x{grid.shape[1]}\n{self.base.encode(grid)}\n```"

    def decode(self, text: str) -> Grid:
        blocks = _SHAPED_BLOCK.findall(text)
        if len(blocks) != 1:
            raise ParseError(f"{len(blocks)} grid blocks with a shape")

        num_rows, num_columns, body = blocks[0]
        grid = self.base.decode(body)
        if grid.shape != (int(num_rows), int(num_columns)):
            raise ParseError(
                f"declared {num_rows}x{num_columns}, the grid is {grid.shape[0]}x{grid.shape[1]}"
            )

        return grid


@dataclass(frozen=True)
class RowNumberEncoder:
    """Each line of the base text after its number."""

    base: GridEncoder
    first: int = 1  # arc24 counts from 1, arc25 from 0
    opening: str = ""

    @property
    def name(self) -> str:
        first = "" if self.first == 1 else f", first={self.first}"
        return f"RowNumberEncoder({self.base.name}{first})"

    def encode(self, grid: Grid) -> str:
        lines = self.base.encode(grid).split("\n")
        return "\n".join(f"{number} {line}" for number, line in enumerate(lines, self.first))

    def decode(self, text: str) -> Grid:
        lines = []
        for number, line in enumerate(text.strip().split("\n"), self.first):
            head, space, rest = line.partition(" ")
            if head != str(number) or not space:
                raise ParseError(f"line {line[:40]!r} is not numbered {number}")
            lines.append(rest)

        return self.base.decode("\n".join(lines))


@dataclass(frozen=True)
class SymbolEncoder:
    """The base text with a rare letter for each digit, so that no tokenizer merges cells."""

    base: GridEncoder

    @property
    def name(self) -> str:
        return f"ReplaceNumberEncoder({self.base.name})"

    @property
    def opening(self) -> str:
        return self.base.opening

    def encode(self, grid: Grid) -> str:
        return self.base.encode(grid).translate(_TO_SYMBOLS)

    def decode(self, text: str) -> Grid:
        return self.base.decode(text.translate(_TO_DIGITS))


def _separated(symbol: str) -> GridEncoder:
    if not symbol or not symbol.isprintable() or set(symbol) & {*DIGITS, *SYMBOLS, "`"}:
        raise ValueError(f"cells cannot be parted by {symbol!r}")
    return CellEncoder(f"GridWithSeparationEncoder({symbol!r})", separator=symbol)


def _repeated(n: int = 3) -> GridEncoder:
    if not 1 <= n <= 9:
        raise ValueError(f"a digit repeated {n} times; 1 to 9 work")
    return CellEncoder(f"RepeatNumberEncoder(n={n})", words=tuple(digit * n for digit in DIGITS))


# Each class-like name with its maker and the kinds of the maker's parameters, in order.
_MAKERS: Mapping[str, tuple[Callable[..., GridEncoder], Mapping[str, type]]] = {
    "MinimalGridEncoder": (lambda: CellEncoder("MinimalGridEncoder()"), {}),
    "GridWithSeparationEncoder": (_separated, {"symbol": str}),
    "RepeatNumberEncoder": (_repeated, {"n": int}),
    "ColorNameEncoder": (
        lambda: CellEncoder("ColorNameEncoder()", COLOUR_WORDS, separator=" "),
        {},
    ),
    "GridCodeBlockEncoder": (BlockEncoder, {"base": object}),
    "GridShapeEncoder": (ShapeEncoder, {"base": object}),
    "RowNumberEncoder": (RowNumberEncoder, {"base": object, "first": int}),
    "ReplaceNumberEncoder": (SymbolEncoder, {"base": object}),
}

_SHORT_NAMES: Mapping[str, str] = {
    "minimal": "MinimalGridEncoder()",
    "bar-separated": "GridWithSeparationEncoder('|')",
    "code-block": "GridCodeBlockEncoder(MinimalGridEncoder())",
    "shape": "GridShapeEncoder(MinimalGridEncoder())",
    "repeat-3": "RepeatNumberEncoder(n=3)",
    "symbols": "ReplaceNumberEncoder(MinimalGridEncoder())",
    "colour-words": "ColorNameEncoder()",
    "arc24-row-number": "RowNumberEncoder(MinimalGridEncoder())",
    "arc24-shape-row-number": "GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))",
    "arc24-shape-row-number-symbols": (
        "GridShapeEncoder(RowNumberEncoder(ReplaceNumberEncoder(MinimalGridEncoder())))"
    ),
    "arc25-row-number": "RowNumberEncoder(MinimalGridEncoder(), first=0)",
    "arc25-shape-row-number": "GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder(), first=0))",
}

OWN_ENCODERS: Mapping[str, GridEncoder] = {
    "grid-tokens": CellEncoder("grid-tokens", ends_rows=True),
    "grid-tokens-v2": PlacedEncoder("grid-tokens-v2"),
}
"""Encoders of our own vocabularies, one token a cell; they nest in nothing."""

ENCODER_NAMES = (*OWN_ENCODERS, *_SHORT_NAMES)


def get_encoder(name_or_expression: str) -> GridEncoder:
    """The encoder of a short name ("grid-tokens") or of nested class-like names.

    A short name stands for an expression, and the expression is the encoder's own name. It is
    parsed, never evaluated. Raises UsageError with the nearest valid name.

    >>> get_encoder("arc25-shape-row-number").name
    'GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder(), first=0))'
    """
    text = name_or_expression.strip()
    if text in OWN_ENCODERS:
        return OWN_ENCODERS[text]
    if "(" not in text and text not in _SHORT_NAMES:
        raise unknown("grid encoder", text, ENCODER_NAMES)

    try:
        if len(text) > MAX_EXPRESSION_CHARS:
            raise ValueError(f"longer than {MAX_EXPRESSION_CHARS} characters")
        return _build(ast.parse(_SHORT_NAMES.get(text, text), mode="eval").body)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as fault:
        raise UsageError(
            f"grid encoder {text[:80]!r}: {fault}",
            expected=f"one of {', '.join(ENCODER_NAMES)}, or {', '.join(_MAKERS)}, nested",
            remedy="for example GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))",
        ) from None


def _build(node: ast.expr) -> GridEncoder:
    """The encoder that the expression names. Raises ValueError saying what is wrong with it."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError(f"{ast.unparse(node)} is not an encoder")

    name = node.func.id
    if name not in _MAKERS:
        raise ValueError(f"no encoder {name}{did_you_mean(name, _MAKERS)}")

    # Positional arguments get the names of the parameters in order, keywords bring their own.
    make, kinds = _MAKERS[name]
    given = [*zip(kinds, node.args, strict=False), *((k.arg, k.value) for k in node.keywords)]
    is_one_too_many = len(node.args) > len(kinds)
    is_unknown = bool({parameter for parameter, _ in given} - set(kinds))
    is_given_twice = len(dict(given)) < len(given)
    if is_one_too_many or is_unknown or is_given_twice:
        raise ValueError(f"{name} takes {', '.join(kinds) or 'nothing'}")

    # `is not None` only for the type checker: **keywords, whose name is None, are refused above.
    values = {p: _value(f"{p} of {name}", kinds[p], v) for p, v in given if p is not None}
    try:
        return make(**values)
    except TypeError:
        raise ValueError(f"{name} needs {', '.join(kinds)}") from None


def _value(place: str, kind: type, node: ast.expr) -> object:
    if kind is object:
        return _build(node)
    if isinstance(node, ast.Constant) and type(node.value) is kind:
        return node.value
    raise ValueError(f"{place} is not a plain {kind.__name__}")
