"""Extract the program from a chat answer.

The rules, in this order:

1. Reasoning is removed (ladder.verifiers.reasoning). Line ends are normalized.
2. If the answer starts with code (an indented line, or the function is defined before any fence), the program ends at
   the first fence or at the first line that is not Python.
3. Among fenced blocks labeled as Python or without a label, the last one that defines the function is the program.
   A fence may use backticks or tildes, and may be indented, in a list or a quotation, after prose, nested, or unclosed.
   Later blocks that only use the function, or only declare it (`pass`, `...`), are ignored. A block that Python cannot
   parse counts only if no other block defines the function.
4. Without a block of code, the program is searched in tags (`[PYTHON]`, `<code>`, `[BEGIN]`), then in lines of Python
   within prose, then in inline code.
5. A method of a class counts as the function (`class Solution`) if the class needs no arguments. The function name is
   then bound to the method of a new object.
6. Names that the program needs and does not define (helpers, imports) are taken from the other blocks.
7. If nothing defines the function, the last function body (`return x + y`) is used, to be appended to the prompt. Else
   the first Python block, else the first block, else the whole answer.

Without a function name, the last block that defines a function or class is used, else the first block.
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
    """Extract the program from an answer by the rules of this module. `known` is the code before it: the prompt."""
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
    """Indent code so that it can follow a prompt that ends inside `function`.

    A body that lost its indentation is indented by four columns: only its first line if the other lines still have
    theirs, else all lines.
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
    """Complete the prompt so that the code can follow it.

    A prompt that ends with a function header and no docstring is not a program by itself. If the code redefines the
    function, `pass` is appended to the prompt.
    """
    if (
        defines(body, function)
        and program_analysis.tree(prompt) is None
        and program_analysis.tree(f"{prompt}    pass\n") is not None
    ):
        return f"{prompt}    pass\n"
    return prompt


def _opens(lines: list[str]) -> bool:
    """Whether the first line opens a block, so that the second line is indented because of it."""
    return bool(lines) and lines[0].rstrip().endswith(":")


def _python(head: str, function: str) -> str:
    """Code from the first character up to the first line that is not Python."""
    if _indented(head):
        return program_analysis.beginning(head)
    found = program_analysis.regions(head, function)
    return head if program_analysis.tree(head) is not None or not found else found[-1]


def _chosen(blocks: list[Block], function: str) -> str:
    """Choose the last block that defines the function; empty if none does."""
    texts = [text for block in blocks if (text := _defining(block.text, function))]
    parsed = [text for text in texts if program_analysis.tree(text) is not None]
    whole = [text for text in parsed if not program_analysis.stub(text, function)]
    return (whole or parsed or texts or [""])[-1]


def _defining(text: str, function: str) -> str:
    """Code of a block if it defines the function: unchanged, dedented, or without interpreter prompts; else empty."""
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
    """Find regions of Python lines in prose that define the function."""
    if not function:
        return []
    return [Block("", 0, [region], True) for region in program_analysis.regions(answer, function)]


def _joined(program: str, blocks: list[Block], known: str) -> str:
    """Prepend those other blocks that define names the program needs."""
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
    """Bind the function name to a method if only a class defines it."""
    if not function or defines(program, function):
        return program
    name = program_analysis.wrapper(program, function)
    return program if name is None else f"{program.rstrip()}\n\n\n{function} = {name}().{function}\n"


def _undefined(answer: str, blocks: list[Block], python: list[Block]) -> str:
    """Choose the code of an answer in which nothing defines the function (rule 7)."""
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
