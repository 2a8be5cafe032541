import random
import re

import pytest
from ruamel.yaml import YAML

from conftest import ROOT
from ladder.data.jsonl import read_rows
from ladder.pipeline.stage import UserError
from ladder.synthesis.word_problems import Situation, instances, read_grammar, solved, verbalized
from ladder.verifiers.constraints import meets
from stages.problems import Params, key, main, part

SEEDS = ROOT / "data" / "seeds"
BOX = {
    "asks": ["{person} has {a} of {b}."],
    "numbers": {"a": [1, 4], "b": [2, 3]},
    "steps": [{"name": "all", "value": "a * b", "says": "{person} has"}],
}


def made(tmp_path, split="train", count=500, seed=0, sizes=(1, 2, 3), seeds=SEEDS, family="arithmetic"):
    params = Params(family=family, split=split, count=count, seed=seed, sizes=list(sizes))
    main(params, seeds, tmp_path / "rows.jsonl")
    return read_rows(tmp_path / "rows.jsonl")


def test_every_solution_works_out_and_meets_its_check(tmp_path):
    rows = made(tmp_path, count=2000)
    assert len({row["prompt"][0]["content"] for row in rows}) == 2000
    for row in rows:
        solution = row["completion"][0]["content"]
        sums = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)\.$", solution, re.M)
        assert len(sums) == solution.count("\n")
        for left, operation, right, result in sums:
            assert eval(f"{left} {operation} {right}") == int(result)
        assert solution.endswith(f"\n#### {sums[-1][-1]}")
        assert meets(solution, row["checks"]) == [True]
        assert meets(f"#### {int(sums[-1][-1]) + 1}", row["checks"]) == [False]


def test_a_problem_states_every_number_that_its_solution_needs(tmp_path):
    for row in made(tmp_path):
        stated = re.findall(r"\d+", row["prompt"][0]["content"])
        assert set(row["id"].split("-")[1:]) <= set(stated)
        assert row["prompt"][0]["content"].endswith('End with the answer as "#### number".')
        assert "{" not in str(row["prompt"] + row["completion"]).replace("{'", "")


def test_training_and_held_out_problems_share_none_whatever_the_seed(tmp_path):
    train = {row["id"] for seed in (0, 1) for row in made(tmp_path, count=3000, seed=seed)}
    heldout = {row["id"] for seed in (0, 2) for row in made(tmp_path, "heldout", count=1000, seed=seed)}
    assert not train & heldout
    grammar = read_grammar(SEEDS / "problems.yaml")
    parts = [part(key(name, numbers)) for name, found in grammar.situations.items() for numbers in instances(found)]
    assert 0.19 < parts.count("heldout") / len(parts) < 0.21


def test_sizes_choose_situations_and_a_larger_count_keeps_the_first_rows(tmp_path):
    rows = made(tmp_path, count=50, sizes=[2])
    assert {row["completion"][0]["content"].count(" = ") for row in rows} == {2}
    assert made(tmp_path, count=300, sizes=[2])[:50] == rows
    assert made(tmp_path, count=50, sizes=[2], seed=1) != rows


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made(tmp_path / name)
    assert (tmp_path / "one/rows.jsonl").read_bytes() == (tmp_path / "two/rows.jsonl").read_bytes()


WORD_ORDERS = {
    "reverse": lambda words: list(reversed(words)),
    "alphabetical": sorted,
    "swap": lambda words: [words[-1], *words[1:-1], words[0]],
}


def test_puzzles_of_words_are_solved_and_checked(tmp_path):
    rows = made(tmp_path, family="words", count=300, sizes=[3, 4])
    assert len({row["prompt"][0]["content"] for row in rows}) == 300
    for row in rows:
        task, *words = row["id"].split("-")
        right = ", ".join(WORD_ORDERS[task](words))
        assert ", ".join(words) in row["prompt"][0]["content"]
        assert row["completion"][0]["content"].endswith(f" {right}.\n#### {right}")
        assert meets(row["completion"][0]["content"], row["checks"]) == [True]
        assert meets(f"#### {right}, and more", row["checks"]) == meets(right, row["checks"]) == [False]


