import pytest

from conftest import assistant, user
from ladder.filters import gopher


def judge(name, text, **parameters):
    return getattr(gopher, name)({"prompt": user("Q"), "completion": assistant(text)}, **parameters)


@pytest.mark.parametrize(
    ("name", "text", "parameters", "reason"),
    [
        ("word_length", "a bb ccc", {"min": 2, "max": 10}, None),
        ("word_length", "a bb cc", {"min": 2, "max": 10}, "1.7 characters per word"),
        ("word_length", "", {"min": 3, "max": 10}, "0.0 characters per word"),
        ("symbols", "# one two three four five six seven eight nine", {"max": 0.1}, None),
        ("symbols", "# one two three four five six seven eight #", {"max": 0.1}, "0.20 symbols per word"),
        ("symbols", "well... so\u2026 it is", {"max": 0.4}, "0.50 symbols per word"),
        ("bullets", "- a\n* b\n\n\u2022 c\nd", {"max": 0.75}, None),
        ("bullets", "- a\n* b\n\n\u2022 c\nd", {"max": 0.7}, "0.75 of the lines are bullets"),
        ("ellipses", "a...\nb\u2026\nc", {"max": 0.6}, "0.67 of the lines end with an ellipsis"),
        ("ellipses", "a...\nb\nc", {"max": 0.4}, None),
        ("alphabetic", "ab 12 c3 -- d", {"min": 0.6}, None),
        ("alphabetic", "ab 12 c3 -- d", {"min": 0.8}, "0.60 of the words have a letter"),
        ("stop_words", 'The end "of" it', {"min": 2}, None),
        ("stop_words", "the the the", {"min": 2}, "1 stop words"),
        # One of four lines is repeated; it has 2 of the 8 characters.
        ("duplicate_lines", "aa\nbb\n aa\ncc", {"max": 0.25, "max_characters": 0.25}, None),
        ("duplicate_lines", "aa\nbb\n aa\ncc", {"max": 0.2, "max_characters": 1}, "0.25 of the lines are repeated"),
        (
            "duplicate_lines",
            "aaaa\nb\naaaa\nc",
            {"max": 0.3, "max_characters": 0.2},
            "0.40 of the characters in repeated lines",
        ),
        (
            "duplicate_paragraphs",
            "a\nb\n\nc\n\na\nb",
            {"max": 0.3, "max_characters": 1},
            "0.33 of the paragraphs are repeated",
        ),
        ("duplicate_paragraphs", "a\n\nb\n\nc\na", {"max": 0, "max_characters": 0}, None),
        # "so it" occurs twice: 2 * 4 of 14 characters. No run of three words does.
        ("top_ngrams", "so it is so it goes", {"max": {2: 0.58, 3: 0}}, None),
        ("top_ngrams", "so it is so it goes", {"max": {2: 0.5, 3: 0}}, "0.57 of the characters in 'so it'"),
        ("top_ngrams", "each word is new", {"max": {2: 0}}, None),
        # a b c is repeated: its 3 words are 3 of 8 characters, counted once if they overlap.
        ("duplicate_ngrams", "a b c d e a b c", {"max": {3: 0.375}}, None),
        (
            "duplicate_ngrams",
            "a b c d e a b c",
            {"max": {3: 0.3}},
            "0.38 of the characters in repeated runs of 3 words",
        ),
        ("duplicate_ngrams", "a a a a a", {"max": {2: 0.7}}, "0.80 of the characters in repeated runs of 2 words"),
        ("duplicate_ngrams", "a b c d e a b c", {"max": {4: 0, 5: 0}}, None),
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
        "word_length": {"min": 3, "max": 10},
        "symbols": {"max": 0.1},
        "bullets": {"max": 0.9},
        "ellipses": {"max": 0.3},
        "alphabetic": {"min": 0.8},
        "stop_words": {"min": 2},
        "duplicate_lines": {"max": 0.3, "max_characters": 0.2},
        "duplicate_paragraphs": {"max": 0.3, "max_characters": 0.2},
        "top_ngrams": {"max": {2: 0.2, 3: 0.18, 4: 0.16}},
        "duplicate_ngrams": {"max": {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}},
    }.items():
        assert judge(name, text, **parameters) is None, name
