"""Tests of plain functions import no torch, so that they start at once."""

import os
import subprocess
import sys

from conftest import ROOT

PURE = [
    "tests/ladder/test_calibration.py",
    "tests/ladder/test_statistics.py",
    "tests/ladder/data/test_jsonl.py",
    "tests/ladder/data/test_markdown.py",
    "tests/ladder/data/test_messages.py",
    "tests/ladder/eval/test_compare.py",
    "tests/ladder/eval/test_scores.py",
    "tests/ladder/filters/test_basic.py",
    "tests/ladder/filters/test_gopher.py",
    "tests/ladder/report/test_attacks_page.py",
    "tests/ladder/report/test_data_card.py",
    "tests/ladder/verifiers",
]
COLLECT = """
import sys, pytest
code = pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *sys.argv[1:]])
sys.exit(code or ", ".join(sorted({"torch", "transformers", "datasets"} & sys.modules.keys())) or 0)
"""
"""Exits with 0, the code of pytest, or the names of what was imported."""


def collected(*paths: str, **variables: str) -> str:
    """What fails when pytest imports these tests, or which libraries it imports; empty for none of them."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | variables
    command = [sys.executable, "-c", COLLECT, *paths]
    done = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True)
    return done.stderr + (done.stdout if done.returncode else "")


def test_tests_of_plain_functions_import_no_torch():
    assert collected(*PURE) == ""


def test_an_import_of_torch_is_found(tmp_path):
    (tmp_path / "torch.py").touch()
    (tmp_path / "test_it.py").write_text("import torch\n\ndef test_it(): pass\n")
    assert collected(str(tmp_path / "test_it.py"), PYTHONPATH=str(tmp_path)).startswith("torch\n")
