"""A small real repository of git and DVC: two commits, a workspace, a remote that was added later."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from dvc.repo import Repo
from scipy import stats

from ladder.__main__ import main
from ladder.data.jsonl import write_json, write_rows
from ladder.eval import diff
from ladder.eval.revisions import Revision
from ladder.pipeline.stage import UserError

PIPELINE = """
stages:
  benchmark:
    cmd: mkdir -p data && cp -r made/benchmark data
    deps: [made/benchmark]
    params: [benchmark, report.benchmarks, report.rungs]
    outs: [data/benchmark: {persist: true}]
  heldout:
    foreach: ${claims.heldout}
    do:
      cmd: install -D made/heldout/${item}.jsonl data/heldout/${item}/problems/maths.jsonl
      deps: ["made/heldout/${item}.jsonl"]
      params: [heldout]
      outs: ["data/heldout/${item}": {persist: true}]
"""
PARAMS = """
claims: {{heldout: [{rungs}]}}
report: {{benchmarks: [ifeval], rungs: [base, sft/chat]}}
benchmark: {{ifeval: {{seed: 0}}}}
heldout: {{problems/maths: {{seed: 0}}}}
"""


def git(*words):
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout.strip()


def ifeval(rung, keys, share, seed, *, old=False):
    """Write scores as the stage benchmark does, or as it did before benchmarks were modules."""
    generator = np.random.default_rng(seed)
    follows = {key: (generator.random(1 + key % 3) < share).tolist() for key in keys}
    rows = []
    for key, said in follows.items():
        text = f"{seed}: \x1b[2J{key}"
        row = {"key": key if old else str(key), "strict": said, "loose": said, "prompt": f"Ask {key}."}
        measures = {"prompt_strict": [all(said), 1], "instruction_strict": [sum(said), len(said)]}
        rows.append({**row, "response": text} if old else {**row, "measures": measures, "responses": [[text]]})
    write_rows(Path(f"made/benchmark/ifeval/{rung}.jsonl"), rows)
    headline = {
        "name": "mean_strict",
        "measures": ["prompt_strict", "instruction_strict"],
        "unit": "%",
        "better": "higher",
    }
    write_json(Path(f"made/benchmark/ifeval/{rung}.json"), {"made_by": {"headline": headline}})
    return follows


def maths(rung, passed):
    rows = [
        {"id": f"m{n:02}", "sample": 0, "passed": [bool(one)], "tokens": 3, "finished": True,
         "prompt": [{"role": "user", "content": f"Sum {n}"}], "completion": [{"role": "assistant", "content": str(n)}]}
        for n, one in enumerate(passed)
    ]  # fmt: skip
    write_rows(Path(f"made/heldout/{rung}.jsonl"), rows)


def reproduce(rungs):
    Path("params.yaml").write_text(PARAMS.format(rungs=rungs))
    with Repo() as repo:
        repo.reproduce()


@pytest.fixture(scope="module")
def climbed(tmp_path_factory):
    """v1, v2 and a later workspace; IFEval's rows in each."""
    home, here = tmp_path_factory.mktemp("repository"), Path.cwd()
    os.chdir(home)
    try:
        git("init", "-q")
        git("config", "user.email", "user@example.org")
        git("config", "user.name", "user")
        Repo.init().close()
        Path("dvc.yaml").write_text(PIPELINE)
        ifeval("base", range(60), 0.3, seed=0)
        said = [ifeval("sft/chat", range(60), 0.4, seed=1, old=True)]
        maths("base", [0] * 60)
        maths("sft/maths", [1, 0, 0, 0] * 15)
        reproduce("base, sft/maths")
        git("add", "-A")
        git("commit", "-qm", "one")
        git("tag", "v1")
        said.append(ifeval("sft/chat", range(5, 65), 0.4, seed=2))
        maths("sft/maths", [1, 0, 1, 1] * 13 + [0, 0, 0, 0] * 2)
        maths("dpo/maths", [1] * 60)
        reproduce("base, sft/maths, dpo/maths")
        git("add", "-A")
        git("commit", "-qm", "two")
        git("tag", "v2")
        said.append(ifeval("sft/chat", range(5, 65), 0.4, seed=3))
        reproduce("base, sft/maths, dpo/maths")
    finally:
        os.chdir(here)
    return home, said


