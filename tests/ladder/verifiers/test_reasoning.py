"""Reasoning blocks of published models, copied from their model cards and chat templates."""

import pytest

from ladder.verifiers.reasoning import (
    closing_token,
    marks,
    names_mark,
    opens_reasoning,
    strip_reasoning,
    unended,
    whole_text,
)

HARMONY = (
    "<|channel|>analysis<|message|>User wants 4? #### 1<|end|><|start|>assistant<|channel|>final<|message|>"
    "The answer is 4.<|return|>"
)


@pytest.mark.parametrize(
    "text",
    [
        "<think>\n#### 1?\n</think>\n\nThe answer is 4.",  # Qwen3, DeepSeek-R1
        "<think>hm</think>The answer is 4.",
        "\n<think></think>\n\nThe answer is 4.",  # thinking switched off
        "<THINK>hm</THINK>The answer is 4.",
        "<thinking>hm</thinking>\nThe answer is 4.",
        "<reasoning>\nhm\n</reasoning>\nThe answer is 4.",
        "<reasoning>\nhm\n</reasoning>\n<answer>\nThe answer is 4.\n</answer>",
        "<thought>\nhm\n</thought>\n\nThe answer is 4.",  # EXAONE Deep
        "<Thought>\nhm\n</Thought>\n<Output>\nThe answer is 4.\n</Output>",  # Marco-o1
        "<seed:think>hm</seed:think>The answer is 4.",  # Seed-OSS
        "<think>\nhm\n</think>\n\n<response>\nThe answer is 4.\n</response>\n",  # ERNIE 4.5
        "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>The answer is 4.<|END_RESPONSE|>",  # Cohere
        "<|START_THINKING|>hm<|END_THINKING|>The answer is 4.",
        "<|START_RESPONSE|>The answer is 4.<|END_RESPONSE|>",
        "<|begin_of_thought|>\n\nhm\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\nThe answer is 4.",  # Sky-T1
        "[THINK]hm[/THINK]The answer is 4.",  # Magistral
        "◁think▷hm◁/think▷The answer is 4.",  # Kimi
        "<|channel>thought\nhm\n<channel|>The answer is 4.",  # Gemma 4
        "<|inner_prefix|>hm<|inner_suffix|>The answer is 4.",  # Apertus
        "Here is my thought process:\nhm\nHere is my response:\nThe answer is 4.",  # Granite 3.2
        '<details type="reasoning" done="true">\nhm\n</details>\nThe answer is 4.',  # Open WebUI
        "<think>one</think>\n<think>two</think>\nThe answer is 4.",
        "<think>The user asks how `</think>` is written.</think>The answer is 4.",
        "<think>\n```\n</thinking>\n```\n</think>\nThe answer is 4.",
        # The prompt opened the block.
        "Hm, 2 and 2. #### 1\n</think>\n\nThe answer is 4.",
        "Hm.</think>The answer is 4.",
        "Hm </think> The answer is 4.",
        "</think>\n\nThe answer is 4.",
        "They ask what <think> means.\n</think>\n\nThe answer is 4.",
        "They ask about <think> and </think> here.\n</think>\n\nThe answer is 4.",
        "```\nx = 1\n```\nSo.\n</think>\n\nThe answer is 4.",
        "hm[/THINK]The answer is 4.",
        "hm<|END_THINKING|>The answer is 4.",
        "hm\n◁/think▷The answer is 4.",
        "hm\n<channel|>The answer is 4.",
        "<think>\nhm\n</think>\nWait, more.\n</think>\n\nThe answer is 4.",
        # gpt-oss
        HARMONY,
        f"<|start|>assistant{HARMONY}",
        HARMONY.replace("<|return|>", ""),
        HARMONY.replace("final<|message|>", "final <|constrain|>json<|message|>"),
        "<|channel|>final<|message|>The answer is 4.<|return|>",
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary to=functions.f"
        "<|message|>{}<|call|><|start|>assistant<|channel|>final<|message|>The answer is 4.",
        "User wants 4.<|end|><|start|>assistant<|channel|>final<|message|>The answer is 4.",
        "analysisUser wants 4? #### 1assistantfinalThe answer is 4.",
        "analysisWe call it.assistantcommentaryI will call.assistantfinalThe answer is 4.",
        "assistantfinalThe answer is 4.",
        "assistantanalysisWe need.assistantfinalThe answer is 4.",
        " to=self<|message|>hm<|eom|><|start|>assistant<|message|>The answer is 4.",
        "to=self<|message|>hm<|eom|><|start|>assistant to=user<|message|>The answer is 4.",
    ],
)
def test_the_answer_follows_the_reasoning(text: str) -> None:
    assert strip_reasoning(text) == ("The answer is 4.", True)


