from pathlib import Path

import numpy as np
import pytest

from ladder.eval.measures import MEASURES, compare, scores
from ladder.pipeline.stage import UserError
from ladder.statistics import mcnemar

PATH = Path("rows.jsonl")
NORMALIZED, KL = MEASURES["accuracy"]["normalized"], MEASURES["divergence"]["kl"]


def pairs(margins):
    return [{"id": name, "normalized_margin": margin} for name, margin in margins]


def test_rows_of_one_id_are_one_cluster_and_a_tie_counts_half():
    found = scores(pairs([("b", 2.0), ("a", 0.0), ("b", -1.0), ("c", -3.0)]), NORMALIZED, PATH)
    assert found.ids == ["a", "b", "c"]
    assert found.values.tolist() == [0.5, 1.0, 0.0]
    assert found.weights.tolist() == [1.0, 2.0, 1.0]
    assert found.mean == 37.5
    assert found.chance.values.tolist() == [0.5, 1.0, 0.5]


def test_nats_are_weighed_by_tokens():
    rows = [{"id": "a", "tokens": 1, "kl": 3.0}, {"id": "b", "tokens": 3, "kl": 1.0}]
    found = scores(rows, KL, PATH)
    assert found.mean == 1.0  # 4 nats on 4 tokens, not the mean of 3 and 1/3
    assert scores([{**row, "kl": 0.0} for row in rows], KL, PATH).interval == (0.0, 0.0)


def test_better_is_in_the_measures_own_direction():
    margins = np.random.default_rng(0).normal(size=50)
    low = scores(pairs(enumerate(margins - 1)), NORMALIZED, PATH)
    high = scores(pairs(enumerate(margins + 1)), NORMALIZED, PATH)
    found = compare(low, high)
    gained = int(((margins + 1 > 0) & (margins - 1 < 0)).sum())
    assert (found["gained"], found["lost"], found["verdict"]) == (gained, 0, "improved")
    assert found["p"] == mcnemar(gained, 0)
    assert found["difference"] == pytest.approx(high.mean - low.mean) == pytest.approx(2 * gained)

    nats = [scores([{"id": n, "tokens": 1, "kl": kl + n} for n in range(50)], KL, PATH) for kl in (1.0, 2.0)]
    assert (compare(*nats)["difference"], compare(*nats)["verdict"]) == (pytest.approx(1.0), "regressed")
    assert compare(*reversed(nats))["verdict"] == "improved"


def test_other_rows_are_not_compared():
    one, other = (scores(pairs([(name, 1.0)]), NORMALIZED, PATH) for name in "ab")
    with pytest.raises(ValueError, match="two scores of the same rows"):
        compare(one, other)
    twice = scores(pairs([("a", 1.0), ("a", 1.0)]), NORMALIZED, PATH)
    with pytest.raises(ValueError, match="two scores of the same rows"):
        compare(one, twice)


@pytest.mark.parametrize(
    ("row", "said"),
    [({"normalized_margin": 1.0}, "no column 'id'"), ({"id": "a"}, "no column 'normalized_margin'"),
     ({"id": "a", "normalized_margin": None}, "expected numbers for pairs")],
)  # fmt: skip
def test_a_row_that_does_not_fit_is_named(row, said):
    with pytest.raises(UserError, match=f"rows.jsonl: row 1: {said}"):
        scores([row], NORMALIZED, PATH)
