import math
import shutil

import pytest
import torch

from conftest import assistant, user
from ladder.chat.encode import encode
from ladder.filters.model_scores import mean_losses, packs, perplexity, token_length
from ladder.models.checkpoint import load
from ladder.models.packed_attention import attend_packed
from ladder.pipeline.stage import UserError

CONVERSATIONS = [
    user("Say a.") + assistant("It is a."),
    user("b") + assistant("B!") + user("and c?") + assistant("No, and this is a longer answer than the rest."),
    user("d") + assistant(""),
]


@torch.inference_mode()
def by_hand(model, ids, mask):
    """One row alone, no packing: logits [t] predict token t + 1."""
    logits = model.model(input_ids=torch.tensor([ids])).logits[0].double()
    logps = torch.log_softmax(logits, -1)
    return -sum(logps[t - 1, ids[t]].item() for t in range(1, len(ids)) if mask[t]) / sum(mask)


def test_losses_are_those_of_each_row_alone_worked_by_hand(base):
    plain, packed = (load(base, base, dtype=torch.float32) for _ in range(2))
    attend_packed(packed.model)
    rows = [encode(plain.tokenizer, messages) for messages in CONVERSATIONS]
    wanted = [by_hand(plain, ids, mask) for ids, mask in rows]
    assert mean_losses(packed, rows) == pytest.approx(wanted, rel=1e-5)
    assert len(set(wanted)) == 3


def test_rows_go_above_and_below_and_the_batch_does_not_matter(base):
    rows = [{"id": str(n), "messages": messages} for n, messages in enumerate(CONVERSATIONS)]
    reported = perplexity(rows, min=0, max=0, base=base)
    values = [float(reason.removeprefix("perplexity ")) for reason in reported]
    model = load(base, base, dtype=torch.float32)
    for value, messages in zip(values, CONVERSATIONS, strict=True):
        assert value == pytest.approx(math.exp(by_hand(model, *encode(model.tokenizer, messages))), rel=0.05)
    low, middle, high = sorted(values)
    kept = perplexity(rows, min=(low + middle) / 2, max=(middle + high) / 2, base=base)
    assert [reason is None for reason in kept] == [value == middle for value in values]
    assert [perplexity([row], min=0, max=0, base=base)[0] for row in rows] == reported


def test_a_pair_is_judged_by_its_chosen_answer(base):
    pair = {"prompt": user("Say a."), "chosen": assistant("It is a."), "rejected": assistant("Unlike that.")}
    same = {"messages": CONVERSATIONS[0]}
    assert perplexity([pair], min=0, max=0, base=base) == perplexity([same], min=0, max=0, base=base)


def test_what_the_base_cannot_read_goes_and_what_has_no_answer_is_refused(base):
    """The pico model has 4096 positions; its tokens are bytes."""
    row = {"messages": user("x" * 5000) + assistant("y")}
    assert perplexity([row], min=0, max=1e9, base=base)[0].endswith("tokens, the base reads 4096")
    with pytest.raises(UserError, match="nothing to learn"):
        perplexity([{"messages": user("x")}], min=0, max=1e9, base=base)


def test_packs_hold_rows_in_order():
    assert packs([3, 4, 5, 20, 1, 1], 10) == [[0, 1], [2], [3], [4, 5]]
    assert packs([], 10) == []


def test_tokens_are_those_of_the_chat_template(base):
    """Counted by the template's own `apply_chat_template(..., tokenize=True)`; of a pair the longer answer counts."""
    asked, short, long = user("Say a."), assistant("It is a."), assistant("It is a, and that is all there is to say.")
    rows = [
        {"messages": asked + short},
        {"prompt": asked, "completion": long},
        {"prompt": asked, "chosen": short, "rejected": long},
    ]
    tokenizer = load(base, base).tokenizer
    few, many = (
        len(tokenizer.apply_chat_template(asked + answer, tokenize=True, return_dict=False)) for answer in (short, long)
    )
    assert few < many
    assert token_length(rows, min=0, max=few, base=base) == [None, f"{many} tokens", f"{many} tokens"]
    assert token_length(rows, min=many, max=many, base=base) == [f"{few} tokens", None, None]
    assert token_length([], min=0, max=1, base=base) == []


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match="expected a rung with a tokenizer"):
        token_length([{"messages": user("a")}], min=0, max=1, base=tmp_path)


def test_a_row_that_the_template_refuses_is_named(tmp_path, base):
    for path in base.glob("tokenizer*"):
        shutil.copy(path, tmp_path)
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system message') }}{% endif %}a"
    (tmp_path / "chat_template.jinja").write_text(refusing)
    rows = [{"id": n, "messages": [{"role": role, "content": "a"}]} for n, role in enumerate(("user", "system"))]
    assert token_length(rows[:1], min=1, max=1, base=tmp_path) == [None]
    with pytest.raises(UserError, match="row 1: the chat template rejects the conversation: no system message"):
        token_length(rows, min=1, max=1, base=tmp_path)
