"""What of a file's text decides what it does: without comments, blank lines and docstrings, those of classes aside.

pydantic gives a class's docstring to a model as part of a JSON schema; what the others explain, nobody asks at run
time.
"""

import ast
import io
import tokenize
from pathlib import Path
from typing import TypeGuard


def essence(path: Path) -> bytes:
    """The lines that are left of a Python file, in UTF-8. Errors: SyntaxError for what is not Python."""
    source = path.read_bytes()
    tree = ast.parse(source)
    lines = io.TextIOWrapper(io.BytesIO(source), tokenize.detect_encoding(io.BytesIO(source).readline)[0]).readlines()
    inside, told = _strings(tree, lines)
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type == tokenize.COMMENT:
            line, column = token.start
            lines[line - 1] = lines[line - 1][:column]
    kept = (
        line if number in inside else line.rstrip() + "\n"
        for number, line in enumerate(lines, start=1)
        if number not in told and (number in inside or line.strip())
    )
    return "".join(kept).encode("utf-8", "surrogatepass")


def _strings(tree: ast.AST, lines: list[str]) -> tuple[set[int], set[int]]:
    """(lines that end inside a string, lines of strings that stand for themselves), from 1."""
    inside: set[int] = set()
    told: set[int] = set()
    of_classes = {id(node.body[0]) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno:
            inside |= set(range(node.lineno, node.end_lineno))
        if _is_told(node) and id(node) not in of_classes and _alone(node, lines):
            told |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return inside, told


def _is_told(node: ast.AST) -> TypeGuard[ast.Expr]:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _alone(node: ast.Expr, lines: list[str]) -> bool:
    """Whether no other statement is on its lines."""
    before = lines[node.lineno - 1].encode()[: node.col_offset]
    after = lines[(node.end_lineno or node.lineno) - 1].encode()[node.end_col_offset or 0 :].strip()
    return not before.strip() and (not after or after.startswith(b"#"))
