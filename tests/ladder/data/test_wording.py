from conftest import assistant, user
from ladder.data.turns import said, saying
from ladder.data.wording import WORD, messages, normalize, reply, replying, runs, texts, words


def test_words_of_ascii_are_those_of_the_pattern():
    text = "".join(map(chr, range(128))) + "Ab_1, can't\tGO\x1cx"
    assert words(text) == tuple(WORD.findall(text.lower()))
    assert words("Ça VA? Œuf") == ("ça", "va", "œuf")


def test_runs_of_words():
    assert list(runs(("a", "b", "c"), 2)) == [("a", "b"), ("b", "c")]
    assert list(runs(("a",), 2)) == []


def test_what_is_said_in_each_type_of_row():
    asked, good, bad = user("Hi"), assistant("Yes"), assistant("No")
    assert messages({"rejected": bad, "chosen": good, "prompt": asked}) == asked + good + bad
    assert reply({"prompt": asked, "chosen": good, "rejected": bad}) == "Yes"
    assert reply({"messages": asked + good + asked + bad}) == "Yes\nNo"


def test_normalize_keeps_lines_and_drops_blanks():
    assert normalize(" e\u0301t  \r\n\n\n\nb\t\n") == "ét\n\nb"
    assert normalize("a\n\nb") == "a\n\nb"


def test_texts_are_every_string_inside():
    assert list(texts({"a": "x", "b": [1, {"c": ["y", None]}]})) == ["x", "y"]


def test_reasoning_is_a_message_of_its_own_and_no_part_of_the_reply():
    thought = [{**assistant("42")[0], "reasoning_content": "Six sevens."}]
    row = {"messages": user("6 times 7?") + thought}
    assert [message["content"] for message in messages(row)] == ["6 times 7?", "42", "Six sevens."]
    assert reply(row) == said(row, "completion") == "42"
    assert said(row, "all") == "6 times 7?\n42\nSix sevens."
    for made in (row, {"prompt": user("6 times 7?"), "completion": thought}):
        assert replying(made) == saying(made, "completion") == [False, True, False]
        assert saying(made, "all") == [True, True, True]