@pytest.fixture
def repository(climbed, tmp_path, monkeypatch):
    shutil.copytree(climbed[0], tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return climbed[1]


def read(capsys, *words):
    main(["diff", *words, "--json"])
    return json.loads(capsys.readouterr().out)


def test_two_revisions_compared_prompt_by_prompt(repository, capsys):
    tables = pytest.importorskip("statsmodels.stats.contingency_tables", reason="needs statsmodels (extra dev)")
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    before = git("status", "--porcelain"), git("rev-parse", "HEAD")
    found = read(capsys, "v1", "v2")
    chat, sums = found["changes"]
    assert (chat["title"], chat["rung"], sums["title"], sums["rung"]) == (
        "ifeval", "sft/chat", "heldout/problems/maths", "sft/maths"
    )  # fmt: skip

    # Held-out problems: 15 of 60 solved before, 39 after; 26 gained and 2 lost.
    first = np.array([1, 0, 0, 0] * 15, dtype=float)
    second = np.array([1, 0, 1, 1] * 13 + [0, 0, 0, 0] * 2, dtype=float)
    assert (sums["first"], sums["second"], sums["gained"], sums["lost"]) == (25, 65, 26, 2)
    assert sums["p"] == pytest.approx(tables.mcnemar([[13, 2], [26, 19]], exact=True).pvalue)
    expected = stats.bootstrap(
        (second - first,), np.mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(0)
    )
    assert [sums["low"], sums["high"]] == pytest.approx([100 * end for end in expected.confidence_interval])
    assert sums["verdict"] == "improved"

    # IFEval: keys 5 to 59 are in both.
    old, new = repository[:2]
    both = range(5, 60)
    score = [
        np.mean([all(side[key]) for key in both]) + np.mean([one for key in both for one in side[key]])
        for side in (old, new)
    ]
    assert [chat["first"], chat["second"]] == pytest.approx([50 * one for one in score])
    assert (chat["prompts"], chat["of"], chat["verdict"]) == (55, 65, "no significant difference")
    assert [chat["holm"], sums["holm"]] == pytest.approx(
        multitest.multipletests([chat["p"], sums["p"]], method="holm")[1].tolist()
    )

    assert found["unchanged"] == ["ifeval base", "heldout/problems/maths base"]
    assert found["only"] == {"v1": [], "v2": ["heldout/problems/maths dpo/maths"]}
    assert [side["commit"] for side in found["revisions"]] == [git("rev-parse", "v1"), git("rev-parse", "v2")]
    assert (git("status", "--porcelain"), git("rev-parse", "HEAD")) == before


def test_the_workspace_is_what_lies_here(repository, capsys):
    (chat,) = read(capsys, "v2")["changes"]
    _, old, new = repository
    changed = {str(key) for key in new if all(old[key]) != all(new[key]) or sum(old[key]) != sum(new[key])}
    assert chat["gained"] + chat["lost"] == len(changed)
    # An edit that DVC has not recorded counts; a file that is not checked out comes from the cache.
    rows = [json.loads(line) for line in Path("data/benchmark/ifeval/base.jsonl").read_text().splitlines()]
    Path("data/benchmark/ifeval/base.jsonl").unlink()
    for row in rows:
        row["measures"] = {name: [weight, weight] for name, (_, weight) in row["measures"].items()}
    write_rows(Path("data/benchmark/ifeval/base.jsonl"), rows)
    Path("data/benchmark/ifeval/sft/chat.jsonl").unlink()
    again = {change["rung"]: change for change in read(capsys, "v2")["changes"]}
    assert (again["base"]["second"], again["sft/chat"]["second"]) == (100, chat["second"])


def test_scores_made_under_other_settings_are_compared_on_request(repository, capsys):
    with Path("dvc.lock").open("a") as lock:  # the workspace's answers to IFEval were truncated at 24 tokens
        lock.write("  answer@sft/chat:\n    cmd: x\n    params:\n      params.yaml:\n        answer:\n")
        lock.write("          ifeval: {rows: 9, max_new_tokens: 24}\n          gsm8k: {max_new_tokens: 9}\n")
        lock.write("    outs:\n    - {path: data/answer/sft/chat, md5: 0.dir}\n")
    with pytest.raises(UserError) as refused:
        diff.report("v2", None, 3, answers=False)
    assert str(refused.value) == (
        "ifeval sft/chat: made under different settings: answer.ifeval.max_new_tokens (none) -> 24 "
        "(--across-settings compares)"
    )
    assert [change["rung"] for change in read(capsys, "v2", "--across-settings")["changes"]] == ["sft/chat"]


def test_what_is_printed(repository, capsys):
    main(["diff", "v1", "v2", "--prompts", "2", "--answers"])
    text = capsys.readouterr().out
    head, first, second = text.splitlines()[:3]
    assert " ".join(head.split()) == "benchmark rung v1 v2 change [95% CI] p p (Holm) gained lost n verdict"
    assert first.startswith("ifeval") and "55 of 65" in first and first.endswith("no significant difference")
    assert second.split()[:5] == ["heldout/problems/maths", "sft/maths", "25.0", "65.0", "+40.0"]
    assert second.endswith("improved")
    assert "heldout/problems/maths sft/maths: 28 prompts changed\n  m52: 100 -> 0  Sum 52\n" in text
    assert "m56: 100 -> 0" in text and "m10:" not in text  # the two largest losses
    key = read(capsys, "v1", "v2")["changes"][0]["changed"][0]["key"]
    # The answer's escape sequence does not reach the terminal.
    assert f"    v1:\n      1: \N{REPLACEMENT CHARACTER}[2J{key}\n    v2:\n      2: " in text
    assert "unchanged, byte for byte: ifeval base, heldout/problems/maths base" in text
    assert "only in v2: heldout/problems/maths dpo/maths" in text
    main(["diff", "v1", "v2", "--prompts", "0"])
    assert "Sum 52" not in capsys.readouterr().out


def test_what_could_not_be_scored_is_reported_and_not_compared(repository, capsys):
    for folder in ("made", "data"):
        cell = Path(folder, "benchmark/ifeval/sft/chat.jsonl")
        cell.unlink()
        write_rows(cell, [])
        write_json(cell.with_suffix(".json"), {"absent": "no sandbox"})
    with Repo() as repo:
        repo.commit(force=True)
    found = read(capsys, "v1", "--prompts", "0")
    assert "ifeval" not in [change["title"] for change in found["changes"]]
    assert "data/benchmark/ifeval/sft/chat.jsonl at workspace: not scored: no sandbox" in found["not_compared"]


def test_rows_in_neither_cache_nor_remote_are_reported(repository, capsys):
    path = "data/heldout/sft/maths/problems/maths.jsonl"
    md5 = Revision("v1").md5(path)
    Path(".dvc/cache/files/md5", md5[:2], md5[2:]).unlink()
    found = read(capsys, "v1", "v2", "--prompts", "0")
    assert [change["title"] for change in found["changes"]] == ["ifeval"]
    assert found["not_compared"] == [
        f"{path} at v1: neither in DVC's cache nor in its remote. `dvc push --all-commits` where it was made, then "
        "`dvc fetch --all-commits` here."
    ]
    shutil.rmtree(".dvc/cache")
    with pytest.raises(UserError, match="chat.jsonl at v1: neither in DVC's cache nor in its remote"):
        diff.report("v1", "v2", 3, answers=False)


def test_a_remote_that_came_later_gives_the_rows_of_before(repository, capsys, tmp_path):
    here = read(capsys, "v1", "v2")
    shutil.move(".dvc/cache", tmp_path / "remote")
    Path(".dvc/config").write_text(
        f"[core]\n    remote = later\n['remote \"later\"']\n    url = {tmp_path / 'remote'}\n"
    )
    assert read(capsys, "v1", "v2") == here
    assert not list(Path(".dvc").glob("cache/files/md5/*/*"))


def test_a_damaged_copy_is_refused(repository):
    path = "data/heldout/sft/maths/problems/maths.jsonl"
    md5 = Revision("v1").md5(path)
    stored = Path(".dvc/cache/files/md5", md5[:2], md5[2:])
    text = stored.read_text()
    stored.unlink()
    stored.write_text(text.replace("true", "false"))
    with pytest.raises(UserError, match="at v1: DVC's copy differs from dvc.lock"):
        diff.report("v1", "v2", 3, answers=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["no-such"], "no-such: unknown Git revision 'no-such'"), (["v1", "v0"], "v0: unknown Git revision 'v0'")],
)
def test_a_revision_that_is_none_is_refused(repository, words, said):
    with pytest.raises(UserError, match=said):
        diff.report(*(*words, None)[:2], 3, answers=False)


