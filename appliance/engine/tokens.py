"""Conversations to token ids and back, by the model's own tokenizer and chat template.

The same rendering serves training and sampling: what a lesson teaches to write after a prompt is
exactly what sampling asks for. So the ids of a prompt are the first ids of its lessons: the text is
cut where answers begin, and each stretch is made into ids by itself, so that no token reaches over
the cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from appliance.arc.prompt import Conversation, Turn
from appliance.engine.folder.tokenizer import (
    load_tokenizer,
    no_template,
    num_embedding_rows,
    stop_ids,
)
from appliance.engine.template import Template, is_literal
from appliance.engine.training.packing import TokenSequence
from appliance.errors import InputError

# What templates put at the end of a turn, where it is not an ordinary word.
_LOOKS_LIKE_A_MARK = re.compile(r"<[^<>\s]+>")

# What may stand before a text that goes on, in this order: with some tokenizers a line end makes
# one token with another.
_LEADS = ("\n", "a", ".")

# Tokens that may serve as padding, those that are meant for it or for nothing first.
_PAD_NAMES = ("pad", "unused", "reserved", "endoftext", "unk")


class Codec:
    """A Transformers tokenizer with its chat template.

    eos_id: the mark that ends an answer, by which training teaches to stop. It is what the template
    puts after an answer, which need not be the tokenizer's own end of text.
    stop_ids: that mark and all others at which sampling stops.
    num_end_tokens: what an answer takes besides its text, that mark included.
    pad_id: fills rows up; never the mark that ends an answer.
    template: what is written around the texts.
    adapted: sentences on what is done otherwise than the folder says.
    """

    def __init__(
        self, tokenizer: Any, *, stop_ids: Iterable[int] = (), num_rows: int | None = None
    ) -> None:
        """stop_ids: marks at which the model stops besides. num_rows: tokens that it has embeddings
        for, None where that is not known.

        Raises InputError when the tokenizer has no chat template or one that does not fit, and when
        there is no token that ends an answer, or none that may serve as padding.
        """
        self._tokenizer = tokenizer
        self.num_rows = num_rows
        self.adapted: tuple[str, ...] = ()

        if getattr(tokenizer, "chat_template", None) is None:
            raise no_template("the tokenizer")
        self.template = Template(tokenizer)
        self._lead = self._find_lead()

        self.num_end_tokens = 1
        self.eos_id, self._end = self._find_end()
        if not self._has_row(self.eos_id, num_rows):
            raise InputError(
                f"the mark {self._end!r} of the chat template is token {self.eos_id}, beyond the "
                f"{num_rows} rows of the embedding",
                expected="vocab_size in config.json above the ids that the template needs",
                remedy="use the tokenizer that the model was trained with",
            )

        stops = (self.eos_id, tokenizer.eos_token_id, *stop_ids)
        known = (i for i in stops if i is not None and self._has_row(i, num_rows))
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys(known))
        self.pad_id = self._find_pad(num_rows)

    @staticmethod
    def load(model_dir: Path) -> Codec:
        """The codec of a model folder.

        Raises InputError when its tokenizer cannot be read, and as __init__ does.
        """
        return Codec.of(load_tokenizer(model_dir), model_dir)

    @staticmethod
    def of(tokenizer: Any, model_dir: Path) -> Codec:
        """The codec of a model folder whose tokenizer is loaded. Raises InputError as __init__."""
        try:
            return Codec(
                tokenizer, stop_ids=stop_ids(model_dir), num_rows=num_embedding_rows(model_dir)
            )
        except InputError as fault:
            raise InputError(
                f"model folder {model_dir}: {fault.found}",
                expected=fault.expected,
                remedy=fault.remedy,
            ) from fault

    def prompt_ids(self, conversation: Conversation) -> tuple[int, ...]:
        """Ids up to the place where the model writes its answer."""
        turns = self.template.taken(conversation.turns)
        pieces = self.template.asked(turns)
        stretches = self._stretches(turns, pieces, conversation.answer_prefix)
        texts = [text for text, _ in stretches] + [conversation.answer_prefix]

        ids = list(self.ids(texts[0]))
        for text in texts[1:]:
            ids += self._continued(text)
        return tuple(ids)

    def ids(self, text: str) -> tuple[int, ...]:
        """Ids of a text as it stands, with no mark added."""
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def lesson(self, conversation: Conversation) -> TokenSequence:
        """Ids of the whole conversation.

        Targets are the tokens of its target turns, end mark included. Raises InputError where the
        template writes before an answer what it does not ask for.
        """
        turns = self.template.taken(conversation.turns)
        pieces = self.template.answered(turns)

        ids: list[int] = []
        is_target: list[bool] = []
        for text, is_answer in self._stretches(turns, pieces, conversation.answer_prefix):
            more = self._continued(text) if ids else self.ids(text)
            num_taught = 0
            if is_answer:
                num_taught = more.index(self.eos_id) + 1 if self.eos_id in more else len(more)

            ids += more
            is_target += [True] * num_taught + [False] * (len(more) - num_taught)

        return TokenSequence(np.array(ids, dtype=np.int32), np.array(is_target, dtype=np.bool_))

    def is_vocabulary(self, tokens: Sequence[str]) -> bool:
        """Whether the tokenizer knows exactly these tokens, by these ids."""
        return bool(self._tokenizer.get_vocab() == {token: i for i, token in enumerate(tokens)})

    def save(self, folder: Path) -> None:
        """Write tokenizer and chat template beside the weights that were trained with them."""
        self._tokenizer.save_pretrained(str(folder))

    def token(self, token_id: int) -> str:
        """How the tokenizer names the token."""
        return str(self._tokenizer.convert_ids_to_tokens(token_id))

    def highest_ordinary_id(self) -> int:
        """Of the tokens that ordinary texts are made of, marks left out; -1 without any."""
        marks = self.marks()
        return max((i for i in self._tokenizer.get_vocab().values() if i not in marks), default=-1)

    def num_tokens(self, text: str) -> int:
        """Tokens of a text in the middle of others."""
        return len(self._continued(text))

    def text(self, ids: tuple[int, ...]) -> str:
        """The text of generated ids, special tokens left out."""
        lead = self._decoded(self.ids(self._lead)) if self._lead else ""
        return self._decoded((*self.ids(self._lead), *ids))[len(lead) :]

    def _decoded(self, ids: Sequence[int]) -> str:
        # Without the "clean-up" that some folders ask for: it takes blanks out of programs.
        return str(
            self._tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def _continued(self, text: str) -> tuple[int, ...]:
        """Ids of a text that goes on where another ends."""
        if not self._lead:
            return self.ids(text)
        for lead in _LEADS:
            ahead, amid = self.ids(lead), self.ids(lead + text)
            if amid[: len(ahead)] == ahead:  # no token reaches over the cut
                return amid[len(ahead) :]
        return self.ids(text)

    def _stretches(
        self, turns: Sequence[Turn], pieces: Sequence[str], prefix: str
    ) -> list[tuple[str, bool]]:
        """The whole text, cut where answers begin and after their prefix.

        Each stretch with whether training counts it, up to the mark that ends the answer.
        """
        stretches = []
        text, is_target = pieces[0], False
        for turn, piece in zip(turns, pieces[1:], strict=True):
            if turn.role != "assistant":
                text += piece if is_literal(turn) else turn.text + piece
                continue

            stretches.append((text, is_target))
            text, is_target = turn.text, turn.is_target
            if prefix and text.startswith(prefix):
                stretches.append((prefix, is_target))
                text = text.removeprefix(prefix)
            text += piece if self._end in piece else self._end + piece

        return [*stretches, (text, is_target)]

    def _find_lead(self) -> str:
        """What must stand before a text, so that it becomes the ids that it has amid others.

        Tokenizers of the SentencePiece kind put a blank before whatever text they are given.
        """
        lead = _LEADS[0]
        ahead = self.ids(lead)
        for text in ("1", "d"):
            amid = self.ids(lead + text)
            if amid[: len(ahead)] == ahead and amid[len(ahead) :] != self.ids(text):
                return lead
        return ""

    def _find_end(self) -> tuple[int, str]:
        """Id and text of the first mark after an answer; the tokenizer's own where there is none.

        Raises InputError without any, and for a mark that is no token.
        """
        turns = (Turn("user", ""), Turn("assistant", ""))
        after = self.template.answered(turns)[-1]
        marks = self.marks()
        own = self._tokenizer.eos_token
        for token in self._continued(after):
            if token in marks:
                end = self.token(token)
                if end != own:
                    self.adapted += (f"an answer ends with {end!r}, not with the end mark {own!r}",)
                self.num_end_tokens = self.num_tokens(after[: after.index(end)] + end)
                return token, end

        spelled = _LOOKS_LIKE_A_MARK.search(after)
        if spelled or own is None:
            raise InputError(
                f"the chat template ends an answer with {after[:40]!r}, in which no token is an "
                "end mark",
                expected="a special token of the tokenizer, by which the model learns to stop",
                remedy="use the tokenizer that the template belongs to, or name an eos_token",
            )
        self.adapted += (f"the chat template ends no answer: {own!r} is put after each",)
        return int(self._tokenizer.eos_token_id), str(own)

    def _find_pad(self, num_rows: int | None) -> int:
        """The tokenizer's padding, or a token that nothing else uses. Raises InputError."""
        own = self._tokenizer.pad_token_id
        if own is not None and own != self.eos_id and self._has_row(own, num_rows):
            return int(own)

        problem = (
            "pads with what ends an answer"
            if own == self.eos_id
            else "pads with a token beyond the embedding"
        )
        if own is None:
            problem = "has no padding token"

        turns = (Turn("system", ""), Turn("user", ""), Turn("assistant", ""))
        used = {*self.stop_ids}
        for piece in self.template.answered(self.template.taken(turns)):
            used |= set(self.ids(piece))

        names = {i: self.token(i) for i in self.marks() - used}
        free = [i for i in names if self._has_row(i, num_rows)]
        if not free:
            raise InputError(
                f"the tokenizer {problem}, and no special token is free to be padding",
                expected="a pad_token that is not the end of an answer",
                remedy="set pad_token to a reserved token in tokenizer_config.json",
            )

        best = min(free, key=lambda i: (_pad_rank(names[i]), i))
        self.adapted += (
            f"the tokenizer {problem}: {names[best]!r}, which nothing uses, is padding",
        )
        return best

    @staticmethod
    def _has_row(token: int, num_rows: int | None) -> bool:
        return token >= 0 and (num_rows is None or token < num_rows)

    def marks(self) -> set[int]:
        """Ids of the tokens that stand for no ordinary text."""
        return {*self._tokenizer.added_tokens_decoder, *self._tokenizer.all_special_ids}


def _pad_rank(name: str) -> int:
    return next((i for i, word in enumerate(_PAD_NAMES) if word in name), len(_PAD_NAMES))
