"""A chat template as the pieces that it writes around the texts of a conversation.

The template is rendered once for each sequence of roles, with marks in place of the texts; our
texts are then put between its pieces as they are. So no template can trim or change an answer, a
prompt costs no rendering, and what a template does is known before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any, Literal

from appliance.arc.prompt import PROGRAM_MARK, Turn
from appliance.errors import InputError, first_line

LONGEST_CHARS = 100_000
"""A template that writes more around the few words of a conversation is refused: no published one
writes a tenth of it without tools."""

NUM_RENDERED = 8
"""Times that a template is rendered to see whether it draws lots: two lots agree so often once in
128 templates."""

FIXED_DATE = datetime(2024, 7, 26, tzinfo=UTC)
"""For templates that write today's date: prompts would differ from one day to the next. It is the
date that Llama 3's own template falls back to."""

# What templates are told beside the conversation. Those that know a switch for thinking, under
# either name, write an empty thought, or none, before an answer.
_SETTINGS = {
    "enable_thinking": False,  # Qwen3, GLM, SmolLM3
    "thinking": False,  # DeepSeek 3.1, Granite
    "strftime_now": FIXED_DATE.strftime,  # hides the function of Transformers
}

_REMEDY = "mend chat_template in the model folder, or use another model"

# Around each mark, to see whether the template trims its text.
_EDGE = "\n \n"


Pieces = tuple[str, ...]
"""What a template writes around n texts: n + 1 pieces, before, between and after them."""

Shape = tuple[tuple[str, str], ...]
"""The role of each turn, and its text where that belongs to the pieces."""


@dataclass(frozen=True)
class Manner:
    """How a conversation is handed to a template that does not take it as it is."""

    folds_system: bool = False  # the system text goes in front of the first user text
    are_parts: bool = False  # a text is a list of one part, as models that see images have it
    lists_tools: bool = False  # an empty list of tools instead of none