def test_revisions_with_nothing_in_common_are_refused(repository):
    git("checkout", "-q", "--orphan", "empty")
    git("rm", "-rqf", "--cached", ".")
    git("commit", "-q", "--allow-empty", "-m", "nothing")
    with pytest.raises(UserError, match="empty: no dvc.lock, so nothing was recorded there"):
        diff.report("empty", "v2", 3, answers=False)
    Path("dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    with pytest.raises(UserError, match="v2 and workspace: no rung was scored on the same benchmark in both"):
        diff.report("v2", None, 3, answers=False)


def test_outside_of_a_repository_it_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="HEAD: you are not inside of a DVC repository"):
        diff.report("HEAD", None, 3, answers=False)


def test_a_table_wider_than_the_terminal_becomes_paragraphs():
    rows = [["benchmark", "rung", "v1", "verdict"], ["ifeval", "dpo/chat", "20.0", "no significant difference"]]
    assert diff.fitted(rows, 60) == (
        "benchmark  rung      v1    verdict\nifeval     dpo/chat  20.0  no significant difference"
    )
    assert diff.fitted(rows, 30) == "ifeval dpo/chat\n  v1 20.0; verdict no\n  significant difference"


def with_tables(tag, score, sums):
    """Commit the scores of sft/chat and sft/maths as the stages report and claims write them."""
    headline = {"name": "mean_strict", "measures": ["x"], "unit": "%", "better": "higher"}
    made_by = {"rows": 60, "headline": headline}
    result = {"score": score, "interval": [score - 3, score + 3], "made_by": made_by}
    base = {"score": 10.0, "interval": [5.0, 15.0], "made_by": made_by}
    lines = [{"rung": "base", "benchmarks": {"ifeval": base}}, {"rung": "sft/chat", "benchmarks": {"ifeval": result}}]
    measures = {"heldout/problems/maths": [sums, sums - 4, sums + 4]}
    git("checkout", "-qf", tag)
    write_json(Path("report/table.json"), lines)
    write_json(Path("report/claims.json"), {"rungs": {"sft/maths": {"measures": measures}}})
    git("add", "-f", "report")
    git("commit", "-qm", f"tables of {tag}")
    git("tag", f"{tag}-scored")


