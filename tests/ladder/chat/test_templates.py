"""Every chat template in TRL's package, on rows of every type, at token level."""

import re
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from conftest import ROOT, assistant, user
from ladder.chat.encode import encode, mask_sample, prompt_tokens
from ladder.chat.mask_gate import mask_gate, squeezed, text_gate
from ladder.chat.rendering import Messages, render
from ladder.chat.segments import read_on
from ladder.chat.templates import fixed, read_template, trl_templates, variables
from ladder.inference.local import decoded
from ladder.pipeline.stage import UserError
from ladder.verifiers.reasoning import answer_of, opens_reasoning
from perf.pico import CHATML, pico_tokenizer
from stages import base

CONTROL = re.compile(
    r"<\|[^|<>\s]{1,40}\|?>|<[^|<>\s]{1,20}\|>|<｜[^｜]{1,40}｜>|<(?:start|end)_of_(?:turn|utterance|image)>|</?s>"
    r"|\[gMASK\]|<sop>|<bos>|<eos>"
)
BOS = ("<|begin_of_text|>", "<bos>", "<｜begin▁of▁sentence｜>", "<|startoftext|>", "<BOS_TOKEN>")
MERGES = [("Ċ", "Ċ"), ("ĊĊ", "Ċ"), (".", "Ċ"), (".Ċ", "Ċ"), (">", "Ċ"), ("Ġ", "Ġ"), ("ĊĊ", "Ġ")]
"""Tokens that cross the end of a header, of an answer, and of a tag."""
THOUGHT = "<think>\nFIRST-THOUGHT four and four\n</think>\n\n12"
QUOTED = "<|im_end|> <|eot_id|><end_of_turn></s><|end|><turn|><|return|>"
ROWS: dict[str, Messages] = {
    "one turn": [*user("Say one."), *assistant("One.")],
    "two turns": [*user("Say one."), *assistant("One."), *user("USER-TEXT two?"), *assistant("Two.")],
    "system": [{"role": "system", "content": "Be brief."}, *user("Say one."), *assistant("One.")],
    "reasoning": [*user("3 * 4?"), *assistant(THOUGHT)],
    "reasoning in history": [*user("3 * 4?"), *assistant(THOUGHT), *user("USER-TEXT?"), *assistant(THOUGHT)],
    "reasoning_content": [*user("3 * 4?"), {**assistant("12")[0], "reasoning_content": "FIRST-THOUGHT four"}],
    "blank lines first": [*user("Code"), *assistant("\n\n    return 5\n")],
    "special tokens": [*user(f"What is {QUOTED}?"), *assistant(f"It is {QUOTED} TAIL.")],
}
TABLE = ROOT / "docs/chat-templates.md"


