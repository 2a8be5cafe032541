import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import AfterValidator

from ladder.grading import Scoring
from ladder.judging import Judging
from ladder.run import Refused, Section, fit, read_params, read_yaml

ROOT = Path(__file__).parents[2]
PROMPTS = "prompts:\n  count: {sft: 2, preferences: 2, heldout: 2}\n  seed: 0\n  constraints_max: 1\n"


def none_known(steps):
    raise ValueError(f"no step is named {steps[0]!r}")


class Inner(Section):
    r: int


class Outer(Section):
    lora: Inner
    rate: float = 1.0


def test_a_section_that_is_wrong_as_a_whole_is_not_shown():
    secret = {"endpoint": {"base_url": "https://user:sk-1@host/v1", "model": "m"}}
    for kind, section in [(Judging, secret), (Scoring, {"judge": secret}), (Judging, {"budget": {"tokens": 1}})]:
        with pytest.raises(Refused) as refused:
            fit(kind, section, "benchmark.ifeval")
        assert "sk-1" not in str(refused.value) and "got" not in str(refused.value)


class Listed(Section):
    steps: Annotated[list[str], AfterValidator(none_known)]


def test_a_list_is_not_shown_where_the_sentence_says_which_of_it_does_not_fit():
    with pytest.raises(Refused) as refused:
        fit(Listed, {"steps": ["a", "b"]}, "params.yaml: sift")
    assert str(refused.value) == "params.yaml: sift.steps: no step is named 'a'"
    with pytest.raises(Refused, match=r"sift.steps: Input should be a valid list \(got 'a'\)"):
        fit(Listed, {"steps": "a"}, "params.yaml: sift")


def test_a_number_without_a_dot_is_a_number(tmp_path):
    (tmp_path / "p.yaml").write_text("rate: 1e-05\n")
    assert read_yaml(tmp_path / "p.yaml") == {"rate": 0.00001}


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"lora": {"r": "x"}}, "params.yaml: sft.lora.r: Input should be a valid integer"),
        ({"lora": {"r": 1, "rr": 2}}, "params.yaml: sft.lora.rr: no such key"),
        (
            {"lora": {"r": 1}, "rte": 2},
            "params.yaml: sft.rte: no such key (did you mean 'rate'?); keys here: lora, rate",
        ),
        ({}, "params.yaml: sft.lora: missing"),
        (None, "params.yaml: sft: expected keys lora, rate, got None"),
    ],
)
def test_what_does_not_fit_is_named(section, said):
    with pytest.raises(Refused) as refusal:
        fit(Outer, section, "params.yaml: sft")
    assert said in str(refusal.value)


def test_a_misspelt_section_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "p.yaml").write_text("stf: {}\n")
    with pytest.raises(
        Refused, match=r"p.yaml:1: stf: no stage is named 'stf' \(did you mean 'sft'\?\); sections are .*base, "
    ):
        read_params(tmp_path / "p.yaml")


def stage(folder, *arguments):
    (folder / "stages").symlink_to(ROOT / "stages")
    command = [sys.executable, "-m", "stages.prompts", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def test_a_users_mistake_is_one_line_and_not_a_traceback(tmp_path):
    (tmp_path / "params.yaml").write_text(PROMPTS.replace("seed", "sead"))
    done = stage(tmp_path, ROOT / "data/seeds", tmp_path / "prompts.jsonl")
    assert done.returncode == 1
    assert done.stderr.startswith("prompts: params.yaml: prompts.") and done.stderr.count("\n") == 1
    assert "params.yaml: prompts.sead: no such key" in done.stderr
    assert not (tmp_path / "prompts.jsonl").exists()


def test_a_wrong_number_of_paths_prints_the_usage(tmp_path):
    (tmp_path / "params.yaml").write_text(PROMPTS)
    done = stage(tmp_path, "one")
    assert (done.returncode, done.stderr) == (1, "usage: python -m stages.prompts SEEDS PROMPTS\n")


def test_broken_yaml_is_named(tmp_path):
    (tmp_path / "params.yaml").write_text("prompts: {seed: 1\n")
    done = stage(tmp_path, ROOT / "data/seeds", tmp_path / "prompts.jsonl")
    assert done.returncode == 1 and done.stderr.startswith("prompts: params.yaml: not YAML: ")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_says_to_run_again(tmp_path):
    os.mkfifo(tmp_path / "params.yaml")  # the stage is at work while it waits for its parameters
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.prompts", ROOT / "data/seeds", tmp_path / "prompts.jsonl"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    with (tmp_path / "params.yaml").open("w"):
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    assert (process.returncode, said) == (130, "prompts: interrupted; run again to go on\n")
