"""The how-to for adding a benchmark: its file and entries are run."""

import re
import sys
from pathlib import Path

import pytest

import benchmarks
from conftest import ROOT
from ladder.cli.recipe import recipe
from ladder.data.jsonl import read_json, read_rows, write_json, write_rows
from ladder.pipeline.stage import fit, read_params
from stages import answer, benchmark, code, questions, report, task

PAGE = ROOT / "docs/add-a-benchmark.md"
ROWS = [
    {"country": "France", "capital": "Paris", "continent": "Europe"},
    {"country": "Norway", "capital": "Oslo", "continent": "Europe"},
    {"country": "Peru", "capital": "Lima", "continent": "South America"},
]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with the file and the entries of the page."""
    module, lines = re.search(r"```python\n(.*?)```.*?```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL).groups()
    for name in ("stages", "ladder"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/capitals.py").write_text(module)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "lines.yaml").write_text(lines)
    write_rows(tmp_path / "data/raw/capitals.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(tmp_path / "benchmarks")])
    yield tmp_path
    sys.modules.pop("benchmarks.capitals", None)


def test_a_benchmark_is_added_by_one_file_and_a_line_a_stage(repository, base, tmp_path):
    recipe(repository / "lines.yaml")
    params = read_params()
    assert params["report"]["benchmarks"] == ["ifeval", "capitals"]
    tasks, scoring = (
        fit(stage.Params, {"capitals": params[name]["capitals"]}, name)
        for name, stage in (("task", task), ("benchmark", benchmark))
    )
    listed = {"benchmarks": ["capitals"]}
    code.main(
        code.Params(), *map(Path, ("ladder", "stages", "benchmarks", "data/raw", "params.yaml", "links.yaml", "code"))
    )
    lists = Path("code/questions.txt"), Path("code/benchmarks")
    asked, said = Path("data/questions"), Path("data/answer/base/capitals.jsonl")
    task.main(tasks, Path("code/task.txt"), Path("data/task"), Path("data/task.cells.json"))
    questions.main(questions.Params(), *lists, Path("data/task"), asked, Path("data/questions.cells.json"), **listed)
    (tmp_path / "alone.yaml").write_text("report: {benchmarks: [capitals]}\nanswer: {capitals: {rows: 3}}")
    recipe(tmp_path / "alone.yaml")
    asking = fit(answer.Params, read_params()["answer"], "answer")
    answer.main(asking, asked, base, base, said.parent, benchmarks=["capitals"])
    assert len(read_rows(said)) == 3
    written = [{**row, "response": "Paris, of course."} for row in read_rows(said)]
    write_rows(said, written)
    Path("data/punkt").mkdir()
    inputs = (
        Path("code/benchmark.txt"),
        Path("code/benchmarks"),
        *(Path("data", n) for n in ("task", "punkt", "answer")),
    )
    outputs = (Path("data/benchmark"), Path("data/benchmark.cells.json"), Path("metrics/benchmark"))
    benchmark.main(scoring, *inputs, base, *outputs, **listed, rungs=["base"])
    assert read_json(Path("metrics/benchmark/capitals/base.json")) == {"named": 33.33}
    groups = read_json(Path("data/benchmark/capitals/base.json"))["groups"]
    assert {name: group["named"] for name, group in groups.items()} == {"Europe": 50.0, "South America": 0.0}
    write_json(Path("data/provenance/base.json"), {"method": "base", "parent": "", "parameters": 1})
    folders = map(Path, ("data/benchmark", "data/lm_eval", "data/provenance", "report", "metrics/report"))
    report.main(report.Params(benchmarks=["capitals"], rungs=["base"]), *folders, tasks=[], measured=["base"])
    assert "| base | base |  |  | 33.3 [" in (tmp_path / "report/table.md").read_text()
    assert "  benchmarks/capitals.py\n" in (tmp_path / "code/benchmarks/capitals.txt").read_text()
