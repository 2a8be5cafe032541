"""tests/slow.txt names tests that exist."""

import ast

import pytest

from conftest import ROOT, SLOW

ENTRIES = [line for line in SLOW.read_text().splitlines() if not line.startswith("#")]


def test_entries_are_sorted_and_named_once():
    assert sorted(set(ENTRIES)) == ENTRIES


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_is_a_file_or_a_test_function(entry):
    path, _, name = entry.partition("::")
    functions = {node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)}
    assert name in {"", *functions}