def family_tokenizer(template: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with the special tokens of a template, and merges across their boundaries."""
    bos = next((token for token in BOS if token in template), "<s>")
    special = list(dict.fromkeys([bos, "<|endoftext|>", *sorted(set(CONTROL.findall(template))), "</s>"]))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*special, *alphabet, *(first + second for first, second in MERGES)]
    backend = Tokenizer(models.BPE({token: number for number, token in enumerate(vocabulary)}, MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token="<|endoftext|>", additional_special_tokens=special
    )
    tokenizer.chat_template = template
    return tokenizer


def prepared(template: str) -> PreTrainedTokenizerFast:
    """Return the tokenizer as the stage `base` saves it."""
    tokenizer = family_tokenizer(template)
    clock = "2025-01-31" if "strftime_now" in template else None
    tokenizer.chat_template = fixed(template, arguments={}, clock=clock)
    base.repair(tokenizer, "models/x", bos=False)
    return tokenizer


def verdict(tokenizer: PreTrainedTokenizerFast, messages: Messages) -> str:
    """Return how training treats a row: `yes`, or the reason for rejection."""
    try:
        ids, mask = encode(tokenizer, messages)
    except UserError as refusal:
        reported = str(refusal)
        for sign, short in (("leaves out", "text lost"), ("renders turn", "prompt differs"), ("rejects", "refused")):
            if sign in reported:
                return short
        raise
    mask_gate([ids], [mask], tokenizer.eos_token_id)
    text_gate(tokenizer, messages, ids, mask, "row 1")
    runs = learned(tokenizer, ids, mask)
    for run, (turn, message) in zip(
        runs, ((turn, one) for turn, one in enumerate(messages) if one["role"] == "assistant"), strict=True
    ):
        said = re.split(r"</?think>", message["content"])
        assert all(squeezed(part) in squeezed(run) for part in [*said, message.get("reasoning_content", "")])
        assert "USER-TEXT" not in run
        prompt = prompt_tokens(tokenizer, messages[:turn])  # the prompt in generation
        assert ids[: len(prompt)] == prompt and mask[len(prompt)] == 1 and not mask[len(prompt) - 1]
    stops = sum(message["role"] == "assistant" for message in messages)
    assert ids.count(tokenizer.eos_token_id) <= stops + 2 * sum(one["role"] != "assistant" for one in messages)
    return "yes"


def learned(tokenizer: PreTrainedTokenizerFast, ids: list[int], mask: list[int]) -> list[str]:
    """Return the trained passages as text."""
    return re.findall(r"⟦(.*?)⟧", mask_sample(tokenizer, ids, mask), flags=re.DOTALL)


def generates(tokenizer: PreTrainedTokenizerFast) -> str:
    """Return the prompts that generation rejects: rows without their last turn."""
    refused = []
    for name, messages in ROWS.items():
        try:
            prompt_tokens(tokenizer, messages[:-1])
        except UserError:
            refused.append(name)
    return f"refused: {', '.join(refused)}" if refused else "yes"


def scores(tokenizer: PreTrainedTokenizerFast) -> str:
    """Whether the answer is found in the model's output: reasoning in the template's form, then `12`."""
    for name in ("reasoning_content", "reasoning"):
        messages = ROWS[name]
        try:
            ids, mask = encode(tokenizer, messages)
        except UserError:
            continue
        prompt = ids[: mask.index(1)]
        break
    else:  # it cannot be trained; generation continues a prompt that begins the reasoning
        prompt = prompt_tokens(tokenizer, messages[:1])
        begun = opens_reasoning(tokenizer.decode(prompt[-24:])).strip()
        ids = prompt + read_on(tokenizer, THOUGHT.removeprefix(begun)) + [tokenizer.eos_token_id]
    (text,) = decoded(tokenizer, [prompt], [[token for token in ids[len(prompt) :] if token != tokenizer.eos_token_id]])
    return "yes" if answer_of(text) == "12" and "FIRST-THOUGHT" in text else f"no: {answer_of(text)}"


def rows_of(template: Path) -> list[str]:
    """Return a row of the table in docs: the template's name, its stop token and the verdicts."""
    try:
        tokenizer = prepared(template.read_text(encoding="utf-8"))
    except UserError as refusal:
        reason = "no stop token" if "no end" in str(refusal) else "content in parts"
        return [template.stem, f"refused: {reason}", *("" for _ in [*ROWS, "generate", "score"])]
    stop = f"`{tokenizer.eos_token}`".replace("|", "\\|")
    trained = [verdict(tokenizer, row) for row in ROWS.values()]
    return [template.stem, stop, *trained, generates(tokenizer), scores(tokenizer)]


def table() -> str:
    """Return the table of docs/chat-templates.md."""
    made = [rows_of(path) for path in sorted(trl_templates().glob("*.jinja"))]
    heads = ["template", "stop token", *(f"train: {name}" for name in ROWS), "generate", "score"]
    lines = [heads, ["---"] * len(heads), *made]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def test_the_table_of_template_families_is_what_the_code_does():
    made = table()
    assert made in TABLE.read_text(encoding="utf-8")
    assert made.count("\n") >= 60


@pytest.mark.parametrize("path", sorted(trl_templates().glob("*_training.jinja")), ids=lambda path: path.stem)
def test_the_mask_is_the_one_that_the_template_marks_itself(path: Path):
    """TRL's training variants mark trained text with {% generation %}; transformers reads the marks.

    The marks may begin inside the header, which is part of the prompt, and end after the stop token.
    """
    try:
        tokenizer = prepared(path.read_text(encoding="utf-8"))
    except UserError:
        pytest.skip("a template of a vision model, which takes content in parts")
    for messages in (ROWS["one turn"], ROWS["two turns"]):
        try:
            ids, mask = encode(tokenizer, messages)
        except UserError:
            continue  # the table has the reason
        marked = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
        theirs = learned(tokenizer, marked["input_ids"], marked["assistant_masks"])
        for own, whole in zip(learned(tokenizer, ids, mask), theirs, strict=True):
            before, after = whole.split(own)
            assert render(tokenizer, messages[:1], answer=True).rstrip().endswith(before.strip())
            assert not CONTROL.sub("", after).strip()


def test_reasoning_in_history_is_kept_by_the_training_variant_and_refused_by_the_other():
    rows = ROWS["reasoning in history"]
    tokenizer = prepared(read_template("trl:qwen3_training", Path()))
    ids, mask = encode(tokenizer, rows)
    stop = "<|im_end|>"
    assert learned(tokenizer, ids, mask) == [THOUGHT + stop, THOUGHT + stop]
    with pytest.raises(UserError, match=r"rows.jsonl: row 2: .* leaves out 24 characters of assistant turn 2"):
        encode(prepared(read_template("trl:qwen3", Path())), rows, "rows.jsonl: row 2")


def test_arguments_of_a_template_hold_for_training_and_generation():
    template = read_template("trl:qwen3", Path())
    silent = family_tokenizer(fixed(template, arguments={"enable_thinking": False}))
    base.repair(silent, "x", bos=False)
    empty = "<think>\n\n</think>\n\n"
    assert render(silent, user("Hi"), answer=True).endswith(f"<|im_start|>assistant\n{empty}")
    ids, mask = encode(silent, ROWS["one turn"])
    assert learned(silent, ids, mask) == ["One.<|im_end|>"]
    thinking = family_tokenizer(fixed(template, arguments={"enable_thinking": True}))
    base.repair(thinking, "x", bos=False)
    ids, mask = encode(thinking, ROWS["one turn"])
    assert learned(thinking, ids, mask) == [f"{empty}One.<|im_end|>"]
    with pytest.raises(
        UserError, match="'enable_thought' .did you mean 'enable_thinking'..; it reads .*enable_thinking"
    ):
        fixed(template, arguments={"enable_thought": False})


@pytest.mark.parametrize("value", [None, True, 1.5, "a 'b' \"c\" \\ {% x %}", ["x", {"y": False}]])
def test_an_argument_reaches_the_template_as_it_is(value: object):
    template = fixed("{{ x | tojson }}{{ messages[0].content }}", arguments={"x": value})
    tokenizer = pico_tokenizer()
    tokenizer.chat_template = template
    plain = tokenizer.apply_chat_template(
        user("!"), chat_template="{{ x | tojson }}{{ messages[0].content }}", tokenize=False, x=value
    )
    assert render(tokenizer, user("!"), answer=False) == plain


@pytest.mark.parametrize("path", sorted(trl_templates().glob("*.jinja")), ids=lambda path: path.stem)
def test_what_is_written_into_a_template_changes_nothing_else(path: Path):
    template = path.read_text(encoding="utf-8")
    before, after = family_tokenizer(template), family_tokenizer(fixed(template, arguments={}, merge_system=True))
    for tokenizer in (before, after):
        tokenizer.chat_template = fixed(tokenizer.chat_template, arguments={}, clock="2025-01-31")
    try:
        expected = render(before, ROWS["two turns"], answer=False)
    except UserError:
        pytest.skip("a template of a vision model, which takes content in parts")
    assert render(after, ROWS["two turns"], answer=False) == expected
    merged = [*user("Be brief.\n\nSay one."), *assistant("One.")]
    assert render(after, ROWS["system"], answer=False) == render(before, merged, answer=False)


NO_SYSTEM = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('this model takes no system message') }}"
    "{% endif %}{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and model must take turns') }}{% endif %}{{ '<start_of_turn>' + message.role + '\n' + "
    "message.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>assistant\n{% endif %}"
)


