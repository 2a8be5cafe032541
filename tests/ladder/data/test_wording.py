from ladder.data.wording import WORD, normalize, runs, texts, words


def test_words_of_ascii_are_those_of_the_pattern():
    text = "".join(map(chr, range(128))) + "Ab_1, can't\tGO\x1cx"
    assert words(text) == tuple(WORD.findall(text.lower()))
    assert words("Ça VA? Œuf") == ("ça", "va", "œuf")


def test_runs_of_words():
    assert list(runs(("a", "b", "c"), 2)) == [("a", "b"), ("b", "c")]
    assert list(runs(("a",), 2)) == []


def test_normalize_keeps_lines_and_drops_blanks():
    assert normalize(" e\u0301t  \r\n\n\n\nb\t\n") == "ét\n\nb"
    assert normalize("a\n\nb") == "a\n\nb"


def test_texts_are_every_string_inside():
    assert list(texts({"a": "x", "b": [1, {"c": ["y", None]}]})) == ["x", "y"]
