import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import AfterValidator

from ladder.cli.recipe import recipe
from ladder.eval.judge_config import Scoring
from ladder.judges.judge import Judging
from ladder.pipeline.stage import Config, UserError, fit, read_params, read_yaml, run

ROOT = Path(__file__).parents[3]
PROMPTS = "prompts:\n  count: {sft: 2, preferences: 2, heldout: 2}\n  seed: 0\n  constraints_max: 1\n"


def none_known(steps):
    raise ValueError(f"no step is named {steps[0]!r}")


class Inner(Config):
    r: int


class Outer(Config):
    lora: Inner
    rate: float = 1.0


def test_a_section_that_is_wrong_as_a_whole_is_not_shown():
    secret = {"endpoint": {"base_url": "https://user:sk-1@host/v1", "model": "m"}}
    for kind, section in [(Judging, secret), (Scoring, {"judge": secret}), (Judging, {"budget": {"tokens": 1}})]:
        with pytest.raises(UserError) as refused:
            fit(kind, section, "benchmark.ifeval")
        assert "sk-1" not in str(refused.value) and "got" not in str(refused.value)


class Listed(Config):
    steps: Annotated[list[str], AfterValidator(none_known)]


def test_a_list_is_not_shown_where_the_sentence_says_which_of_it_does_not_fit():
    with pytest.raises(UserError) as refused:
        fit(Listed, {"steps": ["a", "b"]}, "params.yaml: sift")
    assert str(refused.value) == "params.yaml: sift.steps: no step is named 'a'"
    with pytest.raises(UserError, match=r"sift.steps: expected a valid list, got 'a'"):
        fit(Listed, {"steps": "a"}, "params.yaml: sift")


def test_a_number_without_a_dot_is_a_number(tmp_path):
    (tmp_path / "p.yaml").write_text("rate: 1e-05\n")
    assert read_yaml(tmp_path / "p.yaml") == {"rate": 0.00001}


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"lora": {"r": "x"}}, "params.yaml: sft.lora.r: expected a valid integer"),
        ({"lora": {"r": 1, "rr": 2}}, "params.yaml: sft.lora.rr: no such key"),
        (
            {"lora": {"r": 1}, "rte": 2},
            "params.yaml: sft.rte: no such key (did you mean 'rate'?); expected one of lora, rate",
        ),
        ({}, "params.yaml: sft.lora: missing"),
        (None, "params.yaml: sft: expected keys lora, rate, got None"),
    ],
)
def test_what_does_not_fit_is_named(section, said):
    with pytest.raises(UserError) as refusal:
        fit(Outer, section, "params.yaml: sft")
    assert said in str(refusal.value)


def test_a_misspelt_section_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "p.yaml").write_text("stf: {}\n")
    with pytest.raises(
        UserError, match=r"p.yaml:1: stf: no stage is named 'stf' \(did you mean 'sft'\?\); expected one of .*base, "
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
    assert (done.returncode, done.stderr) == (1, "usage: python -m stages.prompts SEEDS OUTPUT\n")


def test_broken_yaml_is_named(tmp_path):
    (tmp_path / "params.yaml").write_text("prompts: {seed: 1\n")
    done = stage(tmp_path, ROOT / "data/seeds", tmp_path / "prompts.jsonl")
    assert done.returncode == 1 and done.stderr.startswith("prompts: params.yaml: not YAML: ")
    assert done.stderr.count("\n") == 1


def laughs(levels):
    """A list at each level that contains the level below ten times."""
    lines = ["a0: &a0 [1, 1]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels))]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (laughs(12), "aliases expand to 3.5e.11 values; expected at most 1000000"),
        ("a: &a [*a]", "aliases expand to inf values"),
        ("a: &a {b: *a}", "aliases expand to inf values"),
        (f"a: {'[' * 5000}", "nested too deeply"),
        (f"a: {'9' * 5000}", "invalid value: Exceeds the limit"),
        ("a: 2025-13-45", "invalid value: month must be in 1..12"),
        ("a: 1\na: 2", "not YAML: .*duplicate key"),
        ("a:\n\tb: 1", "not YAML: "),
        ("a: *b", "not YAML: .*undefined alias"),
        ("a: !!python/object/apply:os.system [x]", "not YAML: "),
        ("a: 1\n---\nb: 2", "not YAML: "),
        ("{[1]: 2}: 3", "not YAML: |invalid value"),
    ],
)
def test_yaml_that_is_unsafe_or_no_yaml_is_one_sentence(tmp_path, text, said):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(UserError, match=f"p.yaml: {said}") as refused:
        read_yaml(tmp_path / "p.yaml")
    assert "\n" not in str(refused.value)


