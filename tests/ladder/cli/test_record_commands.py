"""Commands `table`, `why` and `ledger` on a small project of git and DVC, against equations, git and DVC itself."""

import csv
import io
import json
import math
from pathlib import Path

import networkx
import pytest
from dvc.api import exp_show
from dvc.repo import Repo
from rich.text import Text
from scipy import stats

from ladder.__main__ import main
from ladder.inference.request_cache import store_of
from ladder.pipeline.stage import read_written
from ladder.plan.durations import RECORD, digest
from ladder.plan.expand import expand
from ladder.report.endpoint_bills import replies_file
from ladder.report.frame import frame
from recorded_project import change, copied, git


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(copied(tmp_path))


def said(capsys, *words):
    capsys.readouterr()
    main([*words])
    return capsys.readouterr().out


def read(capsys, *words):
    return json.loads(said(capsys, *words, "--json"))


def refused(capsys, *words):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([*words])
    return stopped.value.code if isinstance(stopped.value.code, str) else capsys.readouterr().err.strip()


def scores(found):
    return {(row["revision"], row["rung"]): row["benchmarks"]["quiz"] for row in found["rows"]}


def test_all_revisions_with_the_parameter_of_the_sweep(project, capsys):
    found = read(capsys, "table", "--all", "--sort", "quiz")
    assert [row["benchmarks"]["quiz"]["score"] for row in found["rows"]] == [46, 46, 34, 20, 20, 20]
    params = {(row["revision"], row["rung"]): row["params"] for row in found["rows"]}
    assert params["v1", "sft/words"] == params["v2", "sft/words"] == {"sft.words.lora.r": 16}
    by_dvc = {row["Experiment"]: row for row in exp_show(revs=["v1"])}["rank4"]
    assert params["rank4", "sft/words"] == {"sft.words.lora.r": by_dvc["sft.words.lora.r"]} == {"sft.words.lora.r": 4}
    assert params["rank4", "base"] == {}  # base does not depend on it
    commits = {row["revision"]: row["commit"] for row in found["rows"]}
    assert commits["v1"] == git("rev-parse", "v1") and commits["rank4"].startswith(by_dvc["rev"])
    assert found["same_as"] == {"v2": ["workspace"]}


def test_scores_under_other_settings_are_marked_and_not_compared(project, capsys):
    found = read(capsys, "table", "--all", "--compare", "v1")
    cells = scores(found)
    assert cells["v1", "base"]["settings"] == cells["rank4", "base"]["settings"] != cells["v2", "base"]["settings"]
    assert cells["v2", "sft/words"]["difference"] is None
    assert sorted(found["not_compared"]) == [f"v2 {rung} quiz: different settings" for rung in ("base", "sft/words")]
    text = said(capsys, "table", "--all", "--compare", "v1")
    assert "46.0 [41.0, 51.0] a" in text and "46.0 [41.0, 51.0] b" in text
    assert "quiz a -> b: answer.quiz.max_new_tokens 40 -> 24" in text


def test_differences_by_mover(project, capsys):
    one = scores(read(capsys, "table", "--revisions", "v1,rank4", "--compare", "v1"))["rank4", "sft/words"][
        "difference"
    ]
    half = math.hypot(5, 5)  # each interval is plus and minus 5
    assert one["difference"] == 34 - 46
    assert [one["low"], one["high"]] == pytest.approx([-12 - half, -12 + half], abs=1e-4)
    p = 2 * stats.norm.sf(12 / half * stats.norm.ppf(0.975))
    assert (one["p"], one["p_holm"]) == pytest.approx((p, 2 * p))  # two rungs
    rungs = scores(read(capsys, "table", "--revisions", "v1,rank4", "--compare", "base", "--rungs", "sft/words"))
    assert {key: cell["difference"]["difference"] for key, cell in rungs.items()} == {
        ("v1", "sft/words"): 26,
        ("rank4", "sft/words"): 14,
    }


