"""Find code blocks in a chat answer: Markdown fences in the variants that models write, tags, and inline code."""

import re
from dataclasses import dataclass, field, replace
from html import unescape

from ladder.verifiers.program_analysis import tree

PYTHON = frozenset({"", "python", "python3", "py", "python2", "py3", "ipython", "pycon", "python-repl", "tool_code"})
"""Labels of blocks that may hold a Python program."""
_PREFIX = r"(?P<prefix>(?:[ \t]|>|[-*+](?=[ \t])|\d{1,3}[.)](?=[ \t]))*)"
_FENCE = re.compile(rf"{_PREFIX}(?P<fence>`{{3,}}|~{{3,}})[ \t]*(?P<info>.*)")
_AFTER_PROSE = re.compile(r"(?P<prose>.*\S)[ \t]*(?P<fence>`{3,})(?P<info>[ \t]*[\w+#.-]*)[ \t]*")
_LABEL = re.compile(r"\{?\.?(?P<label>[A-Za-z][\w+#.-]*)?")
_CODE = re.compile(r"(?:def|class|import|from|return|async|lambda|for|if|while|print|@\w+)\b.*[\s(:.]")
_TAGS = re.compile(
    r"\[(?P<square>PYTHON|CODE|SOLUTION)\]|<(?P<angle>code|python|pre|solution)(?:\s[^<>\n]{0,80})?>"
    r"|(?P<begin>\[BEGIN\])|\\begin\{(?P<latex>python|lstlisting|verbatim|minted|code)\}(?:\{\w+\}|\[[^\]\n]*\])?",
    re.I,
)
_INLINE = re.compile(r"(?<!`)`(?P<code>[^`\n]+)`(?!`)")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")
_ITEM = re.compile(r"(?P<prefix>[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]{1,4})(?=\S)")
TEXT = frozenset({"", "markdown", "md", "text", "txt", "plaintext", "plain"})
"""Labels of blocks that may hold Markdown with blocks of its own."""
NESTING = re.compile(r"^[ \t]*(?:`{3,}|~{3,})", re.M)
INDENT = 3
"""Maximum indentation of a fence, in columns (CommonMark 4.5); four are an indented code block."""


@dataclass
class Block:
    """A code block; `start` is the offset in the answer of the line with its opening fence, or of its opening tag."""

    label: str
    start: int
    lines: list[str] = field(default_factory=list)
    closed: bool = False
    end: int = 0
    """Offset after the line with the closing fence; 0 for a block that is not closed, and for one without fences."""
    fence: str = ""

    @property
    def text(self) -> str:
        return "".join(self.lines)

    @property
    def python(self) -> bool:
        return self.label in PYTHON


@dataclass
class _Open:
    block: Block
    fence: str
    indent: int
    item: int
    """Column at which the content of the enclosing list item begins; 0 outside of lists."""
    quoted: bool


def fences(answer: str) -> list[Block]:
    """Find every fenced block, in order; an unclosed block ends at the end of the answer.

    The rules are CommonMark's (section 4.5): a closing fence has the opening one's character, is at least as long,
    is alone on its line, and both are indented by at most three columns inside their list item. Beyond these:

    - A fence at the end of a line of code closes. A fence may follow prose, and code may follow it on its line.
    - A block of Markdown or plain text gives the blocks in it.
    - A fence with a label, inside a block with the same fence that is not Python, starts the next block.
    - If the answer has no fence of this form, fences may be indented by any number of columns.
    """
    found = _found(answer, INDENT) or (_found(answer, len(answer)) if NESTING.search(answer) else [])
    return [inner for block in found for inner in _unnested(block)]


def _found(answer: str, indent: int) -> list[Block]:
    """Find the blocks whose fences are indented by at most `indent` columns."""
    found: list[Block] = []
    current: _Open | None = None
    items: list[int] = []
    place = 0
    for line in _LINES.findall(answer):
        if current is None:
            current = _opened(line, place, found, _enclosing(items, line), indent)
        else:
            current = _continued(current, line, place, indent)
        place += len(line)
    return found


def _enclosing(items: list[int], line: str) -> int:
    """Update the content columns of the open list items by a line outside of blocks; return the innermost one."""
    if not line.strip():
        return items[-1] if items else 0
    column = _columns(line[: len(line) - len(line.lstrip(" \t"))])
    while items and column < items[-1]:
        items.pop()
    inner = items[-1] if items else 0
    if item := _ITEM.match(line):
        items.append(_columns(item["prefix"]))
    return inner


def _columns(prefix: str) -> int:
    return len(prefix.expandtabs(4))


