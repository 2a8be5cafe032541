"""Programmatic checks of an answer: IFEval-style constraints (Zhou et al. 2023, arXiv:2311.07911), result and form.

Each kind of check is one function: its name is the kind and its keywords are the parameters, so a check is
`{"kind": "words_at_most", "n": 40}`. Constraints that lm-eval's IFEval also has agree with its "strict" verdict, with
three differences. An empty answer fails every check. Sentences are split by ladder.verifiers.sentences instead of
NLTK's punkt, which needs a download. An answer whose language cannot be detected fails; in lm-eval it passes.
"""

import inspect
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import langdetect

from ladder.pipeline.stage import UserError
from ladder.verifiers.reasoning import answer_of, names_mark
from ladder.verifiers.sentences import count_words, sentences

# langdetect samples n-grams at random: without a seed, verdicts on the same answer may differ.
langdetect.DetectorFactory.seed = 0

LANGUAGES = {"Dutch": "nl", "French": "fr", "German": "de", "Italian": "it", "Spanish": "es"}

_MARK = "####"
_NUMBER = re.compile(r"\s*([-+−]?)\s*\$?\s*([-+−]?)((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)")


def capitals(text: str) -> list[str]:
    """Words in capitals, tokenized as in a treebank: a hyphenated word is one word, and so is "U.S."."""
    return [word for word in re.findall(r"\w[\w-]*(?:\.\w[\w-]*)*", text) if word.isupper()]


def detected(text: str) -> str | None:
    """Detect the language of a text as an ISO 639-1 code; None if langdetect cannot detect it."""
    try:
        return langdetect.detect(text)
    except langdetect.LangDetectException:
        return None


def words_at_least(text: str, n: int) -> bool:
    return count_words(text) >= n


def words_at_most(text: str, n: int) -> bool:
    return count_words(text) <= n


def sentences_at_least(text: str, n: int) -> bool:
    return len(sentences(text)) >= n


def sentences_at_most(text: str, n: int) -> bool:
    return len(sentences(text)) <= n


def paragraphs(text: str, n: int, separator: str) -> bool:
    """Check for exactly n paragraphs; the separator is "blank line" or three asterisks, "***"."""
    if separator == "blank line":
        return sum(bool(part.strip()) for part in text.split("\n\n")) == n
    if separator != "***":
        raise UserError(f'paragraphs: separator: expected "blank line" or "***", got {separator!r}')
    parts = [part.strip() for part in text.split("***")]
    return all(parts[1:-1]) and sum(map(bool, parts)) == n


def paragraph_opens_with(text: str, n: int, paragraph: int, word: str) -> bool:
    """Check for exactly n paragraphs separated by blank lines, and `word` as first word of the given one (from 1)."""
    parts = text.split("\n\n")
    if not paragraphs(text, n, "blank line") or not 1 <= paragraph <= n or not parts[paragraph - 1].strip():
        return False
    first = parts[paragraph - 1].split()[0].lstrip("'").lstrip('"')
    return re.split(r"[.,?!'\"]", first)[0].lower() == word.lower()


def includes_words(text: str, words: list[str]) -> bool:
    return all(word.lower() in text.lower() for word in words)


def repeats_word(text: str, word: str, n: int) -> bool:
    """Check that the word occurs at least n times; like lm-eval, count occurrences inside longer words too."""
    return text.lower().count(word.lower()) >= n


def avoids_words(text: str, words: list[str]) -> bool:
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.I) for word in words)


def letter_at_least(text: str, letter: str, n: int) -> bool:
    return text.lower().count(letter.lower()) >= n


def letter_at_most(text: str, letter: str, n: int) -> bool:
    return text.lower().count(letter.lower()) <= n


def bullets(text: str, n: int) -> bool:
    """Check for exactly n lines that start with a single * or with -."""
    return len(re.findall(r"^\s*(?:\*[^*]|-).*$", text, re.M)) == n


def numbered_list(text: str, n: int) -> bool:
    """Check for exactly n lines that start with a number and a dot or bracket, numbered 1, 2, … n."""
    return [int(number) for number in re.findall(r"^\s*(\d+)[.)]\s", text, re.M)] == list(range(1, n + 1))


def highlights(text: str, n: int) -> bool:
    """Check for at least n phrases between asterisks, *single* or **double** ones."""
    single = re.findall(r"\*([^\n*]*)\*", text)
    double = re.findall(r"\*\*([^\n*]*)\*\*", text)
    return sum(bool(phrase.strip()) for phrase in single + double) >= n


def sections(text: str, n: int, header: str) -> bool:
    """Check for at least n headers such as "Part 1"; case-sensitive."""
    return len(re.findall(rf"{re.escape(header)}\s?\d+", text)) >= n


def title(text: str) -> bool:
    """Check for a title in <<double angular brackets>> on one line."""
    return any(found.strip("<> ") for found in re.findall(r"<<[^\n]+>>", text))


def json_only(text: str) -> bool:
    """Check that the whole answer is JSON; a code fence around it is allowed."""
    body = re.sub(r"^```(?:json|Json|JSON)?", "", text.strip()).removesuffix("```")
    try:
        json.loads(body)  # not the strict reader: as in IFEval's own check
    except (ValueError, RecursionError):
        return False
    return True


def placeholders(text: str, n: int) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= n


def postscript(text: str, marker: str) -> bool:
    """Check for a postscript that starts with the marker ("P.S." or "P.P.S"); a space between letters is allowed."""
    letters = [re.escape(letter) for letter in marker.lower().rstrip(".").split(".")]
    end = re.escape(".") if marker.endswith(".") else ""
    return bool(re.search(r"\.\s?".join(letters) + end, text.lower()))


