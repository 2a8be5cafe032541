"""The end of `ladder repro`: the table, the findings, why scores differ from the commit, and the next command."""

import json
import subprocess
from pathlib import Path

import pytest

from ladder.cli import run_summary
from ladder.cli.progress import Progress
from ladder.cli.table import table_document, table_text
from ladder.pipeline.errors import UserError


def git(*words):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True, capture_output=True)


def write(path, content):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content if isinstance(content, str) else json.dumps(content))


def lines(score):
    made_by = {"rows": 64, "of": 541, "headline": {"name": "x", "measures": ["x"], "unit": "%", "better": "higher"}}
    change = {"difference": 4.85, "low": -1.25, "high": 11.5, "p": 0.18, "p_holm": 0.18, "gained": 10, "lost": 4,
              "n": 64, "verdict": "no significant difference"}  # fmt: skip
    cells = [(20.16, None), (score, change)]
    return [
        {"rung": rung, "baseline": baseline, "benchmarks": {"ifeval": {
            "score": value, "interval": [12.65, 28.22], "made_by": made_by, "against_baseline": against}}}
        for (rung, baseline), (value, against) in zip([("base", ""), ("sft/chat", "base")], cells, strict=True)
    ]  # fmt: skip


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    write("params.yaml", "sft: {}\n")
    write("report/table.json", lines(25.01))
    write("report/table.md", "| rung |\n")
    git("add", "-A")
    git("commit", "-qm", "first")
    write("data/provenance/base.json", {"method": "base", "seconds": 8.2})
    write("data/provenance/sft/chat.json", {"method": "sft", "seconds": 161.4, "memory_gb": 10.66})
    write(".gitignore", "/data\n")
    return tmp_path


def after(*outs, ran=("sft@chat", "report")):
    progress = Progress([], lambda: None)
    progress.evaluated(list(ran), outs)
    for name in ran:
        progress.begin(name)
    return run_summary.run_summary(progress)


SUMMARY = """\
rung      ifeval, n 64
base      20.2 [12.7, 28.2]
sft/chat  25.0 [12.7, 28.2] +4.8

Score [95% CI] and change from the baseline, the rung's parent. * marks changes that are improved or
regressed after Holm's correction.

No rung improved over its baseline, after Holm's correction for 1 comparison.
The smallest p: sft/chat against base on ifeval, +4.8 [-1.2, 11.5], p (Holm) 0.18, n 64.
Time to make: base 8 s, sft/chat 161 s.
2 stages ran in 10 s.

{why}Page of all answers: report/answers.html
Next: {following}"""
PLAN = "`ladder plan` shows the cost of the other methods, `make guide` runs them"
DIFF = "`ladder diff HEAD` tests the changes question by question"


def test_the_summary_of_a_climb(repository):
    assert after("report/table.json") == SUMMARY.format(why="", following=PLAN)
    assert after("report/table.json", "report/claims.json").endswith(
        "Next: `ladder advise` finds the method for a problem of your own"
    )


def test_other_scores_than_the_committed_ones_are_explained_in_a_line(repository):
    write("report/table.json", lines(25.0))
    why = (
        "1 score changed since the last commit (sft/chat on ifeval 25.01 -> 25): another CPU or number of threads adds "
        "numbers in another order. See docs/reliability.md#determinism\n\n"
    )
    assert after("report/table.json") == SUMMARY.format(why=why, following=DIFF)
    write("params.yaml", "sft: {chat: {}}\n")
    why = (
        "1 score changed since the last commit (sft/chat on ifeval 25.01 -> 25), and so did parameters, code or data. "
        "Another CPU changes scores too: docs/reliability.md#determinism\n\n"
    )
    assert after("report/table.json") == SUMMARY.format(why=why, following=DIFF)


def test_without_a_commit_there_is_nothing_to_differ_from(repository):
    git("rm", "-q", "--cached", "report/table.json")
    git("commit", "-qm", "no table")
    write("report/table.json", lines(25.01))
    assert after("report/table.json") == SUMMARY.format(why="", following=PLAN)


@pytest.mark.parametrize("old", ["{", "[3]", '[{"rung": "base"}]', '{"rungs": {}}'])
def test_a_committed_table_of_another_form_is_no_baseline(repository, old):
    write("report/table.json", old)
    git("commit", "-qam", "old form")
    write("report/table.json", lines(25.01))
    assert after("report/table.json") == SUMMARY.format(why="", following=PLAN)


def test_a_damaged_table_does_not_fail_the_run(repository):
    write("report/table.json", "{")
    assert after("report/table.json").startswith("2 stages ran in 10 s.\nreport/table.json: not JSON: ")


def test_a_run_of_other_stages_prints_no_old_table(repository):
    said = "1 stage ran in 10 s. `ladder repro report` brings the table of rungs up to date."
    assert after("models/sft/chat", ran=["sft@chat"]) == said
    Path("report/table.json").unlink()
    assert after("report/table.json", ran=["report"]) == said


def test_the_line_after_nothing_ran(repository):
    assert run_summary.nothing_ran() == [
        "Nothing had to run. The table of rungs is in report/table.md; `ladder table` prints it."
    ]
    Path("report/table.md").unlink()
    assert run_summary.nothing_ran() == []


def test_the_table_shows_the_costs_that_are_recorded_here(repository):
    assert table_text().splitlines() == [
        "| rung |", "", "| rung | seconds to make | memory GB |", "| --- | --: | --- |",
        "| base | 8 |  |", "| sft/chat | 161 | 10.7 |",
    ]  # fmt: skip
    assert [(line["rung"], line["seconds"], line["memory_gb"]) for line in table_document()] == [
        ("base", 8.2, None), ("sft/chat", 161.4, 10.66)
    ]  # fmt: skip
    Path("data/provenance/base.json").unlink()
    write("data/provenance/sft/chat.json", "{")
    assert table_text() == "| rung |" and "seconds" not in table_document()[0]
    for text, problem in (("{", "not JSON"), ('{"rungs": [1]}', "not a list of rungs"), ("[1]", "not a list of rungs")):
        write("report/table.json", text)
        with pytest.raises(UserError, match=f"^report/table.json: {problem}.*Run `ladder repro report`$"):
            table_document()