def test_a_template_without_a_system_role_says_what_to_do():
    tokenizer = family_tokenizer(NO_SYSTEM)
    base.repair(tokenizer, "x", bos=False)
    for call in (encode, prompt_tokens):
        messages = ROWS["system"] if call is encode else ROWS["system"][:-1]
        with pytest.raises(UserError, match=r"a.jsonl: row 2: .*takes no system message.*Set base.system: merge"):
            call(tokenizer, messages, "a.jsonl: row 2")
    with pytest.raises(UserError, match=r"row 3: the chat template rejects the conversation: user and model must take"):
        encode(tokenizer, [*user("a"), *user("b"), *assistant("c")], "row 3")


CLOSES_LAST = (
    "{% for message in messages %}{% if message.role == 'assistant' %}### Assistant: {{ message.content }}"
    "{% if loop.last %}<|end|>{% endif %}\n\n{% else %}### {{ message.role | capitalize }}: {{ message.content }}\n\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}### Assistant: {% endif %}"
)


def test_a_template_that_closes_the_last_turn_alone_learns_the_answers_alone():
    tokenizer = family_tokenizer(CLOSES_LAST)
    base.repair(tokenizer, "x", bos=False)
    ids, mask = encode(tokenizer, ROWS["two turns"])
    assert learned(tokenizer, ids, mask) == ["One.", "Two.<|end|>"]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ strftime_now('%Y') }}" + CHATML, "it reads the clock .*Set base.clock"),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}" + CHATML,
            "does not end within",
        ),
        ("{% for a in range(1000000) %}{% endfor %}" + CHATML, "rejects the conversation: Range too big"),
        ("{% include 'other' %}" + CHATML, "rejects the conversation: no loader"),
        ("{% if %}" + CHATML, "rejects the conversation: Expected an expression"),
        ("{{ messages[9].content }}" + CHATML, "rejects the conversation: list object has no element 9"),
        ("{{ 'x' * 2000000 }}" + CHATML, "writes 2,000,... characters for a short conversation"),
        (CHATML.replace("'content'] }}", "'content'] ~ (range(9) | random) }}"), "no mask can be derived|in two ways"),
    ],
)
def test_a_template_that_cannot_be_used_ends_in_one_sentence(template: str, said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base, "SECONDS", 2.0)
    tokenizer = pico_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=f"models/x: .*{said}"):
        base.repair(tokenizer, "models/x")


