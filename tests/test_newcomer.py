"""The how-to for adding a benchmark: its file and entries are run."""

import json
import re
import sys
from pathlib import Path

import pytest

import benchmarks
from conftest import ROOT
from ladder.__main__ import recipe
from ladder.data.jsonl import read_rows, write_json, write_rows
from ladder.pipeline.stage import fit, read_params
from stages import benchmark, code, questions, report, respond, task

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
    write_rows(tmp_path / "capitals.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(tmp_path / "benchmarks")])
    yield tmp_path
    sys.modules.pop("benchmarks.capitals", None)


def test_a_benchmark_is_added_by_one_file_and_a_line_a_stage(repository, base, tmp_path):
    recipe(repository / "lines.yaml")
    params = read_params()
    assert params["report"]["benchmarks"] == ["ifeval", "capitals"]
    entries = {
        stage.__name__: fit(stage.Params, params[stage.__name__.removeprefix("stages.")]["capitals"], "capitals")
        for stage in (task, benchmark)
    }
    rows, asked = (tmp_path / f"data/{name}/capitals.jsonl" for name in ("task", "questions"))
    said = tmp_path / "data/respond/base/capitals.jsonl"
    task.main(entries["stages.task"], rows)
    questions.main(questions.Params(), rows, asked)
    (tmp_path / "alone.yaml").write_text("report: {benchmarks: [capitals]}\nrespond: {capitals: {rows: 3}}")
    recipe(tmp_path / "alone.yaml")
    code.main(code.Params(), *map(Path, ("ladder", "stages", "benchmarks", "code")))
    asking = fit(respond.Params, read_params()["respond"], "respond")
    respond.main(asking, tmp_path / "code/respond.txt", asked.parent, base, base, said.parent)
    assert len(read_rows(said)) == 3
    written = [{**row, "response": "Paris, of course."} for row in read_rows(said)]
    write_rows(said, written)
    write_json(tmp_path / "metrics/base.json", {"method": "base", "parent": "", "parameters": 1})
    outputs = [tmp_path / f"data/benchmark/capitals/base{end}" for end in (".jsonl", ".json")]
    inputs = (rows, tmp_path / "data/punkt", said, tmp_path / "metrics/base.json", base)
    benchmark.main(entries["stages.benchmark"], *inputs, *outputs, tmp_path / "metrics/capitals/base.json")
    metric = json.loads((tmp_path / "metrics/capitals/base.json").read_text())
    assert metric["named"] == 33.33
    assert {name: group["named"] for name, group in metric["groups"].items()} == {"Europe": 50.0, "South America": 0.0}
    report.main(
        report.Params(benchmarks=["capitals"], rungs=["base"]), tmp_path / "data/benchmark", tmp_path / "report"
    )
    assert "| base | base |  |  | 33.3 [" in (tmp_path / "report/table.md").read_text()
    assert "  benchmarks/capitals.py\n" in (tmp_path / "code/benchmarks/capitals.txt").read_text()