def two_answers(text: str) -> bool:
    """Check for two different answers separated by ******, which must not occur elsewhere inside the text."""
    parts = [part.strip() for part in text.split("******")]
    answers = [part for part in parts if part]
    return all(parts[1:-1]) and len(answers) == 2 and answers[0] != answers[1]


def repeats_request(text: str, request: str) -> bool:
    return text.strip().lower().startswith(request.strip().lower())


def one_of(text: str, options: list[str]) -> bool:
    return any(option in text for option in options)


def lowercase(text: str) -> bool:
    return text.islower() and detected(text) == "en"


def uppercase(text: str) -> bool:
    return text.isupper() and detected(text) == "en"


def capitals_at_least(text: str, n: int) -> bool:
    return len(capitals(text)) >= n


def capitals_at_most(text: str, n: int) -> bool:
    return len(capitals(text)) <= n


def no_commas(text: str) -> bool:
    return "," not in text


def ends_with(text: str, phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(phrase.strip().lower())


def starts_with(text: str, phrase: str) -> bool:
    return text.strip().strip('"').lower().startswith(phrase.strip().lower())


def quoted(text: str) -> bool:
    body = text.strip()
    return len(body) > 1 and body[0] == body[-1] == '"'


def in_language(text: str, language: str) -> bool:
    """Check that the answer is in the language, given by its English name (a key of LANGUAGES)."""
    if language not in LANGUAGES:
        raise UserError(f"in_language: language: expected one of {', '.join(LANGUAGES)}, got {language!r}")
    return detected(text) == LANGUAGES[language]


# Constraints that a prompt may have, in any combination. seeds/constraints.yaml has the wording of each.
KINDS: dict[str, Callable[..., bool]] = {
    name: function for name, function in list(globals().items())
    if inspect.isfunction(function) and next(iter(inspect.signature(function).parameters)) == "text"
    and inspect.signature(function).return_annotation is bool
}  # fmt: skip


def result(text: str) -> Decimal | None:
    """Parse the number after the last "####", the final answer in GSM8K's format (Cobbe et al. 2021, arXiv:2110.14168).

    "#### $1,200.50" is 1200.5. None if there is no "####", if no number follows the last one, or if its line has more
    digits after the number ("3/4", "12 or 13", "4 * 3 = 12"): the line must give one answer, not several.
    """
    _, mark, rest = text.rpartition(_MARK)
    line = rest.strip().partition("\n")[0]
    found = _NUMBER.match(line) if mark else None
    if not found or any(character.isdigit() for character in line[found.end() :]):
        return None
    number = Decimal(found[3].replace(",", ""))
    return -number if found[1] + found[2] in ("-", "−") else number


def answer(text: str, value: str) -> bool:
    """Check that the answer ends in "#### " and the value, compared as numbers: 12, 12.0 and $12 are equal."""
    known = result(f"{_MARK} {value}")
    if known is None:
        raise UserError(f"answer: value: expected a number, got {value!r}")
    return result(text) == known


def matches(text: str, pattern: str) -> bool:
    """Search for a regular expression in the answer, in the syntax of Python's re; \\A and \\Z match its two ends."""
    try:
        return re.search(pattern, text) is not None
    except re.error as error:
        raise UserError(f"matches: pattern: not a regular expression: {error}; got {pattern!r}") from None


# The constraints, and two checks that only the author of a row can set: no edit can correct a wrong result.
VERDICTS: dict[str, Callable[..., bool]] = {**KINDS, "answer": answer, "matches": matches}


def parameters(kind: str) -> dict[str, Any]:
    """Parameters of a kind by name, with their types: int, str or list[str]. Errors: UserError for an unknown kind."""
    if kind not in VERDICTS:
        raise UserError(f"check: kind: expected one of {', '.join(VERDICTS)}, got {kind!r}")
    return {name: part.annotation for name, part in inspect.signature(VERDICTS[kind]).parameters.items()
            if name != "text"}  # fmt: skip


def fits(value: Any, wanted: Any) -> bool:
    """Whether a value has a parameter's type and is not empty. A bool is not an int."""
    if wanted == list[str]:
        return isinstance(value, list) and bool(value) and all(fits(item, str) for item in value)
    return type(value) is wanted and value != ""


def arguments(check: dict[str, Any]) -> dict[str, Any]:
    """Validate a check's parameters and return them without its kind.

    Errors: UserError for a missing, unknown or wrongly typed parameter.
    """
    given = {name: value for name, value in check.items() if name != "kind"}
    wanted = parameters(check.get("kind", ""))
    if given.keys() != wanted.keys():
        raise UserError(f"check {check['kind']}: expected parameters {sorted(wanted)}, got {sorted(given)}")
    for name, value in given.items():
        if not fits(value, wanted[name]):
            expected = {int: "a whole number", str: "text"}.get(wanted[name], "a list of texts")
            raise UserError(f"check {check['kind']}: {name}: expected {expected}, got {value!r}")
    return given


def meets(text: str, checks: list[dict[str, Any]]) -> list[bool]:
    """Run each check `{"kind": …, **parameters}` on the answer without its reasoning; return one verdict per check.

    Errors: UserError for an unknown kind or an invalid parameter.
    """
    given = [arguments(check) for check in checks]
    said = answer_of(text)
    return [bool(said.strip()) and VERDICTS[check["kind"]](_read(check, text, said), **keywords)
            for check, keywords in zip(checks, given, strict=True)]  # fmt: skip


def _read(check: dict[str, Any], text: str, said: str) -> str:
    """Text for a check: the answer, or for a pattern with a reasoning mark the whole text."""
    return text if check["kind"] == "matches" and names_mark(check["pattern"]) else said
