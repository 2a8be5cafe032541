"""The code in an answer: in its fence, or as it stands."""

import re

# A fence ends on a line of its own, indented at most three columns more than it began (CommonMark 4.5): the fences in
# a function's docstring stay inside. Models also end one at the end of a line of code.
_BLOCK = re.compile(
    r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<label>[\w+#.-]*)[^\n]*\n"
    r"(?P<code>.*?)(?:^(?P=indent) {0,3}(?P=fence)[ \t]*$|(?<=\S)(?P=fence)[ \t]*$|\Z)",
    re.M | re.S,
)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.M)
_PYTHON = {"", "python", "python3", "py"}


def code(answer: str, function: str = "") -> str:
    """The code in an answer.

    The first fenced block of Python or of no language that defines `function`; else the first such block; else the
    first block; without a fence the whole answer. An answer that is code from its first character on (it begins with
    an indented line, or defines `function` before any fence) ends at its first fence.
    """
    fence = _FENCE.search(answer)
    head = answer[: fence.start()] if fence else answer
    if not fence or (head.strip() and (_indented(head) or defines(head, function))):
        return head
    blocks = list(_BLOCK.finditer(answer))
    if not blocks:
        return answer
    python = [block for block in blocks if block["label"].lower() in _PYTHON]
    defining = [block for block in python if defines(_dedented(block), function)]
    return _dedented((defining or python or blocks)[0])


def defines(text: str, function: str) -> bool:
    """Whether the text defines the function (or a class or variable of that name) at its outermost level."""
    name = re.escape(function)
    return bool(function) and bool(
        re.search(rf"^(?:(?:async\s+)?def\s+{name}\b|class\s+{name}\b|{name}\s*=(?!=))", text, re.M)
    )


def continuation(body: str, function: str) -> str:
    """The code as it can follow a prompt that ends inside `function`.

    A body whose first line is not indented lost that to a strip of the answer, and gets four columns back.
    """
    if defines(body, function) or _indented(body):
        return body
    return f"    {body.lstrip()}"


def _indented(text: str) -> bool:
    return text.lstrip("\r\n")[:1] in (" ", "\t")


def _dedented(block: re.Match[str]) -> str:
    return re.sub(rf"^{block['indent']}", "", block["code"], flags=re.M) if block["indent"] else block["code"]
