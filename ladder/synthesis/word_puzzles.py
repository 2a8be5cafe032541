"""Word puzzles: put words in another order, pick one of them. A skill apart from arithmetic, as easy to verify."""

import random
import re
from typing import NamedTuple


class Puzzle(NamedTuple):
    """A task and its words, in the order asked."""

    task: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """`reverse-hens-mugs-pears`."""
        return "-".join([self.task, *self.words])


ASKS = {
    "reverse": ["Write these words in reverse order: {}.", "Say these words backwards, the last one first: {}."],
    "alphabetical": ["Put these words in alphabetical order: {}.", "Sort these words from A to Z: {}."],
    "swap": ["Swap the first and the last word: {}.", "Exchange the first word with the last one: {}."],
}
SAYS = {
    "reverse": "In reverse order they are",
    "alphabetical": "In alphabetical order they are",
    "swap": "With the first and the last exchanged they are",
}
INSTRUCTION = 'End with the words as "#### word, word".'


def solved(puzzle: Puzzle) -> list[str]:
    """The words as asked for."""
    words = list(puzzle.words)
    if puzzle.task == "reverse":
        return words[::-1]
    if puzzle.task == "alphabetical":
        return sorted(words)
    return [words[-1], *words[1:-1], words[0]]


def puzzles(vocabulary: list[str], size: int, seed: int, count: int) -> list[Puzzle]:
    """`count` different puzzles of `size` words, or as many as there are; each task in turn, words drawn by the seed.
    Words that are in the right order already are not asked."""
    chance, found = random.Random(f"{seed} {size}"), dict[str, Puzzle]()
    for attempt in range(50 * count):
        if len(found) == count:
            break
        puzzle = Puzzle(list(ASKS)[attempt % len(ASKS)], tuple(chance.sample(vocabulary, size)))
        if solved(puzzle) != list(puzzle.words):
            found.setdefault(puzzle.name, puzzle)
    return list(found.values())


def told(puzzle: Puzzle, chance: random.Random) -> tuple[str, str, str]:
    """The puzzle in words drawn by `chance`: (question, solution, pattern of a right answer)."""
    answer = ", ".join(solved(puzzle))
    question = chance.choice(ASKS[puzzle.task]).format(", ".join(puzzle.words))
    return (
        f"{question} {INSTRUCTION}",
        f"{SAYS[puzzle.task]} {answer}.\n#### {answer}",
        rf"#### {re.escape(answer)}\s*\Z",
    )
