"""Sentences, list items and key words of plain or lightly marked-up text: split, filter, extend and regroup."""

import re
from collections import Counter
from collections.abc import Callable

LIST_MARKER = re.compile(r"^\s*(?:[*\-•]|\d+[.)]|#+)\s+")
SENTENCE_END = re.compile(r".*[.!?…][\"'”’)\]*_]*")

_ABBREVIATION = re.compile(r"\W*(mr|mrs|ms|dr|prof|st|vs|etc|e\.g|i\.e|p\.s|p\.p\.s|\d+|[b-hj-z])\.", re.I)
_COMMON_WORDS = """
about after again all also and another any are because been before being both but can could did does doing
each even every few first for from get had has have having her here him his how however into its just know like
made make many may might more most much must need not now one only other our out over own really same see
should since some such than that the their them then there these they thing things this those through time too
two use very want was way well were what when where which while who why will with without would you your
answer describe explain give paragraph sentence tell words write best dear hello please regards thank
anything become becomes everyone everything good great help ideas someone something sure
"""
_COMMON = frozenset(_COMMON_WORDS.split())


def sentences(text: str) -> list[str]:
    """Split a text into sentences. A token that ends in . ! ? or … ends a sentence, unless it is a list number, an
    initial or a common abbreviation. A line break alone does not end a sentence; it becomes a space."""
    found, tokens = [], []
    for token in text.split():
        tokens.append(token)
        if SENTENCE_END.fullmatch(token) and not _ABBREVIATION.fullmatch(token):
            found.append(" ".join(tokens))
            tokens = []
    if any(re.search(r"\w", token) for token in tokens):
        found.append(" ".join(tokens))
    return found


def count_words(text: str) -> int:
    return len(re.findall(r"\w+", text))


def units(text: str) -> list[str]:
    """Split into sentences and list items, without list and heading markers, bold and dividers."""
    lines = [LIST_MARKER.sub("", line).replace("**", "").strip() for line in text.splitlines()]
    return [sentence for line in lines for sentence in sentences(line) if re.search(r"\w", sentence)]


def groups(text: str, n: int) -> list[str]:
    """Group the text's units, in order, into n groups of about equal word count; fewer if it has fewer units."""
    parts = units(text)
    total, passed = sum(map(count_words, parts)), 0
    found: list[list[str]] = [[]]
    for position, part in enumerate(parts):
        last_chance = len(parts) - position <= n - len(found)
        if found[-1] and len(found) < n and (last_chance or passed >= total * len(found) / n):
            found.append([])
        found[-1].append(part)
        passed += count_words(part)
    return [" ".join(group) for group in found if group]


def keep_sentences(text: str, keep: Callable[[str], bool]) -> str:
    """Remove sentences that `keep` rejects; other lines and paragraphs are unchanged."""
    lines = []
    for line in text.splitlines():
        found = LIST_MARKER.match(line)
        marker = found.group() if found else ""
        parts = sentences(line[len(marker) :])
        kept = [sentence for sentence in parts if keep(sentence)]
        if len(kept) == len(parts):
            lines.append(line)
        elif kept:
            lines.append(marker + " ".join(kept))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def key_words(text: str) -> list[str]:
    """Words of at least four letters, without common ones; most frequent first, then longest."""
    counts = Counter(word.lower() for word in re.findall(r"\b[A-Za-z]{4,}\b", text))
    return sorted((word for word in counts if word not in _COMMON), key=lambda word: (-counts[word], -len(word)))


def shared_phrase(text: str, prompt: str) -> str | None:
    """Longest run of two to four words that prompt and text share, without a common word at either end.

    It is usually the prompt's topic. None if there is none.
    """
    tokens = re.findall(r"[\w'-]+|[^\w\s]", prompt)
    for length in (4, 3, 2):
        for start in range(len(tokens) - length + 1):
            run = tokens[start : start + length]
            telling = all(len(word) > 2 and word.lower() not in _COMMON for word in (run[0], run[-1]))
            if telling and all(word[0].isalnum() for word in run) and " ".join(run).lower() in text.lower():
                return " ".join(run)
    return None


def add_under(text: str, ending: str) -> str:
    """Append an ending to the last line, or below it if that line is a list item or unfinished."""
    text = text.rstrip()
    last = text.rsplit("\n", 1)[-1]
    if LIST_MARKER.match(last):
        return f"{text}\n\n{ending}"
    return f"{text} {ending}" if SENTENCE_END.fullmatch(last) else f"{text}\n{ending}"


def listed(text: str, markers: list[str]) -> str:
    """Format the text as a list with these markers: its own list if that is long enough, else its sentences."""
    lines = text.splitlines()
    items = [number for number, line in enumerate(lines) if re.match(r"\s*(?:[*\-•]|\d+[.)])\s", line)]
    if len(items) < len(markers):
        parts = groups(text, len(markers))
        return "\n".join(marker + part for marker, part in zip(markers, parts, strict=False))
    for number, marker in zip(items, markers, strict=False):
        lines[number] = marker + LIST_MARKER.sub("", lines[number])
    surplus = items[len(markers) :]
    return "\n".join(line for number, line in enumerate(lines) if number not in surplus).strip()


def change_key_words(text: str, n: int, change: Callable[[str], str]) -> str:
    """Change one occurrence of each of n key words, outside brackets, highlights and the title."""
    for word in key_words(text):
        if n == 0:
            break
        for found in re.finditer(rf"(?<![\w'*-]){word}(?![\w'*-])", text, re.I):
            before = LIST_MARKER.sub("", text[text.rfind("\n", 0, found.start()) + 1 : found.start()])
            if before.count("[") == before.count("]") and "<<" not in before and before.count("*") % 2 == 0:
                text = text[: found.start()] + change(found.group()) + text[found.end() :]
                n -= 1
                break
    return text


def without_echo(text: str, prompt: str) -> str:
    """Remove sentences with more than 80% of their word trigrams in the prompt."""

    def trigrams(part: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", part.lower())
        return {tuple(words[start : start + 3]) for start in range(len(words) - 2)}

    asked = trigrams(prompt)
    return keep_sentences(text, lambda part: len(trigrams(part) & asked) <= 0.8 * len(trigrams(part)))


def tidy(text: str) -> str:
    """Clean up a weak model's output: remove repeated sentences of three words or more, and an unfinished end."""
    seen: set[str] = set()

    def first_time(sentence: str) -> bool:
        plain = " ".join(re.findall(r"\w+", sentence.lower()))
        new = plain not in seen or count_words(plain) < 3
        seen.add(plain)
        return new

    text = keep_sentences(text, first_time)
    head, _, last = text.rpartition("\n")
    parts = sentences(last)
    listed = LIST_MARKER.match(last) and not SENTENCE_END.fullmatch(head.rstrip().rsplit("\n", 1)[-1])
    if not parts or listed or SENTENCE_END.fullmatch(last.split()[-1]) or count_words(parts[-1]) < 4:
        return text
    cut = last.removesuffix(parts[-1]).rstrip() if len(parts) > 1 else ""
    shorter = f"{head}\n{cut}".strip()
    return shorter if re.search(r"\w", shorter) and not re.search(r"[>}\]\"]\s*$", last) else text
