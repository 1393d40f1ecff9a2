"""Encoders write the texts that models were trained on, and read one legal grid or nothing."""

import numpy as np
import pytest

from appliance.arc.encode import ENCODER_NAMES, ParseError, get_encoder
from appliance.arc.grid import as_grid, to_lists
from appliance.errors import UsageError
from tests.support.cases import read_case

DIAGONAL = as_grid([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
WIDE = as_grid([[9, 8, 7, 6]])

GOLDEN = {
    "grid-tokens": "100\n010\n001\n",
    # 0xF0000 + (row * 30 + column) * 10 + colour, and 0xF0000 + 9000 + row.
    "grid-tokens-v2": (
        "\U000f0001\U000f000a\U000f0014\U000f2328"
        "\U000f012c\U000f0137\U000f0140\U000f2329"
        "\U000f0258\U000f0262\U000f026d\U000f232a"
    ),
    "minimal": "100\n010\n001",
    "bar-separated": "1|0|0\n0|1|0\n0|0|1",
    "code-block": "```grid\n100\n010\n001\n```",
    "shape": "```grid shape: 3x3\n100\n010\n001\n```",
    "repeat-3": "111000000\n000111000\n000000111",
    "symbols": "òññ\nñòñ\nññò",
    "colour-words": "Blue Black Black\nBlack Blue Black\nBlack Black Blue",
    "arc24-row-number": "1 100\n2 010\n3 001",
    "arc24-shape-row-number": "```grid shape: 3x3\n1 100\n2 010\n3 001\n```",
    "arc24-shape-row-number-symbols": "```grid shape: 3x3\n1 òññ\n2 ñòñ\n3 ññò\n```",
    "arc25-row-number": "0 100\n1 010\n2 001",
    "arc25-shape-row-number": "```grid shape: 3x3\n0 100\n1 010\n2 001\n```",
}


def test_every_short_name_has_a_golden_text() -> None:
    assert set(GOLDEN) == set(ENCODER_NAMES)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_texts(name: str) -> None:
    encoder = get_encoder(name)
    assert encoder.encode(DIAGONAL) == GOLDEN[name]
    assert np.array_equal(encoder.decode(GOLDEN[name]), DIAGONAL)
    assert GOLDEN[name].startswith(encoder.opening)


def test_shape_is_rows_by_columns() -> None:
    assert get_encoder("shape").encode(WIDE).startswith("```grid shape: 1x4\n")


@pytest.mark.parametrize(
    ("file", "first_row"),
    [("encoders_arc24.json", 1), ("encoders_arc25.json", 0)],
    ids=["arc24", "arc25"],
)
def test_texts_of_the_prior_encoders_to_the_character(file: str, first_row: int) -> None:
    cases = read_case(file)
    grids = [as_grid(g) for g in cases["grids"]]
    assert cases["texts"]

    for expression, texts in cases["texts"].items():
        if first_row == 0:
            expression = expression.replace(
                "RowNumberEncoder(MinimalGridEncoder())",
                "RowNumberEncoder(MinimalGridEncoder(), first=0)",
            )
        encoder = get_encoder(expression)
        for grid, text in zip(grids, texts, strict=True):
            assert encoder.encode(grid) == text
            assert to_lists(encoder.decode(text)) == to_lists(grid)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "12\n3",
        "1a",
        "1 2",
        "١٢",
        "1²",
        "-1",
        "1" * 31,
        "\n".join("1" * 31),
        "1\n\n1",
        "None",
    ],
    ids=[
        "empty",
        "blank",
        "ragged",
        "letter",
        "space",
        "arabic",
        "superscript",
        "minus",
        "wide",
        "tall",
        "gap",
        "word",
    ],
)
@pytest.mark.parametrize(
    "name",
    [
        "minimal",
        "grid-tokens",
        "grid-tokens-v2",
        "shape",
        "arc24-shape-row-number",
        "colour-words",
    ],
)
def test_what_is_not_a_grid_is_a_parse_error(name: str, text: str) -> None:
    with pytest.raises(ParseError):
        get_encoder(name).decode(text)


