"""How near a text is to those that are there already: ROUGE-L, which Self-Instruct keeps its pool apart by."""

import re

WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Runs of letters and digits in lower case. For ASCII the tokens of `rouge_score` without a stemmer; a run of
    other scripts is one word here, where `rouge_score` drops it."""
    return WORD.findall(text.lower())


def rouge_l(first: list[str], second: list[str]) -> float:
    """ROUGE-L of two word lists (Lin 2004, section 3.1, beta = 1): 2 LCS / (m + n), and 0 where nothing is common."""
    total = len(first) + len(second)
    return 2 * _common(_places(first), len(first), second) / total if total else 0.0


def _places(text: list[str]) -> dict[str, int]:
    """Word -> bit set of the places where it stands."""
    places: dict[str, int] = {}
    for place, word in enumerate(text):
        places[word] = places.get(word, 0) | 1 << place
    return places


def _common(places: dict[str, int], length: int, other: list[str]) -> int:
    """Length of the longest common subsequence, a whole row of its table in one integer (Hyyrö 2004, "Bit-parallel
    LCS-length computation revisited"): a bit is 0 where the row grows by one."""
    whole = (1 << length) - 1
    row = whole
    for word in other:
        matches = row & places.get(word, 0)
        if matches:
            row = (row + matches | row - matches) & whole
    return length - row.bit_count()


class Pool:
    """Texts by their ids, as words alone."""

    def __init__(self) -> None:
        self.members: list[tuple[str, list[str]]] = []
        self._exact: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.members)

    def add(self, name: str, text: str) -> None:
        self.members.append((name, words(text)))
        self._exact.setdefault(_folded(text), name)

    def same(self, text: str) -> str | None:
        """The first member with the same text, case and blanks aside."""
        return self._exact.get(_folded(text))

    def nearest(self, text: str) -> tuple[float, str]:
        """(ROUGE-L, id) of the member most like the text, the first of several; (0, "") where none has a word of it."""
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
