import hashlib
import random
from collections import Counter

import pytest

from benchmarks import ifeval
from ladder.data.jsonl import read_rows
from ladder.eval.benchmark import Question
from ladder.eval.stratified import order

FAMILIES = ["keywords", "length_constraints", "detectable_format", "change_case", "punctuation", "language"]


def benchmark(count: int = 541) -> list[Question]:
    """Questions with IFEval's mix: one instruction in half of the prompts, families of different sizes."""
    generator = random.Random(0)
    return [
        Question(
            str(1000 + number),
            ("?",),
            " + ".join(generator.choices(FAMILIES, [8, 7, 7, 4, 3, 1], k=generator.choice([1, 1, 1, 2, 2, 3]))),
        )
        for number in range(count)
    ]


def families(questions: list[Question]) -> Counter[str]:
    return Counter(name for question in questions for name in question.groups)


def keys(questions: list[Question]) -> list[str]:
    return [question.key for question in questions]


@pytest.mark.parametrize("size", [24, 48, 96, 192, 384])
def test_every_share_of_a_beginning_is_within_one_of_proportional(size: int) -> None:
    questions = benchmark()
    chosen, whole = order(questions)[:size], families(questions)
    counts = Counter(len(question.groups) for question in questions)
    for family, total in whole.items():
        assert abs(families(chosen)[family] - size * total / 541) <= 1
    for number, total in counts.items():
        assert abs(sum(len(question.groups) == number for question in chosen) - size * total / 541) <= 1


def test_the_order_given_does_not_matter_but_the_seed_does() -> None:
    questions = benchmark()
    shuffled = random.Random(1).sample(questions, len(questions))
    assert keys(order(questions)) == keys(order(shuffled))
    assert keys(order(questions)) != keys(order(questions, seed=1))


def test_every_question_occurs_once() -> None:
    assert sorted(keys(order(benchmark()))) == keys(benchmark())
    assert order([]) == []


def test_by_hand() -> None:
    questions = [Question(str(number), ("?",), group) for number, group in enumerate("aaaab")]
    # Four a and one b: squared distances (times 5) after two are 8 for aa, 18 for ab; after three 18 and 8.
    assert [question.group for question in order(questions)] == list("aabaa")


@pytest.mark.real
def test_ifevals_64_prompts_are_those_of_the_first_tables(ifeval_files) -> None:
    # The selection of the scores in metrics/ifeval, before other benchmarks were added.
    chosen = keys(order(ifeval.questions(read_rows(ifeval_files[0])))[:64])
    assert chosen[:5] == ["2534", "3351", "2817", "3084", "2482"]
    assert hashlib.sha256(" ".join(chosen).encode()).hexdigest() == (
        "c4df32b7e1ba9e002a7b0120043be810e50d96c73cf6fca912601a875713fb67"
    )