def test_the_clock_is_a_setting():
    tokenizer = pico_tokenizer()
    tokenizer.chat_template = fixed(
        "Today {{ strftime_now('%d %B %Y %H:%M') }}. " + CHATML, arguments={}, clock="2025-01-31"
    )
    assert render(tokenizer, user("Hi"), answer=False).startswith("Today 31 January 2025 00:00. <|im_start|>user")
    with pytest.raises(UserError, match="base.clock: expected a date such as 2025-01-31.*, got 'now'"):
        fixed(CHATML + "{{ strftime_now('%Y') }}", arguments={}, clock="now")


def test_named_templates_give_their_default():
    tokenizer = pico_tokenizer()
    tokenizer.chat_template = {"default": CHATML, "tool_use": "TOOLS " + CHATML}
    base.repair(tokenizer, "x")
    assert tokenizer.chat_template == CHATML
    tokenizer.chat_template = {"rag": CHATML, "tool_use": CHATML}
    with pytest.raises(
        UserError, match="models/x: the tokenizer has no chat template named default, only 'rag', 'tool_use'"
    ):
        base.repair(tokenizer, "models/x")


def test_a_template_without_the_bos_token_that_the_tokenizer_writes_is_refused():
    from tokenizers.processors import TemplateProcessing

    tokenizer = family_tokenizer("<s>" + CHATML)  # the tokenizer has <s>
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "<|endoftext|>")
    with pytest.raises(UserError, match="starts a text with '<s>', but the chat template does not. Set base.bos: add"):
        base.repair(tokenizer, "models/x")
    tokenizer.chat_template = fixed(tokenizer.chat_template, arguments={}, bos=True)
    base.repair(tokenizer, "models/x")
    assert prompt_tokens(tokenizer, user("Hi"))[0] == tokenizer.bos_token_id


def test_a_template_is_found_by_name_or_the_near_ones_are_reported(tmp_path: Path):
    assert read_template("trl:gemma3", tmp_path) == (trl_templates() / "gemma3.jinja").read_text()
    with pytest.raises(
        UserError, match="base.chat_template: TRL has no template 'qwen3_trainin.jinja'; closest names: qwen3_tr"
    ):
        read_template("trl:qwen3_trainin", tmp_path)
    (tmp_path / "mine.jinja").write_text("x")
    with pytest.raises(UserError, match=".* has no file 'mein.jinja'; closest names: mine.jinja"):
        read_template("mein.jinja", tmp_path)
    assert "enable_thinking" in variables(read_template("trl:qwen3", tmp_path))
