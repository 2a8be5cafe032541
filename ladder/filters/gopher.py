"""Gopher quality heuristics, one filter per rule (Rae et al. 2021, "Gopher", arXiv:2112.11446, A.1.1).

The filters read the answer of a row (ladder/data/turns.py) without its reasoning. Words are separated by whitespace.
The values below are Gopher's, which are for web pages. Chat answers may be shorter, and a prompt may ask for a list
(see `bullets`).

    word_length:          {min: 3, max: 10}
    symbols:              {max: 0.1}
    bullets:              {max: 0.9}
    ellipses:             {max: 0.3}
    alphabetic:           {min: 0.8}
    stop_words:           {min: 2}
    duplicate_lines:      {max: 0.3, max_characters: 0.2}
    duplicate_paragraphs: {max: 0.3, max_characters: 0.2}
    top_ngrams:           {max: {2: 0.2, 3: 0.18, 4: 0.16}}
    duplicate_ngrams:     {max: {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}}

Gopher's word count, 50 to 100000, is the filter `length`. Two further filters apply to answers only: `refusal` and
`boilerplate`.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

from ladder.data.jsonl import Row
from ladder.data.turns import answer, answers
from ladder.data.wording import WORD, vocabulary
from ladder.pipeline.config import Amount, Number, Share, Size
from ladder.verifiers.refusal import Verdict, refused, verdict

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
_BULLETS = ("-", "*", "\u2022", "\u2023", "\u25cf", "\u25e6", "\u25aa", "\u2013")
_BARE = ".,;:!?\"'()[]*_"
_PARAGRAPH = re.compile(r"\n\s*\n")
TELLING = frozenset(
    WORD.findall(
        "language ai artificial am m name openai anthropic deepmind laion knowledge training update cut cutoff lorem"
        " regenerate generating reserved javascript cookies"
    )
)
"""Keywords of boilerplate: every match of `_BOILERPLATE` contains at least one of them. `m` comes from "I'm"."""
_BOILERPLATE = re.compile(
    r"\b(?:"
    + "|".join(
        (
            r"as an? (?:large |artificial intelligence |ai )*(?:language model|ai (?:model|assistant|chatbot))\b",
            r"as an (?:ai|artificial intelligence)\b(?=,| i\b)",
            r"i(?:'m| am) (?:just |only |merely )?an? (?:large |ai |artificial intelligence )*"
            r"(?:language model|ai (?:model|assistant|chatbot)|ai\b|artificial intelligence)",
            r"(?:i am|i'm|my name is) (?:chatgpt|gpt-?\d\w*|claude|bard|gemini|open ?assistant)\b",
            r"(?:trained|developed|created) by (?:openai|anthropic|google deepmind|laion)\b",
            r"my (?:knowledge|training)(?: data)? (?:cut-?off|only goes|only extends|was last updated)\b",
            r"as of my (?:last|latest|most recent) (?:knowledge |training )?(?:update|cut-?off)\b",
            r"lorem ipsum dolor\b",
            r"(?:regenerate response|stop generating|all rights reserved|enable javascript)\b",
            r"(?:accept|use of|uses) cookies\b",
        )
    )
    + ")"
)


@lru_cache(maxsize=16)
def _words(text: str) -> tuple[str, ...]:
    """Split at whitespace. The cache serves consecutive filters that read the same text."""
    return tuple(text.split())


@lru_cache(maxsize=16)
def _letters(text: str) -> int:
    return len("".join(_words(text)))


@lru_cache(maxsize=16)
def lines(text: str) -> tuple[str, ...]:
    """Non-blank lines, stripped of surrounding whitespace."""
    return tuple(stripped for line in text.splitlines() if (stripped := line.strip()))


def is_bullet(line: str) -> bool:
    """Whether a line starts with a bullet point."""
    return line.startswith(_BULLETS)


def ends_in_ellipsis(line: str) -> bool:
    """Whether a line ends with an ellipsis."""
    return line.endswith(("...", "\u2026"))


@lru_cache(maxsize=16)
def _pairs(text: str) -> tuple[int, ...]:
    """Sorted start positions of the word bigrams that occur more than once."""
    words = _words(text)
    pairs = list(zip(words, words[1:], strict=False))
    last = dict(zip(pairs, range(len(pairs)), strict=True))
    if len(last) == len(pairs):
        return ()
    before = [start for start, other in enumerate(map(last.__getitem__, pairs)) if start != other]
    return tuple(sorted({*before, *(last[pairs[start]] for start in before)}))


def _again(text: str, size: int) -> list[tuple[int, tuple[str, ...]]]:
    """Candidate repeated n-grams as (start, n-gram) for n = `size`.

    Every bigram inside a candidate occurs more than once. Other n-grams cannot repeat. For `size` 1, all words are
    candidates.
    """
    words, starts = _words(text), _pairs(text)
    if size < 2:
        return [(start, words[start : start + 1]) for start in range(len(words))]
    several = zip(starts, starts[size - 2 :], strict=False)
    return [(first, words[first : first + size]) for first, last in several if last - first == size - 2]


def word_length(row: Row, *, min: Amount, max: Amount) -> str | None:
    """Keep answers whose mean word length is `min` to `max` characters."""
    text = answer(row)
    mean = _letters(text) / (len(_words(text)) or 1)
    return None if min <= mean <= max else f"{mean:.1f} characters per word"


def symbols(row: Row, *, max: Amount) -> str | None:
    """Keep answers with at most `max` hash signs per word and at most `max` ellipses per word."""
    text = answer(row)
    count = sorted((text.count("#"), text.count("...") + text.count("\u2026")))[-1]
    share = count / (len(_words(text)) or 1)
    return None if share <= max else f"{share:.2f} symbols per word"


def bullets(row: Row, *, max: Share) -> str | None:
    """Keep answers in which at most the share `max` of the lines starts with a bullet point."""
    return _share_of_lines(row, max, "are bullets", is_bullet)


def ellipses(row: Row, *, max: Share) -> str | None:
    """Keep answers in which at most the share `max` of the lines ends with an ellipsis."""
    return _share_of_lines(row, max, "end with an ellipsis", ends_in_ellipsis)


def alphabetic(row: Row, *, min: Share) -> str | None:
    """Keep answers in which at least the share `min` of the words contains a letter."""
    words = _words(answer(row))
    mixed = [word for word in words if not word.isalpha()]
    share = (len(words) - len(mixed) + sum(any(map(str.isalpha, word)) for word in mixed)) / max(1, len(words))
    return None if share >= min else f"{share:.2f} of the words have a letter"


def stop_words(row: Row, *, min: Number) -> str | None:
    """Keep answers with at least `min` distinct stop words out of: the, be, to, of, and, that, have, with."""
    text = answer(row)
    if len(STOP_WORDS.intersection(_words(text))) >= min:
        return None
    words = _words(text.lower())
    found = STOP_WORDS.intersection(words)
    if len(found) < min:
        found = STOP_WORDS.intersection(word.strip(_BARE) for word in words)
    return None if len(found) >= min else f"{len(found)} stop words"


def duplicate_lines(row: Row, *, max: Share, max_characters: Share) -> str | None:
    """Limit duplicate lines, by their share of the lines and of the characters.

    A duplicate is a line that occurred earlier in the answer. Duplicates may be at most the share `max` of the lines
    and the share `max_characters` of the characters.
    """
    return _duplicates(lines(answer(row)), "lines", max, max_characters)


def duplicate_paragraphs(row: Row, *, max: Share, max_characters: Share) -> str | None:
    """Limit duplicate paragraphs, by their share of the paragraphs and of the characters.

    Paragraphs are separated by blank lines. A duplicate is a paragraph that occurred earlier in the answer. Duplicates
    may be at most the share `max` of the paragraphs and the share `max_characters` of the characters.
    """
    text = answer(row)
    if "\n" not in text:
        return None
    paragraphs = [part.strip() for part in _PARAGRAPH.split(text) if part.strip()]
    return _duplicates(paragraphs, "paragraphs", max, max_characters)


def top_ngrams(row: Row, *, max: dict[Size, Share]) -> str | None:
    """Limit the most frequent n-gram: `max` maps each n to its maximum share of the characters.

    Only n-grams that occur more than once count. Among equally frequent n-grams the longest decides.
    """
    text = answer(row)
    for size in sorted(max):
        top, share = _most_frequent(text, size)
        if not top:
            return None  # longer n-grams cannot repeat either
        if share > max[size]:
            return f"{share:.2f} of the characters in {' '.join(top)!r}"
    return None


def _most_frequent(text: str, size: int) -> tuple[tuple[str, ...], float]:
    """Return the most frequent repeated n-gram and its share of the characters; empty without a repeated one."""
    counts = Counter(run for _, run in _again(text, size))
    highest = max(counts.values(), default=1)
    if highest == 1:
        return (), 0.0
    length, top = max((sum(map(len, run)), run) for run, count in counts.items() if count == highest)
    return top, min(1.0, highest * length / _letters(text))


def duplicate_ngrams(row: Row, *, max: dict[Size, Share]) -> str | None:
    """Limit duplicate n-grams, by their share of the characters.

    `max` maps each n to the maximum share of characters inside n-grams that occurred earlier in the answer.
    """
    text = answer(row)
    words = _words(text)
    for size in sorted(max):
        seen: set[tuple[str, ...]] = set()
        covered: set[int] = set()
        for start, run in _again(text, size):
            if run in seen:
                covered.update(range(start, start + size))
            seen.add(run)
        if not covered:
            return None  # longer n-grams cannot repeat either
        share = sum(len(words[place]) for place in covered) / _letters(text)
        if share > max[size]:
            return f"{share:.2f} of the characters in repeated runs of {size} words"
    return None


def refusal(row: Row, *, reject: list[Verdict]) -> str | None:
    """Reject answers whose refusal class is in `reject` (ladder/verifiers/refusal.py).

    The classes are full_refusal, partial_refusal, no_answer and full_compliance. In a conversation, each turn of the
    answer is judged, because each is learned.
    """
    judge = verdict if "no_answer" in reject or "full_compliance" in reject else refused
    found = [judge(text) for text in answers(row)] or ["no_answer"]
    return next((one.replace("_", " ") for one in found if one in reject), None)


def boilerplate(row: Row) -> str | None:
    """Reject answers with chatbot boilerplate.

    Boilerplate is self-description as a model, its maker or its knowledge cutoff, and web page furniture.
    """
    text = answer(row)
    if TELLING.isdisjoint(vocabulary(text)):
        return None
    found = _BOILERPLATE.search(text.lower().replace("\u2019", "'"))
    return found.group().strip() if found else None


def _share_of_lines(row: Row, limit: float, what: str, holds: Callable[[str], bool]) -> str | None:
    found = lines(answer(row))
    share = sum(map(holds, found)) / max(1, len(found))
    return None if share <= limit else f"{share:.2f} of the lines {what}"


def _duplicates(parts: Sequence[str], what: str, limit: float, character_limit: float) -> str | None:
    if len(set(parts)) == len(parts):
        return None
    seen: set[str] = set()
    again = []
    for part in parts:
        if part in seen:
            again.append(part)
        seen.add(part)
    share = len(again) / len(parts)
    if share > limit:
        return f"{share:.2f} of the {what} are repeated"
    characters = sum(map(len, again)) / sum(map(len, parts))
    return None if characters <= character_limit else f"{characters:.2f} of the characters in repeated {what}"
