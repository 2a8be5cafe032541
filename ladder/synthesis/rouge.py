"""ROUGE-L similarity of a text to a pool of texts, for the novelty filter of Self-Instruct."""

import re

WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Lowercase runs of letters and digits.

    For ASCII these are the tokens of `rouge_score` without a stemmer. A run of other scripts is one word here, whereas
    `rouge_score` drops it.
    """
    return WORD.findall(text.lower())


def rouge_l(first: list[str], second: list[str]) -> float:
    """ROUGE-L of two word lists (Lin 2004, section 3.1, beta = 1): 2 LCS / (m + n), and 0 without a common word."""
    total = len(first) + len(second)
    return 2 * _common(_places(first), len(first), second) / total if total else 0.0


def _places(text: list[str]) -> dict[str, int]:
    """Map each word to the bit set of its positions."""
    places: dict[str, int] = {}
    for place, word in enumerate(text):
        places[word] = places.get(word, 0) | 1 << place
    return places


def _common(places: dict[str, int], length: int, other: list[str]) -> int:
    """Length of the longest common subsequence by bit-parallel dynamic programming.

    One integer holds a row of the table; a bit is 0 where the row increases by one (Hyyrö 2004, "Bit-parallel
    LCS-length computation revisited").
    """
    whole = (1 << length) - 1
    row = whole
    for word in other:
        matches = row & places.get(word, 0)
        if matches:
            row = (row + matches | row - matches) & whole
    return length - row.bit_count()


class Pool:
    """Texts with their ids, stored as word lists."""

    def __init__(self) -> None:
        self.members: list[tuple[str, list[str]]] = []
        self._exact: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.members)

    def add(self, name: str, text: str) -> None:
        self.members.append((name, words(text)))
        self._exact.setdefault(_folded(text), name)

    def same(self, text: str) -> str | None:
        """Id of the first member with the same text, ignoring case and whitespace; None if there is none."""
        return self._exact.get(_folded(text))

    def nearest(self, text: str) -> tuple[float, str]:
        """(ROUGE-L, id) of the most similar member, the first if several; (0, "") if none has a common word."""
        new = words(text)
        places, best, name = _places(new), 0.0, ""
        for member, old in self.members:
            total = len(new) + len(old)
            if total and 2 * min(len(new), len(old)) / total > best:
                score = 2 * _common(places, len(new), old) / total
                if score > best:
                    best, name = score, member
        return best, name


def _folded(text: str) -> str:
    return " ".join(text.lower().split())