def _unnested(block: Block) -> list[Block]:
    """Return the blocks inside a block of Markdown or text, those after its missing closing fence, or itself."""
    text = block.text
    if not NESTING.search(text) or (block.python and tree(text) is not None):
        return [block]
    following = re.search(rf"^[ \t]*{block.fence}[ \t]*[A-Za-z][\w+#.-]*[ \t]*$", text, re.M)
    own: list[Block] = []
    if following and (block.label not in TEXT or not block.label):
        inner, own = fences(text[following.start() :]), [replace(block, lines=[text[: following.start()]])]
    elif block.label in TEXT:
        inner = fences(text)
    else:
        return [block]
    return [*own, *(replace(one, start=block.start, end=block.end, closed=block.closed) for one in inner)] or [block]


def _opened(line: str, place: int, found: list[Block], item: int, indent: int) -> _Open | None:
    bare = line.rstrip("\n")
    opening = _FENCE.fullmatch(bare)
    prefix = opening["prefix"] if opening else ""
    if opening is None:
        opening = _AFTER_PROSE.fullmatch(bare)
        info = opening["info"].strip().lower() if opening else ""
        if opening is None or "```" in opening["prose"] or not (info in PYTHON - {""} or opening["prose"][-1] == ":"):
            return None
    quoted = ">" in prefix
    if quoted:
        prefix, item = prefix[prefix.rindex(">") + 1 :].removeprefix(" "), 0
    if not prefix.strip() and _columns(prefix) - item > indent:
        return None
    label, code = _read_info(opening["info"])
    block = Block(label, place, fence=opening["fence"])
    if opening["fence"][0] == "`" and "`" in opening["info"]:
        code, closed, _ = code.partition(opening["fence"])
        if not closed or not _CODE.match(code.strip()):
            return None  # inline code between runs of backticks
        found.append(block)
        block.lines, block.closed, block.end = [f"{code.strip()}\n"], True, place + len(line)
        return None
    found.append(block)
    if code and "`" not in code:
        block.lines.append(f"{code}\n")
    inside = _columns(prefix) if prefix.strip() else item
    return _Open(block, opening["fence"], _columns(prefix), inside, quoted)


def _read_info(info: str) -> tuple[str, str]:
    """Split an info string into (lower-case label, code that begins on the fence's own line)."""
    info = info.strip()
    if _CODE.match(info + "\n"):
        return "", info
    named = _LABEL.match(info)
    label = (named["label"] or "") if named else ""
    rest = info[named.end() :].strip() if named else ""
    return label.lower(), rest if _CODE.match(rest + "\n") else "" if "`" not in rest else rest


def _continued(current: _Open, line: str, place: int, indent: int) -> _Open | None:
    bare = line.rstrip("\n")
    if current.quoted:
        bare = re.sub(r"^[ \t]*>[ \t]?", "", bare)
    fence = _FENCE.fullmatch(bare)
    near = fence is not None and not fence["prefix"].strip() and _columns(fence["prefix"]) - current.item <= indent
    if fence and near and fence["fence"].startswith(current.fence) and not fence["info"].strip():
        current.block.closed, current.block.end = True, place + len(line)
        return None
    code = _outdented(bare, current.indent)
    if code.rstrip().endswith(current.fence) and code.strip(" \t`~") and '"""' not in code:
        current.block.lines.append(code.rstrip().removesuffix(current.fence) + "")
        current.block.closed, current.block.end = True, place + len(line)
        return None
    current.block.lines.append(code + "\n" if line.endswith("\n") else code)
    return current


def _outdented(line: str, indent: int) -> str:
    """Remove the fence's indentation, in columns, from a line, as far as the line has it."""
    for number, character in enumerate(line):
        if not indent or character not in " \t":
            return line[number:]
        width = 4 - number % 4 if character == "\t" else 1
        if width > indent:
            return " " * (width - indent) + line[number + 1 :]
        indent -= width
    return ""


def tags(answer: str) -> list[Block]:
    """Find blocks between tags: `[PYTHON]`, `<code>`, `[BEGIN]` and `[DONE]`, LaTeX listings.

    An unclosed block ends at the end of the answer.
    """
    found = []
    for opening in _TAGS.finditer(answer):
        closing = _closing(opening)
        end = closing.search(answer, opening.end())
        text = answer[opening.end() : end.start() if end else len(answer)]
        if _TAGS.match(text.lstrip()):  # <pre><code>
            continue
        if opening["angle"] and "&" in text:
            text = unescape(text)
        text = text.removeprefix("\n") if text.startswith("\n") else text.lstrip(" \t")
        found.append(Block("", opening.start(), [text], end is not None))
    return found


def _closing(opening: re.Match[str]) -> re.Pattern[str]:
    if opening["square"]:
        return re.compile(rf"\[/{opening['square']}\]", re.I)
    if opening["angle"]:
        return re.compile(rf"</{opening['angle']}>", re.I)
    if opening["begin"]:
        return re.compile(r"\[DONE\]", re.I)
    return re.compile(rf"\\end\{{{opening['latex']}\}}", re.I)


def inline(answer: str) -> list[Block]:
    """Find code between single backticks; each is a block of one line."""
    return [Block("", found.start(), [f"{found['code']}\n"], True) for found in _INLINE.finditer(answer)]
