"""Rule-based edits that make an answer satisfy constraints of ladder.verifiers.constraints and keep it meaningful.

An edit has the name and the parameters of its check. Kinds without an edit (a minimum of words, words to include,
another language) cannot be met by editing: that would take new sentences, and a rule's sentences mean nothing in the
answer. An edit that would leave a broken sentence returns the text unchanged. Edits are best effort: `repair` checks
the result.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from ladder.verifiers import constraints as verdicts
from ladder.verifiers.constraints import meets
from ladder.verifiers.sentences import (
    LIST_MARKER,
    add_under,
    change_key_words,
    count_words,
    groups,
    keep_sentences,
    listed,
    sentences,
    shared_phrase,
    tidy,
    units,
    without_echo,
)

_OPENERS = re.compile(r"(?:an?|the|this|that|these|it|they|we|he|she|you|there|in|on|at|to|my|your|our|its)\b", re.I)
_NEGATIVE = re.compile(r"\b(?:no|not|never|cannot|unlikely)\b|n't\b", re.I)
_UNDECIDED = re.compile(r"\b(?:depends|maybe|perhaps|either|both|unsure|sometimes)\b", re.I)


def _lower_first(text: str) -> str:
    return text[0].lower() + text[1:] if _OPENERS.match(text) else text


def avoids_words(text: str, words: list[str]) -> str:
    """Remove sentences that contain these words; if that removes over 40% of the text, keep it as it is."""
    shorter = keep_sentences(text, lambda sentence: verdicts.avoids_words(sentence, words))
    return shorter if count_words(shorter) >= 0.6 * count_words(text) else text


def letter_at_most(text: str, letter: str, n: int) -> str:
    """Remove the sentences with the highest density of the letter until at most n occurrences are left."""
    ranked = sorted(units(text), key=lambda unit: unit.lower().count(letter.lower()) / count_words(unit))
    dropped: list[str] = []
    while len(ranked) > 1 and sum(unit.lower().count(letter.lower()) for unit in ranked) > n:
        dropped.append(ranked.pop())
    return keep_sentences(text, lambda sentence: sentence.replace("**", "") not in dropped)


def words_at_most(text: str, n: int) -> str:
    """Keep the sentences up to n words in total; if the first one is too long, keep the text as it is."""
    left = n

    def fits(sentence: str) -> bool:
        nonlocal left
        left = left - count_words(sentence) if count_words(sentence) <= left else -1
        return left >= 0

    shorter = keep_sentences(text, fits)
    return shorter if re.search(r"\w", shorter) else text


def sentences_at_most(text: str, n: int) -> str:
    left = iter(range(n))
    return keep_sentences(text, lambda _: next(left, None) is not None)


def sentences_at_least(text: str, n: int) -> str:
    """Split sentences at ";", or at "and", "but" or "so" before a new subject, until there are n."""
    joint = re.compile(r"(?:;|, (?:and|but|so)) (?=(?:it|they|you|we|he|she|I|this|there|the|these|that)\b)")
    while len(sentences(text)) < n and (found := joint.search(text)):
        text = text[: found.start()] + ". " + text[found.end()].upper() + text[found.end() + 1 :]
    return text


def one_of(text: str, options: list[str]) -> str:
    """Choose the option with the tone of the first two sentences (undecided, no or yes), else the last option."""

    def tone(words: str) -> str:
        return "undecided" if _UNDECIDED.search(words) else "no" if _NEGATIVE.search(words) else "yes"

    wanted = tone(" ".join(sentences(text)[:2]))
    return next((option for option in options if tone(option) == wanted), options[-1])


def paragraphs(text: str, n: int, separator: str) -> str:
    return ("\n\n" if separator == "blank line" else "\n\n***\n\n").join(groups(text.replace("***", ""), n))


def paragraph_opens_with(text: str, n: int, paragraph: int, word: str) -> str:
    """Open a paragraph with the word, if its own first word is one that can follow a comma in lower case."""
    parts = groups(text, n)
    if len(parts) < paragraph or not _OPENERS.match(parts[paragraph - 1]):
        return text
    parts[paragraph - 1] = f"{word.capitalize()}, {_lower_first(parts[paragraph - 1])}"
    return "\n\n".join(parts)


def bullets(text: str, n: int) -> str:
    return listed(text, ["* "] * n)


def numbered_list(text: str, n: int) -> str:
    return listed(text, [f"{number}. " for number in range(1, n + 1)])


def sections(text: str, n: int, header: str) -> str:
    return "\n\n".join(f"{header} {number}\n{group}" for number, group in enumerate(groups(text, n), start=1))


def two_answers(text: str) -> str:
    """Append a shorter version of the answer, with every other sentence, after the separator."""
    text = text.replace("******", "").strip()
    parts = units(text)
    shorter = " ".join(parts[::2])
    return f"{text}\n\n******\n\n{shorter}"


def highlights(text: str, n: int) -> str:
    have = len(re.findall(r"\*[^\n*]*[^\n* ][^\n*]*\*", text))
    return change_key_words(text, max(0, n - have), lambda word: f"*{word}*")


def capitals_at_least(text: str, n: int) -> str:
    return change_key_words(text, max(0, n - len(verdicts.capitals(text))), str.upper)


def capitals_at_most(text: str, n: int) -> str:
    """Lowercase words in capitals, last ones first; single letters are kept because of "I"."""
    for word in reversed([word for word in verdicts.capitals(text) if len(word) > 1]):
        if verdicts.capitals_at_most(text, n):
            break
        start = text.rindex(word)
        text = text[:start] + word.lower() + text[start + len(word) :]
    return text


def title(text: str, prompt: str) -> str:
    """Add a title: the phrase that the text shares with the prompt. Without one, keep the text as it is."""
    topic = shared_phrase(text, prompt)
    if not topic:
        return text
    small = ("a", "an", "and", "at", "for", "in", "of", "on", "the", "to")
    words = [word if word in small else word[:1].upper() + word[1:] for word in topic.split()]
    return f"<<{' '.join(words)}>>\n\n{text}"


def postscript(text: str, marker: str) -> str:
    """Turn the last sentence into the postscript, unless it is a signature or one of only two sentences."""
    parts = units(text)
    if len(parts) < 3 or not re.search(r"[.!?]\W*\Z", parts[-1]) or count_words(parts[-1]) < 4:
        return text
    body = keep_sentences(text, lambda sentence: sentence.replace("**", "") != parts[-1])
    return f"{body}\n\n{marker if marker.endswith('.') else marker + '.'} {parts[-1]}" if body else text


def starts_with(text: str, phrase: str) -> str:
    return f"{phrase} {text if phrase[-1] in '.!?:' else _lower_first(text)}"


def json_only(text: str) -> str:
    lines = [LIST_MARKER.sub("", line).strip() for line in text.splitlines() if line.strip()]
    return json.dumps({"answer": lines[0] if len(lines) == 1 else lines}, indent=2, ensure_ascii=False)


def repeats_request(text: str, request: str) -> str:
    return f"{request}\n\n{text}"


def ends_with(text: str, phrase: str) -> str:
    return add_under(text, phrase)


def lowercase(text: str) -> str:
    return text.lower()


def uppercase(text: str) -> str:
    return text.upper()


def no_commas(text: str) -> str:
    return re.sub(r",(?=[^\W\d])", " ", text).replace(",", "")


def quoted(text: str) -> str:
    """Enclose the text in double quotes, on their own lines around a list, since its first item must start a line."""
    inner = text.strip().replace('"', "'")
    return f'"\n{inner}\n"' if LIST_MARKER.match(inner) else f'"{inner}"'


# Order matters (content, structure, wrapping, endings, case, quotes): later edits would undo an edit made too early.
EDITS: tuple[Callable[..., str], ...] = (
    avoids_words, letter_at_most, words_at_most, sentences_at_most, sentences_at_least,
    highlights, one_of, paragraph_opens_with, paragraphs, bullets, numbered_list, sections, two_answers,
    capitals_at_least, title, json_only, repeats_request, starts_with, postscript, ends_with,
    capitals_at_most, no_commas, lowercase, uppercase, quoted,
)  # fmt: skip

# Words to reserve below a maximum for later edits (an ending, a title, a postscript); values are tried in order.
_SPARE_WORDS = (0, 8, 16, 28)


def repair(text: str, prompt: str, checks: list[dict[str, Any]]) -> str | None:
    """Edit the tidied text to meet every check; return None if edits cannot do it.

    None also if little more than an echo of the prompt is left to edit. Errors: UserError as for `meets`.
    """
    start = text.strip()
    if not verdicts.json_only(start):
        # An answer chosen from a list repeats the prompt legitimately.
        chosen = any(check["kind"] == "one_of" for check in checks)
        start = tidy(start if chosen else without_echo(start, prompt))
    if not re.search(r"\w", start) or count_words(start) < 0.3 * count_words(text):
        return None
    if all(meets(start, checks)):
        return start
    for spare in _SPARE_WORDS:
        draft = start
        for edit in EDITS:
            for check in checks:
                if check["kind"] == edit.__name__ and re.search(r"\w", draft):
                    draft = _edit(draft, prompt, check, edit, spare)
        if all(meets(draft, checks)):
            return draft
    return None


def _edit(text: str, prompt: str, check: dict[str, Any], edit: Callable[..., str], spare: int) -> str:
    given = verdicts.arguments(check)
    if edit is words_at_most:
        given["n"] = max(5, given["n"] - spare)
    elif edit is sentences_at_most:
        given["n"] = max(1, given["n"] - spare // 8)
    if verdicts.KINDS[edit.__name__](text, **given):
        return text
    return edit(text, **given, prompt=prompt) if edit is title else edit(text, **given)