def test_where_rows_are_gone_the_scores_in_git_are_compared_unpaired(repository, capsys):
    with_tables("v1", 30.0, 25.0)
    with_tables("v2", 30.0, 65.0)
    words = ("v1-scored", "v2-scored")
    assert (len((whole := read(capsys, *words))["changes"]), whole["unpaired"], whole["same_summary"]) == (2, [], [])

    # The rows of one cell are gone: the other is still compared question by question, in a table of its own.
    path = "data/heldout/sft/maths/problems/maths.jsonl"
    md5 = Revision("v1").md5(path)
    Path(".dvc/cache/files/md5", md5[:2], md5[2:]).unlink()
    found = read(capsys, *words)
    assert [one["title"] for one in found["changes"]] == ["ifeval"]
    (sums,) = found["unpaired"]
    assert (sums["title"], sums["rung"], sums["difference"]) == ("heldout/problems/maths", "sft/maths", 40)
    assert (sums["low"], sums["high"]) == pytest.approx((40 - 32**0.5, 40 + 32**0.5))
    assert (sums["verdict"], found["same_summary"], found["not_compared"]) == ("improved", [], [])
    main(["diff", *words, "--prompts", "0"])
    paired, note, table, method, unchanged = capsys.readouterr().out.split("\n\n")[:5]
    assert paired.startswith("benchmark ") and "sft/maths" not in paired and "bootstrap" in note
    assert table.splitlines()[1].split()[:4] == ["heldout/problems/maths", "sft/maths", "25.0", "65.0"]
    assert method.startswith("These rows are unpaired comparisons") and "MOVER" in method
    assert unchanged == "unchanged, byte for byte: ifeval base, heldout/problems/maths base"

    # No cache at all, as in a fresh clone without a remote.
    for folder in (".dvc/cache", "data"):
        shutil.rmtree(folder)
    found = read(capsys, *words)
    assert (found["changes"], [one["title"] for one in found["unpaired"]]) == ([], ["heldout/problems/maths"])
    # Equal hashes in both dvc.lock prove equal rows, without the rows. DVC's index may know the hash of ifeval base.
    assert "heldout/problems/maths base" in found["unchanged"] and "ifeval sft/chat" in found["same_summary"]
    assert {*found["same_summary"], *found["unchanged"]} == {
        "ifeval base", "ifeval sft/chat", "heldout/problems/maths base"
    }  # fmt: skip
    # The workspace is v2 here, with no file of it.
    assert read(capsys, "v2-scored")["unchanged"] == [
        "ifeval base", "ifeval sft/chat", "heldout/problems/maths base", "heldout/problems/maths sft/maths",
        "heldout/problems/maths dpo/maths",
    ]  # fmt: skip
    assert read(capsys, "v1-scored") == {
        **found, "revisions": [found["revisions"][0], {"name": "workspace", "commit": None}],
        "only": {"v1-scored": [], "workspace": found["only"]["v2-scored"]},
    }  # fmt: skip
    main(["diff", *words])
    assert "without rows to compare question by question: ifeval" in capsys.readouterr().out
    Path("report/table.json").write_text("{")
    Path("report/claims.json").unlink()
    with pytest.raises(UserError, match="report/table.json at workspace: not in the form that is written now"):
        diff.report("v1-scored", None, 3, answers=False)
