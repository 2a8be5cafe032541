"""Stages that are killed at random, and two clones with one work folder: every type of stage once, in one process.

The long test is the same with more kills: `python -m perf.kills --kills 20`.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from perf.climbed import STAGES
from perf.repository import ROOT

KILLS = 2
NO_CHECKPOINT = ("filter@chat", "merge@soup")


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The counts of kills and clones, and the outcome."""
    output = tmp_path_factory.mktemp("soak") / "counts.json"
    command = [sys.executable, "-m", "perf.kills", "--kills", str(KILLS), "--clones", "1", "--seed", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--output", str(output)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert output.exists(), done.stderr
    counts: dict[str, Any] = json.loads(output.read_text())
    return counts


@pytest.mark.parametrize("number", range(len(STAGES)), ids=STAGES)
def test_a_killed_stage_ends_in_the_bytes_of_an_unbroken_run(soaked: dict[str, Any], number: int) -> None:
    found = soaked["kills"][number]
    assert found["stage"] == STAGES[number]
    assert (found["differing"], found["faults"], found["ignored"]) == ([], [], 0)
    assert found["hits"] >= KILLS and found["compared_bytes"] > 0


def test_stages_with_checkpoints_resume(soaked: dict[str, Any]) -> None:
    resumed = {found["stage"]: found["resumed"] for found in soaked["kills"]}
    assert sum(resumed.values()) >= KILLS
    assert [resumed[stage] for stage in NO_CHECKPOINT] == [0, 0]


@pytest.mark.parametrize("number", range(len(STAGES)), ids=STAGES)
def test_two_clones_on_one_work_folder(soaked: dict[str, Any], number: int) -> None:
    found = soaked["clones"][number]
    assert (found["differing"], found["faults"]) == ([], [])
    assert found["both"] + found["refused"] == found["rounds"] == 1
