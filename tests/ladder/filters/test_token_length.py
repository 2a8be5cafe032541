import shutil

import pytest

from conftest import assistant, user
from ladder.filters.token_length import token_length
from ladder.models.checkpoint import load
from ladder.pipeline.stage import UserError


def test_tokens_are_those_of_the_chat_template(base):
    """Counted by the template's own `apply_chat_template(..., tokenize=True)`; for a pair, the longer answer counts."""
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
