"""Separate a model's reasoning from its answer, by position.

    strip_reasoning("<think>\nhm\n</think>\n\n42")      # Stripped(answer="42", finished=True)
    strip_reasoning("<think>\nhm, or rather")           # Stripped(answer="", finished=False)

Scorers, verifiers, judges and the filters that judge an answer read only the answer. Rows keep the whole text.

A reasoning block is recognized only where a model writes one:

1. The text begins with an opening mark, ignoring whitespace. The block ends at its closing mark. Further blocks may
   follow. Without the closing mark the reasoning never ended: the answer is empty and `finished` is false.
2. The prompt opened the block: the text has a closing mark without an opening mark before it. The closing mark must not
   be part of a sentence ("the </think> tag closes it"), of a code block or of a quotation. A closing mark on its own
   line also counts if a sentence before it mentions an opening mark.
3. The text begins with a message header of gpt-oss's harmony format: the answer is the message of the channel `final`.
   If the special tokens were dropped, the same text begins with "analysis" and contains "assistantfinal".

A mark anywhere else is ordinary text: an answer about `<think>` is not cut. A mark in quotation marks or backticks
never opens or closes a block. The marks are those of published models; see docs/scoring.md.
"""

import re
from typing import Any, NamedTuple

from ladder.data.jsonl import Row
from ladder.verifiers.code_blocks import fences

_NAME = r"(?:\w{1,12}:)?(?:think|thinking|thoughts?|thought_process|reasoning|scratchpad|chain_of_thought)"
_TOKEN = r"(?:think|thinking|thoughts?|reasoning)"
_PAIRS = (
    # Tags: Qwen3, DeepSeek, GLM, Nemotron, Phi and most others; Seed; EXAONE Deep and Marco-o1 (thought).
    (rf"<(?P<name>{_NAME})(?:\s[^<>\n]{{0,80}})?>", rf"</{_NAME}\s*>"),
    (r"<details type=\"reasoning\"[^<>\n]{0,80}>", r"</details>"),  # Open WebUI
    # Tokens: Cohere, OpenThoughts and Sky-T1, and those of the same form.
    (
        rf"<\|(?:start_|begin_|(?:start|begin)_of_)?{_TOKEN}(?:_start|_begin)?\|>",
        rf"<\|(?:(?:/|end_|end_of_){_TOKEN}|{_TOKEN}_end)\|>",
    ),
    (r"\[THINK\]", r"\[/THINK\]"),  # Magistral
    (r"\u25c1think\u25b7", r"\u25c1/think\u25b7"),  # Kimi
    (r"<\|channel>thought", r"<channel\|>"),  # Gemma 4
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),  # Apertus
    (r"Here(?: is|'s) my thought process:", r"Here(?: is|'s) my response:"),  # Granite 3.2
)
_OPENING = re.compile(r"\s*(?:" + "|".join(f"({opening})" for opening, _ in _PAIRS) + ")", re.I)
_CLOSINGS = [re.compile(closing, re.I) for _, closing in _PAIRS]
_OPENED = re.compile("|".join(re.sub(r"\?P<name>", "?:", opening) for opening, _ in _PAIRS), re.I)
_CLOSED = re.compile("|".join(closing for _, closing in _PAIRS if closing != "</details>"), re.I)
_AT_END = re.compile(rf"(?:{_OPENED.pattern})\s*\Z", re.I)
_WRAPPED = re.compile(r"\s*<(answer|response|solution|output)>(.*?)(?:</\1>)?\s*", re.S | re.I)
_WRAPPING_TOKENS = re.compile(
    r"\s*<\|(?:start_response|begin_of_solution)\|>(.*?)(?:<\|(?:end_response|end_of_solution)\|>)?\s*", re.S | re.I
)

_HEADER = re.compile(
    r"(?:<\|start\|>)?(?:assistant)?(?P<to>[ \t]*to=[\w.]+)?(?:<\|channel\|>(?P<channel>[^<]*))?"
    r"(?:<\|constrain\|>[^<]*)?<\|message\|>"
)
_HEADED = re.compile(r"\s*(?:<\|start\|>|(?:assistant)?(?:[ \t]*to=\w+)?(?:<\|channel\|>|<\|message\|>))")
_MESSAGE_END = re.compile(r"<\|(?:end|return|call|eom|eot)\|>")
_HARMONY = frozenset({"start", "channel", "message", "constrain", "end", "return", "call", "eom"})
_FINAL_HEADER = re.compile(r"<\|end\|>\s*<\|start\|>assistant<\|channel\|>")
_DROPPED = re.compile(r"\s*(?:assistant)?(?:analysis|commentary)(?=\S)")
_DROPPED_FINAL = re.compile(r"assistantfinal(?:\s?json)?(?![a-z])")
_DROPPED_BEGINNING = re.compile(
    r"\s*analysis(?:We|The|User|I|Need|Let|Okay|OK|It|This|Just|Simple|So|They|Question|Problem|Given|You|Must)\b"
)
COLUMNS = ("reasoning_content", "reasoning", "thinking")
"""Fields in which servers and data sets store reasoning separately from the answer."""


