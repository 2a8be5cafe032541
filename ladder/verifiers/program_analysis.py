"""Static analysis of Python code: names it defines and needs, and whether it is a program, a body or a stub."""

import ast
import builtins
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator

MOST = 200_000
"""Maximum number of characters to parse; a longer answer is not treated as a program."""
_STARTS = re.compile(r"(?:async\s+def|def|class|from|import|@)(?:\s|\w|$)|[A-Za-z_]\w*\s*(?::[^=\n]+)?=(?!=)")
_STATEMENT = re.compile(r"[ \t]*(?:return|yield|for|while|if|with|try|[A-Za-z_][\w., \[\]]*\s*[-+*/]?=(?!=))")
_BODY = "def _():\n"
BUILTINS = frozenset(dir(builtins))


def tree(text: str) -> ast.Module | None:
    """Parse a text that Python can compile; return None for any other text."""
    if len(text) > MOST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes in strings
            found = ast.parse(text)
            compile(text, "answer", "exec", dont_inherit=True)  # ast.parse accepts `return` outside a function
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return found


def defines(text: str, function: str) -> bool:
    """Whether the text defines the function (or a class or variable of that name) at the top level."""
    name = re.escape(function)
    return bool(function) and bool(
        re.search(rf"^(?:(?:async\s+)?def\s+{name}\b|class\s+{name}\b|{name}\s*(?::[^=\n]+)?=(?!=))", text, re.M)
    )


def wrapper(text: str, function: str) -> str | None:
    """Name of the class with the function as a method: the last one that needs no arguments. None if there is none."""
    module = tree(text) if function else None
    for node in reversed(module.body if module else []):
        if isinstance(node, ast.ClassDef):
            methods = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
            if function in methods and _fits(methods[function]) and _makes(methods.get("__init__")):
                return node.name
    return None


def _fits(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the method can be called on an object: it has a parameter for it, or is static."""
    named = {one.id for one in method.decorator_list if isinstance(one, ast.Name)}
    return bool(method.args.posonlyargs or method.args.args or method.args.vararg or "staticmethod" in named)


def _makes(init: ast.FunctionDef | ast.AsyncFunctionDef | None) -> bool:
    if init is None:
        return True
    required = len(init.args.posonlyargs) + len(init.args.args) - len(init.args.defaults)
    return required <= 1 and all(default is not None for default in init.args.kw_defaults)


def stub(text: str, function: str) -> bool:
    """Whether the function is only declared: its body is a docstring, `pass` or `...`."""
    module = tree(text)
    for node in reversed(module.body if module else []):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function:
            return all(
                isinstance(one, ast.Pass) or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
                for one in node.body
            )
    return False


def bound(text: str) -> set[str]:
    """Names that a text binds at the top level: functions, classes, imports, variables."""
    module = tree(text)
    return set() if module is None else set(_bound(module.body))


def _bound(body: Iterable[ast.stmt]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from ((one.asname or one.name).partition(".")[0] for one in names)
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.For() | ast.With():
                yield from (
                    one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
                )
            case ast.If() | ast.Try():
                yield from _bound([*node.body, *node.orelse])


def needed(text: str, but: frozenset[str] = BUILTINS) -> set[str]:
    """Names that a text reads but never binds, except those in `but`."""
    module = tree(text)
    if module is None:
        return set()
    read, made = set[str](), set(but)
    for node in ast.walk(module):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                read.add(name)
            case ast.Name(id=name) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                made.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                made.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                made |= {(one.asname or one.name).partition(".")[0] for one in names}
    return read - made


def called(tests: Iterable[str]) -> str:
    """Find the function under test: the name that most assertions call and no test binds.

    A builtin is chosen only if there is no other name. Empty if no name is called.
    """
    counts: dict[str, float] = {}
    for test in tests:
        module = tree(test)
        if module is None:
            continue
        free = needed(test, but=frozenset())
        for statement in module.body:
            names = [node.func.id for node in ast.walk(statement) if isinstance(node, ast.Call)
                     and isinstance(node.func, ast.Name)]  # fmt: skip
            for name in dict.fromkeys(names):
                if name in free:
                    counts[name] = counts.get(name, 0) + (1e-6 if hasattr(builtins, name) else 1)
    return max(counts, key=lambda name: counts[name]) if counts else ""


def is_body(text: str) -> bool:
    """Whether a text is a function body with a return or yield, and not a program by itself.

    Its first line, or all its lines, may have lost their indentation.
    """
    inside = tree(_BODY + textwrap.indent(textwrap.dedent(text), "    ")) or tree(f"{_BODY}    {text.strip()}")
    if inside is None or tree(textwrap.dedent(text)) is not None:
        return False
    return any(isinstance(node, ast.Return | ast.Yield) for node in ast.walk(inside))


def regions(text: str, function: str) -> list[str]:
    """Find runs of whole lines that are Python and define the function, in order; prose separates them."""
    lines = text.splitlines(keepends=True)
    found, place = [], 0
    while place < len(lines):
        if _STARTS.match(lines[place]) is None:
            place += 1
            continue
        end = _end(lines, place)
        region = "".join(lines[place:end])
        if defines(region, function) or wrapper(region, function):
            found.append(region)
        place = max(end, place + 1)
    return found


def _end(lines: list[str], start: int) -> int:
    """End of the longest program that begins at line `start`; `start` if none begins there."""
    starts = [number for number in range(start + 1, len(lines)) if lines[number][:1].strip()] + [len(lines)]
    for end in reversed(starts[:400]):
        module = tree("".join(lines[start:end]))
        if module is not None:
            prose = next((node.lineno for node in module.body if _is_prose(node)), None)
            return end if prose is None else max(start, start + prose - 1)
    return start


def _is_prose(node: ast.stmt) -> bool:
    """Whether a statement is a word, or words with a colon: prose that happens to be valid Python."""
    if isinstance(node, ast.AnnAssign):
        return node.value is None
    return isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call | ast.Constant | ast.Await)


def bodies(text: str) -> list[str]:
    """Find the first run of lines in prose that is a function body; return a list with it, or an empty list."""
    lines = text.splitlines(keepends=True)
    for start, line in enumerate(lines):
        if _STATEMENT.match(line):
            for end in range(len(lines), start, -1):
                if is_body(run := "".join(lines[start:end])):
                    return [run]
    return []


def without_prompts(text: str) -> str:
    """Convert an interpreter session to a program: keep the lines after `>>>` and `...`."""
    lines = (line for line in text.splitlines(keepends=True) if line.startswith((">>>", "...")))
    return "".join(line[4:] if line[3:4] == " " else line[3:] for line in lines)


def begins(text: str) -> bool:
    """Whether a text starts with a program statement, ignoring blank lines and comments."""
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    first = next(lines, "")
    return bool(_STARTS.match(first)) or first.startswith(('"""', "'''", "if __name__"))


def beginning(text: str) -> str:
    """Longest valid Python prefix of a text that starts inside a function; the whole text if there is none."""
    if tree(_BODY + text) is not None:
        return text
    lines = text.splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if number and line[:1].strip()]
    for end in reversed(starts[:400]):
        if tree(_BODY + "".join(lines[:end])) is not None:
            return "".join(lines[:end])
    return text
