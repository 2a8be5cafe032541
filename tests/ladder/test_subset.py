import random
from collections import Counter

import pytest

from ladder.rows import Row
from ladder.run import Refused
from ladder.subset import choose

FAMILIES = ["keywords", "length_constraints", "detectable_format", "change_case", "punctuation", "language"]


def benchmark(count: int = 541) -> list[Row]:
    """Rows with IFEval's mix: one instruction in half of the prompts, families of unlike size."""
    generator = random.Random(0)
    return [
        {
            "key": 1000 + number,
            "instruction_id_list": [
                f"{family}:any"
                for family in generator.choices(FAMILIES, [8, 7, 7, 4, 3, 1], k=generator.choice([1, 1, 1, 2, 2, 3]))
            ],
        }
        for number in range(count)
    ]


def families(rows: list[Row]) -> Counter[str]:
    return Counter(name.split(":")[0] for row in rows for name in row["instruction_id_list"])


def keys(rows: list[Row]) -> list[int]:
    return [row["key"] for row in rows]


@pytest.mark.parametrize("size", [24, 48, 96, 192, 384])
def test_every_share_is_within_one_of_proportional(size: int) -> None:
    rows = benchmark()
    chosen, whole = choose(rows, size), families(rows)
    counts = Counter(len(row["instruction_id_list"]) for row in rows)
    for family, total in whole.items():
        assert abs(families(chosen)[family] - size * total / 541) <= 1
    for number, total in counts.items():
        assert abs(sum(len(row["instruction_id_list"]) == number for row in chosen) - size * total / 541) <= 1


def test_a_smaller_choice_is_the_beginning_of_a_larger_one() -> None:
    rows = benchmark()
    assert keys(choose(rows, 48)) == keys(choose(rows, 96))[:48] == keys(choose(rows, 0))[:48]


def test_neither_order_nor_repetition_matters_but_the_seed_does() -> None:
    rows = benchmark()
    shuffled = random.Random(1).sample(rows, len(rows))
    assert keys(choose(rows, 48)) == keys(choose(shuffled, 48))
    assert keys(choose(rows, 48)) != keys(choose(rows, 48, seed=1))


def test_zero_is_all_rows_once() -> None:
    assert sorted(keys(choose(benchmark(), 0))) == keys(benchmark())


def test_by_hand() -> None:
    rows = [{"key": key, "instruction_id_list": [name]} for key, name in enumerate(["a:x", "a:y", "a:z", "a:x", "b:x"])]
    # Four a and one b: squared distances (times 5) after two rows are 8 for aa, 18 for ab; after three 18 and 8.
    assert [row["instruction_id_list"][0][0] for row in choose(rows, 0)] == list("aabaa")


def test_refuses_more_rows_than_there_are_and_a_key_that_stands_twice() -> None:
    with pytest.raises(Refused, match="0 .all. to 5, got 6"):
        choose(benchmark(5), 6)
    with pytest.raises(Refused, match="key 1000 stands twice"):
        choose(benchmark(5) + benchmark(1), 2)
