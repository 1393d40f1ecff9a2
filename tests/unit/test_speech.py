"""Model folders are tried on texts of ours: what fits is adapted and told, else it is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.arc.encode import get_encoder
from appliance.arc.prompt import Conversation, Turn, get_style
from appliance.engine.folder.card import read_card
from appliance.engine.folder.samples import TASKS
from appliance.engine.folder.speech import examine_speech, try_out
from appliance.engine.folder.tokenizer import load_tokenizer
from appliance.engine.tokens import Codec
from appliance.errors import InputError
from tests.support.small_lm import CHATML, byte_tokenizer

pytest.importorskip("transformers")

ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
TURN = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
TURNS = "{% for m in messages %}" + TURN + "{% endfor %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
THOUGHT = "<think>\n\n</think>\n\n"
QWEN3 = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ '<|im_start|>assistant\n' + ("
    f"'{THOUGHT}' if loop.last else '') + m['content'].lstrip('\n') + '<|im_end|>\n' }}}}"
    "{% else %}" + TURN + "{% endif %}{% endfor %}" + ASK[:-11] + "{% if enable_thinking is defined"
    f" and enable_thinking is false %}}{{{{ '{THOUGHT}' }}}}{{% endif %}}{{% endif %}}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)

Folders = Any  # makes a folder: template, changes of its files


@pytest.fixture
def make(tmp_path: Path) -> Folders:
    def made(template: Any = CHATML, *, tokenizer: Any = None, **files: Any) -> Path:
        tokenizer = tokenizer or byte_tokenizer()
        tokenizer.chat_template = template
        tokenizer.save_pretrained(tmp_path)
        config = {"model_type": "qwen2", "vocab_size": len(tokenizer)}
        for name, said in ({"config": config} | files).items():
            path = tmp_path / f"{name}.json"
            old = json.loads(path.read_text()) if path.is_file() else {}
            path.write_text(json.dumps(old | said))
        return tmp_path

    return made


def tried(folder: Path) -> str:
    return "\n".join(try_out(folder, read_card(folder)))


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (CHATML, ""),
        (NO_SYSTEM + CHATML, "takes no system turn"),
        (TURNS.replace("m in messages", "m in messages if m['role'] != 'system'") + ASK, "system"),
        (CHATML.replace("m['content']", "m['content'] | trim"), ""),
        (CHATML.replace("m['content']", "m['content'][0]['text']"), ""),
        ("{{ tools | length }}" + CHATML, ""),
        ("{{ strftime_now('%H:%M:%S.%f') }}" + CHATML, "it is always 26 July 2024"),
        (QWEN3, "answers are asked for without"),
        (LLAMA2, "takes no system turn"),
        (TURNS, "is asked for with that"),
        (CHATML.replace("<|im_start|>", "<|start|>"), "'<|start|>' of the chat template is no"),
        (CHATML.replace("<|im_end|>", "").replace("\n", "\n\n"), "'<|im_end|>' is put after each"),
    ],
)
def test_what_can_be_adapted_is_adapted_and_told(make: Folders, template: str, told: str) -> None:
    notes = tried(make(template))
    assert told in notes
    assert bool(notes) == bool(told)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, "no chat template"),
        ("{% for m in messages %}{{ m }", "unexpected '}'"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ raise_exception('no chat here') }}", "no chat here"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{{ 'x' * 3000000 }}" + CHATML, "3,000,0"),
        ("hello", "0 times"),
        (CHATML.replace("m['content']", "m['content'] + m['content']"), "2 times"),
        (CHATML.replace("m['content']", "m['content'] | upper"), "changes the texts"),
        (CHATML.replace("m['content']", "m['content'].replace('\n', ' ')"), "changes the texts"),
        ("{{ ['a', 'b', 'c', 'd'] | random }}" + CHATML, "another text each time"),
        (CHATML + "{{ eos_token }}", "opens an answer with"),
        (TURNS + ASK.replace("assistant\n", "assistant\n<think>\n"), "opens an answer with"),
        (CHATML.replace("<|im_end|>", "<|end|>"), "no token is an end mark"),
    ],
)
def test_what_cannot_be_spoken_to_is_named(make: Folders, template: Any, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        tried(make(template))
    assert reason in caught.value.found
    assert caught.value.expected and caught.value.remedy


def test_the_default_of_a_list_of_templates_is_taken(make: Folders) -> None:
    listed = [{"name": name, "template": CHATML} for name in ("default", "tool_use")]
    folder = make(None, tokenizer_config={"chat_template": listed})
    assert tried(folder) == ""

    folder = make(None, tokenizer_config={"chat_template": [listed[1] | {"name": "rag"}]})
    with pytest.raises(InputError, match="no default"):
        tried(folder)


def test_a_template_that_marks_only_the_last_turn_breaks_one_style(make: Folders) -> None:
    assert tried(make(QWEN3, appliance={"style": "output-from-examples-v1"}))
    with pytest.raises(InputError, match="in turn 2 of 4"):
        tried(make(QWEN3, appliance={"style": "grid-tokens-v1", "encoder": "minimal"}))


def test_an_answer_ends_with_the_mark_of_the_template(make: Folders) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<end_of_turn>"]})
    end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    folder = make(
        CHATML.replace("<|im_end|>", "<end_of_turn>"),
        tokenizer=tokenizer,
        generation_config={"eos_token_id": [0, end]},
    )
    with pytest.raises(InputError, match="stops at token 0"):
        tried(folder)

    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [tokenizer.pad_token_id, end]})
    )
    assert "'<end_of_turn>'" in tried(folder)
    codec = Codec.load(folder)
    assert codec.eos_id == end
    assert codec.stop_ids == (end, tokenizer.eos_token_id, tokenizer.pad_token_id)

    lesson = codec.lesson(Conversation((Turn("user", "1"), Turn("assistant", "2", True))))
    assert codec.text(tuple(lesson.ids[lesson.is_target])) == "2"
    assert lesson.ids[lesson.is_target][-1] == end


@pytest.mark.parametrize("own", [None, "<|im_end|>"])
def test_a_token_that_nothing_uses_serves_as_padding(make: Folders, own: str | None) -> None:
    tokenizer = byte_tokenizer()
    spare = tokenizer.pad_token_id
    tokenizer.pad_token = own
    folder = make(CHATML, tokenizer=tokenizer)
    assert "'<|endoftext|>', which nothing uses, is padding" in tried(folder)
    assert Codec.load(folder).pad_id == spare

    # Where the spare one has no row in the embedding there is none.
    taken = make(CHATML + "{# #}", tokenizer=tokenizer, config={"vocab_size": spare})
    if tokenizer.convert_tokens_to_ids("<|im_start|>") < spare:
        with pytest.raises(InputError, match="no special token is free"):
            tried(taken)


def test_ids_beyond_the_embedding_matter_only_where_texts_need_them(make: Folders) -> None:
    tokenizer = byte_tokenizer()
    num_rows = len(tokenizer)
    tokenizer.add_tokens([f"<|c{i}|>" for i in range(10)], special_tokens=True)
    assert tried(make(CHATML, tokenizer=tokenizer, config={"vocab_size": num_rows})) == ""

    with pytest.raises(InputError, match="and the embedding has"):
        tried(make("<|c3|>" + CHATML, tokenizer=tokenizer, config={"vocab_size": num_rows}))
    for rows in (100, 256):
        with pytest.raises(InputError, match=f"{rows} rows"):
            tried(make(CHATML, tokenizer=tokenizer, config={"vocab_size": rows}))


def test_a_tokenizer_with_code_or_of_a_newer_kind_is_named(make: Folders) -> None:
    folder = make(CHATML, tokenizer_config={"auto_map": {"AutoTokenizer": ["tok.My", None]}})
    with pytest.raises(InputError, match="code of its own"):
        load_tokenizer(folder)

    folder = make(CHATML)
    (folder / "tokenizer_config.json").write_text("{}")
    written = json.loads((folder / "tokenizer.json").read_text())
    written["model"] = {"type": "SuperBPE", "vocab": {}, "merges": []}
    (folder / "tokenizer.json").write_text(json.dumps(written))
    with pytest.raises(InputError, match="type SuperBPE, and may be of a newer version"):
        load_tokenizer(folder)


def test_a_process_without_torch_has_a_child_look(
    make: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    folder = make(NO_SYSTEM + CHATML)
    (note,) = examine_speech(folder, read_card(folder))
    assert "no system turn" in note

    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    folder = make(loops + CHATML)
    with pytest.raises(InputError, match="killed by SIGXCPU"):
        examine_speech(folder, read_card(folder))


def merging_tokenizer(kind: str) -> Any:
    """One that makes tokens of whatever stands side by side often, also over the start of an
    answer: plain BPE, or one that puts a blank before each text, as SentencePiece does."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    if kind == "bytes":
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        core.decoder = decoders.ByteLevel()
    else:
        core.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        core.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    letters = "".join(map(chr, range(32, 127))) + "\n"
    core.train_from_iterator(["assistant\n\n1\n 2 \n\n  def\n```grid\n" * 20, letters], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHATML,
    )


