"""Gopher quality heuristics, one filter per rule (Rae et al. 2021, "Gopher", arXiv:2112.11446, A.1.1).

The filters read the answer of a row (ladder/data/turns.py) without its reasoning. Words are separated by whitespace.
The values below are Gopher's, which are for web pages. Chat answers may be shorter, and a prompt may ask for a list
(see `bullets`).

    word_length:          {least: 3, most: 10}
    symbols:              {most: 0.1}
    bullets:              {most: 0.9}
    ellipses:             {most: 0.3}
    alphabetic:           {least: 0.8}
    stop_words:           {least: 2}
    duplicate_lines:      {most: 0.3, most_characters: 0.2}
    duplicate_paragraphs: {most: 0.3, most_characters: 0.2}
    top_ngrams:           {most: {2: 0.2, 3: 0.18, 4: 0.16}}
    duplicate_ngrams:     {most: {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}}

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
from ladder.pipeline.stage import Amount, Number, Share, Size
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


def word_length(row: Row, *, least: Amount, most: Amount) -> str | None:
    """Keep answers whose mean word length is `least` to `most` characters."""
    text = answer(row)
    mean = _letters(text) / max(1, len(_words(text)))
    return None if least <= mean <= most else f"{mean:.1f} characters a word"


def symbols(row: Row, *, most: Amount) -> str | None:
    """Keep answers with at most `most` hash signs per word and at most `most` ellipses per word."""
    text = answer(row)
    count = max(text.count("#"), text.count("...") + text.count("\u2026"))
    share = count / max(1, len(_words(text)))
    return None if share <= most else f"{share:.2f} symbols a word"


def bullets(row: Row, *, most: Share) -> str | None:
    """Keep answers in which at most the share `most` of the lines starts with a bullet point."""
    return _share_of_lines(row, most, "bullets", is_bullet)


def ellipses(row: Row, *, most: Share) -> str | None:
    """Keep answers in which at most the share `most` of the lines ends with an ellipsis."""
    return _share_of_lines(row, most, "ending in an ellipsis", ends_in_ellipsis)


def alphabetic(row: Row, *, least: Share) -> str | None:
    """Keep answers in which at least the share `least` of the words contains a letter."""
    words = _words(answer(row))
    mixed = [word for word in words if not word.isalpha()]
    share = (len(words) - len(mixed) + sum(any(map(str.isalpha, word)) for word in mixed)) / max(1, len(words))
    return None if share >= least else f"{share:.2f} of the words with a letter"


def stop_words(row: Row, *, least: Number) -> str | None:
    """Keep answers with at least `least` distinct stop words out of: the, be, to, of, and, that, have, with."""
    text = answer(row)
    if len(STOP_WORDS.intersection(_words(text))) >= least:
        return None
    words = _words(text.lower())
    found = STOP_WORDS.intersection(words)
    if len(found) < least:
        found = STOP_WORDS.intersection(word.strip(_BARE) for word in words)
    return None if len(found) >= least else f"{len(found)} stop words"


def duplicate_lines(row: Row, *, most: Share, most_characters: Share) -> str | None:
    """Limit duplicate lines, by their share of the lines and of the characters.

    A duplicate is a line that occurred earlier in the answer. Duplicates may be at most the share `most` of the lines
    and the share `most_characters` of the characters.
    """
    return _duplicates(lines(answer(row)), "lines", most, most_characters)


def duplicate_paragraphs(row: Row, *, most: Share, most_characters: Share) -> str | None:
    """Limit duplicate paragraphs, by their share of the paragraphs and of the characters.

    Paragraphs are separated by blank lines. A duplicate is a paragraph that occurred earlier in the answer. Duplicates
    may be at most the share `most` of the paragraphs and the share `most_characters` of the characters.
    """
    text = answer(row)
    if "\n" not in text:
        return None
    paragraphs = [part.strip() for part in _PARAGRAPH.split(text) if part.strip()]
    return _duplicates(paragraphs, "paragraphs", most, most_characters)


def top_ngrams(row: Row, *, most: dict[Size, Share]) -> str | None:
    """Limit the most frequent n-gram: `most` maps each n to its maximum share of the characters.

    Only n-grams that occur more than once count. Among equally frequent n-grams the longest decides.
    """
    text = answer(row)
    for size in sorted(most):
        counts = Counter(run for _, run in _again(text, size))
        highest = max(counts.values(), default=1)
        if highest == 1:
            return None  # longer n-grams cannot repeat either
        tops = [run for run, count in counts.items() if count == highest]
        length, top = max((sum(map(len, run)), run) for run in tops)
        share = min(1.0, highest * length / _letters(text))
        if share > most[size]:
            return f"{share:.2f} is {' '.join(top)!r}"
    return None


def duplicate_ngrams(row: Row, *, most: dict[Size, Share]) -> str | None:
    """Limit duplicate n-grams, by their share of the characters.

    `most` maps each n to the maximum share of characters inside n-grams that occurred earlier in the answer.
    """
    text = answer(row)
    words = _words(text)
    for size in sorted(most):
        seen: set[tuple[str, ...]] = set()
        covered: set[int] = set()
        for start, run in _again(text, size):
            if run in seen:
                covered.update(range(start, start + size))
            seen.add(run)
        if not covered:
            return None  # longer n-grams cannot repeat either
        share = sum(len(words[place]) for place in covered) / _letters(text)
        if share > most[size]:
            return f"{share:.2f} in repeated runs of {size} words"
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


def _share_of_lines(row: Row, most: float, what: str, holds: Callable[[str], bool]) -> str | None:
    found = lines(answer(row))
    share = sum(map(holds, found)) / max(1, len(found))
    return None if share <= most else f"{share:.2f} of the lines {what}"


def _duplicates(parts: Sequence[str], what: str, most: float, most_characters: float) -> str | None:
    if len(set(parts)) == len(parts):
        return None
    seen: set[str] = set()
    again = []
    for part in parts:
        if part in seen:
            again.append(part)
        seen.add(part)
    share = len(again) / len(parts)
    if share > most:
        return f"{share:.2f} of the {what} repeated"
    characters = sum(map(len, again)) / sum(map(len, parts))
    return None if characters <= most_characters else f"{characters:.2f} of the characters in repeated {what}"
