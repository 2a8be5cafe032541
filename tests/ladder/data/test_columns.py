"""Additional columns of a row: harmless ones are dropped; ones that change the meaning are read or rejected."""

import pytest

from conftest import assistant, user
from ladder.data.columns import Unread, binary, empty, harmless
from ladder.data.formats import read
from ladder.pipeline.errors import InvalidRow

CHAT = [*user("Hi"), *assistant("Hello")]
ROW = {"messages": CHAT}
PAIR = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"}

PUBLISHED = {
    "ultrachat_200k": {"prompt": "Hi", "prompt_id": "f0", "messages": CHAT},
    "no_robots": {"prompt": "Hi", "prompt_id": "f0", "messages": CHAT, "category": "Chat"},
    "tulu-3-sft": {"id": "a", "messages": CHAT, "source": "b"},
    "smoltalk2": {"messages": CHAT, "source": "b", "chat_template_kwargs": {"enable_thinking": False, "xml_tools": []}},
    "SlimOrca": {"conversations": [{"from": "human", "value": "Hi", "weight": 0.0}, {"from": "gpt", "value": "Hello"}]},
    "lmsys-chat": {"conversation_id": "a", "model": "b", "conversation": CHAT, "turn": 1, "language": "English"},
    "wildchat": {
        "conversation": [
            {**one, "toxic": False, "redacted": False, "turn_identifier": 1, "country": "Peru"} for one in CHAT
        ],
        "timestamp": 1,
        "openai_moderation": [{}],
        "hashed_ip": "x",
        "header": {"accept-language": "en"},
    },
    "alpaca": {"instruction": "Hi", "input": "", "output": "Hello", "text": "Below is an instruction"},
    "dolly-15k": {"instruction": "Hi", "context": "", "response": "Hello", "category": "chat"},
    "OpenOrca": {"id": "a", "system_prompt": "", "question": "Hi", "response": "Hello"},
    "HelpSteer2": {
        "prompt": "Hi",
        "response": "Hello",
        "helpfulness": 4,
        "correctness": 4,
        "coherence": 4,
        "verbosity": 1,
    },
    "OpenHermes": {"conversations": CHAT, "source": "x", "skip_prompt_formatting": False, "views": 3, "avatarUrl": "y"},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sets_read_without_a_complaint(name):
    assert read(PUBLISHED[name], None, "messages")[1] == [ROW]


@pytest.mark.parametrize(
    "beside",
    [
        {"prompt_id": "1c", "messages": user("Hi") + assistant("Hello"), "score_chosen": 9.0, "score_rejected": 2.0},
        {"chosen-rating": 5, "chosen-model": "a", "rejected-rating": 1, "rejected-model": "b", "source": "c"},
        {"chosen_model": "a", "rejected_model": "b", "dataset": "c"},
    ],
)
def test_published_pairs_read_without_a_complaint(beside):
    pair = {"prompt": user("Hi"), "chosen": assistant("Hello"), "rejected": assistant("Go away")}
    assert read({**PAIR, **beside}, None, "preference")[1] == [pair]


@pytest.mark.parametrize(
    ("beside", "names"),
    [
        ({"image": "kitchen.jpg"}, ["image"]),
        ({"images": [{"bytes": b"x", "path": None}]}, ["images"]),
        ({"video_path": "x.mp4"}, ["video_path"]),
        ({"audios": ["x.wav"]}, ["audios"]),
        ({"files": ["x"]}, ["files"]),
        ({"tools": [{"name": "f"}]}, ["tools"]),
        ({"tools": '[{"name": "f"}]'}, ["tools"]),
        ({"functions": [{"name": "f"}]}, ["functions"]),
        ({"available_tools": "clock"}, ["available_tools"]),
        ({"history": [["a", "b"]]}, ["history"]),
        ({"rejected_response": "Go away", "foo": 1}, ["rejected_response", "foo"]),
        ({"output": "Another answer"}, ["output"]),
        ({"label": "math"}, ["label"]),
        ({"analysis": "The answer is friendly."}, ["analysis"]),
        ({"chat_template_kwargs": {"enable_thinking": True}}, ["chat_template_kwargs"]),
    ],
)
def test_a_column_that_may_change_the_meaning_is_named(beside, names):
    with pytest.raises(Unread) as unread:
        read({**ROW, **beside}, None, "messages")
    assert unread.value.names == names and str(unread.value).startswith(f"column not read: {names[0]!r}")
    assert read({**ROW, **beside}, None, "messages", ignore=names)[1] == [ROW]
    assert read({**ROW, **dict.fromkeys(beside)}, None, "messages")[1] == [ROW]


@pytest.mark.parametrize("beside", [{"image": "kitchen.jpg"}, {"path": "kitchen.jpg"}, {"id": {"bytes": b"x"}}])
def test_a_place_for_a_picture_beside_a_picture_is_refused_whatever_the_column(beside):
    row = {"conversations": [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A bowl."}]}
    (name,) = beside
    with pytest.raises(Unread, match=f"column not read: '{name}'"):
        read({**row, **beside}, None, "messages")
    with pytest.raises(Unread, match=f"column not read: '{name}': the text refers to it as '<image>'"):
        read({**row, **beside}, None, "messages", ignore=[name])
    assert read({**row, "category": "svg"}, None, "messages")[1][0]["messages"][0]["content"].startswith("<image>")


def test_what_is_harmless():
    known = (
        "id",
        "prompt_id",
        "source",
        "dataset",
        "category",
        "score",
        "lang",
        "timestamp",
        "createdAt",
        "Unnamed: 0",
    )
    assert all(map(harmless, known))
    assert not any(map(harmless, ("foo", "label", "rejected_response", "hint", "tests")))
    assert all(map(empty, (None, "", " ", [], {}, "[]", "null", False, float("nan"), [None], {"a": None, "b": [""]})))
    assert not any(map(empty, (0, 1, "x", [0], True, {"a": 0})))


def test_reasoning_in_a_column_belongs_to_the_one_answer():
    thought = {"messages": [*CHAT[:1], {**CHAT[1], "reasoning_content": "A greeting."}]}
    for row in (
        {"prompt": "Hi", "completion": "Hello", "reasoning": "A greeting."},
        {"instruction": "Hi", "output": "Hello", "thinking": "A greeting."},
        {**ROW, "reasoning_content": "A greeting."},
    ):
        assert read(row, None, "messages")[1] == [thought]
        assert read(row, None, "prompt")[1] == [{"prompt": CHAT[:1]}]
    with pytest.raises(Unread, match="which of 2 answers"):
        read({"messages": CHAT * 2, "reasoning": "A greeting."}, None, "messages")
    with pytest.raises(Unread, match="column not read: 'reasoning'"):
        read({**PAIR, "reasoning": "A greeting."}, None, "preference")


@pytest.mark.parametrize("flag", [{"train": False}, {"weight": 0}, {"skip": True}, {"loss": "false"}])
def test_a_row_that_is_flagged_as_not_trained_is_a_misfit(flag):
    (name,) = flag
    with pytest.raises(InvalidRow, match=f"nothing to learn: '{name}' excludes the row"):
        read({**ROW, **flag}, None, "messages")


def test_flags_stay_on_their_turns_in_every_type():
    first, last = {**CHAT[1], "train": False}, CHAT[1]
    row = {"messages": [CHAT[0], {**last, "weight": 0}, CHAT[0], last]}
    turns = [CHAT[0], first, CHAT[0], last]
    assert read(row, None, "messages")[1] == [{"messages": turns}]
    assert read(row, None, "completion")[1] == [{"prompt": turns[:3], "completion": turns[3:]}]
    assert read(row, None, "prompt")[1] == [{"prompt": turns[:3]}]
    apart = {"prompt": row["messages"][:3], "completion": row["messages"][3:]}
    assert read(apart, None, "messages")[1] == [{"messages": turns}]
    with pytest.raises(InvalidRow, match="nothing to learn: every assistant turn"):
        read({"messages": [CHAT[0], {**last, "train": False}]}, None, "completion")
    with pytest.raises(InvalidRow, match="nothing to learn: chosen has a turn"):
        read({**PAIR, "chosen": [{**last, "train": False}]}, None, "preference")


GOOD = (True, 1, "1", "good", "Good", "thumbs up", "thumbs_up", "desirable", "true", "👍", "positive")
BAD = (False, 0, -1, "0", "bad", "thumbs down", "undesirable", "false", "👎", "negative")


@pytest.mark.parametrize("column", ["label", "kto_tag", "desired", "desirable", "is_good"])
@pytest.mark.parametrize(("values", "label"), [(GOOD, True), (BAD, False)])
def test_labels_make_unpaired_preferences(column, values, label):
    for value in values:
        unpaired = {"prompt": CHAT[:1], "completion": CHAT[1:], "label": label}
        for row in ({"prompt": "Hi", "completion": "Hello"}, {"prompt": CHAT[:1], "completion": CHAT[1:]}, ROW):
            assert read({**row, column: value}, None, "unpaired")[1] == [unpaired]
            with pytest.raises(InvalidRow) as misfit:
                read({**row, column: value}, None, "messages")
            assert "`rows: unpaired`, to train with KTO" in str(misfit.value)
            assert f"`ignore: [{column}]`" in str(misfit.value)


def test_a_rating_is_a_label_only_where_it_is_one_of_two_words():
    assert read({**ROW, "rating": 4, "score": 1}, None, "messages")[1] == [ROW]
    assert read({**ROW, "rating": "thumbs down"}, None, "unpaired")[1][0]["label"] is False
    with pytest.raises(InvalidRow, match="label: 'rating' marks answers"):
        read({**ROW, "rating": "bad"}, None, "completion")
    with pytest.raises(InvalidRow, match="label: 'label', 'rating' contradict each other"):
        read({**ROW, "label": True, "rating": "bad"}, None, "unpaired")
    with pytest.raises(InvalidRow, match="no label: expected one of label"):
        read(ROW, None, "unpaired")
    assert binary("maybe") is None and binary(2) is None


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "Hi", "answer": "Hello", "response": "Hey"}, "several answers: 'response', 'answer'"),
        ({"question": "Hi", "instruction": "Ho", "answer": "Hello"}, "several questions: 'instruction', 'question'"),
        ({"text": "<|im_start|>user\nHi<|im_end|>\n"}, "rendered before: text has '<|im_start|>user'"),
        (
            {"prompt": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "completion": "x"},
            "rendered before: prompt",
        ),
        ({"messages": [*user("[INST] Hi [/INST]"), *assistant("x")]}, "rendered before: turn 1, of user, has '[INST]'"),
        ({"prompt": "Hi", "completion": "<|im_start|>assistant\nx<|im_end|>"}, "rendered before: completion has"),
    ],
)
def test_other_misfits(row, reason):
    with pytest.raises(InvalidRow) as misfit:
        read(row, None, "messages")
    assert reason in str(misfit.value)


def test_rendered_rows_are_unwrapped_on_demand():
    text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    assert read({"text": text}, None, "messages", unwrap=True) == ("messages", [ROW])
    prompt = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    row = {"prompt": prompt, "chosen": "Hello<|im_end|>\n", "rejected": "Go away<|im_end|>\n"}
    pair = {"prompt": CHAT[:1], "chosen": CHAT[1:], "rejected": assistant("Go away")}
    assert read(row, None, "preference", unwrap=True)[1] == [pair]
    with pytest.raises(InvalidRow, match="rendered before: prompt has"):
        read(row, None, "preference")


def test_an_answer_that_speaks_of_a_special_token_is_read():
    answer = "It is <|im_end|> and it comes after every message, TAIL-OF-ANSWER."
    row = {"messages": [*user("Which token ends a turn in ChatML?"), *assistant(answer)]}
    assert read(row, None, "messages")[1] == [row]


def test_columns_in_other_cases():
    assert read({"Question": "Hi", "Answer": "Hello"}, None, "messages") == ("question", [ROW])
