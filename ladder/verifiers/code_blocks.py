"""Find code blocks in a chat answer: Markdown fences in the variants that models write, tags, and inline code."""

import re
from dataclasses import dataclass, field
from html import unescape

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


@dataclass
class Block:
    """A code block; `start` is the offset in the answer of the line with its opening fence, or of its opening tag."""

    label: str
    start: int
    lines: list[str] = field(default_factory=list)
    closed: bool = False

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
    quoted: bool


def fences(answer: str) -> list[Block]:
    """Find every fenced block, in order; an unclosed block ends at the end of the answer.

    A closing fence is of the same character and at least as long, on its own line, indented at most three columns more
    than the opening one (CommonMark 4.5). A fence at the end of a line of code also closes. A fence with a label inside
    a block starts the next block. A block labeled `markdown` or `md` that contains fences is dropped.
    """
    found: list[Block] = []
    current: _Open | None = None
    place = 0
    for line in answer.splitlines(keepends=True):
        current = _opened(line, place, found) if current is None else _continued(current, line, place, found)
        place += len(line)
    return [block for block in found if block.label not in ("markdown", "md") or not fences(block.text)]


def _opened(line: str, place: int, found: list[Block]) -> _Open | None:
    bare = line.rstrip("\n")
    opening = _FENCE.fullmatch(bare)
    prefix = opening["prefix"] if opening else ""
    if opening is None:
        opening = _AFTER_PROSE.fullmatch(bare)
        info = opening["info"].strip().lower() if opening else ""
        if opening is None or "```" in opening["prose"] or not (info in PYTHON - {""} or opening["prose"][-1] == ":"):
            return None
    label, code = _read_info(opening["info"])
    block = Block(label, place)
    if opening["fence"][0] == "`" and "`" in code:
        code, closed, _ = code.partition(opening["fence"])
        if not closed or not _CODE.match(code.strip()):
            return None  # inline code between runs of backticks
        found.append(block)
        block.lines, block.closed = [f"{code.strip()}\n"], True
        return None
    found.append(block)
    if code:
        block.lines.append(f"{code}\n")
    return _Open(block, opening["fence"], len(prefix), ">" in prefix)


def _read_info(info: str) -> tuple[str, str]:
    """Split an info string into (lower-case label, code that begins on the fence's own line)."""
    info = info.strip()
    if _CODE.match(info + "\n"):
        return "", info
    named = _LABEL.match(info)
    label = (named["label"] or "") if named else ""
    rest = info[named.end() :].strip() if named else ""
    return label.lower(), rest if _CODE.match(rest + "\n") else "" if "`" not in rest else rest


def _continued(current: _Open, line: str, place: int, found: list[Block]) -> _Open | None:
    bare = line.rstrip("\n")
    if current.quoted:
        bare = re.sub(r"^[ \t]*>[ \t]?", "", bare)
    fence = _FENCE.fullmatch(bare)
    near = fence is not None and not fence["prefix"].strip() and len(fence["prefix"]) <= current.indent + 3
    if fence and near and fence["fence"].startswith(current.fence):
        if not fence["info"].strip():
            current.block.closed = True
            return None
        if re.fullmatch(r"[A-Za-z][\w+#.-]*", fence["info"].strip()) and fence["fence"] == current.fence:
            return _opened(line, place, found)
    code = bare if current.quoted else _outdented(bare, current.indent)
    if code.rstrip().endswith(current.fence) and code.strip(" \t`~") and '"""' not in code:
        current.block.lines.append(code.rstrip().removesuffix(current.fence) + "")
        current.block.closed = True
        return None
    current.block.lines.append(code + "\n" if line.endswith("\n") else code)
    return current


def _outdented(line: str, indent: int) -> str:
    """Remove the fence's indentation from a line, as far as the line has it."""
    blanks = len(line) - len(line.lstrip(" \t"))
    return line[min(blanks, indent) :]


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
