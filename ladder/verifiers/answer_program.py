"""The program in a chat answer.

The rule, in this order:

1. Reasoning is left out (ladder.verifiers.reasoning). Line ends are normalized.
2. An answer that is code from its first character on (it begins with an indented line, or defines the function before
   any fence) ends at its first fence or at the first line that is not Python.
3. Of the fenced blocks of Python or of no language, the last one that defines the function is the program. A fence may
   be of backticks or tildes, indented, in a list or a quotation, after prose, nested, or never closed. A later block
   that only uses the function is ignored, and so is one that only declares it (`pass`, `...`). A block that Python
   cannot parse counts only where no other defines the function.
4. Without such a block: tags (`[PYTHON]`, `<code>`, `[BEGIN]`), then lines of Python in prose, then inline code.
5. A method of a class counts as the function (`class Solution`) where the class needs no arguments: the function is
   then bound to the method of a new object.
6. Names that the program needs and does not define are taken from the other blocks: helpers, imports.
7. Where nothing defines the function, the last body of a function (`return x + y`) is taken, to follow the prompt; else
   the first block of Python, else the first block, else the whole answer.

Without a function's name, the last block that defines a function or class counts, else the first.
"""

import re
import textwrap

from ladder.verifiers import program_analysis
from ladder.verifiers.code_blocks import Block, fences, inline, tags
from ladder.verifiers.program_analysis import called as called
from ladder.verifiers.program_analysis import defines as defines
from ladder.verifiers.reasoning import answer_of

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.M)
_ANY = re.compile(r"^(?:async\s+)?(?:def|class)\s", re.M)


def code(answer: str, function: str = "", known: str = "") -> str:
    """The program in an answer, by the rule of this module. `known` is code that stands before it: the prompt."""
    answer = answer_of(answer).replace("\r\n", "\n").replace("\r", "\n")
    fence = _FENCE.search(answer)
    head = answer[: fence.start()] if fence else answer
    if head.strip() and (_indented(head) or (defines(head, function) and program_analysis.begins(head))):
        return _bound(_python(head, function), function)
    blocks = fences(answer)
    candidates = [block for block in blocks if block.python]
    for several in (candidates, tags(answer), _prose(answer, function), inline(answer)):
        if program := _chosen(several, function):
            return _bound(_joined(program, candidates, known), function)
    return _undefined(answer, blocks, candidates)


def continuation(body: str, function: str) -> str:
    """The code as it can follow a prompt that ends inside `function`.

    A body that lost its indentation gets four columns back: its first line, where the others still have theirs, else
    all lines.
    """
    if defines(body, function) or _indented(body):
        return body
    body = body.lstrip()
    first = f"    {body}"
    lines = [line for line in body.splitlines() if line.strip()]
    if len(lines) > 1 and not _indented(lines[1]) or _opens(lines):
        every = textwrap.indent(body, "    ")
        if program_analysis.tree(f"def _():\n{every}") is not None:
            return every
    return first


def before(prompt: str, body: str, function: str) -> str:
    """The prompt, so that the code can follow it: a prompt without a docstring is no program by itself."""
    if (
        defines(body, function)
        and program_analysis.tree(prompt) is None
        and program_analysis.tree(f"{prompt}    pass\n") is not None
    ):
        return f"{prompt}    pass\n"
    return prompt


def _opens(lines: list[str]) -> bool:
    """Whether the first line begins a block of its own, so that the second is indented by it."""
    return bool(lines) and lines[0].rstrip().endswith(":")


def _python(head: str, function: str) -> str:
    """Code from the first character on, up to the first line that is no Python."""
    if _indented(head):
        return program_analysis.beginning(head)
    found = program_analysis.regions(head, function)
    return head if program_analysis.tree(head) is not None or not found else found[-1]


def _chosen(blocks: list[Block], function: str) -> str:
    """The last block that defines the function; empty where none does."""
    texts = [text for block in blocks if (text := _defining(block.text, function))]
    parsed = [text for text in texts if program_analysis.tree(text) is not None]
    whole = [text for text in parsed if not program_analysis.stub(text, function)]
    return (whole or parsed or texts or [""])[-1]


def _defining(text: str, function: str) -> str:
    """The block's code where it defines the function, as it stands, dedented, or without an interpreter's prompts."""
    for form in (text, textwrap.dedent(text), program_analysis.without_prompts(text)):
        if not function:
            if _ANY.search(form):
                return form
        elif defines(form, function) or program_analysis.wrapper(form, function):
            if program_analysis.tree(form) is None and (found := program_analysis.regions(form, function)):
                return found[-1]
            return form
    return ""


def _prose(answer: str, function: str) -> list[Block]:
    """Lines of Python in prose. An answer without a block is searched with its fences cut away."""
    if not function:
        return []
    return [Block("", 0, [region], True) for region in program_analysis.regions(answer, function)]


def _joined(program: str, blocks: list[Block], known: str) -> str:
    """The program after those of the other blocks that define what it needs."""
    others = [block.text for block in blocks if block.text != program and program_analysis.tree(block.text) is not None]
    taken: list[str] = []
    before = program_analysis.bound(known) | program_analysis.bound(f"{known}    pass\n")
    while missing := program_analysis.needed("\n".join([*taken, program])) - before:
        helper = next(
            (text for text in reversed(others) if text not in taken and missing & program_analysis.bound(text)),
            None,
        )
        if helper is None:
            break
        taken.insert(0, helper)
    return "\n".join([*(text.rstrip("\n") + "\n" for text in taken), program]) if taken else program


def _bound(program: str, function: str) -> str:
    """With the function bound to a method, where a class has it."""
    if not function or defines(program, function):
        return program
    name = program_analysis.wrapper(program, function)
    return program if name is None else f"{program.rstrip()}\n\n\n{function} = {name}().{function}\n"


def _undefined(answer: str, blocks: list[Block], python: list[Block]) -> str:
    """What is taken where nothing defines the function."""
    if not blocks and program_analysis.tree(answer) is not None:
        return answer
    found = [block.text for block in python or tags(answer) if program_analysis.is_body(block.text)]
    if found:
        return found[-1]
    if blocks:
        return (python or blocks)[0].text
    if tagged := tags(answer):
        return tagged[0].text
    return answer if program_analysis.is_body(answer) else (program_analysis.bodies(answer) or [answer])[-1]


def _indented(text: str) -> bool:
    return text.lstrip("\r\n")[:1] in (" ", "\t")
