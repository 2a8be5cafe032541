"""Extract the part of a Python file that determines its results: no comments, blank lines, docstrings or messages.

Class docstrings stay, because pydantic sends them to a model as part of a JSON schema. Messages are the arguments of
UserError and printed texts, so rewording one reruns nothing.
"""

import ast
import io
import itertools
import tokenize
from pathlib import Path
from typing import TypeGuard


def essence(path: Path) -> bytes:
    """Return the remaining lines of a Python file as UTF-8. Errors: SyntaxError for a file that is not Python."""
    source = without_messages(path.read_bytes())
    tree = ast.parse(source)
    lines = io.TextIOWrapper(io.BytesIO(source), tokenize.detect_encoding(io.BytesIO(source).readline)[0]).readlines()
    inside, docstrings = _strings(tree, lines)
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type == tokenize.COMMENT:
            line, column = token.start
            lines[line - 1] = lines[line - 1][:column]
    kept = (
        line if number in inside else line.rstrip() + "\n"
        for number, line in enumerate(lines, start=1)
        if number not in docstrings and (number in inside or line.strip())
    )
    return "".join(kept).encode("utf-8", "surrogatepass")


def without_messages(source: bytes) -> bytes:
    """Replace `UserError(...)` by `UserError()` and `print("...")` by `print()`.

    A call is unchanged if its arguments bind a name. A `print` is unchanged if it prints anything but string literals
    and f-strings, or writes to a file other than sys.stderr.
    """
    lines = source.splitlines(keepends=True)
    starts = [0, *itertools.accumulate(map(len, lines))]
    found = [
        (_end(node.func, starts), _end(node, starts))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and _is_message(node)
    ]
    for start, end in sorted(found, reverse=True):
        source = source[:start] + b"()" + source[end:]
    return source


def _end(node: ast.expr, starts: list[int]) -> int:
    return starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)


def _is_message(node: ast.Call) -> bool:
    if any(isinstance(inner, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom) for inner in ast.walk(node)):
        return False
    match node.func:
        case ast.Name(id="UserError"):
            return True
        case ast.Name(id="print"):
            texts = all(isinstance(one, ast.JoinedStr) or _is_text(one) for one in node.args)
            return texts and all(_is_plain(keyword) for keyword in node.keywords)
    return False


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_plain(keyword: ast.keyword) -> bool:
    """Return whether a keyword of `print` keeps its output on the terminal."""
    return keyword.arg in ("flush", "end", "sep") or (
        keyword.arg == "file" and ast.unparse(keyword.value) == "sys.stderr"
    )


def _strings(tree: ast.AST, lines: list[str]) -> tuple[set[int], set[int]]:
    """Return (line numbers that end inside a string, line numbers of docstring-like statements), both 1-based."""
    inside: set[int] = set()
    docstrings: set[int] = set()
    of_classes = {id(node.body[0]) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno:
            inside |= set(range(node.lineno, node.end_lineno))
        if _is_docstring(node) and id(node) not in of_classes and _alone(node, lines):
            docstrings |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return inside, docstrings


def _is_docstring(node: ast.AST) -> TypeGuard[ast.Expr]:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _alone(node: ast.Expr, lines: list[str]) -> bool:
    """Return whether the statement shares its lines with no other statement."""
    before = lines[node.lineno - 1].encode()[: node.col_offset]
    after = lines[(node.end_lineno or node.lineno) - 1].encode()[node.end_col_offset or 0 :].strip()
    return not before.strip() and (not after or after.startswith(b"#"))
