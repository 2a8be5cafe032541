import numpy as np
import pytest

from conftest import assistant, user
from ladder.filters.decontamination import Benchmarks
from ladder.filters.embedding import embed
from ladder.filters.paraphrases import paraphrased
from torch_helpers import pico_encoder

WORDS = ["red", "green", "blue", "one", "two", "three", "four", "five", "six", "seven"]
QUESTIONS = ["red green blue", "one two three four", "six seven one"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return pico_encoder(tmp_path_factory.mktemp("encoder"), WORDS, layers=1)


def test_a_question_near_to_a_benchmarks_goes_as_brute_force_has_it(encoder):
    asked = ["red blue green", "two one four three", "five", "seven six"]
    batch = [{"prompt": user(text), "completion": assistant("A")} for text in asked]
    benchmarks = Benchmarks({"quiz": [{"question": text, "answer": "red"} for text in QUESTIONS]})
    cosines = embed(asked, encoder).astype(np.float64) @ embed(QUESTIONS, encoder).T.astype(np.float64)
    cut = float(np.sort(cosines.max(axis=1))[1:3].mean())
    wanted = [f"{row.max():.2f} like quiz: {QUESTIONS[row.argmax()]}" if row.max() >= cut else None for row in cosines]
    assert wanted.count(None) == 2
    assert paraphrased(batch, cosine=cut, model=encoder, benchmarks=benchmarks) == wanted
    assert [paraphrased([row], cosine=cut, model=encoder, benchmarks=benchmarks)[0] is None for row in batch] == [
        reason is None for reason in wanted
    ]


def test_the_same_words_have_a_cosine_of_one(encoder):
    row = {"prompt": user("red green blue"), "completion": assistant("A")}
    benchmarks = Benchmarks({"quiz": [{"question": QUESTIONS[0]}]})
    assert paraphrased([row], cosine=0.999, model=encoder, benchmarks=benchmarks) == [
        "cosine 1.00 with quiz: red green blue"
    ]
    assert paraphrased([], cosine=0.999, model=encoder, benchmarks=benchmarks) == []
