"""Generate problems with a worked solution and a known result, in disjoint splits for training and evaluation.

The family `arithmetic` has word problems from a grammar of situations; `words` has puzzles of reordering words. A
problem belongs to one split: training, practice (for rungs that learn from their own answers) or held out. The hash of
its situation and numbers, or of its words, decides the split, whatever the seed.

python -m stages.problems maths data/seeds data/problems/maths.jsonl
"""

import hashlib
import itertools
import random
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from ladder.data.jsonl import Row, write_rows
from ladder.pipeline.stage import Config, UserError, run
from ladder.synthesis import word_puzzles
from ladder.synthesis.word_problems import Grammar, Numbers, instances, read_grammar, verbalized
from ladder.synthesis.word_puzzles import Puzzle, puzzles

T = TypeVar("T")
SPLITS = ("heldout", "practice", "train", "train", "train")  # indexed by the hash modulo five


class Params(Config):
    split: Literal["train", "practice", "heldout"]
    """Split: one of three disjoint parts of all problems."""
    count: int = Field(ge=1)
    """Number of problems, all different, spread as evenly over the situations as their numbers allow."""
    seed: int
    """Seed of the choice of problems within the split, and of their wording."""
    family: Literal["arithmetic", "words"]
    """`arithmetic`: word problems with a number as answer. `words`: words to put into an order."""
    sizes: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    """Difficulty: the number of operations of a situation, or of words of a puzzle."""


def key(name: str, numbers: Numbers) -> str:
    """Build a problem's name: `change-4-3-20`."""
    return "-".join([name, *map(str, numbers.values())])


def part(problem: str) -> str:
    """Return the split of a problem, by the hash of its name."""
    return SPLITS[int(hashlib.sha256(problem.encode()).hexdigest(), 16) % len(SPLITS)]


def in_turn(piles: list[list[T]]) -> list[T]:
    """Interleave the piles: one item of each in turn, until all are used."""
    turns = itertools.chain.from_iterable(itertools.zip_longest(*piles))
    return [item for item in turns if item is not None]


def arithmetic(params: Params, grammar: Grammar) -> list[Row]:
    """Return up to `count` problems of the split, interleaved over the situations, each in an order set by the seed."""
    piles = []
    for name, situation in grammar.situations.items():
        if len(situation.steps) in params.sizes:
            pile = [(name, numbers) for numbers in instances(situation) if part(key(name, numbers)) == params.split]
            random.Random(f"{params.seed} {name}").shuffle(pile)
            piles.append(pile)
    return [problem_row(params, grammar, *problem) for problem in in_turn(piles)[: params.count]]


def problem_row(params: Params, grammar: Grammar, name: str, numbers: Numbers) -> Row:
    """Build the row of an arithmetic problem: wording, solution and check."""
    problem = key(name, numbers)
    chance = random.Random(f"{params.seed} {problem}")
    question, solution, answer = verbalized(grammar, grammar.situations[name], numbers, chance)
    return row(params, problem, question, solution, {"kind": "answer", "value": str(answer)})


def words(params: Params, grammar: Grammar) -> list[Row]:
    """Return up to `count` puzzles of the split, interleaved over the sizes, made of the grammar's single words."""
    vocabulary = sorted({word for slot in grammar.words.values() for word in slot if word.isalpha() and word.islower()})
    piles = [
        [puzzle for puzzle in puzzles(vocabulary, size, params.seed, 10 * params.count) if mine(params, puzzle)]
        for size in params.sizes
    ]
    return [puzzle_row(params, puzzle) for puzzle in in_turn(piles)[: params.count]]


def mine(params: Params, puzzle: Puzzle) -> bool:
    """Whether the puzzle is in the split. The set of its words decides: no order of held-out words is trained on."""
    return part("-".join(sorted(puzzle.words))) == params.split


def puzzle_row(params: Params, puzzle: Puzzle) -> Row:
    """Build the row of a word puzzle: wording, solution and check."""
    question, solution, pattern = word_puzzles.verbalized(puzzle, random.Random(f"{params.seed} {puzzle.name}"))
    return row(params, puzzle.name, question, solution, {"kind": "matches", "pattern": pattern})


def row(params: Params, name: str, question: str, solution: str, check: Row) -> Row:
    """Build a row of prompt, completion and check."""
    return {
        "id": name,
        "split": params.split,
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": solution}],
        "checks": [check],
    }


def main(params: Params, seeds: Path, output: Path) -> None:
    """Generate the problems of the grammar in `seeds`. Errors: UserError when there are fewer than `count`."""
    grammar = read_grammar(seeds / "problems.yaml")
    rows = (arithmetic if params.family == "arithmetic" else words)(params, grammar)
    if len(rows) < params.count:
        raise UserError(
            f"{seeds / 'problems.yaml'}: expected {params.count} {params.split} problems of {params.family} with sizes "
            f"{params.sizes}, got {len(rows)}. Extend the grammar, add sizes, or lower the count."
        )
    write_rows(output, rows)


if __name__ == "__main__":
    run(main, named=True)
