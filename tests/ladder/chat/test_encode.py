from itertools import groupby
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from conftest import ROOT, assistant, user
from ladder.chat.encode import (
    check_messages,
    completion_tokens,
    continued_tokens,
    conversation,
    encode,
    mask_sample,
    prompt_tokens,
    render,
)
from ladder.chat.mask_gate import mask_gate, text_gate
from ladder.pipeline.stage import UserError
from ladder.training.sft_examples import encoded_rows
from perf.pico import pico_tokenizer
from stages.base import repair

START, STOP = 1, 2  # <|im_start|> and <|im_end|> of the pico tokenizer
TEMPLATES = sorted((ROOT / "data/templates").glob("*.jinja"))
SYSTEM = [{"role": "system", "content": "Be brief."}]
CONVERSATIONS = [
    [*user("Hi"), *assistant("Yes.")],
    [*SYSTEM, *user("Hi"), *assistant("Yes.")],
    [
        *user("Hi"),
        *assistant("Yes."),
        *user("And?"),
        *assistant("  No:\n\n    x  \n"),
        *user("So?"),
        *assistant("Zoë!"),
    ],
    [*SYSTEM, *user(" two\n\nlines "), *assistant("{{ x }} {% y %}"), *user("<b>"), *assistant("")],
]


@pytest.fixture
def tokenizer():
    return pico_tokenizer()


def test_only_the_answers_and_their_stop_tokens_are_learned(tokenizer):
    ids, mask = encode(tokenizer, [*user("Hi"), *assistant("Yes."), *user("And?"), *assistant("No.")])
    assert mask_sample(tokenizer, ids, mask) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Yes.<|im_end|>⟧\n"
        "<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n⟦No.<|im_end|>⟧"
    )


def test_training_and_generation_read_the_same_prompt(tokenizer):
    prompt, answer = completion_tokens(tokenizer, user("Hi"), "Yes.")
    assert prompt == prompt_tokens(tokenizer, user("Hi"))
    assert tokenizer.decode(answer) == "Yes.<|im_end|>"


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_a_conversation_is_the_same_bytes_in_training_and_in_inference(tokenizer, template, messages):
    tokenizer.chat_template = template.read_text()
    repair(tokenizer, template.name)
    ids, mask = encode(tokenizer, messages)
    assert render(tokenizer, messages, answer=False).startswith(tokenizer.decode(ids))
    answers = []
    for turn, message in enumerate(messages):
        if message["role"] == "assistant":
            prompt = prompt_tokens(tokenizer, messages[:turn])
            assert (ids[: len(prompt)], mask[len(prompt) - 1 : len(prompt) + 1]) == (prompt, [0, 1])
            answers.append(message["content"] + tokenizer.eos_token)
    learned = [token for token, trained in zip(ids, mask, strict=True) if trained]
    assert tokenizer.decode(learned) == "".join(answers)


def test_a_template_that_renders_prompts_in_another_way_is_refused(tokenizer):
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant\n{% endif %}", "assistant\nHm: {% endif %}")
    with pytest.raises(UserError, match="renders turn 2 differently"):
        encode(tokenizer, [*user("Hi"), *assistant("Yes.")])


def test_a_template_without_a_stop_token_is_refused(tokenizer):
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "")
    with pytest.raises(UserError, match="assistant turn 2: expected the stop token '<|im_end|>' after it"):
        encode(tokenizer, [*user("Hi"), *assistant("Yes.")])


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ([0, 0, 0, 0], "row 1: no token is trained"),
        ([1, 1, 1, 1], "row 1: every token is trained"),
        ([0, 1, 1, 0], "row 1: the stop token of the last answer is not trained"),
    ],
)
def test_the_gate_stops_a_wrong_mask(mask, said):
    with pytest.raises(UserError, match=said):
        mask_gate([[5, 6, 7, 2]], [mask], stop=2)


QUOTED = "It is <|im_end|> and it comes after every message, TAIL-OF-ANSWER."


def test_the_text_of_a_special_token_stays_text(tokenizer):
    messages = [*user("What ends a turn, <|im_end|>\n<|im_start|>assistant?"), *assistant(QUOTED)]
    ids, mask = encode(tokenizer, messages)
    assert tokenizer.decode([token for token, on in zip(ids, mask, strict=True) if on]) == f"{QUOTED}<|im_end|>"
    assert (ids.count(STOP), ids.count(START)) == (2, 2)  # only the template's own tokens
    prompt = prompt_tokens(tokenizer, messages[:1])
    assert ids[: len(prompt)] == prompt and (prompt.count(STOP), prompt.count(START)) == (1, 2)
    assert tokenizer.decode(prompt) == render(tokenizer, messages[:1], answer=True)


def test_a_text_that_was_rendered_before_is_refused(tokenizer):
    rendered = render(tokenizer, user("Name a color."), answer=True)
    with pytest.raises(
        UserError, match=r"a.jsonl: row 4: user: expected the plain text.*'<.im_start.>user\\nName a.*a chat template"
    ):
        prompt_tokens(tokenizer, user(rendered), "a.jsonl: row 4")


def test_a_turn_that_is_not_to_train_is_context(tokenizer):
    wrong = {"role": "assistant", "content": "WRONG Quito.", "train": False}
    ids, mask = encode(tokenizer, [*user("Capital of Peru?"), wrong, *user("No."), *assistant("Lima.")])
    assert "assistant\nWRONG Quito.<|im_end|>" in tokenizer.decode(ids)
    assert mask_sample(tokenizer, ids, mask).count("⟦") == 1
    assert mask_sample(tokenizer, ids, mask).endswith("⟦Lima.<|im_end|>⟧")
    with pytest.raises(UserError, match="expected an assistant turn that is trained"):
        encode(tokenizer, [*user("Capital of Peru?"), wrong])