def test_formats(project, capsys, monkeypatch):
    rows = list(csv.DictReader(io.StringIO(said(capsys, "table", "--revisions", "v1,rank4", "--format", "csv"))))
    assert [(row["revision"], row["rung"], row["sft.words.lora.r"], row["quiz.score"]) for row in rows] == [
        ("v1", "base", "", "20.0"), ("v1", "sft/words", "16", "46.0"),
        ("rank4", "base", "", "20.0"), ("rank4", "sft/words", "4", "34.0"),
    ]  # fmt: skip
    page = said(capsys, "table", "--revisions", "rank4", "--format", "markdown").splitlines()
    assert page[0] == "| revision | rung | quiz, n 64 |" and page[3] == "| rank4 | sft/words | 34.0 [29.0, 39.0] |"
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    monkeypatch.setenv("COLUMNS", "40")
    narrow = said(capsys, "table", "--all", "--sort", "quiz").splitlines()
    assert max(Text.from_ansi(line).cell_len for line in narrow) <= 40
    assert "46.0 [41.0, 51.0] a" in Text.from_ansi("\n".join(narrow)).plain


def test_a_frame_for_notebooks(project, tmp_path, monkeypatch):
    root = Path.cwd()
    monkeypatch.chdir(tmp_path)
    found = frame(["v1", "rank4"], repository=root)
    best = found.sort_values("score", ascending=False).iloc[0]
    assert (best.revision, best.rung, best.benchmark, best.score, best.low, best.high) == (
        "v1", "sft/words", "quiz", 46.0, 41.0, 51.0,
    )  # fmt: skip
    assert (best.n, best.parent, best.method, best["sft.words.lora.r"]) == (64, "base", "sft", 16)
    assert len(frame(repository=root)) == 6 and Path.cwd() == tmp_path
    assert found.settings.nunique() == 1


def test_names_that_are_unknown(project, capsys):
    assert refused(capsys, "table", "--revisions", "rank5") == (
        "ladder: rank5: no such revision (did you mean 'rank4'?); expected a commit, tag, branch, experiment or "
        "workspace"
    )
    assert "--compare: bse: no such rung or revision (did you mean 'base'?)" in refused(
        capsys, "table", "--compare=bse"
    )
    assert "--sort: quizz: not in these tables (did you mean 'quiz'?)" in refused(capsys, "table", "--sort", "quizz")
    assert "--rungs: sft/word: not in these tables" in refused(capsys, "table", "--all", "--rungs", "sft/word")
    assert "expected one of them" in refused(capsys, "table", "--all", "--revisions", "v1")
    git("rm", "-q", "--cached", "report/table.json")
    git("commit", "-qm", "no table")
    assert "HEAD: no report/table.json" in refused(capsys, "table", "--revisions", "HEAD")


def stages(tree):
    return {tree["title"]: tree} | {title: node for each in tree["before"] for title, node in stages(each).items()}


def test_why_a_score(project, capsys):
    found = read(capsys, "why", "sft/words", "quiz")
    nodes = stages(found)
    assert [*nodes][1:] == ["report", "benchmark", "answer@sft/words", "sft@words", "filter@words", "problems@words",
                            "base"]  # fmt: skip
    facts = {fact["name"]: fact for fact in nodes["sft@words"]["facts"]}
    lines = Path("params.yaml").read_text().splitlines()
    rank, seed = facts["sft.words.lora.r"], facts["sft.words.trainer.seed"]
    assert (rank["value"], rank["where"]) == (16, f"params.yaml:{lines.index('    lora: {r: 16}') + 1}")
    assert (seed["value"], seed["where"]) == (
        42, f"params.yaml:{lines.index('    trainer: {seed: 42}') + 1} (defaults.sft)",
    )  # fmt: skip
    assert facts["data/filter/words.jsonl"]["note"] == "2 rows"
    with Repo() as repo:
        [out] = [out for out in repo.index.outs if str(out) == "models/sft/words"]
        assert facts["models/sft/words"]["value"] == out.hash_info.value
    assert facts["dvc.lock"]["value"].split()[0] == git("rev-parse", "--short=7", "v1")
    answered = {fact["name"]: fact for fact in nodes["answer@sft/words"]["facts"]}
    assert answered["dvc.lock"]["value"].split()[0] == git("rev-parse", "--short=7", "v2")
    summary = {fact["name"]: fact["value"] for fact in found["facts"]}
    assert summary["seeds"] == "sft.words.trainer.seed 42, problems.words.seed 7"
    assert summary["base.source"] == "data/raw/base" and summary["pinned"] == "torch 2.13.0, trl 1.16.0"
    assert summary["of sft/words, base"] == "cpu"


