import pytest

from conftest import assistant, user
from ladder.filters import gopher


def judge(name, text, **parameters):
    return getattr(gopher, name)({"prompt": user("Q"), "completion": assistant(text)}, **parameters)


@pytest.mark.parametrize(
    ("name", "text", "parameters", "reason"),
    [
        ("word_length", "a bb ccc", {"least": 2, "most": 10}, None),
        ("word_length", "a bb cc", {"least": 2, "most": 10}, "1.7 characters a word"),
        ("word_length", "", {"least": 3, "most": 10}, "0.0 characters a word"),
        ("symbols", "# one two three four five six seven eight nine", {"most": 0.1}, None),
        ("symbols", "# one two three four five six seven eight #", {"most": 0.1}, "0.20 symbols a word"),
        ("symbols", "well... so\u2026 it is", {"most": 0.4}, "0.50 symbols a word"),
        ("bullets", "- a\n* b\n\n\u2022 c\nd", {"most": 0.75}, None),
        ("bullets", "- a\n* b\n\n\u2022 c\nd", {"most": 0.7}, "0.75 of the lines bullets"),
        ("ellipses", "a...\nb\u2026\nc", {"most": 0.6}, "0.67 of the lines ending in an ellipsis"),
        ("ellipses", "a...\nb\nc", {"most": 0.4}, None),
        ("alphabetic", "ab 12 c3 -- d", {"least": 0.6}, None),
        ("alphabetic", "ab 12 c3 -- d", {"least": 0.8}, "0.60 of the words with a letter"),
        ("stop_words", 'The end "of" it', {"least": 2}, None),
        ("stop_words", "the the the", {"least": 2}, "1 stop words"),
        # One line of four again; it has 2 of the 8 characters.
        ("duplicate_lines", "aa\nbb\n aa\ncc", {"most": 0.25, "most_characters": 0.25}, None),
        ("duplicate_lines", "aa\nbb\n aa\ncc", {"most": 0.2, "most_characters": 1}, "0.25 of the lines repeated"),
        (
            "duplicate_lines",
            "aaaa\nb\naaaa\nc",
            {"most": 0.3, "most_characters": 0.2},
            "0.40 of the characters in repeated lines",
        ),
        (
            "duplicate_paragraphs",
            "a\nb\n\nc\n\na\nb",
            {"most": 0.3, "most_characters": 1},
            "0.33 of the paragraphs repeated",
        ),
        ("duplicate_paragraphs", "a\n\nb\n\nc\na", {"most": 0, "most_characters": 0}, None),
        # "so it" stands twice: 2 * 4 of 14 characters. Nothing of three words does.
        ("top_ngrams", "so it is so it goes", {"most": {2: 0.58, 3: 0}}, None),
        ("top_ngrams", "so it is so it goes", {"most": {2: 0.5, 3: 0}}, "0.57 is 'so it'"),
        ("top_ngrams", "each word is new", {"most": {2: 0}}, None),
        # a b c stands again: its 3 words are 3 of 8 characters, whatever they overlap.
        ("duplicate_ngrams", "a b c d e a b c", {"most": {3: 0.375}}, None),
        ("duplicate_ngrams", "a b c d e a b c", {"most": {3: 0.3}}, "0.38 in repeated runs of 3 words"),
        ("duplicate_ngrams", "a a a a a", {"most": {2: 0.7}}, "0.80 in repeated runs of 2 words"),
        ("duplicate_ngrams", "a b c d e a b c", {"most": {4: 0, 5: 0}}, None),
        ("refusal", "I'm sorry, but I can't help with that.", {"reject": ["full_refusal"]}, "full refusal"),
        ("refusal", "I'm sorry, but I can't help with that.", {"reject": ["no_answer"]}, None),
        ("refusal", "...", {"reject": ["no_answer"]}, "no answer"),
        ("refusal", "Paris.", {"reject": ["full_refusal", "partial_refusal", "no_answer"]}, None),
        ("boilerplate", "As an AI language model, I have no taste.", {}, "as an ai language model"),
        ("boilerplate", "I\u2019m a large language model", {}, "i'm a large language model"),
        ("boilerplate", "As of my last update in 2021", {}, "as of my last update"),
        ("boilerplate", "As an airline pilot I fly. Language models predict words.", {}, None),
    ],
)
def test_worked_by_hand(name, text, parameters, reason):
    assert judge(name, text, **parameters) == reason


def test_each_learned_turn_decides_whether_a_conversation_refuses():
    refused, said = assistant("I cannot help with that."), assistant("Paris.")
    row = {"messages": user("a") + refused + user("b") + said}
    assert gopher.refusal(row, reject=["full_refusal"]) == "full refusal"
    row = {"messages": user("a") + [{**refused[0], "train": False}] + user("b") + said}
    assert gopher.refusal(row, reject=["full_refusal"]) is None
    assert gopher.refusal({"prompt": user("a")}, reject=["no_answer"]) == "no answer"


def test_an_ordinary_answer_passes_with_gophers_values():
    text = (
        "Bread needs flour, water, salt and yeast. Mix the flour with the water and let it rest for an hour.\n"
        "Then add salt to the dough, knead it until it is smooth, and let it rise until it has doubled.\n"
        "Bake it in a hot oven for forty minutes; a loaf that is done sounds hollow when you knock on it."
    )
    for name, parameters in {
        "word_length": {"least": 3, "most": 10},
        "symbols": {"most": 0.1},
        "bullets": {"most": 0.9},
        "ellipses": {"most": 0.3},
        "alphabetic": {"least": 0.8},
        "stop_words": {"least": 2},
        "duplicate_lines": {"most": 0.3, "most_characters": 0.2},
        "duplicate_paragraphs": {"most": 0.3, "most_characters": 0.2},
        "top_ngrams": {"most": {2: 0.2, 3: 0.18, 4: 0.16}},
        "duplicate_ngrams": {"most": {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}},
    }.items():
        assert judge(name, text, **parameters) is None, name
