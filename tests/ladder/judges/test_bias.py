import random

import pytest
from scipy import stats
from sklearn.metrics import accuracy_score

from ladder.judges.bias import (
    agreement,
    injected,
    length_correlation,
    longer_wins,
    self_preference,
    swaps,
)
from ladder.judges.comparison import Comparison


def compared(straight, swapped):
    return [Comparison(*both) for both in zip(straight, swapped, strict=True)]


def test_what_the_order_does_by_hand() -> None:
    straight = ["A", "A", "B", "C", "A", "B", None, "A"]
    swapped = ["B", "A", "B", "C", "C", "A", "A", "A"]
    assert swaps(compared(straight, swapped)) == {
        "pairs": 7,
        "flip_rate": round(4 / 7, 4),
        "first": round(2 / 7, 4),
        "second": round(1 / 7, 4),
    }
    assert swaps(compared([None], ["A"])) == {"pairs": 0, "flip_rate": None, "first": None, "second": None}


def test_always_the_first_flips_always_and_a_coin_flips_half_the_time() -> None:
    assert swaps(compared(["A"] * 9, ["A"] * 9))["flip_rate"] == 1.0
    draw = random.Random(0)
    coins = [[draw.choice("AB") for _ in range(4000)] for _ in range(2)]
    assert abs(swaps(compared(*coins))["flip_rate"] - 0.5) < 0.03


def test_length_correlation_by_hand_and_as_scipy() -> None:
    # Ranks of the lengths 3 1 2 5 4, of the grades 1 to 5: 1 - 6 * (4 + 1 + 1 + 1 + 1) / (5 * 24) = 0.6.
    grades, lengths = [1.0, 2.0, 3.0, 4.0, 5.0], [30, 10, 20, 50, 40]
    assert length_correlation(grades, lengths)["spearman"] == 0.6
    ties = [1.0, 1.0, None, 4.0, 5.0]
    kept = stats.spearmanr([1, 1, 4, 5], [30, 10, 50, 40])
    assert length_correlation(ties, lengths) == {
        "answers": 4,
        "spearman": round(kept.statistic, 4),
        "p": round(kept.pvalue, 4),
    }


@pytest.mark.parametrize("grades", [[5.0, 5.0, 5.0], [None, None, None], [1.0, 2.0, None]])
def test_no_correlation_of_what_does_not_vary(grades: list[float | None]) -> None:
    assert length_correlation(grades, [1, 2, 3])["spearman"] is None


def test_the_longer_answer_wins() -> None:
    preferences = ["one", "two", "one", "tie", None, "one"]
    assert longer_wins(preferences, [(9, 1), (9, 1), (1, 9), (9, 1), (9, 1), (5, 5)]) == {"pairs": 3, "share": 0.3333}  # type: ignore[arg-type]
    assert longer_wins([], []) == {"pairs": 0, "share": None}


def test_self_preference_is_what_the_labels_do_not_say() -> None:
    own = ["one", "one", "two", "two", None, "one"]
    judge = ["one", "tie", "two", "two", "one", None]
    label = ["one", "two", "one", "two", "one", "one"]
    # The judge: 1, 1/2, 1, 1 on its own four answers; the labels: 1, 0, 0, 1.
    assert self_preference(judge, own, label) == {"pairs": 4, "judge": 0.875, "labels": 0.5, "excess": 0.375}  # type: ignore[arg-type]
    assert self_preference(["one"], [None], ["one"])["pairs"] == 0


def test_agreement_is_the_accuracy_on_what_is_decided() -> None:
    draw = random.Random(1)
    judge = [draw.choice(["one", "two", "tie", None]) for _ in range(200)]
    label = [draw.choice(["one", "two"]) for _ in range(200)]
    decided = [(side, truth) for side, truth in zip(judge, label, strict=True) if side in ("one", "two")]
    found = agreement(judge, label)  # type: ignore[arg-type]
    wilson = stats.binomtest(sum(a == b for a, b in decided), len(decided)).proportion_ci(method="wilson")
    assert found == {
        "pairs": sum(side is not None for side in judge),
        "decided": round(len(decided) / sum(side is not None for side in judge), 4),
        "agreement": round(accuracy_score(*zip(*decided, strict=True)), 4),
        "agreement_low": round(wilson.low, 4),
        "agreement_high": round(wilson.high, 4),
    }
    assert agreement(["tie"], ["one"])["agreement"] is None


def test_what_injections_did() -> None:
    found = injected([2.0, 2.0, None, 4.0], [[10.0, 2.0, 10.0, 4.4], [2.0, None, 10.0, 5.0]])
    # Changes by answer: 8 and 0, 0, 0.4 and 1.
    assert (found["answers"], found["change"], found["raised"]) == (3, 1.88, 0.4)
    assert (found["change_low"], found["change_high"]) == (0.0, 4.0)
    assert injected([None], [[1.0]])["change"] is None
