import json
import random

import pytest

from conftest import assistant, user
from ladder.filters.minhash_dedup import near_duplicates, resemblances
from ladder.filters.shingles import shingle_sets
from ladder.filters.signatures import bands
from ladder.pipeline.stage import UserError


def reasons(texts, *, jaccard=0.8, ngram=1, unit="words", part="completion"):
    rows = [{"id": f"r{n}", "prompt": user("Q"), "completion": assistant(text)} for n, text in enumerate(texts)]
    return list(near_duplicates(rows, part=part, jaccard=jaccard, ngram=ngram, unit=unit))


def test_worked_by_hand():
    """{a b c d} and {a b c d e}: 4 of 5 shared, 0.8; with f also 4 of 6, which is less."""
    assert reasons(["a b c d", "A, b: c; d e", "a b c d e f"]) == [None, "Jaccard 0.80 with r0", None]
    assert reasons(["a b c d", "a b c d e f"], jaccard=0.6) == [None, "Jaccard 0.67 with r0"]


def test_shingles_of_several_words_and_of_characters():
    """Word pairs: ab bc cd de | ab bc cd df: 3 of 5. Characters: abc bcd cde | abc bcd cdf: 2 of 4."""
    assert reasons(["a b c d e", "a b c d f"], ngram=2, jaccard=0.6) == [None, "Jaccard 0.60 with r0"]
    assert reasons(["abcde", "abcdf"], ngram=3, unit="characters", jaccard=0.5) == [None, "Jaccard 0.50 with r0"]
    assert reasons(["abcde", "abcdf"], ngram=3, unit="characters", jaccard=0.51) == [None, None]


def test_a_row_goes_only_for_one_that_stays():
    """The second is similar to the first, and the third only to the second, which is removed: the third stays."""
    chain = ["a b c d e f g h i j", "b c d e f g h i j", "c d e f g h i j"]
    assert reasons(chain, jaccard=0.85) == [None, "Jaccard 0.90 with r0", None]


def test_short_and_empty_texts():
    assert reasons(["", "...", "yes", "Yes!", "no"], ngram=5) == [None, None, None, "Jaccard 1.00 with r2", None]


def test_any_type_of_row_and_either_part():
    rows = [
        {"messages": user("one two three") + assistant("x")},
        {"prompt": user("one two three"), "chosen": assistant("y"), "rejected": assistant("z")},
    ]
    asked = near_duplicates(rows, part="prompt", jaccard=0.8, ngram=2, unit="words")
    assert list(asked) == [None, "Jaccard 1.00 with row 1"]
    assert list(near_duplicates(rows, part="completion", jaccard=0.8, ngram=2, unit="words")) == [None, None]
    with pytest.raises(UserError, match="expected the columns messages; prompt and completion"):
        list(near_duplicates([{"text": "a"}], part="all", jaccard=0.8, ngram=2, unit="words"))


def test_equal_to_the_exact_answer_on_texts_with_edits():
    """All pairs in plain Python, keeping the first: 600 texts, a third of them edited copies."""
    chance = random.Random(0)
    texts = [" ".join(f"w{chance.randrange(3000)}" for _ in range(chance.randrange(20, 120))) for _ in range(400)]
    for _ in range(200):
        words = chance.choice(texts[:400]).split()
        for _ in range(chance.randrange(5)):
            words[chance.randrange(len(words))] = "new"
        texts.insert(chance.randrange(len(texts)), " ".join(words))
    sets = [{tuple(text.split()[place : place + 3]) for place in range(len(text.split()) - 2)} for text in texts]
    kept, gone = [], []
    for number, one in enumerate(sets):
        if any(len(one & sets[other]) >= 0.8 * len(one | sets[other]) for other in kept):
            gone.append(number)
        else:
            kept.append(number)
    found = [number for number, reason in enumerate(reasons(texts, ngram=3)) if reason]
    assert len(gone) > 100
    assert found == gone


def test_the_rows_are_read_from_disk_twice(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"messages": assistant(f"text {n % 7}")}) + "\n" for n in range(1000)))

    class File:
        opened = 0

        def __iter__(self):
            self.opened += 1
            with path.open() as lines:
                for line in lines:
                    yield json.loads(line)

    file = File()
    verdicts = list(near_duplicates(file, part="all", jaccard=0.8, ngram=5, unit="words"))
    assert [verdict is None for verdict in verdicts] == [n < 7 for n in range(1000)]
    assert file.opened == 2


@pytest.mark.parametrize("jaccard", [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.99, 1.0])
def test_bands_find_what_is_as_alike_as_the_threshold(jaccard):
    number, width = bands(jaccard)
    assert 1 - (1 - jaccard**width) ** number >= 0.9995
    assert number * width <= 128


def test_resemblances_are_those_of_the_sets():
    one, *others = shingle_sets(["a b c d", "c d e", "x", "d c b a a"], 1, "words")
    assert resemblances(one, others).tolist() == [2 / 5, 0, 1]


def test_what_cannot_be_searched_is_refused():
    with pytest.raises(UserError, match="expected jaccard of 0.1 to 1"):
        reasons(["a"], jaccard=0.05)