@pytest.mark.parametrize(
    ("numbers", "fault"),
    [
        ([], "no end of row 0 among the first 0 marks"),
        ([0, 10, 20], "no end of row 0"),
        ([*range(0, 310, 10), 9000], "no end of row 0 among the first 31 marks"),
        ([9000], "row 0 is empty"),
        ([5, 9001], "no end of row 0"),
        ([5, 9000, 305], "row 1 stops after 1 cells of 1"),
        ([5, 10, 9000, 300], "row 1 stops after 1 cells of 2"),
        ([5, 20, 9000], "a cell of row 0, column 2 where a cell of row 0, column 1 is due"),
        ([5, 9000, 9001], "the end of row 1 where a cell of row 1, column 0 is due"),
        ([5, 9000, 305, 315], "a cell of row 1, column 1 where the end of row 1 is due"),
        ([5, 9000, 305, 9002], "the end of row 2 where the end of row 1 is due"),
        ([5, 9000, 9030], "something that is no place where a cell of row 1, column 0"),
        ([5, 9000, -0xF0000 + ord("7")], "something that is no place"),
        ([5, 9000, -0xF0000 + 0xD800], "something that is no place"),
        ([n for r in range(30) for n in (300 * r, 9000 + r)] + [9000], "more than 30 rows"),
    ],
)
def test_a_token_out_of_its_place_is_named(numbers: list[int], fault: str) -> None:
    text = "".join(chr(0xF0000 + number) for number in numbers)
    with pytest.raises(ParseError, match=fault):
        get_encoder("grid-tokens-v2").decode(text)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("declared shape contradicts", "```grid shape: 2x3\n1 100\n2 010\n3 001\n```"),
        ("row skipped", "```grid shape: 2x3\n1 100\n3 001\n```"),
        ("two blocks", "```grid shape: 1x1\n1 5\n```\n```grid shape: 1x1\n1 6\n```"),
        ("no shape", "```grid\n1 100\n```"),
        ("cut off", "```grid shape: 3x3\n1 100\n2 01"),
        ("shape of many digits", "```grid shape: " + "9" * 5000 + "x1\n1 1\n```"),
    ],
)
def test_a_shaped_block_is_held_to_its_declaration(fault: str, text: str) -> None:
    with pytest.raises(ParseError):
        get_encoder("arc24-shape-row-number").decode(text)


def test_a_complete_block_in_prose_or_left_open_is_read() -> None:
    encoder = get_encoder("arc24-shape-row-number")
    assert to_lists(encoder.decode("Here:\n```grid shape: 1x2\n1 42\n```\nDone.")) == [[4, 2]]
    assert to_lists(encoder.decode("```grid shape: 1x2\n1 42")) == [[4, 2]]


def test_first_row_number_can_be_chosen() -> None:
    assert get_encoder("RowNumberEncoder(MinimalGridEncoder(), first=0)").encode(WIDE) == "0 9876"
    assert get_encoder("RowNumberEncoder(MinimalGridEncoder())").encode(WIDE) == "1 9876"


@pytest.mark.parametrize(
    ("spelt", "nearest"),
    [
        ("grid-token", "grid-tokens"),
        ("Arc24-shape-row-numbers", "arc24-shape-row-number"),
        ("GridShapeEncode(MinimalGridEncoder())", "GridShapeEncoder"),
        ("GridShapeEncoder(MinimalEncoder())", "MinimalGridEncoder"),
    ],
)
def test_a_misspelt_encoder_is_answered_with_the_nearest(spelt: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=nearest):
        get_encoder(spelt)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "GridShapeEncoder(__import__('os'))",
        "GridShapeEncoder()",
        "GridShapeEncoder(MinimalGridEncoder(), MinimalGridEncoder())",
        "MinimalGridEncoder(1)",
        "RepeatNumberEncoder(n=True)",
        "RepeatNumberEncoder(0)",
        "RepeatNumberEncoder(3, n=3)",
        "RepeatNumberEncoder(**{'n': 3})",
        "RepeatNumberEncoder(*[3])",
        "RowNumberEncoder(MinimalGridEncoder(), first='0')",
        "GridWithSeparationEncoder('1')",
        "GridWithSeparationEncoder('')",
        "GridWithSeparationEncoder('\\n')",
        "GridShapeEncoder(GridCodeBlockEncoder(MinimalGridEncoder()))",
        "GridShapeEncoder(" * 300,
        "(" * 199,
        "()",
        "minimal()",
        "MinimalGridEncoder(\0)",
    ],
)
def test_an_expression_is_never_evaluated_and_answered_in_one_error(expression: str) -> None:
    with pytest.raises(UsageError, match="grid encoder"):
        get_encoder(expression)


def test_names_give_the_same_encoder_again() -> None:
    for name in ENCODER_NAMES:
        encoder = get_encoder(name)
        assert get_encoder(encoder.name) == encoder