@pytest.mark.parametrize("template", [CHATML, QWEN3, LLAMA2], ids=["chatml", "qwen3", "llama2"])
@pytest.mark.parametrize("kind", ["bytes", "blank first"])
def test_the_ids_of_a_prompt_begin_its_lesson(kind: str, template: str) -> None:
    tokenizer = merging_tokenizer(kind)
    tokenizer.chat_template = template
    codec = Codec(tokenizer)

    @settings(max_examples=100, deadline=None)
    @given(
        st.text("\n 1`a", max_size=8), st.text("\n 1`a", max_size=8), st.text("\n 1`", max_size=3)
    )
    def check(question: str, answer: str, prefix: str) -> None:
        asked = (Turn("system", question), Turn("user", question + "?"))
        prompt = codec.prompt_ids(Conversation(asked, prefix))
        answered = Turn("assistant", prefix + answer, is_target=True)
        lesson = codec.lesson(Conversation((*asked, answered), prefix))

        ids = tuple(lesson.ids.tolist())
        assert ids[: len(prompt)] == prompt
        written = ids[len(prompt) : ids.index(codec.eos_id, len(prompt))]
        assert codec.text(written).removesuffix(" " * (template == LLAMA2)) == answer
        assert lesson.is_target[len(prompt) : len(prompt) + len(written) + 1].all()

    check()


def test_every_style_asks_for_what_it_teaches() -> None:
    codec = Codec(merging_tokenizer("bytes"))
    for name in ("output-from-examples-v0", "input-from-inputs-v1", "grid-tokens-v1"):
        style, encoder = get_style(name), get_encoder("arc24-shape-row-number")
        for task in TASKS:
            prompt = codec.prompt_ids(style.prompt(task, 0, encoder))
            lesson = codec.lesson(style.lesson(task, 0, task.test[0], encoder))
            assert tuple(lesson.ids[: len(prompt)].tolist()) == prompt