def test_what_is_no_text_is_one_sentence(tmp_path):
    for content, said in [(b"a: \xff", "not UTF-8 at byte 3"), ("a: 1".encode("utf-16"), "not UTF-8 at byte 0")]:
        (tmp_path / "p.yaml").write_bytes(content)
        with pytest.raises(UserError, match=said):
            read_yaml(tmp_path / "p.yaml")
    with pytest.raises(UserError, match=r"cannot be read: Is a directory; expected a file"):
        read_yaml(tmp_path)
    (tmp_path / "p.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_yaml(tmp_path / "p.yaml") == {"a": 1}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (".nan", "expected a finite number, got nan"),
        ("-.inf", "expected a finite number, got -inf"),
        ("1e400", "expected a finite number, got inf"),
        ("9223372036854775809", "expected a number between -2.63 and 2.63, got one of 16 hex digits"),
        ("2025-01-31", "expected a text or a number, got datetime.date.*Put a text into quotes"),
        ("!!binary aGVsbG8=", "expected a text or a number, got b'hello'"),
        (r'"a\0b"', r"expected Unicode text, got '\\x00', which no file name or file can contain"),
        (r'"\ud800"', r"expected Unicode text, got '\\ud800', which no"),
        ("!!set {a, b}", "expected a text or a number, got "),
    ],
)
def test_values_that_no_parameter_has_are_refused_with_their_line(tmp_path, monkeypatch, value, said):
    monkeypatch.chdir(ROOT)
    (tmp_path / "p.yaml").write_text(f"base:\n  source: x\n  sizes: [1, {value}]\n")
    with pytest.raises(UserError, match=f"p.yaml:3: base.sizes.1: {said}"):
        read_params(tmp_path / "p.yaml")
    for fine in ("1e-5", "0o17", "017", "true", "null", "-9223372036854775808", "'2025-01-31'", "~"):
        (tmp_path / "p.yaml").write_text(f"base:\n  source: {fine}\n")
        assert "source" in read_params(tmp_path / "p.yaml")["base"]


@pytest.mark.parametrize("text", ["", "- a", "1", "base", "null"])
def test_params_and_recipes_without_sections_are_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stages").mkdir()
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(UserError, match="p.yaml: expected one section per stage, got "):
        read_params(tmp_path / "p.yaml")
    (tmp_path / "params.yaml").write_text("{}\n")
    with pytest.raises(UserError, match="p.yaml: expected sections such as those of params.yaml, got "):
        recipe(Path("p.yaml"))


def test_a_long_value_is_cut_in_a_sentence():
    assert str(UserError(f"a.jsonl:1: got '{'x' * 5000}'. Cut it")) == f"a.jsonl:1: got '{'x' * 199}... Cut it"
    assert str(UserError("short words " * 20)) == "short words " * 20
    long = str(UserError("word " * 5000 + "Fix it"))
    assert len(long) < 4000 and long.endswith("word Fix it")


def test_ctrl_c_says_to_run_again(tmp_path):
    os.mkfifo(tmp_path / "params.yaml")  # the stage is running while it waits for its parameters
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.prompts", ROOT / "data/seeds", tmp_path / "prompts.jsonl"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job ignores it
    )
    with (tmp_path / "params.yaml").open("w"):
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    assert (process.returncode, said) == (130, "prompts: interrupted; run again to continue\n")


class Nothing(Config):
    pass


def test_names_of_other_sections_reach_main(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stages").mkdir()
    for stage in ("test_stage", "report", "lm_eval"):
        (tmp_path / f"stages/{stage}.py").touch()
    monkeypatch.setattr(sys, "argv", ["test_stage", "in", "out"])
    seen = []

    def main(params: Nothing, data: Path, output: Path, *, rungs: list[str], tasks: list[str]) -> None:
        seen.append((data, output, rungs, tasks))

    names = {"rungs": "report.rungs", "tasks": "lm_eval"}
    text = "test_stage: {}\nreport: {rungs: [base, sft/chat]}\nlm_eval: {arc: {task: x}, mmlu: {task: y}}\n"
    Path("params.yaml").write_text(text)
    run(main, names=names)
    assert seen == [(Path("in"), Path("out"), ["base", "sft/chat"], ["arc", "mmlu"])]
    for wrong, said in (("rungs: base", "report.rungs: expected a list of names, got 'base'"), ("x: 1", "got None")):
        Path("params.yaml").write_text(text.replace("rungs: [base, sft/chat]", wrong))
        with pytest.raises(SystemExit, match=said):
            run(main, names=names)
    Path("params.yaml").write_text(text.replace("{arc: {task: x}, mmlu: {task: y}}", "[arc]"))
    with pytest.raises(SystemExit, match="lm_eval: expected named entries, got"):
        run(main, names=names)