def test_no_words_of_a_held_out_puzzle_are_trained_on_in_any_order(tmp_path):
    def words(split):
        rows = made(tmp_path, split, family="words", count=1000, sizes=[3])
        return {tuple(sorted(row["id"].split("-")[1:])) for row in rows}

    train, practice, heldout = words("train"), words("practice"), words("heldout")
    assert not train & practice and not train & heldout and not practice & heldout


def seeds(tmp_path, **changes):
    grammar = {"instruction": "Answer.", "words": {"person": ["Ada", "Bo"]}, "situations": {"box": {**BOX, **changes}}}
    YAML().dump(grammar, tmp_path / "problems.yaml")
    return tmp_path


def test_all_that_a_grammar_gives_is_given_and_no_more(tmp_path):
    problems = [f"box-{a}-{b}" for a in range(1, 5) for b in (2, 3)]
    count = sum(part(problem) == "train" for problem in problems)
    rows = made(tmp_path, count=count, sizes=[1], seeds=seeds(tmp_path))
    assert {row["id"] for row in rows} == {problem for problem in problems if part(problem) == "train"}
    with pytest.raises(
        UserError, match=rf"expected {count + 1} train problems of arithmetic with sizes \[1\], got {count}"
    ):
        made(tmp_path, count=count + 1, sizes=[1], seeds=tmp_path)
    with pytest.raises(UserError, match=r"expected 1 train problems of arithmetic with sizes \[4\], got 0"):
        made(tmp_path, count=1, sizes=[4])


@pytest.mark.parametrize(
    ("value", "numbers", "expected"),
    [
        ("a - b", (5, 2), 3),
        ("a - b", (2, 2), None),
        ("a / b", (6, 3), 2),
        ("a / b", (7, 3), None),
        ("a / b", (7, 0), None),
        ("a * 400", (2, 0), 800),
        ("a * 400", (3, 0), None),
    ],
)
def test_results_are_whole_numbers_from_1_to_999(value, numbers, expected):
    situation = Situation(**{**BOX, "steps": [{"name": "all", "value": value, "says": "So"}]})
    values = solved(situation, dict(zip("ab", numbers, strict=True)))
    assert (values and values["all"]) == expected


def test_words_agree_between_question_and_solution(tmp_path):
    grammar = read_grammar(seeds(tmp_path) / "problems.yaml")
    for number in range(20):
        question, solution, answer = verbalized(
            grammar, grammar.situations["box"], {"a": 3, "b": 2}, random.Random(number)
        )
        name = question.split()[0]
        assert question == f"{name} has 3 of 2. Answer."
        assert (solution, answer) == (f"{name} has 3 * 2 = 6.\n#### 6", 6)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"asks": ["{person} has {a}."]}, "box.asks: line 1: expected the number b in it"),
        ({"asks": ["{who} has {a} {b}."]}, "box.asks: line 1: no such slot who"),
        ({"asks": ["{a} {b"]}, "box.asks: line 1: expected '}'"),
        ({"asks": []}, "situations.box.asks: List should have at least 1 item"),
        ({"numbers": {"a": [1], "b": [1, 2]}}, "situations.box.numbers.a: List should have at least 2"),
        ({"steps": [{"name": "x", "value": "a ** b", "says": "So"}]}, "steps: x: expected one of"),
        ({"steps": [{"name": "x", "value": "a * y", "says": "So"}]}, r"steps: x: expected one of .* \['a', 'b'\]"),
        ({"steps": [{"name": "x", "value": "a * b", "says": "{a} is"}]}, "steps: x: no such slot a"),
        ({"answer": "a"}, "situations.box.answer: no such key"),
    ],
)
def test_seeds_that_do_not_fit_are_refused_by_file_and_key(tmp_path, changes, named):
    with pytest.raises(UserError, match=rf"problems.yaml: .*{named}|problems.yaml\.{named}"):
        made(tmp_path, seeds=seeds(tmp_path, **changes))
    assert not (tmp_path / "rows.jsonl").exists()