class Template:
    """The chat template of a Transformers tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        """Finds the manner in which the template takes a system, a user and an assistant turn.

        `late_opening` is what it writes before an answer that is there, beyond what it asks for one
        with: a blank, an empty thought, or the whole opening where it knows no way to ask.

        Raises InputError, with what the template says, where there is none.
        """
        self._tokenizer = tokenizer
        self._pieces: dict[tuple[Shape, bool], Pieces] = {}
        self.manner = Manner()
        self.trimmed_roles: frozenset[str] = frozenset()
        self.late_opening = ""

        reasons = []
        for are_parts, lists_tools, folds in product((False, True), repeat=3):
            self.manner = Manner(folds, are_parts, lists_tools)
            self._pieces.clear()
            self.late_opening = ""
            try:
                self._try_out()
                return
            except InputError as fault:
                reasons.append(fault)

        # What goes wrong when the system text is no hindrance says most.
        raise reasons[1]

    def _try_out(self) -> None:
        """Raises InputError unless one question can be asked and its answer be taught."""
        self._check_steady()
        turns = self.taken((Turn("system", ""), Turn("user", ""), Turn("assistant", "")))
        asked, whole = self.pieces(turns[:-1], opens_answer=True), self.pieces(turns)
        if whole[-2].startswith(asked[-1]):
            self.late_opening = whole[-2].removeprefix(asked[-1])
        self.answered(turns)

        # Which texts are stripped shows when blanks stand around them.
        shown = [(turn.role, f"{_EDGE}{_mark(i)}{_EDGE}") for i, turn in enumerate(turns)]
        written = self.render(shown, opens_answer=False)
        self.trimmed_roles = frozenset(role for role, text in shown if text not in written)

    def taken(self, turns: Sequence[Turn]) -> tuple[Turn, ...]:
        """The turns as the template takes them: with the system text folded in, where it must be.

        Texts that the template trims are trimmed, all but answers.
        """
        turns = tuple(turns)
        if self.manner.folds_system and len(turns) > 1 and turns[0].role == "system":
            system, user, *others = turns
            turns = (Turn("user", f"{system.text}\n\n{user.text}"), *others)

        trimmed = self.trimmed_roles - {"assistant"}
        return tuple(
            Turn(turn.role, turn.text.strip(), turn.is_target) if turn.role in trimmed else turn
            for turn in turns
        )

    def asked(self, turns: Sequence[Turn]) -> Pieces:
        """The pieces of a conversation that asks for an answer. turns: as `taken` gives them."""
        *pieces, opening = self.pieces(turns, opens_answer=True)
        return (*pieces, opening + self.late_opening)

    def answered(self, turns: Sequence[Turn]) -> Pieces:
        """The pieces of a conversation in which each answer is opened as it is asked for.

        turns: as `taken` gives them. Raises InputError where the template writes something else
        before an answer that is there than before one that it asks for.
        """
        whole = self.pieces(turns)
        for i, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            asked = self.asked(turns[:i])
            if asked == whole[: i + 1]:
                continue

            raise InputError(
                f"the chat template opens an answer with {_end(asked[i])}, and one that is "
                f"there with {_end(whole[i])}, in turn {i + 1} of {len(turns)}",
                expected="the same text, else the model is trained on what it is never asked for",
                remedy="use a model that can answer without thinking, or mend its template",
            )
        return whole

    def pieces(self, turns: Sequence[Turn], *, opens_answer: bool = False) -> Pieces:
        """What the template writes around the texts of these turns.

        opens_answer: with what it puts before an answer. Raises InputError when it does not render,
        or leaves a text out.
        """
        shape = tuple((turn.role, turn.text if is_literal(turn) else "") for turn in turns)
        known = self._pieces.get((shape, opens_answer))
        if known is None:
            known = self._rendered(shape, opens_answer)
            self._pieces[shape, opens_answer] = known
        return known

    def changes(self, turns: Sequence[Turn]) -> Literal["nothing", "blanks", "words"]:
        """What the template itself would do to these texts, which are put in whole.

        turns: as `taken` gives them.
        """
        texts = ["" if is_literal(turn) else turn.text for turn in turns]
        before, *pieces = self.pieces(turns)
        its = self.render([(turn.role, turn.text) for turn in turns], opens_answer=False)
        if not its.startswith(before):
            return "words"

        at, change = len(before), False
        for text, piece in zip(texts, pieces, strict=True):
            for kept in (text, text.lstrip("\n"), text.lstrip(), text.rstrip(), text.strip()):
                if its.startswith(kept + piece, at):
                    at += len(kept + piece)
                    change = change or kept != text
                    break
            else:
                return "words"
        return "blanks" if change else "nothing"

    def knows(self, word: str) -> bool:
        """Whether the word stands in the template."""
        return word in str(self._tokenizer.get_chat_template(tools=self._tools()))

    def _check_steady(self) -> None:
        """Raises InputError where the template does not write the same each time."""
        shown = [("user", _mark(0)), ("assistant", _mark(1))]
        if len({self.render(shown, opens_answer=False) for _ in range(NUM_RENDERED)}) > 1:
            raise InputError(
                "the chat template writes another text each time",
                expected="the same prompt for the same task",
                remedy="take the lots out of chat_template",
            )

    def render(self, messages: Sequence[tuple[str, str]], *, opens_answer: bool) -> str:
        """What the template itself makes of roles and texts, in this manner. Raises InputError."""
        try:
            text: str = self._tokenizer.apply_chat_template(
                [{"role": role, "content": self._content(given)} for role, given in messages],
                tools=self._tools(),
                tokenize=False,
                add_generation_prompt=opens_answer,
                **_SETTINGS,
            )
        # A template is a program: it can raise whatever it likes.
        except Exception as fault:
            raise InputError(
                f"the chat template does not take turns of {', '.join(r for r, _ in messages)}: "
                f"{first_line(fault)}",
                expected="one that renders a question and its answer",
                remedy=_REMEDY,
            ) from fault

        if len(text) > LONGEST_CHARS + sum(len(given) for _, given in messages):
            raise InputError(
                f"the chat template writes {len(text):,} characters around a short conversation",
                expected=f"at most {LONGEST_CHARS:,}",
                remedy=_REMEDY,
            )
        return text

    def _tools(self) -> list[Any] | None:
        return [] if self.manner.lists_tools else None

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self.manner.are_parts else text

    def _rendered(self, shape: Shape, opens_answer: bool) -> Pieces:
        if not shape:
            return ("",)

        shown = [(role, literal or _mark(i)) for i, (role, literal) in enumerate(shape)]
        rest = self.render(shown, opens_answer=opens_answer)

        pieces = [""] * (len(shape) + 1)
        at = 0  # the piece that is being read
        for i, (role, literal) in enumerate(shape):
            if literal:
                continue  # a part of the piece in which it stands
            if rest.count(_mark(i)) != 1:
                raise InputError(
                    f"the chat template writes the text of turn {i + 1} of {len(shape)}, {role}, "
                    f"{rest.count(_mark(i))} times where it is due",
                    expected="each text once, in the order of the turns",
                    remedy=_REMEDY,
                )

            pieces[at], rest = rest.split(_mark(i))
            at = i + 1

        pieces[at] = rest
        return tuple(pieces)


def is_literal(turn: Turn) -> bool:
    """Whether the text belongs to the frame: our own template knows a mark by it."""
    return turn.role == "user" and turn.text == PROGRAM_MARK


def _mark(i: int) -> str:
    return f"TEXTOFTURN{i}."


def _end(piece: str) -> str:
    """The last characters of a piece, to be shown."""
    return repr(piece[-40:])
