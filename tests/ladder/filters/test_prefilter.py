import numpy as np
import pytest

from conftest import assistant, user
from ladder.filters import basic, prefilter
from ladder.filters.decontamination import Benchmarks
from ladder.filters.prefilter import Batch

TEXTS = [
    "",
    " \n",
    "one",
    "The end of it, and that is all.",
    "so it is so it goes so it is so it goes",
    "aa\nbb\n aa\ncc",
    "a\n\nb\n\n a\n\nc",
    "- one\n* two\nthree...",
    "# 12 34 \u2026 56",
    "I cannot help with that.",
    "I can_not say; I don\u02bct do that, sorry.",
    "As an AI language model I know nothing.",
    "My answer: red green blue yellow",
    "Red, GREEN: blue!",
    "na\u00efve caf\u00e9 \u65e5\u672c \u8a9e\u3000na\u00efve caf\u00e9",
    "x\x1fy\x85z\u2028x\x1fy\x85z",
]
ROWS = [
    *({"prompt": user("Q"), "completion": assistant(text)} for text in TEXTS),
    *({"messages": [*user(text), *assistant("Yes it is."), *user("Q"), *assistant(text)]} for text in TEXTS),
    *({"prompt": user("Q"), "chosen": assistant(text), "rejected": assistant("red green blue")} for text in TEXTS),
    *({"prompt": user(text)} for text in TEXTS),
    {"prompt": [*user("Q"), *assistant("so it is so it goes")], "completion": assistant("That is it.")},
]
BENCHMARKS = Benchmarks({"quiz": [{"question": "red green blue"}, {"question": "Is it the end of it?"}]})
PARAMETERS = {
    "alphabetic": [{"min": 0.8}, {"min": 1}],
    "boilerplate": [{}],
    "bullets": [{"max": 0}, {"max": 0.5}],
    "decontaminate": [
        {"ngram": 3, "benchmarks": BENCHMARKS},
        {"ngram": 8, "benchmarks": BENCHMARKS},
        {"ngram": 3, "common": 0, "benchmarks": BENCHMARKS},  # no run marks a row, but a whole question does
    ],
    "duplicate_lines": [{"max": 0, "max_characters": 1}, {"max": 1, "max_characters": 0}],
    "duplicate_ngrams": [{"max": {2: 0.1, 3: 0}}, {"max": {3: 0.4}}],
    "duplicate_paragraphs": [{"max": 0, "max_characters": 1}],
    "ellipses": [{"max": 0}],
    "length": [{"min": 1, "max": 4}, {"min": 3, "max": 100}],
    "refusal": [{"reject": ["full_refusal", "partial_refusal"]}, {"reject": ["no_answer"]}],
    "repetition": [{"ngram": 1, "max": 0.1}, {"ngram": 3, "max": 0.2}],
    "stop_words": [{"min": 0}, {"min": 2}],
    "symbols": [{"max": 0}, {"max": 0.3}],
    "top_ngrams": [{"max": {1: 0.2}}, {"max": {2: 0.2, 3: 0.1}}],
    "word_length": [{"min": 2, "max": 4}, {"min": 0, "max": 3}],
}


def test_every_screen_is_tried_here():
    assert list(PARAMETERS) == prefilter.__all__


@pytest.mark.parametrize("name", PARAMETERS)
def test_what_a_screen_keeps_the_filter_keeps(name):
    for parameters in PARAMETERS[name]:
        kept = getattr(prefilter, name)(Batch(ROWS), **parameters)
        reasons = [getattr(basic, name)(row, **parameters) for row in ROWS]
        assert kept.shape == (len(ROWS),)
        assert [reason for reason, surely in zip(reasons, kept, strict=True) if surely and reason is not None] == []


BY_HAND = [
    ("length", {"min": 2, "max": 3}, ["one", "one, two", "a b c d"], [False, True, False]),
    ("repetition", {"ngram": 2, "max": 0.5}, ["a b c d e f", "a b a b a b", ""], [True, False, True]),
    ("word_length", {"min": 2, "max": 3}, ["aa bbb", "a b", "\u00e4\u00f6 \u65e5\u672c"], [True, False, True]),
    ("alphabetic", {"min": 0.6}, ["ab c3 --", "ab -- 12"], [True, False]),
    ("stop_words", {"min": 2}, ["the end of it", "The end of it", "theof"], [True, False, False]),
    # "so it" occurs twice: at most 2 * 2 words of 5 letters, of 40.
    ("top_ngrams", {"max": {2: 0.5}}, ["so it is so it was then they went to her house again"], [True]),
    ("top_ngrams", {"max": {2: 0.4}}, ["so it is so it was then they went to her house again"], [False]),
    ("duplicate_ngrams", {"max": {2: 0}}, ["a b c d", "a b a b"], [True, False]),
    ("refusal", {"reject": ["full_refusal"]}, ["Sure, a dog.", "It is not a dog.", "a_b"], [True, False, False]),
    ("boilerplate", {}, ["A dog.", "A language."], [True, False]),
    ("decontaminate", {"ngram": 3, "benchmarks": BENCHMARKS}, ["Red? Green, blue", "red blue"], [False, True]),
    ("symbols", {"max": 0.3}, ["one", "# one", "one...", "one \u2026", ""], [True, False, False, False, True]),
    ("bullets", {"max": 0.5}, ["one\ntwo", "- one\ntwo", "one - two"], [True, False, True]),
    ("ellipses", {"max": 0}, ["one.\ntwo", "one...\ntwo", "one ... two"], [True, False, True]),
    ("duplicate_lines", {"max": 0.5, "max_characters": 1}, ["a\nb", "a\nb\na"], [True, False]),
    ("duplicate_paragraphs", {"max": 0.5, "max_characters": 1}, ["a\n\nb", "a\n\nb\n\na"], [True, False]),
]


def test_every_screen_is_tried_by_hand_on_a_row_that_it_keeps_and_one_that_it_does_not():
    seen = {
        name: {surely for one, _, _, kept in BY_HAND if one == name for surely in kept} for name in prefilter.__all__
    }
    assert seen == dict.fromkeys(prefilter.__all__, {True, False})


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_screen_keeps_some_of_the_rows_that_its_filter_keeps(name):
    """A pre-filter that is False for every row would be valid but useless."""
    parameters = PARAMETERS[name][0]
    kept = getattr(prefilter, name)(Batch(ROWS), **parameters)
    reasons = [getattr(basic, name)(row, **parameters) for row in ROWS]
    both = sum(bool(surely) for reason, surely in zip(reasons, kept, strict=True) if reason is None)
    assert both >= reasons.count(None) / 3


@pytest.mark.parametrize(("name", "parameters", "texts", "kept"), BY_HAND)
def test_screens_by_hand(name, parameters, texts, kept):
    rows = [{"prompt": user("Q"), "completion": assistant(text)} for text in texts]
    assert getattr(prefilter, name)(Batch(rows), **parameters).tolist() == kept


def test_each_row_of_several_turns_has_its_own_words():
    words, counts = Batch([ROWS[3], ROWS[len(TEXTS) + 3], ROWS[2 * len(TEXTS) + 3]]).words("completion")
    assert counts.tolist() == [8, 11, 8]  # 8 words; with "Yes it is." before; without the rejected answer
    assert np.array_equal(words[:8], words[11:19])
