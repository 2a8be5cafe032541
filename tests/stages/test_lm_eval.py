import json
from pathlib import Path

import pytest

from ladder.data.jsonl import read_rows, write_json, write_rows
from ladder.pipeline.stage import UserError, fit
from stages import lm_eval, report

ENTRY = {"task": "arc_easy", "resamples": 1000, "options": {"limit": 6}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Local data for a task that lm-eval contains; the hub cannot be reached."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    choices = {"text": ["red", "blue", "a long green"], "label": list("ABC")}
    rows = [{"question": f"Which is {n}?", "choices": choices, "answerKey": "ABC"[n % 3]} for n in range(9)]
    write_rows(tmp_path / "arc.jsonl", rows)
    return tmp_path


def run(folder: Path, base: Path, **entry: object) -> dict[str, object]:
    """The summary of the stage's run as its entry in params.yaml says."""
    params = fit(lm_eval.Params, {**ENTRY, **entry}, "lm_eval.arc")
    outputs = [folder / f"scored/arc/base.{end}" for end in ("jsonl", "json")]
    lm_eval.main(params, base, base, *outputs, folder / "metrics/arc/base.json")
    summary = dict(json.loads(outputs[1].read_text()))
    numbers = {name: value for name, value in summary.items() if not isinstance(value, dict)}
    assert json.loads((folder / "metrics/arc/base.json").read_text()) == numbers
    return summary


def local(folder: Path) -> dict[str, object]:
    files = {split: str(folder / "arc.jsonl") for split in ("train", "validation", "test")}
    return {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}


def test_a_task_on_local_data_is_in_the_table(folder: Path, base: Path) -> None:
    metric = run(folder, base, config=local(folder))
    rows = read_rows(folder / "scored/arc/base.jsonl")
    made_by = metric["made_by"]
    assert isinstance(made_by, dict)
    assert (len(rows), made_by["rows"], made_by["of"], made_by["lm_eval"]) == (6, 6, 9, "0.4.13")
    assert metric["acc,none"] == round(100 * made_by["reported"]["acc,none"], 2)
    write_rows(folder / "benchmark/ifeval/base.jsonl", rows)
    write_json(folder / "benchmark/ifeval/base.json", metric)
    write_json(folder / "provenance/base.json", {"method": "base", "parent": "", "parameters": 9})
    params = report.Params(benchmarks=["ifeval"], rungs=["base"])
    names = ("benchmark", "scored", "provenance", "report", "metrics/report")
    report.main(params, *(folder / name for name in names), tasks=["arc"], measured=["base"])
    table = (folder / "report/table.md").read_text()
    assert "| rung | method | parent | trainable | ifeval | arc |" in table
    assert "arc: 6 of 9 questions, acc,none." in table


def test_data_that_cannot_be_had_are_reported(folder: Path, base: Path) -> None:
    with pytest.raises(
        UserError, match="arc_easy: revisions.allenai/ai2_arc: expected a commit .*`config` can name local files"
    ):
        run(folder, base)