def test_a_key_of_a_message_that_nothing_reads_is_refused():
    with pytest.raises(UserError, match="row 1: turn 1: expected keys role, content.*, got 'tool_calls'"):
        check_messages([{"role": "user", "content": "a", "tool_calls": [{"name": "f"}]}], "row 1")
    check_messages([{"role": "user", "content": "a", "tool_calls": None, "name": ""}], "row 1")


def test_reasoning_that_the_template_does_not_read_is_refused_with_the_number_of_rows(tokenizer):
    thought = {"messages": [*user("6 * 7?"), {**assistant("42")[0], "reasoning_content": "Six sevens."}]}
    plain = {"messages": [*user("6 * 7?"), *assistant("42")]}
    with pytest.raises(
        UserError, match=r"a.jsonl: row 2: .* leaves out 10 characters of assistant turn 2.*; 2 of 3 rows"
    ):
        encoded_rows(tokenizer, [plain, thought, thought], Path("a.jsonl"))


def test_tokens_over_the_end_of_a_header_are_cut_there():
    """Tokenized as a whole, the header's line break and the answer's first one would be one token."""
    tokenizer = pico_tokenizer(merges=[("Ċ", "Ċ"), ("ĊĊ", "Ċ")])
    ids, mask = encode(tokenizer, [*user("Two?"), *assistant("\n\nTwo."), *user("And?"), *assistant("\nNo.")])
    assert learned_tokens(tokenizer, ids, mask) == [["Ċ", "Ċ", *"Two.", "<|im_end|>"], ["Ċ", *"No.", "<|im_end|>"]]
    for turn in (1, 3):
        before = [*user("Two?"), *assistant("\n\nTwo."), *user("And?")][:turn]
        prompt = prompt_tokens(tokenizer, before)
        assert ids[: len(prompt)] == prompt and tokenizer.convert_ids_to_tokens(prompt[-1]) == "Ċ"


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
def test_a_tokenizer_that_marks_the_beginning_of_a_text_marks_none_inside_it(scheme):
    """A tokenizer of Llama 2's type: a space is part of a token, and one is added before a text."""
    characters = [chr(code) for code in range(33, 127)] + ["▁", "\n"]
    vocabulary = ["<unk>", "<s>", "</s>", *characters, "▁▁"]
    backend = Tokenizer(
        models.BPE({token: number for number, token in enumerate(vocabulary)}, [("▁", "▁")], unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
    )
    ids, mask = encode(tokenizer, [*user("Say </s>"), *assistant("A </s> B"), *user("So?"), *assistant("  C")])
    assert learned_tokens(tokenizer, ids, mask) == [
        ["▁", "A", "▁", *"</s>", "▁", "B", "▁", "</s>"],
        ["▁▁", "▁", "C", "▁", "</s>"],
    ]
    assert ids.count(2) == 2 and 0 not in ids
    prompt = prompt_tokens(tokenizer, user("Say </s>"))
    assert ids[: len(prompt)] == prompt


@pytest.mark.parametrize(
    ("learned", "said"),
    [
        ("And?<|im_end|>", "turn 4: expected trained tokens for 'No.', got 'And.<.im_end.>'"),
        ("user\nAnd?<|im_end|>\n<|im_start|>assistant\nNo.<|im_end|>", "turn 4: 'userAnd.*' is trained, but neither"),
        ("o.<|im_end|>", "turn 4: expected trained tokens for 'No.', got 'o.*'"),
    ],
)
def test_the_gate_catches_a_mask_over_other_text(tokenizer, learned, said):
    messages = [*user("Hi"), *assistant("Yes."), *user("And?"), *assistant("No.")]
    ids, mask = encode(tokenizer, messages)
    text_gate(tokenizer, messages, ids, mask, "row 1")
    whole = tokenizer.decode(ids)
    start = whole.index(learned, whole.index("Yes."))
    inside = range(len(tokenizer(whole[:start]).input_ids), len(tokenizer(whole[: start + len(learned)]).input_ids))
    second = mask.index(0, mask.index(1))
    moved = [int(place in inside) if place >= second else on for place, on in enumerate(mask)]
    with pytest.raises(UserError, match=f"row 1: mask gate: {said}"):
        text_gate(tokenizer, messages, ids, moved, "row 1")
    with pytest.raises(UserError, match="expected 2 trained passages, one per answer, got 1"):
        text_gate(tokenizer, messages, ids, [on * (place >= second) for place, on in enumerate(mask)], "row 1")


def test_a_given_beginning_of_the_answer_is_read_on(tokenizer):
    ids = continued_tokens(tokenizer, user("Hi"), "Rating: [[7")
    assert tokenizer.decode(ids) == render(tokenizer, user("Hi"), answer=True) + "Rating: [[7"
    assert ids[: len(prompt_tokens(tokenizer, user("Hi")))] == prompt_tokens(tokenizer, user("Hi"))


def learned_tokens(tokenizer, ids, mask):
    """Return the trained passages, each a list of tokens."""
    runs = groupby(zip(ids, mask, strict=True), key=lambda pair: pair[1])
    return [tokenizer.convert_ids_to_tokens([token for token, _ in run]) for on, run in runs if on]


def test_the_gate_lets_a_right_mask_through():
    mask_gate([[5, 6, 2, 7, 8, 2]], [[0, 1, 1, 0, 1, 1]], stop=2)


@pytest.mark.parametrize(
    "row", [{}, {"messages": []}, {"messages": [{"role": "human", "content": "a"}]}, {"prompt": "a"}]
)
def test_a_row_that_is_no_conversation_is_named(row):
    with pytest.raises(UserError, match="rows.jsonl: row 3: expected"):
        conversation(row, "rows.jsonl: row 3")
