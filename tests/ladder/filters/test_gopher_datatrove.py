"""Gopher's rules against datatrove's implementation, an extra (`make extra-cluster`).

The two differ by choice in three points, so the texts here avoid them: we skip blank lines and know more bullets, we
ignore case and punctuation of stop words, and we count characters without blanks. Both get words by white space.
"""

import inspect
import random

import pytest

from conftest import assistant, user
from ladder.filters import gopher

quality = pytest.importorskip("datatrove.pipeline.filters.gopher_quality_filter", reason="make extra-cluster")
repetition = pytest.importorskip("datatrove.pipeline.filters.gopher_repetition_filter", reason="make extra-cluster")
from datatrove.data import Document  # noqa: E402

WORDS = ["the", "of", "and", "with", "a", "bread", "flour", "yeast", "loaf", "sourdough", "12", "3", "extraordinarily"]
LINES = 400


def texts():
    draw = random.Random(0)
    for _ in range(LINES):
        few = draw.sample(WORDS, draw.randint(1, len(WORDS)))
        lines = [draw.choices(few, k=draw.randint(1, 12)) for _ in range(draw.randint(1, 8))]
        begins = draw.choice(["", "- ", "\u2022 "])
        marked = draw.random()
        yield "\n".join(
            (begins if draw.random() < marked else "")
            + " ".join(line)
            + (" #" if draw.random() < 0.2 else "")
            + (draw.choice(["...", "\u2026"]) if draw.random() < marked else "")
            for line in lines
        )


def rows():
    return [(text, {"prompt": user("Q"), "completion": assistant(text)}) for text in texts()]


def only(**rule):
    """datatrove's quality filter with one rule; the others are off."""
    names = list(inspect.signature(quality.GopherQualityFilter.__init__).parameters)[1:10]
    return quality.GopherQualityFilter(**{**dict.fromkeys(names), **rule})


@pytest.mark.parametrize(
    ("name", "parameters", "rule"),
    [
        ("symbols", {"max": 0.1}, {"max_symbol_word_ratio": 0.1}),
        ("bullets", {"max": 0.5}, {"max_bullet_lines_ratio": 0.5}),
        ("ellipses", {"max": 0.3}, {"max_ellipsis_lines_ratio": 0.3}),
        ("alphabetic", {"min": 0.8}, {"max_non_alpha_words_ratio": 0.8}),
    ],
)
def test_a_rule_of_quality_keeps_the_same_texts(name, parameters, rule, monkeypatch):
    monkeypatch.setattr(quality, "split_into_words", lambda text, language: text.split())
    theirs = only(**rule)
    expected = [theirs.filter(Document(text=text, id="")) is True for text, _ in rows()]
    assert [getattr(gopher, name)(row, **parameters) is None for _, row in rows()] == expected
    assert {True, False} == set(expected)


@pytest.mark.parametrize(
    ("name", "parameters", "rule"),
    [
        ("word_length", {"min": 3, "max": 6}, {"min_avg_word_length": 3, "max_avg_word_length": 6}),
        ("stop_words", {"min": 2}, {"min_stop_words": 2}),
    ],
)
def test_a_rule_of_words_keeps_the_same_texts_of_plain_words(name, parameters, rule, monkeypatch):
    monkeypatch.setattr(quality, "split_into_words", lambda text, language: text.split())
    theirs, draw = only(**rule), random.Random(1)
    plain = [" ".join(draw.choices(draw.sample(WORDS, 4), k=draw.randint(1, 9))) for _ in range(LINES)]
    expected = [theirs.filter(Document(text=text, id="")) is True for text in plain]
    made = [{"prompt": user("Q"), "completion": assistant(text)} for text in plain]
    assert [getattr(gopher, name)(row, **parameters) is None for row in made] == expected
    assert {True, False} == set(expected)


@pytest.mark.parametrize(
    ("name", "rule", "joint"),
    [("duplicate_lines", "dup_line_frac", "\n"), ("duplicate_paragraphs", "dup_para_frac", "\n\n")],
)
def test_duplicate_parts_are_the_same(name, rule, joint):
    off = dict.fromkeys(("dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac"))
    theirs = repetition.GopherRepetitionFilter(**{**off, rule: 0.3}, top_n_grams=(), dup_n_grams=())
    theirs.language, draw = "en", random.Random(2)
    repetition.split_into_words = lambda text, language: text.split()
    many = [joint.join(draw.choices(["bread", "flour and salt", "yeast", "the loaf"], k=draw.randint(1, 6)))
            for _ in range(LINES)]  # fmt: skip
    expected = [theirs.filter(Document(text=text, id="")) is True for text in many]
    made = [{"prompt": user("Q"), "completion": assistant(text)} for text in many]
    assert [getattr(gopher, name)(row, max=0.3, max_characters=1) is None for row in made] == expected
    assert {True, False} == set(expected)


def test_gophers_values_are_those_that_the_module_names():
    given = {
        name: one.default
        for kind in (quality.GopherQualityFilter, repetition.GopherRepetitionFilter)
        for name, one in inspect.signature(kind.__init__).parameters.items()
    }
    assert (given["min_avg_word_length"], given["max_avg_word_length"]) == (3, 10)
    names = ["max_symbol_word_ratio", "max_bullet_lines_ratio", "max_ellipsis_lines_ratio", "max_non_alpha_words_ratio"]
    assert [given[name] for name in names] == [0.1, 0.9, 0.3, 0.8]
    assert (given["min_stop_words"], gopher.STOP_WORDS) == (2, frozenset(quality.STOP_WORDS))
    assert [given[f"dup_{part}_frac"] for part in ("line", "para", "line_char", "para_char")] == [0.3, 0.3, 0.2, 0.2]
    assert dict(given["top_n_grams"]) == {2: 0.2, 3: 0.18, 4: 0.16}
    assert dict(given["dup_n_grams"]) == {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}
    reported = gopher.__doc__
    for line in ("min: 3, max: 10", "max: 0.1", "max: 0.9", "min: 0.8", "{2: 0.2, 3: 0.18, 4: 0.16}"):
        assert line in reported
