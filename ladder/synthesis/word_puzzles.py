"""Word puzzles (reverse, sort, swap): an easily verified skill other than arithmetic."""

import random
import re
from typing import NamedTuple


class Puzzle(NamedTuple):
    """A task and its words, in the order of the question."""

    task: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """Identifier, for example `reverse-hens-mugs-pears`."""
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
    """The words in the order that the task requests."""
    words = list(puzzle.words)
    if puzzle.task == "reverse":
        return words[::-1]
    if puzzle.task == "alphabetical":
        return sorted(words)
    return [words[-1], *words[1:-1], words[0]]


def puzzles(vocabulary: list[str], size: int, seed: int, count: int) -> list[Puzzle]:
    """Up to `count` distinct puzzles of `size` words, with tasks in turn and words drawn by the seed.

    Puzzles whose words are already in the right order are skipped.
    """
    chance, found = random.Random(f"{seed} {size}"), dict[str, Puzzle]()
    for attempt in range(50 * count):
        if len(found) == count:
            break
        puzzle = Puzzle(list(ASKS)[attempt % len(ASKS)], tuple(chance.sample(vocabulary, size)))
        if solved(puzzle) != list(puzzle.words):
            found.setdefault(puzzle.name, puzzle)
    return list(found.values())


def verbalized(puzzle: Puzzle, chance: random.Random) -> tuple[str, str, str]:
    """Render the puzzle with a random wording: (question, solution, regular expression of a correct answer)."""
    answer = ", ".join(solved(puzzle))
    question = chance.choice(ASKS[puzzle.task]).format(", ".join(puzzle.words))
    return (
        f"{question} {INSTRUCTION}",
        f"{SAYS[puzzle.task]} {answer}.\n#### {answer}",
        rf"#### {re.escape(answer)}\s*\Z",
    )
