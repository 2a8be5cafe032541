"""Text that is already rendered, from TRL's templates and from formats that exist only as text."""

from pathlib import Path

import pytest
import trl
from jinja2 import TemplateError
from transformers.utils.chat_template_utils import _compile_jinja_template

from conftest import assistant, user
from ladder.data.rendered_text import check, found, unwrapped
from ladder.pipeline.errors import InvalidRow

TEMPLATES = sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
CHAT = [*user("Name a color."), *assistant("Blue."), *user("And a number?")]
SYSTEM = [{"role": "system", "content": "You are brief."}]


def rendering(path: Path, messages, answer):
    template = _compile_jinja_template(path.read_text())
    return template.render(messages=messages, add_generation_prompt=answer, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_what_a_template_renders_is_recognized(path):
    seen = 0
    for messages, answer in ((CHAT[:1], True), (CHAT, True), (CHAT[:2], False), (SYSTEM + CHAT, True)):
        try:
            text = rendering(path, messages, answer)
        except TemplateError:
            continue  # no system role
        seen += 1
        assert found(text), text
    assert seen


RENDERED = {
    "ChatML": "<|im_start|>user\nName a color.<|im_end|>\n<|im_start|>assistant\nBlue.<|im_end|>\n"
    "<|im_start|>user\nAnd a number?<|im_end|>\n<|im_start|>assistant\n",
    "Llama 2 or Mistral": "<s>[INST] Name a color. [/INST] Blue. </s><s>[INST] And a number? [/INST]",
    "Llama 3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nName a color.<|eot_id|><|start_header_id|>"
    "assistant<|end_header_id|>\n\nBlue.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nAnd a number?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "Gemma": "<bos><start_of_turn>user\nName a color.<end_of_turn>\n<start_of_turn>model\nBlue.<end_of_turn>\n"
    "<start_of_turn>user\nAnd a number?<end_of_turn>\n<start_of_turn>model\n",
    "Zephyr or Phi": "<|user|>\nName a color.</s>\n<|assistant|>\nBlue.</s>\n"
    "<|user|>\nAnd a number?</s>\n<|assistant|>\n",
    "Vicuna": "USER: Name a color. ASSISTANT: Blue.</s>USER: And a number? ASSISTANT:",
    "Human and Assistant": "\n\nHuman: Name a color.\n\nAssistant: Blue.\n\nHuman: And a number?\n\nAssistant:",
    "Alpaca": "### Instruction:\nName a color.\n\n### Response:\nBlue.\n\n"
    "### Instruction:\nAnd a number?\n\n### Response:\n",
    "Harmony": "<|start|>user<|message|>Name a color.<|end|><|start|>assistant<|channel|>final<|message|>"
    "Blue.<|return|><|start|>user<|message|>And a number?<|end|><|start|>assistant",
    "Command R": "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Name a color.<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Blue.<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>"
    "And a number?<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
}


@pytest.mark.parametrize("name", RENDERED)
def test_rendered_text_is_recognized_and_unwrapped(name):
    seen = found(RENDERED[name])
    assert seen and seen.family.name == name
    with pytest.raises(InvalidRow, match="rendered before: prompt has .*a turn of the template"):
        check(RENDERED[name], "prompt")
    assert unwrapped({"prompt": RENDERED[name]}) == {"prompt": CHAT}


def test_channels_are_not_unwrapped():
    text = "<|start|>user<|message|>Hi<|end|><|start|>assistant<|channel|>analysis<|message|>Hm<|end|>"
    with pytest.raises(InvalidRow, match="prompt has reasoning or tool calls in channels"):
        unwrapped({"prompt": text})


def test_a_rendered_pair_loses_its_end_tokens():
    prompt = "<|im_start|>system\nYou are brief.<|im_end|>\n<|im_start|>user\nName a color.<|im_end|>\n"
    row = {"prompt": f"{prompt}<|im_start|>assistant\n", "chosen": "Blue.<|im_end|>\n", "rejected": "No.<|im_end|>"}
    assert unwrapped(row) == {"prompt": SYSTEM + CHAT[:1], "chosen": "Blue.", "rejected": "No."}


def test_the_system_message_of_llama_2():
    text = "<s>[INST] <<SYS>>\nYou are brief.\n<</SYS>>\n\nName a color. [/INST] Blue. </s>"
    assert unwrapped({"text": text}) == {"text": None, "messages": SYSTEM + CHAT[:2]}


@pytest.mark.parametrize(
    "text",
    [
        "It is <|im_end|> and it comes after every message.",
        "<|im_end|>",
        "Which model writes [INST]?",
        "Llama 2 writes [INST] before and [/INST] after the user's text.",
        "The header <|im_start|>user\n begins a turn.",
        "ChatML looks so:\n```\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n```",
        "A turn is <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|> in full.",
        "Human: Hi. That is how the play begins.",
        "USER: is a column of the table.",
        "### Instruction: is a heading of Alpaca's prompt.",
        "<html><body>Hello</body></html>",
        "<s>struck</s> text",
    ],
)
def test_text_that_speaks_of_a_marker_is_text(text):
    assert found(text) is None
    assert unwrapped({"prompt": text}) == {"prompt": text}


def test_an_answer_that_ran_on_into_the_next_turn_is_recognized():
    assert found("Blue.<|im_end|>\n<|im_start|>user\nAnd a number?<|im_end|>")
    assert found("Blue.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nAnd?")
    assert found("Blue.</s><s>[INST] And? [/INST]")
