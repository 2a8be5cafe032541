import random

import pytest
from rouge_score import rouge_scorer

from ladder.synthesis.rouge import Pool, rouge_l, words


def score(first, second):
    return rouge_l(words(first), words(second))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # Lin 2004, section 3.1: the examples S1 to S3.
        ("police killed the gunman", "police kill the gunman", 3 / 4),
        ("police killed the gunman", "the gunman kill police", 2 / 4),
        # Results of rouge_score 0.1.2, worked out: twice the common subsequence over the sum of the lengths.
        ("Write a short poem about the sea.", "Write a poem about the deep, blue sea!", 2 * 6 / (7 + 8)),
        ("Give three tips for better sleep.", "Suggest three tips for falling asleep faster.", 2 * 3 / (6 + 7)),
        ("the the cat the", "the cat the the the", 2 * 3 / (4 + 5)),
        ("Is 7 prime?", "What is the capital of Peru?", 2 * 1 / (3 + 6)),
        ("a b c", "d e f", 0),
        ("", "", 0),
    ],
)
def test_rouge_l_is_the_published_one(first, second, expected):
    assert score(first, second) == pytest.approx(expected, abs=1e-12)


def test_rouge_l_is_rouge_score_s_on_texts_with_many_repeats():
    scorer, chance = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False), random.Random(0)
    for _ in range(300):
        first, second = (" ".join(chance.choices("abcde", k=chance.randint(1, 90))) for _ in range(2))
        assert score(first, second) == pytest.approx(scorer.score(first, second)["rougeL"].fmeasure, abs=1e-12)


def test_words_of_other_scripts_are_words():
    assert words("Ça va_bien, 東京 3x!") == ["ça", "va", "bien", "東京", "3x"]
    assert score("Où est la gare ?", "où est LA gare") == 1


def test_the_nearest_member_is_found_with_its_score():
    pool = Pool()
    assert pool.nearest("anything at all") == (0, "")
    for name, text in [("a", "red green blue"), ("b", "red green white black"), ("c", "red green white black")]:
        pool.add(name, text)
    assert pool.nearest("red green white") == (pytest.approx(6 / 7), "b")
    assert pool.nearest("?!") == (0, "")
    assert len(pool) == 3


def test_the_same_text_is_known_but_for_case_and_blanks():
    pool = Pool()
    pool.add("a", "Sort these: 3, 1.")
    assert pool.same(" sort  these:\n3, 1.") == "a"
    assert pool.same("Sort these: 3, 2.") is None