def test_why_in_a_clone_without_data(project, capsys, tmp_path, monkeypatch):
    here = stages(read(capsys, "why", "metrics/sft/words.json"))
    git("clone", "-q", str(Path.cwd()), str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    found = stages(read(capsys, "why", "metrics/sft/words.json"))
    assert [*found] == [*here] == ["metrics/sft/words.json", "sft@words", "filter@words", "problems@words", "base"]
    facts = {fact["name"]: fact for fact in found["sft@words"]["facts"]}
    assert facts["models/sft/words"]["note"] == "not here; `dvc pull` fetches it"
    assert facts["data/filter/words.jsonl"]["note"] == "rows not counted: not here"
    assert facts["sft.words.lora.r"]["value"] == 16
    missing = refused(capsys, "why", "--row", "red")
    assert "--row: red: no such row in any file of rows; not here: data/problems/words.jsonl" in missing


def test_why_reports_what_differs_from_the_record(project, capsys):
    change("lora: {r: 16}", "lora: {r: 8}")
    Path("report/table.json").write_text(Path("report/table.json").read_text().replace("46.0", "99.0"))
    found = read(capsys, "why", "sft/words", "quiz")
    facts = {fact["name"]: fact for fact in stages(found)["sft@words"]["facts"]}
    assert facts["sft.words.lora.r"]["value"] == 16
    assert facts["sft.words.lora.r"]["note"] == "params.yaml has 8 now"
    assert "differs from dvc.lock" in found["facts"][0]["note"]
    assert "(did you mean 'quiz'?)" in refused(capsys, "why", "sft/words", "quizz")
    assert "not recorded in dvc.lock" in refused(capsys, "why", "models/sft/wrds")
    assert "expected one of METRIC, --row and --forward" in refused(capsys, "why")


def test_where_a_row_comes_from(project, capsys):
    rejected = read(capsys, "why", "--row", "red-again")["found"]
    assert [(each["path"], each["lines"], each["verdict"]) for each in rejected] == [
        ("data/problems/words.jsonl", [3], ""),
        ("data/filter/words.rejected.jsonl", [1], "rejected by exact: same as red"),
    ]
    kept = read(capsys, "why", "--row", "filter/words:blue")["found"]
    assert [(each["path"], each["verdict"], each["readers"], each["inputs"]) for each in kept] == [
        ("data/problems/words.jsonl", "", ["filter@words"], ["data/seeds"]),
        ("data/filter/words.jsonl", "passed the filters finished, exact", ["sft@words"], []),
    ]
    assert "data/filter/word.jsonl: no stage recorded it" in refused(capsys, "why", "--row", "data/filter/word.jsonl:x")


@pytest.mark.parametrize(
    ("target", "old", "new"),
    [
        ("params.yaml:sft.words.lora.r", "lora: {r: 16}", "lora: {r: 8}"),
        ("defaults.sft.trainer.seed", "trainer: {seed: 42}", "trainer: {seed: 43}"),
        ("answer.quiz.max_new_tokens", "max_new_tokens: 24", "max_new_tokens: 12"),
        ("data/seeds/words.jsonl", "", ""),
    ],
)
def test_forward_begins_with_the_stages_that_dvc_status_names(project, capsys, target, old, new):
    found = {each["stage"]: each for each in read(capsys, "why", "--forward", target)["stages"]}
    direct = {name for name, each in found.items() if not each["after"] or each["reasons"]}
    if old:
        change(old, new)
    else:
        Path(target).write_text('{"word": "other"}\n')
    with Repo() as repo:
        named = repo.status()
        changed = {stage for stage in repo.index.stages if stage.addressing in named}
        dependent = {each for stage in changed for each in networkx.ancestors(repo.index.graph, stage)}
    assert direct == {stage.addressing for stage in changed}
    assert set(found) == {stage.addressing for stage in changed | dependent}


def test_forward_of_names_that_nothing_reads(project, capsys):
    assert "no such key (did you mean 'sft.words.lora.r'?)" in refused(capsys, "why", "--forward", "sft.words.lora.q")
    assert read(capsys, "why", "--forward", "constraints.txt")["stages"] == []


def test_a_ledger_counts_what_was_restored_once(project, capsys):
    found = read(capsys, "ledger", "--all")
    runs = [run for run in found["runs"] if run["stage"] == "sft@words"]
    assert sorted((run["seconds"], run["tokens"], run["origin"]) for run in runs) == [
        (104.0, 50 * 104, "record"), (116.0, 50 * 116, "record"),
    ]  # fmt: skip
    assert {run["seconds"]: set(run["revisions"]) for run in runs} == {116.0: {"workspace", "v1"}, 104.0: {"rank4"}}
    assert found["total"]["seconds_of_records"] == 116 + 104 + 3 and found["total"]["seconds_here"] is None
    [filtered] = [run for run in found["runs"] if run["stage"] == "filter@words"]
    assert filtered["seconds"] is None and filtered["tokens"] is None
    text = said(capsys, "ledger")
    assert next(line for line in text.splitlines() if line.startswith("filter@words")).split()[1:3] == [
        "not",
        "recorded",
    ]


def test_seconds_of_this_machine_belong_to_the_parameters_they_were_measured_with(project, capsys):
    params = read_written()
    digests = {name: digest(stage, params) for name, stage in expand(params).items()}
    seconds = {"sft@words": 130.5, "filter@words": 0.5, "answer@sft/words": 9.0}
    entries = {name: {"digest": digests[name], "seconds": each} for name, each in seconds.items()}
    entries["problems@words"] = {"digest": "of other parameters", "seconds": 77.0}
    RECORD.parent.mkdir(parents=True)
    RECORD.write_text(json.dumps({"version": 1, "stages": entries}))
    found = read(capsys, "ledger")
    assert found["total"]["seconds_here"] == 140.0 and found["total"]["seconds_of_records"] == 3.0
    assert found["total"]["runs_not_recorded"] == 4  # problems, answer@base, benchmark, report
    assert found["total"]["tokens"] == 50 * 116 + 12 + 12  # trained, and the answers of two rungs
    assert found["rungs"]["sft/words"] == {
        "seconds": 130.5, "with_inputs": 130.5 + 0.5 + 3.0, "not_recorded": 1, "answers": 9.0, "memory_gb": 2.5,
    }  # fmt: skip
    rows = {row["stage"]: row for row in csv.DictReader(io.StringIO(said(capsys, "ledger", "--format", "csv")))}
    assert rows["sft@words"]["seconds"] == "130.5" and rows["problems@words"]["seconds"] == ""


def test_a_bill_is_what_the_replies_cost(project, capsys, work):
    served = "base_url: 'https://example.org/v1', model: big/one, prices: {prompt: 2.0, completion: 8.0}"
    change("benchmark: {quiz: {}}", f"benchmark: {{quiz: {{judge: {{endpoint: {{{served}}}}}}}}}")
    assert read(capsys, "ledger")["endpoints"] == [
        {"model": "big/one", "calls": None, "prompt_tokens": None, "tokens": None, "money": None, "damaged": 0}
    ]
    replies = store_of("big/one")
    assert replies.path == replies_file("big/one")
    for number in range(3):
        replies.add(f"{number:064x}", {"text": "", "prompt_tokens": 1000, "tokens": 200, "finished": True})
    with replies.path.open("ab") as file:
        file.write(b"torn\n")
    [bill] = read(capsys, "ledger")["endpoints"]
    assert (bill["calls"], bill["prompt_tokens"], bill["tokens"], bill["damaged"]) == (3, 3000, 600, 1)
    assert bill["money"] == pytest.approx((3000 * 2 + 600 * 8) / 1e6)