class Stripped(NamedTuple):
    answer: str
    """The text after the reasoning; empty if the reasoning never ended."""
    finished: bool
    """Whether the reasoning ended. True if there is none."""


class Parts(NamedTuple):
    start: int
    end: int
    """The answer is text[start:end]."""
    finished: bool

    @property
    def reasons(self) -> bool:
        """Whether anything was removed."""
        return self.start > 0 or not self.finished


def strip_reasoning(text: str) -> Stripped:
    """Split off the reasoning: return the answer, and whether the reasoning ended. Text without it is unchanged."""
    start, end, finished = find_answer(text)
    return Stripped(text[start:end], finished)


def answer_of(text: str) -> str:
    """Return the text without its reasoning."""
    return strip_reasoning(text).answer


def find_answer(text: str) -> Parts:
    """Locate the answer in a model's text by the rules in the module docstring."""
    whole = Parts(0, len(text), True)
    if not _may_reason(text):
        return whole
    if _HEADED.match(text):
        return _harmony(text, 0) or whole
    if (dropped := _dropped(text)) is not None:
        return dropped
    start = 0
    while (place := _after_block(text, start)) is not None:
        if place < 0:
            return Parts(len(text), len(text), False)
        start = place
    while (place := _after_orphan(text, start)) is not None:
        start = place
    return _unwrapped(text, start)


def unfinished(text: str) -> bool:
    """Whether the text is reasoning that never ended."""
    return not find_answer(text).finished


def unended(reasoning: str) -> str:
    """Text of a reply that has only reasoning, from a server that returns the reasoning in a separate field.

    `strip_reasoning` recognizes the result as unfinished.
    """
    return f"<think>\n{reasoning}"


def whole_text(row: Row, name: str) -> Any:
    """Text of a row. If it is empty or null and a column has reasoning, return that as unfinished reasoning."""
    text = row.get(name)
    if text is None or (isinstance(text, str) and not text.strip()):
        for column in COLUMNS:
            if isinstance(row.get(column), str) and row[column].strip():
                return unended(row[column])
    return text


def opens_reasoning(prompt: str) -> str:
    """Opening mark at the end of a prompt, with the whitespace after it; empty if there is none."""
    found = _AT_END.search(prompt)
    return found[0] if found else ""


def is_mark(token: str) -> bool:
    """Whether a special token is part of a reasoning block or of a harmony header."""
    bare = token.removeprefix("<|").removesuffix("|>")
    return bool(
        _OPENED.fullmatch(token) or _CLOSED.fullmatch(token) or token == "<|channel>"
        or (token.startswith("<|") and bare in _HARMONY - {"end", "start"})
    )  # fmt: skip


def marks(special: list[str]) -> frozenset[str]:
    """Special tokens of a tokenizer that a decoded answer must keep so that its reasoning can be recognized.

    `<|start|>` and `<|end|>` are kept only beside `<|channel|>` or `<|message|>`; in other formats they end a turn.
    """
    found = frozenset(filter(is_mark, special))
    if "<|message|>" not in found:
        return found - {f"<|{name}|>" for name in _HARMONY}
    return found | ({"<|start|>", "<|end|>"} & set(special))


def closing_token(vocabulary: dict[str, int]) -> int | None:
    """Token id of a vocabulary's mark that ends reasoning; None if it has none."""
    found = [token for token in vocabulary if _CLOSED.fullmatch(token)]
    return vocabulary[min(found)] if found else None


def names_mark(pattern: str) -> bool:
    """Whether a regular expression contains a reasoning mark; it is then matched against text with reasoning."""
    plain = pattern.replace("\\", "")
    return bool(_OPENED.search(plain) or _CLOSED.search(plain))


def matched(text: str, pattern: str) -> str:
    """Text to match a regular expression against: the answer, or the whole text if the pattern has a reasoning mark."""
    return text if names_mark(pattern) else answer_of(text)


def _may_reason(text: str) -> bool:
    """Fast pre-check for text that may contain a mark."""
    if "<" in text or "[" in text or "\u25c1" in text:
        return True
    start = text[:60].lstrip()
    return start.startswith(("analysis", "commentary", "assistant", "Here is my", "Here's my"))


