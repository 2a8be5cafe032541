import ast
from pathlib import Path

import pytest

from ladder.pipeline.code_text import essence, without_messages

PLAIN = "import json\n\n\ndef twice(x):\n    return 2 * x\n\n\nclass Row:\n    size: int = 1\n"
SAME = {
    "a comment": PLAIN.replace("2 * x", "2 * x  # doubled").replace("import json", "# why\nimport json"),
    "blank lines": PLAIN.replace("\n\n\n", "\n").replace("json\n", "json  \n\n"),
    "a module's docstring": '"""What it is.\n\nMore of it.\n"""\n' + PLAIN,
    "a function's docstring": PLAIN.replace("(x):\n", '(x):\n    """Twice\n    x."""  # comment\n'),
    "an attribute's docstring": PLAIN + '    """Of a row."""\n',
    "other line ends": PLAIN.replace("\n", "\r\n"),
}
MESSAGES = PLAIN.replace(
    "    return", '    if x < 0:\n        raise UserError(f"x: {x}")\n    print("x", flush=True)\n    return'
)
REWORDED = {
    "an error": MESSAGES.replace(
        'f"x: {x}"', '\n            f"x: expected 0 or more, "\n            f"got {x}."\n        '
    ),
    "a log line": MESSAGES.replace('"x", flush', 'f"x is {x!r}", file=sys.stderr, flush'),
}
MESSAGE_OTHER = {
    "another error": MESSAGES.replace("UserError", "ValueError"),
    "another condition": MESSAGES.replace("x < 0", "x < 1"),
    "a printed result": MESSAGES.replace('print("x"', "print(x"),
    "a file": MESSAGES.replace('"x", flush', '"x", file=out, flush'),
    "a name that is bound": MESSAGES.replace("{x}", "{(x := 2)}"),
}
OTHER = {
    "a number": PLAIN.replace("2 * x", "3 * x"),
    "an indent": PLAIN.replace("    return", "  return"),
    "a class's docstring": PLAIN.replace("Row:\n", 'Row:\n    """A row."""\n'),
    "a string that is used": PLAIN + 'MARK = "#"\n',
    "a string beside a statement": PLAIN.replace("return 2 * x", '"text"; return 2 * x'),
}
STRINGS = ('"""a\n\nb # c\n  d  \n"""', '"""a\nb # c\n  d  \n"""', '"""a\n\nb\n  d  \n"""', '"""a\n\nb # c\n  d\n"""')


def of(tmp_path, text):
    (tmp_path / "module.py").write_bytes(text.encode())
    return essence(tmp_path / "module.py")


@pytest.mark.parametrize("name", SAME)
def test_what_explains_is_no_part_of_it(tmp_path, name):
    assert of(tmp_path, SAME[name]) == of(tmp_path, PLAIN)


@pytest.mark.parametrize("name", OTHER)
def test_what_acts_is(tmp_path, name):
    assert of(tmp_path, OTHER[name]) != of(tmp_path, PLAIN)


@pytest.mark.parametrize("name", REWORDED)
def test_rewording_a_message_changes_nothing(tmp_path, name):
    assert of(tmp_path, REWORDED[name]) == of(tmp_path, MESSAGES)


@pytest.mark.parametrize("name", MESSAGE_OTHER)
def test_the_context_of_a_message_counts(tmp_path, name):
    assert of(tmp_path, MESSAGE_OTHER[name]) != of(tmp_path, MESSAGES)


def test_lines_of_a_string_stay_as_they_are(tmp_path):
    reported = [of(tmp_path, f"text = {string}\n") for string in STRINGS]
    assert len(set(reported)) == len(STRINGS)
    assert of(tmp_path, f"text = f{STRINGS[0]}  # a comment\n") == f"text = f{STRINGS[0]}\n".encode()


def test_our_own_files_do_what_they_did_without_it(tmp_path):
    """Python parses the essence to the same tree as the file without docstrings."""

    class Bare(ast.NodeTransformer):
        def visit_ClassDef(self, node):
            first, *others = node.body
            node.body = [first, *(kept for one in others if (kept := self.visit(one)))]
            return node

        def visit_Expr(self, node):
            return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node

    folder = Path(__file__).parents[3] / "ladder"
    for path in folder.rglob("*.py"):
        reported = ast.dump(Bare().visit(ast.parse(essence(path))))
        assert reported == ast.dump(Bare().visit(ast.parse(without_messages(path.read_bytes())))), path