@pytest.mark.parametrize(
    "text",
    [
        "<think>\nhm, or rather",
        "<think>",
        "[THINK]hm",
        "<|START_THINKING|>hm",
        "<think>one</think><think>two",
        "<think>It is written `</think>` and",
        "◁think▷hm",
        "<|channel>thought\nhm",
        "Here is my thought process:\nhm",
        "<|channel|>analysis<|message|>User wants 4",
        "<|channel|>analysis<|message|>a<|end|>",
        "<|channel|>analysis",
        "analysisWe need to answer 4. #### 4",
        unended("The user"),
    ],
)
def test_reasoning_that_never_ended_is_no_answer(text: str) -> None:
    assert strip_reasoning(text) == ("", False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The answer is 4.",
        "  The answer is 4. \n",
        "Reasoning models write <think> and </think> around their thoughts.",
        "Use the <think> tag: it says <think>so</think>. [[4]]",
        "The </think> tag closes a block.",
        "A block is closed with </think>.",
        "A block is closed with `</think>`",
        'A block is closed with "</think>".',
        "The format is:\n\n<think>\nthoughts\n</think>\nanswer",
        "The format is:\n```\n<think>\nthoughts\n</think>\nanswer\n```\nThat is all.",
        "The parser looks for it:\n```python\nend = text.find(mark)\n</think>\n```\nDone.",
        "```python\ntext.partition('</think>')\n```",
        '{"why": "it ends in </think>", "helpful": 4}',
        "`<think>` opens a block.",
        "gpt-oss writes <|channel|>analysis<|message|> before its thoughts.",
        "analysis of the data: assistantfinal is a word",
        "analysisResult = compute()",
        "analysis\n\nThe numbers grow.",
        "finalValue = 3",
        "<answer>4</answer>",
        "<b>4</b> [1] a < b",
        "Thinking about it, 4.",
        "[THINKING] is a label.",
    ],
)
def test_a_text_without_reasoning_is_left_as_it_is(text: str) -> None:
    assert strip_reasoning(text) == (text, True)


def test_stripping_twice_changes_nothing_more() -> None:
    answer = strip_reasoning("<think>\nhm\n</think>\n\nThe `</think>` tag closes the <think> block.").answer
    assert answer == "The `</think>` tag closes the <think> block."
    assert strip_reasoning(answer).answer == answer


def test_reasoning_in_a_field_of_its_own_counts_where_there_is_no_answer() -> None:
    assert whole_text({"response": "4", "reasoning_content": "hm"}, "response") == "4"
    for row in ({"response": "", "reasoning": "hm"}, {"response": None, "reasoning_content": "hm"}):
        assert strip_reasoning(whole_text(row, "response")) == ("", False)
    assert whole_text({"response": "", "reasoning": ""}, "response") == ""


def test_a_prompt_may_open_the_reasoning() -> None:
    assert opens_reasoning("<|im_start|>assistant\n<think>\n") == "<think>\n"
    assert opens_reasoning("<start_of_turn>model\n<|channel>thought\n") == "<|channel>thought\n"
    assert opens_reasoning("<|im_start|>assistant\n<think>\n\n</think>\n\n") == ""
    assert opens_reasoning("What is <think>?<|im_end|>\n<|im_start|>assistant\n") == ""


def test_the_special_tokens_that_an_answer_keeps() -> None:
    assert marks(["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|end|>", "<|start|>"]) == set()
    assert marks(["<s>", "</s>", "[INST]", "[THINK]", "[/THINK]"]) == {"[THINK]", "[/THINK]"}
    assert marks(["<|start|>", "<|end|>", "<|channel|>", "<|message|>", "<|return|>", "<|startoftext|>"]) == {
        "<|start|>", "<|end|>", "<|channel|>", "<|message|>", "<|return|>",
    }  # fmt: skip


def test_a_pattern_may_ask_for_the_reasoning_itself() -> None:
    assert names_mark(r"^<think>.*</think>") and names_mark(r"\[THINK\]")
    assert not names_mark("#### -?[0-9]+$") and not names_mark("think twice")


def test_the_token_that_ends_reasoning() -> None:
    assert closing_token({"a": 0, "<think>": 1, "</think>": 2}) == 2
    assert closing_token({"[THINK]": 1, "[/THINK]": 7}) == 7
    assert closing_token({"a": 0, "<|im_end|>": 1}) is None