def _after_block(text: str, start: int) -> int | None:
    """End of the block that begins at `start`; -1 if it never ends, None if no block begins there."""
    found = _OPENING.match(text, start)
    if found is None:
        stray = re.compile(rf"\s*(?:{_CLOSED.pattern})", re.I).match(text, start)
        return _blanks(text, stray.end()) if stray and not _quoted(text, stray.start(), stray.end()) else None
    which = next(number for number, (opening, _) in enumerate(_PAIRS) if re.fullmatch(opening, found[0].strip(), re.I))
    closing = _CLOSINGS[which]
    if found["name"]:
        closing = re.compile(rf"</{re.escape(found['name'])}\s*>", re.I)
    for end in closing.finditer(text, found.end()):
        if not _quoted(text, end.start(), end.end()):
            return _blanks(text, end.end())
    return -1


def _after_orphan(text: str, start: int) -> int | None:
    """End of a reasoning block that the prompt opened; None if there is none."""
    said = text[start:]
    listing = said.lstrip()[:1] in ("{", "`")
    if not start and (header := _FINAL_HEADER.search(said)):
        before = said[: header.start()]
        if "<|" not in before and not _in_code(said, header.start()):
            parts = _harmony(text, header.start())
            return parts.start if parts else None
    for end in _CLOSED.finditer(said):
        before = said[: end.start()]
        own_line = not before.rpartition("\n")[2].strip() and "\n" in before
        opened = list(_OPENED.finditer(before))
        if opened and (not own_line or any(_begins_line(before, one.start()) for one in opened)):
            continue
        if (listing or start) and not own_line:
            continue
        if _quoted(said, end.start(), end.end()) or _in_code(said, end.start()):
            continue
        if not own_line and _in_sentence(said, end.start(), end.end()):
            continue
        return start + _blanks(said, end.end())
    return None


def _begins_line(text: str, place: int) -> bool:
    return not text[:place].rpartition("\n")[2].strip()


def _quoted(text: str, start: int, end: int) -> bool:
    """Whether the span is enclosed in quotation marks or backticks."""
    return start > 0 and text[start - 1] + text[end : end + 1] in ("``", '""', "''", "\u201c\u201d", "\u2018\u2019")


def _in_code(text: str, place: int) -> bool:
    """Whether the position is inside a closed code block."""
    return any(block.closed and block.start <= place < block.end for block in fences(text))


def _in_sentence(text: str, start: int, end: int) -> bool:
    """Whether a sentence continues across a mark: a word and whitespace before it, no new sentence after it."""
    return bool(re.search(r"[\w,][ \t]+\Z", text[max(0, start - 80) : start])) and bool(
        re.match(r"[ \t]*[a-z,;.:!?)]", text[end : end + 40])
    )


def _blanks(text: str, place: int) -> int:
    """Index of the first non-whitespace character from `place` on."""
    return len(text) - len(text[place:].lstrip())


def _unwrapped(text: str, start: int) -> Parts:
    """Remove the marks that some models put around the whole answer after their reasoning."""
    tokens = _WRAPPING_TOKENS.fullmatch(text, start)
    found = tokens or (_WRAPPED.fullmatch(text, start) if start else None)
    if found is None:
        return Parts(start, len(text), True)
    said = found.group(found.lastindex or 1)
    begin = found.start(found.lastindex or 1) + len(said) - len(said.lstrip())
    return Parts(begin, begin + len(said.strip()), True)


def _harmony(text: str, start: int) -> Parts | None:
    """Locate the message of the channel `final` (gpt-oss harmony format); None if there is no valid header."""
    place, met = start, False
    if ended := _MESSAGE_END.match(text, place):
        place = ended.end()
    final: Parts | None = None
    while header := _HEADER.search(text, place):
        met = True
        ended = _MESSAGE_END.search(text, header.end())
        end = ended.start() if ended else len(text)
        channel = (header["channel"] or "final").split()
        to_user = (header["to"] or "to=user").strip() == "to=user" and " to=" not in (header["channel"] or "")
        if to_user and channel[:1] == ["final"]:
            begin = _blanks(text[:end], header.end())
            final = Parts(begin, begin + len(text[begin:end].rstrip()), True)
        place = end
    if final:
        return final
    return Parts(len(text), len(text), False) if met or "<|channel|>" in text[start : start + 40] else None


def _dropped(text: str) -> Parts | None:
    """Locate the answer in a harmony reply whose special tokens were dropped; None if it is another text."""
    final = list(_DROPPED_FINAL.finditer(text))
    if final and (_DROPPED.match(text) or not text[: final[0].start()].strip()):
        return Parts(_blanks(text, final[0].end()), len(text), True)
    return Parts(len(text), len(text), False) if _DROPPED_BEGINNING.match(text) else None
