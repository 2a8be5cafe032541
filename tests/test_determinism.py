"""The same bytes whatever the path, hash seed, threads, locale, time zone and umask of a run."""

import json
import subprocess
import sys
from pathlib import Path

from perf.determinism import CASES
from perf.repository import ROOT


def test_no_byte_depends_on_the_environment(tmp_path: Path) -> None:
    output = tmp_path / "counts.json"
    command = [sys.executable, "-m", "perf.determinism", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert output.exists(), done.stderr
    (found,) = json.loads(output.read_text())
    assert found["differing"] == [] and done.returncode == 0
    assert found["files"] > 100 and len(CASES) == 8
