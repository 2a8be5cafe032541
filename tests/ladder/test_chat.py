import pytest

from conftest import ROOT, assistant, pico_tokenizer, user
from ladder.chat import completion_tokens, conversation, encode, mask_sample, prompt_tokens, render
from ladder.gate import mask_gate
from ladder.run import Refused
from stages.base import repair

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
    with pytest.raises(Refused, match="renders turn 2 in another way"):
        encode(tokenizer, [*user("Hi"), *assistant("Yes.")])


def test_a_template_without_a_stop_token_is_refused(tokenizer):
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "")
    with pytest.raises(Refused, match="no stop token '<|im_end|>' after assistant turn 2"):
        encode(tokenizer, [*user("Hi"), *assistant("Yes.")])


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ([0, 0, 0, 0], "row 1 trains no token"),
        ([1, 1, 1, 1], "row 1 trains every token"),
        ([0, 1, 1, 0], "row 1 has an answer whose stop token is not trained"),
    ],
)
def test_the_gate_stops_a_wrong_mask(mask, said):
    with pytest.raises(Refused, match=said):
        mask_gate([[5, 6, 7, 2]], [mask], stop=2)


def test_the_gate_lets_a_right_mask_through():
    mask_gate([[5, 6, 2, 7, 8, 2]], [[0, 1, 1, 0, 1, 1]], stop=2)


@pytest.mark.parametrize(
    "row", [{}, {"messages": []}, {"messages": [{"role": "human", "content": "a"}]}, {"prompt": "a"}]
)
def test_a_row_that_is_no_conversation_is_named(row):
    with pytest.raises(Refused, match="rows.jsonl: row 3: expected"):
        conversation(row, "rows.jsonl: row 3")
