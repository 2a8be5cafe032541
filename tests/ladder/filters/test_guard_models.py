import pytest

from conftest import ROOT, assistant, user
from endpoints import Said, serving
from ladder.filters.guard_models import guarded, label
from ladder.pipeline.stage import UserError

PROMPTS = ROOT / "prompts" / "quality"
ROWS = [
    {"id": "0", "prompt": user("Say a."), "completion": assistant("It is a.")},
    {"id": "1", "messages": user("Say b.") + assistant("B [[safe]]")},
    {"id": "2", "prompt": user("Say c."), "chosen": assistant("c"), "rejected": assistant("d")},
]


@pytest.fixture
def guard(tmp_path, monkeypatch):
    """Filter ROWS by a guard that gives these replies; also return the requests it received."""
    monkeypatch.setenv("LADDER_WORK", str(tmp_path))

    def judge(replies, **given):
        said = dict(zip(("Say a.", "Say b.", "Say c."), replies, strict=True))

        def answering(asked, _):
            return Said(next(said[one] for one in said if one in asked["messages"][0]["content"]))

        with serving(answering) as server:
            where = {"endpoint": {"base_url": server.base_url, "model": "guard"}, "retries": 1}
            labels = {"keep": ["safe"], "drop": ["unsafe"]}
            reported = guarded(ROWS, **{**labels, **given}, judge=where, model=tmp_path, base=tmp_path, prompts=PROMPTS)
        return reported, [body["messages"] for body in server.asked]

    return judge


def test_a_guard_is_asked_by_the_template_and_its_label_decides(guard):
    reported, asked = guard(["safe", "unsafe\nhate", "I cannot say whether it is safe."])
    assert reported == [None, "unsafe hate", "no label"]
    assert len(asked) == 4  # an invalid label is requested again
    assert all(len(messages) == 1 for messages in asked)
    request = next(messages[0]["content"] for messages in asked if "Say b." in messages[0]["content"])
    assert "<<<answer " in request and "B [ [safe]]" in request


def test_a_guard_with_a_template_of_its_own_is_sent_the_conversation(guard):
    reported, asked = guard(["\n\nsafe", "\n\nunsafe\nS1,S10", "<think>unsafe?</think>safe"], template=None)
    assert reported == [None, "unsafe S1,S10", None]
    talks = [ROWS[0]["prompt"] + ROWS[0]["completion"], ROWS[1]["messages"], ROWS[2]["prompt"] + ROWS[2]["chosen"]]
    assert sorted(asked, key=str) == sorted(talks, key=str)


def test_which_labels_keep_a_row_is_the_user_s_choice(guard):
    replies = ["Safety: Safe\nCategories: None", "Safety: Controversial\nCategories: PII", "Safety: Unsafe"]
    strict = {"keep": ["safe"], "drop": ["unsafe", "controversial"]}
    assert guard(replies, **strict)[0] == [None, "Safety: Controversial Categories: PII", "Safety: Unsafe"]
    loose = {"keep": ["safe", "controversial"], "drop": ["unsafe"]}
    assert guard(replies, **loose)[0] == [None, None, "Safety: Unsafe"]


def test_labels_that_decide_nothing_and_a_template_without_its_gaps_are_refused(guard, tmp_path):
    for wrong in ({"drop": []}, {"keep": []}, {"drop": ["Safe"]}):
        with pytest.raises(UserError, match="guarded: expected labels in keep and others in drop"):
            guard(["safe"] * 3, **wrong)
    with pytest.raises(UserError, match="nowhere.txt: no such file"):
        guard(["safe"] * 3, template="nowhere")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("safe", "safe"),
        ("**Unsafe.**\nS1", "unsafe"),
        ("Answer: `safe`", "safe"),
        ("", None),
        ("safe or unsafe", None),
        ("not safe", None),
        ("The row:\nsafe", None),
    ],
)
def test_a_label_is_the_whole_first_line(text, found):
    read = label(text, ["safe", "unsafe"])
    assert (read and read[0]) == found
