"""Any text becomes one file of its own, and one line on a screen that obeys nothing in it."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.foreign_text import MOST_BYTES, as_file_name, as_shown

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=200)
"""Also lone surrogates, zero bytes, line ends and slashes."""

PLAIN = ["007bbfb7", "task_1", "a-b", "0", "x" * MOST_BYTES]

HOSTILE = [
    *("", ".", "..", "/", "//", "a/b", "../../x", "/x", "~", "-", "-rf", "--", "*", "?", "[a]"),
    *("\0", "\n", "\r\n", " ", "a ", "a.", ".a", "%", "%%", "%2e", "%41", "%-", "$x", "`x`", "a,b"),
    *("A", "a", "CON", "con", "é", "e\u0301", "\u212a", "k", "ß", "SS", "ss", "\ud800", "\udfff"),
    *("\ud83d\ude00", "\U0001f600", "\u202egnp.exe", "x" * 129, "x" * 130, "X" * 5000, "x" * 5000),
    *("x.programs", "x", "x.part", ".x.part", "quick-1", "quick-1.programs", "a\\b", "a:b"),
]  # fmt: skip


@given(ANY_TEXT, ANY_TEXT)
def test_two_texts_never_share_a_name(first: str, second: str) -> None:
    names = as_file_name(first), as_file_name(second)
    assert (names[0] == names[1]) == (first == second)


def test_nor_do_texts_that_are_made_to_meet() -> None:
    texts = [*HOSTILE, *PLAIN, *map(as_file_name, [*HOSTILE, *PLAIN])]
    texts = list(dict.fromkeys(texts))
    folded = {unicodedata.normalize("NFKD", as_file_name(text)).casefold() for text in texts}
    assert len(folded) == len(texts)


@given(ANY_TEXT | st.sampled_from(HOSTILE))
def test_a_name_is_one_part_of_a_path_in_small_ascii(text: str) -> None:
    name = as_file_name(text)
    assert 1 <= len(name) <= MOST_BYTES
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-%")
    assert not name.startswith("-")


@pytest.mark.parametrize("text", PLAIN)
def test_ordinary_ids_stay_as_they_are(text: str) -> None:
    assert as_file_name(text) == text


def test_each_name_can_be_made_and_is_found_again(tmp_path: Path) -> None:
    for number, text in enumerate(HOSTILE):
        (tmp_path / as_file_name(text)).write_text(str(number))
    for number, text in enumerate(HOSTILE):
        assert (tmp_path / as_file_name(text)).read_text() == str(number)


@given(ANY_TEXT | st.sampled_from(HOSTILE))
def test_what_is_shown_is_one_line_that_every_encoding_of_unicode_takes(text: str) -> None:
    shown = as_shown(text)
    assert shown.isprintable()
    assert len((shown + "x").splitlines()) == 1
    shown.encode()


def test_what_is_harmless_is_shown_as_it_is() -> None:
    for text in ("007bbfb7", "Überschrift 1", "任务"):
        assert as_shown(text) == text
    assert as_shown("a\x1b[2Jb\nc\u202e") == r"a\x1b[2Jb\nc\u202e"
