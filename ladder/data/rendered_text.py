"""Detect text that a chat template already rendered, by its turn headers; reject it or convert it back to messages.

A text counts as rendered in two cases. It begins with a template's turn header, including the role. Or its first
marker is the end of a turn, directly followed by a header (an answer that ran on). A header quoted inside a sentence,
or in a fenced code block, is plain text.
"""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from ladder.chat.encode import Messages
from ladder.data.jsonl import Row
from ladder.pipeline.errors import InvalidRow

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "instruction", "input"), "user"),
    **dict.fromkeys(("assistant", "model", "gpt", "response", "chatbot", "bot"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "ipython", "function", "observation"), "tool"),
}
_ROLE = r"(?P<role>system|developer|user|human|prompter|assistant|model|bot|tool|ipython|function|observation)"
BEGIN = r"(?:\s|<s>|<bos>|<\|begin_of_text\|>|<\|startoftext\|>|<\|endoftext\|>|"
BEGIN += r"<｜begin▁of▁sentence｜>|\[gMASK\]|<sop>|<BOS_TOKEN>|<\|hy_begin▁of▁sentence\|>)*"
"""Blanks and beginning-of-text tokens before the first header."""
FENCE = re.compile(r"^(?P<fence>```+|~~~+).*?(?:^(?P=fence)|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Family:
    """Chat template family: pattern of a turn's header, and of a turn's end."""

    name: str
    header: re.Pattern[str]
    end: re.Pattern[str] | None = None
    needs: re.Pattern[str] | None = None
    """Further pattern that the text must contain, for headers that also occur in plain text."""

    @property
    def run_on(self) -> re.Pattern[str] | None:
        """Pattern of a turn's end followed by the next turn's header.

        None for Vicuna, and for a family without an end pattern.
        """
        if self.end is None or self.name == "Vicuna":
            return None
        return re.compile(rf"(?:{self.end.pattern})\s*(?:<s>\s*)?(?:{self.header.pattern})")

    @property
    def marks(self) -> re.Pattern[str]:
        """Pattern of a turn's header or end."""
        return re.compile(f"{self.header.pattern}|{self.end.pattern}" if self.end else self.header.pattern)


def _family(name: str, header: str, end: str = "", needs: str = "") -> Family:
    made = [re.compile(pattern, re.IGNORECASE if pattern.startswith("(?i)") else 0) for pattern in (header, end, needs)]
    return Family(name, made[0], made[1] if end else None, made[2] if needs else None)


FAMILIES = (
    _family("ChatML", rf"<\|im_start\|>{_ROLE}(?:<\|im_sep\|>|(?: name=\S+)?\n)", r"<\|im_end\|>"),
    _family("Kimi", rf"<\|im_{_ROLE}\|>\w+<\|im_middle\|>", r"<\|im_end\|>"),
    _family("Llama 3", rf"<\|start_header_id\|>{_ROLE}<\|end_header_id\|>", r"<\|eot_id\|>|<\|eom_id\|>"),
    _family("Llama 4", rf"<\|header_start\|>{_ROLE}<\|header_end\|>", r"<\|eot\|>|<\|eom\|>"),
    _family("Gemma", rf"<start_of_turn>{_ROLE}\n", r"<end_of_turn>"),
    _family("Gemma 4", rf"<\|turn>{_ROLE}\n", r"<turn\|>"),
    _family("Harmony", rf"<\|start\|>{_ROLE}(?:<\|channel\|>\w+)?<\|message\|>", r"<\|(?:end|return|call)\|>"),
    _family("Granite", rf"<\|start_of_role\|>{_ROLE}<\|end_of_role\|>", r"<\|end_of_text\|>"),
    _family("Zephyr or Phi", rf"<\|{_ROLE}\|>(?:\n|(?=.*(?:<\|end\|>|</s>|<\|endoftext\|>)))", r"<\|end\|>|</s>"),
    _family("EXAONE", rf"\[\|{_ROLE}\|\]", r"\[\|endofturn\|\]"),
    _family("MiniMax", r"\]~b\](?P<role>system|user|ai)", r"\[e~\["),
    _family(
        "DeepSeek",
        r"<[|｜](?P<role>User|Assistant)[|｜]>",
        r"<[|｜]end▁of▁sentence[|｜]>",
        r"<[|｜]Assistant[|｜]>(?:\s*</?think>\s*)*\Z|<[|｜]end▁of▁sentence[|｜]>",
    ),
    _family(
        "Idefics", r"(?:<\|im_start\|>)?(?P<role>User|Assistant|System):", r"<end_of_utterance>", r"<end_of_utterance>"
    ),
    _family(
        "Command R",
        r"<\|START_OF_TURN_TOKEN\|><\|(?P<role>SYSTEM|USER|CHATBOT)_TOKEN\|>",
        r"<\|END_OF_TURN_TOKEN\|>",
    ),
    _family("Llama 2 or Mistral", r"\[INST\]|\[SYSTEM_PROMPT\]|<<SYS>>", r"</s>", r"\[/INST\]|<</SYS>>"),
    _family("OpenChat", r"GPT4 Correct (?P<role>User|Assistant):", r"<\|end_of_turn\|>", r"<\|end_of_turn\|>"),
    _family(
        "Alpaca",
        r"(?:Below is an instruction that describes a task[^\n]*\s*)?"
        r"### ?(?P<role>Instruction|System|User|Human)[^\n:]*:",
        needs=r"### ?(?:Response|Assistant|Output|Answer)[^\n:]*:",
    ),
    _family(
        "Vicuna",
        r"(?:A chat between a curious (?:user|human) and an artificial intelligence assistant\.[^\n]*?\s*)?USER:\s",
        r"</s>",
        r"\sASSISTANT:(?:\s*\Z|(?s:.*)</s>)|\AA chat between(?s:.*)\sASSISTANT:",
    ),
    _family("Human and Assistant", r"Human:\s", needs=r"\n\nAssistant:\s*\Z"),
)
"""Template families, the most common first.

Vicuna's and the last family have plain-text headers, so they also require a matching end (`needs`).
"""
_STARTS = tuple((family, re.compile(f"{BEGIN}(?:{family.header.pattern})", family.header.flags)) for family in FAMILIES)
_UNMARKED_SYSTEM = next(family for family in FAMILIES if family.name == "DeepSeek")
"""Family whose system message comes first, without a header."""
_BEGINS = re.compile(rf"{BEGIN}(?:[<\[#\]]|Human|User|USER|A chat|GPT4|Below)")
_PLAIN = re.compile(r"\s*(?:Human|User|USER|A chat|GPT4|Below)")
"""Beginnings of the templates without special characters."""
_ENDS = re.compile("|".join(sorted({family.end.pattern for family in FAMILIES if family.end})))
_RUN_ON = tuple((family, family.marks, family.run_on) for family in FAMILIES if family.run_on)


class Found(NamedTuple):
    family: Family
    marker: str
    """The matched text, for error messages."""


def found(text: str) -> Found | None:
    """Return the template family and marker of rendered text; None for plain text."""
    if not ("<" in text or "[" in text or "#" in text or _PLAIN.match(text)):
        return None
    for family, start in _STARTS if _BEGINS.match(text) else ():
        if (match := start.match(text)) and (family.needs is None or family.needs.search(text)):
            return Found(family, match[0].strip().splitlines()[-1])
    last = _UNMARKED_SYSTEM.needs.search(text) if _UNMARKED_SYSTEM.needs else None
    match = _UNMARKED_SYSTEM.header.search(text) if last else None
    if match and last and match.start() < last.start():
        return Found(_UNMARKED_SYSTEM, match[0])
    if _ENDS.search(text) is None:
        return None
    plain = FENCE.sub("", text)
    for family, marks, run_on in _RUN_ON:
        first = marks.search(plain)
        if first and (match := run_on.match(plain, first.start())):
            return Found(family, match[0].strip())
    return None


def check(text: str, place: str) -> None:
    """Reject rendered text. Errors: InvalidRow naming the marker."""
    if (seen := found(text)) is not None:
        raise InvalidRow(
            f"rendered before: {place} has {seen.marker!r:.60}, a turn of the template {seen.family.name}; expected "
            "plain text or messages. Set `rendered: unwrap`, or use the data set's version before rendering"
        )


def unwrapped(row: Row) -> Row:
    """Convert rendered columns of a row to messages; `text` becomes `messages`.

    If the `prompt` is rendered, end tokens are stripped from plain answers. Errors: InvalidRow for a text whose turns
    cannot be separated.
    """
    changed: Row = {}
    ended: Family | None = None
    for name, value in row.items():
        if not isinstance(value, str) or (seen := found(value)) is None:
            continue
        if name == "text" and not any(row.get(other) for other in ("messages", "prompt", "instruction")):
            changed |= {"text": None, "messages": _messages(value, seen.family, name)}
        elif name in ("prompt", "chosen", "rejected", "completion"):
            messages = _messages(value, seen.family, name)
            changed[name] = messages
            ended = seen.family if name == "prompt" else ended
    for name in ("chosen", "rejected", "completion", "response", "answer"):
        value = changed.get(name, row.get(name))
        if ended is not None and isinstance(value, str):
            changed[name] = _without_end(value, ended)
    return {**row, **changed} if changed else row


def _without_end(text: str, family: Family) -> str:
    ends = family.end.pattern if family.end else r"</s>"
    return re.sub(rf"(?:\s*(?:{ends}|<\|endoftext\|>|</s>))*\s*\Z", "", text).strip()


def _messages(text: str, family: Family, column: str) -> Messages:
    """Split rendered text into turns. A turn with only a header is dropped."""
    text = re.sub(r"<\|start\|>assistant\s*\Z", "", re.sub(rf"\A{BEGIN}", "", text))
    if re.search(r"<\|channel\|>(?!final)", text):
        raise InvalidRow(f"rendered before: {column} has reasoning or tool calls in channels, which are not unwrapped")
    if family.name == "Llama 2 or Mistral":
        return _inst(text, column)
    turn = {
        "Alpaca": re.compile(r"### ?(?P<role>Instruction|Input|System|User|Human|Response|Assistant)[^\n:]*:"),
        "Vicuna": re.compile(r"(?:\A|(?<=\s)|(?<=</s>))(?P<role>USER|ASSISTANT):"),
        "Human and Assistant": re.compile(r"(?:\A|\n\n)(?P<role>Human|Assistant):"),
    }.get(family.name, family.header)
    matches = list(turn.finditer(text))
    made: Messages = []
    before = _without_end(text[: matches[0].start()], family) if matches else ""
    if before:
        made.append({"role": "system", "content": before})
    for match, following in zip(matches, [*matches[1:], None], strict=True):
        role = {"ai": "assistant"}.get(match["role"].lower(), ROLES.get(match["role"].lower()))
        said = _without_end(text[match.end() : following.start() if following else len(text)], family)
        if role is None:
            raise InvalidRow(f"rendered before: {column} has a turn of {match['role']!r}, which is not supported")
        if said and made and made[-1]["role"] == role == "user":  # Alpaca: the input follows the instruction
            made[-1]["content"] += f"\n\n{said}"
        elif said:
            made.append({"role": role, "content": said})
    if not made:
        raise InvalidRow(f"rendered before: {column} has no turn with text")
    if family.end and any(family.end.search(message["content"]) for message in made):
        raise InvalidRow(f"rendered before: {column} has an end-of-turn of {family.name} inside a turn")
    return made


def _inst(text: str, column: str) -> Messages:
    made: Messages = []
    system = re.match(r"(?s)\[SYSTEM_PROMPT\](.*?)\[/SYSTEM_PROMPT\]", text)
    text = text[system.end() :] if system else text
    if system:
        made.append({"role": "system", "content": system[1].strip()})
    for asked, answer in re.findall(r"(?s)\[INST\](.*?)\[/INST\](.*?)(?=\[INST\]|\Z)", text):
        if (inner := re.match(r"(?s)\s*<<SYS>>(.*?)<</SYS>>(.*)", asked)) and not made:
            made.append({"role": "system", "content": inner[1].strip()})
            asked = inner[2]
        made.append({"role": "user", "content": asked.strip()})
        answer = re.sub(r"(?:</s>|<s>|\s)+\Z", "", answer).strip()
        if answer:
            made.append({"role": "assistant", "content": answer})
    if not made:
        raise InvalidRow(f"rendered before: {column} has no turn between [INST] and [/INST]")
    return made


def check_columns(row: Row, names: tuple[str, ...]) -> None:
    """Reject rendered text in any of the named columns. Errors: InvalidRow."""
    for name in names:
        value: Any = row.get(name)
        if isinstance(value, str):
            check(value, name)
