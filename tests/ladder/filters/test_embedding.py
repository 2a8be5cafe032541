import random

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity
from transformers import BertModel

from conftest import assistant, user
from ladder.filters.decontamination import Benchmarks
from ladder.filters.embedding import centers_of, embed, k_center, paraphrased, semantic_duplicates
from ladder.pipeline.stage import UserError
from torch_helpers import pico_encoder

WORDS = [f"w{number}" for number in range(50)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return pico_encoder(tmp_path_factory.mktemp("encoder"), WORDS, layers=2)


def sentences(number, seed=0):
    chance = random.Random(seed)
    texts = [" ".join(chance.choices(WORDS, k=chance.randrange(1, 12))) for _ in range(number * 2 // 3)]
    while len(texts) < number:
        words = chance.choice(texts).split()
        words[chance.randrange(len(words))] = chance.choice(WORDS)
        texts.append(" ".join(words))
    return texts


def rows(texts):
    return [{"id": f"r{n}", "prompt": user(text), "completion": assistant("A")} for n, text in enumerate(texts)]


def test_an_embedding_is_the_normalized_mean_of_the_last_hidden_states(encoder):
    """Each text alone, without padding; the third is truncated to 16 tokens."""
    texts = ["w1 w2 w3", "w4", " ".join(WORDS)]
    model = BertModel.from_pretrained(encoder, add_pooling_layer=False).eval()
    wanted = []
    for text in texts:
        ids = torch.tensor([[2 + int(word[1:]) for word in text.split()][:16]])
        with torch.no_grad():
            mean = model(input_ids=ids).last_hidden_state[0].double().mean(0)
        wanted.append((mean / mean.norm()).numpy())
    np.testing.assert_allclose(embed(texts, encoder), np.stack(wanted), atol=1e-5)


def test_near_rows_go_as_brute_force_has_it(encoder):
    texts = sentences(600)
    cosines = cosine_similarity(embed(texts, encoder).astype(np.float64))
    cut = float(np.quantile(cosines.max(axis=1, where=~np.eye(600, dtype=bool), initial=-1), 0.6))
    kept, wanted = [], []
    for row in range(600):
        near = bool(kept) and cosines[row, kept].max() >= cut
        if near:
            like = kept[int(cosines[row, kept].argmax())]
            wanted.append(f"cosine {cosines[row, like]:.2f} with r{like}")
        else:
            kept.append(row)
            wanted.append(None)
    assert 100 < len(kept) < 500
    assert list(semantic_duplicates(rows(texts), part="prompt", cosine=cut, model=encoder)) == wanted


def test_each_next_center_is_the_farthest_from_those_chosen():
    """On the circle at 0, 10, 100, 180 and 300 degrees, from the first: 180 is the farthest; then 300 and 100 are
    60 and 80 away from the nearest, so 100, then 300."""
    angles = np.radians([0, 10, 100, 180, 300])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert [sorted(centers_of(vectors, number)[0]) for number in range(1, 5)] == [
        [0],
        [0, 3],
        [0, 2, 3],
        [0, 2, 3, 4],
    ]
    chosen, nearest, centers = centers_of(vectors, 2)
    assert centers.tolist() == [0, 0, 3, 3, 0]
    assert nearest == pytest.approx(np.cos(np.radians([0, 10, 80, 0, 60])), abs=1e-6)
    assert centers_of(vectors, 9)[0] == {0, 1, 2, 3, 4}


def test_a_diverse_choice_keeps_the_number_asked_for_and_names_the_nearest(encoder):
    texts = [*sentences(40), "w1 w2", "w1 w2"]
    reported = list(k_center(rows(texts), part="prompt", number=10, model=encoder))
    assert reported.count(None) == 10
    assert reported[0] is None
    cosines = cosine_similarity(embed(texts, encoder))
    kept = [row for row, reason in enumerate(reported) if reason is None]
    for row, reason in enumerate(reported):
        if reason is not None:
            like = int(reason.rsplit("r", 1)[1])
            assert like in kept
            assert cosines[row, like] == pytest.approx(cosines[row, kept].max(), abs=1e-6)
    assert list(k_center(rows(texts), part="prompt", number=99, model=encoder)).count(None) == 42


def test_what_is_no_encoder_or_pools_otherwise_is_refused(tmp_path):
    with pytest.raises(UserError, match="no sentence encoder"):
        embed(["a"], tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    with pytest.raises(UserError, match="expected mean pooling"):
        embed(["a"], tmp_path)


QUESTIONS = ["red green blue", "one two three four", "six seven one"]
COLORS = ["red", "green", "blue", "one", "two", "three", "four", "five", "six", "seven"]


@pytest.fixture(scope="module")
def colors(tmp_path_factory):
    return pico_encoder(tmp_path_factory.mktemp("encoder"), COLORS, layers=1)


def test_a_question_near_to_a_benchmarks_goes_as_brute_force_has_it(colors):
    asked = ["red blue green", "two one four three", "five", "seven six"]
    batch = [{"prompt": user(text), "completion": assistant("A")} for text in asked]
    benchmarks = Benchmarks({"quiz": [{"question": text, "answer": "red"} for text in QUESTIONS]})
    cosines = embed(asked, colors).astype(np.float64) @ embed(QUESTIONS, colors).T.astype(np.float64)
    cut = float(np.sort(cosines.max(axis=1))[1:3].mean())
    wanted = [
        f"cosine {row.max():.2f} with quiz: {QUESTIONS[row.argmax()]}" if row.max() >= cut else None for row in cosines
    ]
    assert wanted.count(None) == 2
    assert paraphrased(batch, cosine=cut, model=colors, benchmarks=benchmarks) == wanted
    assert [paraphrased([row], cosine=cut, model=colors, benchmarks=benchmarks)[0] is None for row in batch] == [
        reason is None for reason in wanted
    ]


def test_the_same_words_have_a_cosine_of_one(colors):
    row = {"prompt": user("red green blue"), "completion": assistant("A")}
    benchmarks = Benchmarks({"quiz": [{"question": QUESTIONS[0]}]})
    assert paraphrased([row], cosine=0.999, model=colors, benchmarks=benchmarks) == [
        "cosine 1.00 with quiz: red green blue"
    ]
    assert paraphrased([], cosine=0.999, model=colors, benchmarks=benchmarks) == []
