"""docs/reliability.md cites tests and commands: each of them exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs/reliability.md"]
TEST = re.compile(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`")
COMMAND = re.compile(r"`python -m ([\w.]+)([^`\n]*)`")
SHELL = re.compile(r"^    python -m ([\w.]+)(.*)$", re.MULTILINE)


@cache
def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def rows(text: str) -> list[list[str]]:
    """Cells of the rows of tables whose third column is `proof`."""
    found, proving = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        if not cells:
            proving = False
        elif len(cells) > 2 and cells[2].startswith("proof"):
            proving = True
        elif proving and set("".join(cells)) - set("-: "):
            found.append(cells)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_cited_test_exists(page: Path) -> None:
    cited = TEST.findall(page.read_text(encoding="utf-8"))
    assert cited
    missing = [path for path, _ in cited if not (ROOT / path).is_file()]
    assert missing == []
    assert [f"{path}::{name}" for path, name in cited if name and name not in functions(ROOT / path)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_cited_command_exists_with_its_options(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for module, words in (*COMMAND.findall(text), *SHELL.findall(text)):
        place = ROOT / module.replace(".", "/")
        source = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__main__.py"
        assert source.is_file(), module
        options = re.findall(r"--[a-z][\w-]*", words)
        assert [option for option in options if f'"{option}"' not in source.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_row_has_a_proof(page: Path) -> None:
    found = rows(page.read_text(encoding="utf-8"))
    assert found
    assert [cells[0] for cells in found if not (TEST.search(cells[2]) or COMMAND.search(cells[2]))] == []
